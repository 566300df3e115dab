-- The value that so many percent of all do not exceed. It lies in the first bucket up to which there are as many: where
-- D(j) = (the sum up to bucket j) - p (the whole) is not below 0 any more. A bucket is left out only with all that lie
-- beyond it. So the bucket of the true value is lost only if one of two claims about it is wrong: that D is below 0 there,
-- or that it is not below 0 before. Each is made at half of what the level leaves.

-- fragment part_of_all()
CASE WHEN try_cast(the_percent AS DOUBLE) BETWEEN 1 AND 99 THEN try_cast(the_percent AS DOUBLE) / 100 ELSE 0.5 END

-- fragment wrong_percent()
(FROM @missing(percent, the_percent) UNION ALL
SELECT 20, 'percent: "' || the_percent::VARCHAR || '" is not offered. Choose a number from 1 to 99: 50 is the median'
WHERE the_percent IS NOT NULL AND NOT coalesce(try_cast(the_percent AS DOUBLE) BETWEEN 1 AND 99, false))

-- Those that end in _strict are for wholes that are hardly above 0, as in ratio_directions().
-- fragment rank_directions()
(SELECT 'a_strict' AS direction, 1.0 AS alpha, 0.0 AS beta, 1 - (1 - @confidence()) / 20 AS confidence
UNION ALL SELECT 'rank', -@part_of_all(), 1, @confidence()
UNION ALL SELECT 'rank_strict', -@part_of_all(), 1, 1 - (1 - @confidence()) / 20)

-- All up to each known bucket; up to the last of them, which tells whether the whole is above 0.
-- fragment each_edge()
(SELECT -k.place AS s FROM @known_buckets() k)

-- Each known bucket: whether the value is claimed to be above it, or below it, and whether it is not above by estimate.
-- fragment edges()
(SELECT *, coalesce(lag(reached) OVER (ORDER BY place), false) AS below
FROM (
    SELECT i.place, i.symbol, i.least, i.most, a, status, a > strict AS told,
        place < max(place) OVER () AND d < -around AS above, d >= around AS reached,
        place = max(place) OVER () OR d >= 0 AS enough
    FROM (
        SELECT *, b - @part_of_all() * a AS d, @margin(a_strict) AS strict,
            CASE WHEN a > 2 * @margin(a_strict) THEN @margin(rank) ELSE @margin(rank_strict) END AS around
        FROM @answered_buckets(@each_edge(), @rank_directions())
    ) o JOIN (SELECT place, symbol, least, most FROM @chosen_buckets() WHERE least IS NOT NULL) i ON i.place = -o.q
))

-- The first and the last bucket that are not excluded, and the one by estimate.
-- fragment bracket()
(SELECT min(place) AS lowest, max(place) AS highest, bool_and(told) AS told, max(status) AS status,
    min(place) FILTER (NOT above) AS first_left, max(place) FILTER (NOT below) AS last_left,
    min(place) FILTER (enough) AS nearest,
    arg_min(symbol, place) FILTER (enough) AS symbol, arg_min(least, place) FILTER (enough) AS least,
    arg_min(most, place) FILTER (enough) AS most,
    arg_min(least, place) FILTER (NOT above) AS least_left, arg_max(most, place) FILTER (NOT below) AS most_left
FROM @edges())

CREATE MACRO percentile(the_statistic, the_dimension, the_start, the_end, the_percent, cells := '', level := 95,
    db := NULL) AS TABLE
SELECT CASE WHEN found THEN symbol END AS symbol, CASE WHEN found THEN least END AS at_least,
    CASE WHEN found THEN most END AS at_most,
    CASE WHEN found AND NOT endless_below THEN least_left END AS lower,
    CASE WHEN found AND NOT endless_above THEN most_left END AS upper,
    CASE WHEN NOT told THEN 'cannot tell: the whole is too close to 0'
        WHEN NOT found THEN 'cannot tell: the noise is too large to exclude any bucket'
        WHEN endless_below THEN 'interval of ' || level::VARCHAR || ' %; cannot tell a lower end'
        WHEN endless_above THEN 'interval of ' || level::VARCHAR || ' %; cannot tell an upper end'
        ELSE 'interval of ' || level::VARCHAR || ' %' END || @left_out() || @ever_provisional(status) AS note
FROM @guard(FROM @wrong_buckets() UNION ALL FROM @wrong_percent()) LEFT JOIN (
    SELECT *, told AND (first_left > lowest OR last_left < highest OR lowest = highest) AS found,
        first_left = lowest AND nearest > lowest AS endless_below,
        last_left = highest AND nearest < highest AS endless_above
    FROM @bracket()
) ON true;
COMMENT ON MACRO TABLE percentile IS 'percentile(the_statistic, the_dimension, the_start, the_end, the_percent, cells := '''', level := 95, db := NULL): the value that this many percent of all do not exceed (50: the median), as far as the buckets tell it: the bucket by estimate, and the interval of whole buckets that holds the true one.';
