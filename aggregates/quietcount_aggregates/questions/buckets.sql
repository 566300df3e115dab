-- What is asked of a dimension that is a number in buckets. Values that are not known are no part of the whole.

-- Each symbol that the statistic counts, as in symbols(), and for those of the dimension their bucket: its place and its
-- bounds, which are NULL if the value is not known. A holds what `cells` names and is known.
-- fragment bucketed()
(SELECT y.dimension, y.own_place, y.part, y.symbol, y.in_a AS chosen, b.place, b.lower AS least, b.upper AS most,
    y.in_a AND (y.dimension <> the_dimension::VARCHAR OR b.lower IS NOT NULL) AS in_a
FROM @symbols(cells, cells) y LEFT JOIN @table(buckets) b ON b.population = @population()
    AND b.dimension = the_dimension::VARCHAR AND b.dimension = y.dimension AND b.symbol = y.symbol)

-- The buckets that `cells` names, in their order, each with its sum over the span.
-- fragment chosen_buckets()
(SELECT c.place, c.symbol, c.least, c.most, coalesce(m.estimate, 0)::DECIMAL(18, 6) AS estimate, m.status
FROM @bucketed() c LEFT JOIN (
    SELECT k.symbol, sum(t.estimate) AS estimate, max(t.status) AS status
    FROM @table(statistics) t JOIN (
        SELECT c.cell, substr([n FOR n IN string_split(c.cell, ', ') IF starts_with(n, the_dimension::VARCHAR || '=')][1],
            len(the_dimension::VARCHAR) + 2) AS symbol
        FROM @chosen_cells(@symbols(cells, cells)) c
        WHERE c.in_a
    ) k ON k.cell = t.cell
    WHERE t.statistic = the_statistic::VARCHAR AND t.period_start >= @day(the_start) AND t.period_end <= @day(the_end)
    GROUP BY k.symbol
) m ON m.symbol = c.symbol
WHERE c.dimension = the_dimension::VARCHAR AND c.chosen AND c.place IS NOT NULL)

-- The places of those whose values are known.
-- fragment known_buckets()
(SELECT c.place FROM @bucketed() c WHERE c.dimension = the_dimension::VARCHAR AND c.in_a)

-- Whether a selection holds a bucket. One bucket is the selection of its place; all up to it, of minus that. The
-- unknown has the last place.
-- fragment in_selection(s, place)
coalesce(CASE WHEN $s > 0 THEN $place = $s ELSE $place <= -$s END, false)

-- The selections B beside A, the whole.
-- $selections: rows with s.
-- fragment bucket_symbols(selections)
(SELECT e.s, y.dimension, y.own_place, y.part, y.symbol, y.in_a,
    y.chosen AND (y.dimension <> the_dimension::VARCHAR OR @in_selection(e.s, y.place)) AS in_b
FROM @bucketed() y CROSS JOIN $selections e)

-- The questions about selections, each over the whole span.
-- fragment span_of(selections)
(SELECT e.s AS q, e.s, @day(the_start) AS start_a, @day(the_end) AS end_a, @day(the_start) AS start_b,
    @day(the_end) AS end_b
FROM $selections e)

-- For each selection: q, a, b, status, and noises in each of the directions.
-- fragment answered_buckets(selections, directions)
(SELECT e.*, n.noises
FROM (
    SELECT e.s AS q, coalesce(sum(i.estimate) FILTER (i.least IS NOT NULL), 0) AS a,
        coalesce(sum(i.estimate) FILTER (@in_selection(e.s, i.place)), 0) AS b, max(i.status) AS status
    FROM $selections e CROSS JOIN @chosen_buckets() i
    GROUP BY e.s
) e LEFT JOIN @noises(@bucket_symbols($selections), @span_of($selections), $directions) n ON n.q = e.q)

