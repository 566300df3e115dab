-- The cells of one table: arrays with one element a cell ("loaded"), and lists with one a release or a symbol.
INSERT INTO statistics
SELECT $population, $statistic, starts[release], ends[release], domain[number],
    estimate, as_shown(estimate), as_lower(estimate, around), as_upper(estimate, around),
    noisy, $scale, $epsilon, $most, as_reliable(estimate, around), statuses[release], first, digests[release],
    moments[release]
FROM (
    SELECT release, number, noisy, in_units(estimate) AS estimate, in_units(first) AS first, in_units(around) AS around
    FROM loaded
), (
    SELECT $starts::DATE[] AS starts, $ends::DATE[] AS ends, $domain::VARCHAR[] AS domain,
        $statuses::VARCHAR[] AS statuses, $digests::VARCHAR[] AS digests, $moments::TIMESTAMP[] AS moments
);
