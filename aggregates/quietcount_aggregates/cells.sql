-- The cells of one table, from arrays with one element a cell ("loaded") and lists with one a release or a symbol.
INSERT INTO statistics
SELECT $population, $statistic, period_start, period_end, cell,
    estimate, as_shown(estimate), as_lower(estimate, around), as_upper(estimate, around),
    noisy, $scale, $epsilon, $most, as_reliable(estimate, around), status, first, release_id, released_at
FROM (
    SELECT release, number, noisy, in_units(estimate) AS estimate, in_units(first) AS first, in_units(around) AS around
    FROM loaded
)
JOIN (
    SELECT unnest(range(len($starts)))::INTEGER AS release, unnest($starts::DATE[]) AS period_start,
        unnest($ends::DATE[]) AS period_end, unnest($statuses::VARCHAR[]) AS status,
        unnest($digests::VARCHAR[]) AS release_id, unnest($moments::TIMESTAMP[]) AS released_at
) USING (release)
JOIN (
    SELECT unnest(range(len($domain)))::INTEGER AS number, unnest($domain::VARCHAR[]) AS cell
) USING (number)
ORDER BY release, number;