-- fragment wrong_dimension()
(FROM @missing(dimension, the_dimension) UNION ALL
SELECT 4, 'the statistic has no dimension "' || the_dimension::VARCHAR || '". ' || CASE WHEN count(d.dimension) = 0
    THEN 'It has none' ELSE @meant(d.dimension, @likeness(d.dimension, the_dimension::VARCHAR))
        || 'It has ' || array_to_string(list(d.dimension ORDER BY d.place), ', ') END
FROM (SELECT 1 AS one) LEFT JOIN @dimensions() d ON true
WHERE the_dimension IS NOT NULL
HAVING NOT coalesce(bool_or(d.dimension = the_dimension::VARCHAR), false)
UNION ALL
SELECT 5, 'the dimension "' || the_dimension::VARCHAR || '" has no buckets. ' || CASE WHEN count(n.dimension) = 0
    THEN 'No dimension of the statistic has: use total(), share() and ranking()'
    ELSE 'Choose ' || array_to_string(list(DISTINCT n.dimension ORDER BY n.dimension), ', ') END
FROM @dimensions() d LEFT JOIN (
    SELECT DISTINCT b.dimension FROM @table(buckets) b WHERE b.population = @population()
) n ON n.dimension = d.dimension
WHERE EXISTS (FROM @dimensions() e WHERE e.dimension = the_dimension::VARCHAR)
HAVING NOT coalesce(bool_or(n.dimension = the_dimension::VARCHAR), false)
UNION ALL
SELECT 9, 'cells: no bucket of "' || the_dimension::VARCHAR || '" is left but the unknown. Name others'
WHERE EXISTS (FROM @table(buckets) b WHERE b.population = @population() AND b.dimension = the_dimension::VARCHAR)
    AND NOT EXISTS (FROM @known_buckets()))

-- fragment wrong_buckets()
(FROM @wrong_span(start, the_start, end, the_end) UNION ALL FROM @wrong_dimension()
UNION ALL FROM @missing(cells, cells) UNION ALL FROM @wrong_cells(cells, cells))

-- What is left out of the whole, as a part of a note.
-- fragment left_out()
coalesce((SELECT '; about ' || @shown(sum(i.estimate)) || ' with unknown ' || the_dimension || ' are left out'
FROM @chosen_buckets() i WHERE i.least IS NULL), '')

-- fragment ever_provisional(status)
CASE WHEN $status = 'provisional' THEN '; provisional' ELSE '' END

-- Each bucket, and all up to each that is known but the last: these are all there are.
-- fragment each_bucket()
(SELECT i.place AS s FROM @bucketed() i
WHERE i.dimension = the_dimension::VARCHAR AND i.chosen AND i.place IS NOT NULL
UNION ALL
SELECT -k.place FROM @known_buckets() k WHERE k.place < (SELECT max(l.place) FROM @known_buckets() l))

CREATE MACRO distribution(the_statistic, the_dimension, the_start, the_end, cells := '', level := 95,
    db := NULL) AS TABLE
SELECT symbol, least AS at_least, most AS at_most, estimate, shown, lower, upper,
    share_percent, share_lower, share_upper, CASE WHEN highest THEN 100 ELSE cumulative_percent END AS cumulative_percent,
    CASE WHEN highest THEN 100 ELSE cumulative_lower END AS cumulative_lower,
    CASE WHEN highest THEN 100 ELSE cumulative_upper END AS cumulative_upper,
    @many() || CASE WHEN least IS NULL THEN '; no part of the whole that the shares are of' WHEN told
        THEN '; those of the shares are by Fieller''s theorem'
        ELSE '; cannot tell the shares: the whole is too close to 0 to divide by' END || @ever_provisional(status) AS note
FROM @guard(FROM @wrong_buckets()) LEFT JOIN (
    SELECT i.place, i.symbol, i.least, i.most, i.place = max(i.place) FILTER (i.least IS NOT NULL) OVER () AS highest,
        i.estimate, @shown(i.estimate) AS shown, o.part_lower AS lower, o.part_upper AS upper,
        CASE WHEN i.least IS NOT NULL THEN o.share_percent END AS share_percent,
        CASE WHEN i.least IS NOT NULL THEN o.share_lower END AS share_lower,
        CASE WHEN i.least IS NOT NULL THEN o.share_upper END AS share_upper,
        o.cumulative_percent, o.cumulative_lower, o.cumulative_upper, o.told, i.status
    FROM @chosen_buckets() i JOIN (
        SELECT abs(q) AS place, bool_and(told) AS told,
            max(part_lower) FILTER (q > 0) AS part_lower, max(part_upper) FILTER (q > 0) AS part_upper,
            max(share_percent) FILTER (q > 0) AS share_percent,
            max(share_lower) FILTER (q > 0) AS share_lower, max(share_upper) FILTER (q > 0) AS share_upper,
            max(share_percent) FILTER (q < 0) AS cumulative_percent,
            max(share_lower) FILTER (q < 0) AS cumulative_lower, max(share_upper) FILTER (q < 0) AS cumulative_upper
        FROM (SELECT q, told, @shared_columns() FROM @shared(@answered_buckets(@each_bucket(), @share_directions())))
        GROUP BY abs(q)
    ) o ON o.place = i.place
) ON true
ORDER BY place;
COMMENT ON MACRO TABLE distribution IS 'distribution(the_statistic, the_dimension, the_start, the_end, cells := '''', level := 95, db := NULL): one row a bucket of the dimension, with its sum, its share of all whose value is known, and the share of all up to it, with intervals.';
