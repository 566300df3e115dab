-- The notes on periods: those that come as lists with one element a note, and those that follow from the estimates.
INSERT INTO notes
SELECT statistic, period_start, period_end, kind, note
FROM (
    SELECT unnest($statistics::VARCHAR[]) AS statistic, unnest($starts::DATE[]) AS period_start,
        unnest($ends::DATE[]) AS period_end, unnest($kinds::VARCHAR[]) AS kind, unnest($notes::VARCHAR[]) AS note
    UNION ALL
    SELECT DISTINCT statistic, period_start, period_end, 'provisional',
        'A later release will revise the estimates: a table of a longer period that holds this one is not released yet.'
    FROM statistics WHERE status = 'provisional'
    UNION ALL
    SELECT DISTINCT statistic, period_start, period_end, 'revised',
        'Estimates were revised since this period was released: first_estimate has them as they were then.'
    FROM statistics WHERE estimate <> first_estimate
)
ORDER BY statistic, period_start, kind, note;
