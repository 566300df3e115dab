-- The averages of one table over one kind of period: arrays with one element a figure ("loaded"), and lists with one a
-- row or a column.
INSERT INTO averages
SELECT $population, $statistic, $field, $period, starts[release], ends[release], domain[number],
    -- As of counts: at least the margin above the least sum there can be, so that no noise makes that look certain.
    total, greatest(ceil(total - around), least_sum)::BIGINT, floor(greatest(total, least_sum) + around)::BIGINT,
    CASE WHEN told THEN average END, low_end, high_end, CASE WHEN $released THEN noisy END, statuses[release],
    'between ' || $low || ' and ' || $high || ': what lies beyond is moved there' || CASE WHEN NOT told
        THEN '; cannot tell the average: it is of too few' ELSE '' END
FROM (
    SELECT release, number, noisy, told, in_units(total) AS total, in_units(around) AS around,
        in_units(average) AS average, in_units(low_end) AS low_end, in_units(high_end) AS high_end,
        CASE WHEN $low >= 0 THEN 0 END AS least_sum
    FROM loaded
), (
    SELECT $starts::DATE[] AS starts, $ends::DATE[] AS ends, $domain::VARCHAR[] AS domain,
        $statuses::VARCHAR[] AS statuses
);
