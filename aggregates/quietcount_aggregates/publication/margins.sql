-- The margins of one table over one period: arrays with one element a figure ("loaded"), and lists with one a row or a
-- column.
INSERT INTO margins
SELECT $population, $statistic, $dimension, domain[number], $period, starts[release], ends[release],
    estimate, as_shown(estimate), as_lower(estimate, around), as_upper(estimate, around),
    as_reliable(estimate, around), statuses[release]
FROM (SELECT release, number, in_units(estimate) AS estimate, in_units(around) AS around FROM loaded), (
    SELECT $starts::DATE[] AS starts, $ends::DATE[] AS ends, $domain::VARCHAR[] AS domain,
        $statuses::VARCHAR[] AS statuses
);
