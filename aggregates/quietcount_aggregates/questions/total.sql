CREATE MACRO total(the_statistic, the_start, the_end, cells := '', level := 95, db := NULL) AS TABLE
SELECT t.estimate, @shown(t.estimate) AS shown, @lower(t.estimate, t.margin) AS lower,
    @upper(t.estimate, t.margin) AS upper,
    'interval of ' || level::VARCHAR || ' %'
        || CASE WHEN @lower(t.estimate, t.margin) = 0 THEN '; cannot be told from 0' ELSE '' END
        || CASE WHEN t.status = 'provisional' THEN '; provisional' ELSE '' END AS note
FROM @guard(FROM @missing(cells, cells) UNION ALL FROM @wrong_cells(cells, cells)
    UNION ALL FROM @wrong_span(start, the_start, end, the_end)) LEFT JOIN (
    SELECT a AS estimate, @margin(a) AS margin, status
    FROM @answered(@symbols(cells, cells),
        (SELECT 1 AS q, 1 AS s, @day(the_start) AS start_a, @day(the_end) AS end_a, NULL::DATE AS start_b,
            NULL::DATE AS end_b),
        @one_direction())
) t ON true;
COMMENT ON MACRO TABLE total IS 'total(the_statistic, the_start, the_end, cells := '''', level := 95, db := NULL): the sum over a span of whole released periods (both days inclusive), with its interval.';
