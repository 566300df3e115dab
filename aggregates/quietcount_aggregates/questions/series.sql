-- Each period that is never released, in the columns of series() and cumulative().
-- fragment withheld_rows()
(SELECT t.period_start, t.period_end, NULL AS estimate, NULL AS margin, 'withheld' AS status, t.reason
FROM @table(withheld) t WHERE t.statistic = the_statistic::VARCHAR)

CREATE MACRO series(the_statistic, cells := '', level := 95, db := NULL) AS TABLE
SELECT period_start, period_end, estimate, @shown(estimate) AS shown, @lower(estimate, margin) AS lower,
    @upper(estimate, margin) AS upper, status,
    CASE status WHEN 'withheld' THEN 'withheld: ' || reason ELSE @many() END AS note
FROM @guard(FROM @missing(cells, cells) UNION ALL FROM @wrong_cells(cells, cells)) LEFT JOIN (
    SELECT start_a AS period_start, end_a AS period_end, a AS estimate, @margin(a) AS margin, status, '' AS reason
    FROM @answered(@symbols(cells, cells),
        (SELECT p.period_start AS q, 1 AS s, p.period_start AS start_a, p.period_end AS end_a, NULL::DATE AS start_b,
            NULL::DATE AS end_b FROM @periods() p), @one_direction())
    UNION ALL FROM @withheld_rows()
) ON true
ORDER BY period_start;
COMMENT ON MACRO TABLE series IS 'series(the_statistic, cells := '''', level := 95, db := NULL): one row a period of the statistic, with the interval of its sum; withheld periods are named.';

CREATE MACRO cumulative(the_statistic, cells := '', level := 95, db := NULL) AS TABLE
SELECT period_start, period_end, estimate, @shown(estimate) AS shown, @lower(estimate, margin) AS lower,
    @upper(estimate, margin) AS upper, status,
    CASE WHEN reason <> '' THEN 'withheld: ' || reason
        WHEN status = 'withheld' THEN 'withheld: a period before it is never released, so use total() from there on'
        ELSE @many() || ', and they lean the same way, because the sums share their noise' END AS note
FROM @guard(FROM @missing(cells, cells) UNION ALL FROM @wrong_cells(cells, cells)) LEFT JOIN (
    -- Behind a period that is never released, no sum can be told.
    SELECT * REPLACE (CASE WHEN told THEN estimate END AS estimate,
        CASE WHEN told THEN status ELSE 'withheld' END AS status)
    FROM (
        SELECT *, bool_and(status <> 'withheld') OVER (ORDER BY period_start) AS told
        FROM (
            SELECT q AS period_start, end_a AS period_end, a AS estimate, @margin(a) AS margin, status, '' AS reason
            FROM @answered(@symbols(cells, cells),
                (SELECT p.period_start AS q, 1 AS s, min(p.period_start) OVER () AS start_a, p.period_end AS end_a,
                    NULL::DATE AS start_b, NULL::DATE AS end_b FROM @periods() p), @one_direction())
            UNION ALL FROM @withheld_rows()
        )
    )
) ON true
ORDER BY period_start;
COMMENT ON MACRO TABLE cumulative IS 'cumulative(the_statistic, cells := '''', level := 95, db := NULL): one row a period of the statistic, with the sum from the first released period to its end, and its interval.';
