-- The symbols of the whole (A) and of its part (B).
-- fragment part_and_whole()
(SELECT y.* REPLACE (y.in_a AND y.in_b AS in_b) FROM @symbols("of", part) y)

-- fragment wrong_part()
(SELECT 20, 'part: the symbol "' || y.symbol || '" of "' || y.dimension
    || '" is not within of. Name a part of what of names'
FROM @symbols("of", part) y JOIN @conditions(part) c ON c.dimension = y.dimension
WHERE NOT c.negated AND y.in_b AND NOT y.in_a
UNION ALL
SELECT 19, 'part names no cells. Write the cells whose share is asked for, as in part := ''dimension=SYMBOL'''
WHERE trim(part::VARCHAR) = ''
UNION ALL
SELECT 21, 'part: no cell is left of "' || y.dimension || '" within of. Name others'
FROM @part_and_whole() y WHERE y.own_place > 0 GROUP BY y.dimension HAVING NOT bool_or(y.in_b))

-- The directions of compare(), for the part against the rest of the whole.
-- fragment share_directions()
@ratio_directions([0.09091, 0.125, 0.2, 0.33333, 0.4, 0.5, 0.6, 0.63636, 0.66667, 0.8, 0.875, 0.90909])

-- fragment shared_columns()
b AS part_estimate, @lower(b, m_b) AS part_lower, @upper(b, m_b) AS part_upper,
    a AS whole_estimate, @lower(a, m_a) AS whole_lower, @upper(a, m_a) AS whole_upper,
    CASE WHEN told THEN least(round(100 * ratio, 1), 100) END AS share_percent,
    CASE WHEN told THEN least(floor(1000 * ratio_lower) / 10, 100) ELSE 0 END AS share_lower,
    CASE WHEN told THEN least(ceil(1000 * ratio_upper) / 10, 100) ELSE 100 END AS share_upper

-- $answered: rows with a, the whole, b, the part, and noises.
-- fragment shared(answered)
(SELECT *, @margin(a) AS m_a, @margin(b) AS m_b FROM @ratio($answered))

CREATE MACRO share(the_statistic, the_start, the_end, part, "of" := '', level := 95, db := NULL) AS TABLE
SELECT @shared_columns(),
    'intervals of ' || level::VARCHAR || ' %' || CASE WHEN told THEN '; that of the share is by Fieller''s theorem'
        ELSE '; cannot tell the share: the whole is too close to 0 to divide by' END
        || CASE WHEN status = 'provisional' THEN '; provisional' ELSE '' END AS note
FROM @guard(FROM @wrong_span(start, the_start, end, the_end) UNION ALL FROM @missing(part, part)
    UNION ALL FROM @wrong_cells(part, part) UNION ALL FROM @missing(of, "of") UNION ALL FROM @wrong_cells(of, "of")
    UNION ALL FROM @wrong_part()) LEFT JOIN (
    FROM @shared(@answered(@part_and_whole(),
        (SELECT 1 AS q, 1 AS s, @day(the_start) AS start_a, @day(the_end) AS end_a, @day(the_start) AS start_b,
            @day(the_end) AS end_b), @share_directions()))
) ON true;
COMMENT ON MACRO TABLE share IS 'share(the_statistic, the_start, the_end, part, of := '''', level := 95, db := NULL): which percentage of the cells that "of" names (all by default) the part is, over a span of whole released periods (both days inclusive), with its interval.';
