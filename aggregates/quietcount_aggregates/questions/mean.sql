-- The mean lies between what it would be if all values were at the lower bounds of their buckets, and at the upper ones.
-- Each of the two is low + (high - low) B / A: in B a bucket weighs (bound - low) / (high - low), in A it weighs 1.

-- The lower bound of a bucket for the first end, and the upper one for the second.
-- fragment bound(s, row)
CASE $s WHEN 1 THEN $row.least ELSE $row.most END

-- For each of the two ends: s, low, and how much higher the highest bound is.
-- fragment ends()
(SELECT e.s, min(@bound(e.s, c)) AS low, max(@bound(e.s, c)) - min(@bound(e.s, c)) AS width
FROM @bucketed() c CROSS JOIN (VALUES (1), (2)) e(s)
WHERE c.dimension = the_dimension::VARCHAR AND c.in_a
GROUP BY e.s)

-- fragment bound_weight(end, row)
coalesce((@bound($end.s, $row) - $end.low) / nullif($end.width, 0)::DOUBLE, 0)

-- fragment bound_symbols()
(SELECT e.s, y.dimension, y.own_place, y.part, y.symbol, y.in_a,
    CASE WHEN NOT y.in_a THEN 0 WHEN y.dimension <> the_dimension::VARCHAR THEN 1 ELSE @bound_weight(e, y) END AS in_b
FROM @bucketed() y CROSS JOIN @ends() e)

-- Weights make many sizes of noise. Under a scale of 1 its quantile jumps between the ratios of share_directions(), so
-- that an interval of 99 % missed in up to 1.5 of 100. There a stricter one is taken.
-- fragment mean_directions()
(SELECT * REPLACE (CASE WHEN (SELECT min(n.scale) FROM @table(noise_scales) n WHERE n.population = @population()) < 1
    THEN 1 - (1 - confidence) / 1.6 ELSE confidence END AS confidence)
FROM @share_directions())

-- The two ends, q, with a, b and noises, and the widest bucket: what lies between its bounds, and all of that.
-- fragment answered_ends()
(SELECT e.*, n.noises
FROM (
    SELECT e.s AS q, e.low, e.width, sum(i.estimate) AS a, sum(i.estimate * @bound_weight(e, i)) AS b,
        max(i.status) AS status, 2 * max(i.most - i.least) > sum(i.most - i.least) AS one_is_wide,
        max_by({'symbol': i.symbol, 'least': i.least, 'most': i.most}, i.most - i.least) AS wide,
        max_by(i.estimate * (i.most - i.least), i.most - i.least) AS between_wide,
        sum(i.estimate * (i.most - i.least)) AS between_all
    FROM @ends() e CROSS JOIN @chosen_buckets() i
    WHERE i.least IS NOT NULL
    GROUP BY e.s, e.low, e.width
) e LEFT JOIN @noises(@bound_symbols(), @span_of(@ends()), @mean_directions()) n ON n.q = e.q)

-- Of rows with what @ratio(@answered_ends()) has: the ends in the unit of the field. `dominated`: more than a fifth
-- of what lies between them comes from a bucket at an end of the dimension, wider than all others together. Values are
-- hardly spread evenly within that.
-- fragment end_columns()
bool_and(told) AS told, max(status) AS status,
    max(low + width * least(ratio, 1)) FILTER (q = 1) AS at_least,
    max(low + width * least(ratio, 1)) FILTER (q = 2) AS at_most,
    max(low + width * least(coalesce(ratio_lower, 0), 1)) FILTER (q = 1) AS lower,
    max(low + width * least(coalesce(ratio_upper, 0), 1)) FILTER (q = 2) AS upper,
    bool_and(one_is_wide AND 5 * between_wide > between_all AND (wide.symbol[1] = '<' OR wide.symbol[-1] = '+')) AS dominated,
    min(wide) AS wide

-- Outwards to two decimals. Estimates below 0 could turn the two ends round.
-- fragment mean_columns()
CASE WHEN told AND NOT dominated THEN round((at_least + greatest(at_most, at_least)) / 2, 2) END AS mean,
    CASE WHEN told THEN floor(round(100 * at_least, 4)) / 100 END AS at_least,
    CASE WHEN told THEN ceil(round(100 * greatest(at_most, at_least), 4)) / 100 END AS at_most,
    CASE WHEN told THEN floor(100 * lower) / 100 END AS lower,
    CASE WHEN told THEN ceil(100 * greatest(upper, at_least)) / 100 END AS upper

CREATE MACRO mean(the_statistic, the_dimension, the_start, the_end, cells := '', level := 95, db := NULL) AS TABLE
SELECT @mean_columns(),
    CASE WHEN NOT told THEN 'cannot tell: the whole is too close to 0 to divide by'
        ELSE 'interval of ' || level::VARCHAR || ' %' || CASE WHEN dominated
            THEN '; cannot tell a middle: much of what lies between comes from the bucket ' || wide.symbol
                || ', which reaches from ' || wide.least || ' to ' || wide.most
            ELSE '; the middle assumes values spread evenly within each bucket' END END
        || @left_out() || @ever_provisional(status) AS note
FROM @guard(FROM @wrong_buckets()) LEFT JOIN (SELECT @end_columns() FROM @ratio(@answered_ends())) ON true;
COMMENT ON MACRO TABLE mean IS 'mean(the_statistic, the_dimension, the_start, the_end, cells := '''', level := 95, db := NULL): between which values the mean lies, as far as the buckets tell it: by estimate, with the noise, and in the middle.';
