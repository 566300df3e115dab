-- The margins of one table over one period, from arrays with one element a figure ("loaded") and lists with one a row or
-- a column.
INSERT INTO margins
SELECT $population, $statistic, $dimension, symbol, $period, period_start, period_end,
    estimate, as_shown(estimate), as_lower(estimate, around), as_upper(estimate, around),
    as_reliable(estimate, around), status
FROM (SELECT release, number, in_units(estimate) AS estimate, in_units(around) AS around FROM loaded)
JOIN (
    SELECT unnest(range(len($starts)))::INTEGER AS release, unnest($starts::DATE[]) AS period_start,
        unnest($ends::DATE[]) AS period_end, unnest($statuses::VARCHAR[]) AS status
) USING (release)
JOIN (SELECT unnest(range(len($domain)))::INTEGER AS number, unnest($domain::VARCHAR[]) AS symbol) USING (number)
ORDER BY release, number;
