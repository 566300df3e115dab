-- fragment compared_columns()
a AS from_estimate, @lower(a, m_a) AS from_lower, @upper(a, m_a) AS from_upper,
    b AS to_estimate, @lower(b, m_b) AS to_lower, @upper(b, m_b) AS to_upper,
    difference, least(ceil(difference - m_difference), round(difference))::BIGINT AS difference_lower,
    greatest(floor(difference + m_difference), round(difference))::BIGINT AS difference_upper,
    round(100 * (ratio - 1), 1) AS percent_change,
    -- The ends go outwards to one decimal: the interval then misses no more often.
    floor(1000 * (ratio_lower - 1)) / 10 AS percent_lower, ceil(1000 * (ratio_upper - 1)) / 10 AS percent_upper

-- The answer about A and B, their difference and the percent change. $answered: rows with a, b and noises.
-- fragment compared(answered)
(SELECT *, @margin(a) AS m_a, @margin(b) AS m_b, @margin(difference) AS m_difference
FROM @ratio((SELECT *, b - a AS difference FROM $answered)))

-- fragment change_directions()
@ratio_directions([0.1, 0.14286, 0.25, 0.5, 0.66667, 1.5, 1.75, 2, 4, 7, 10])

-- fragment compared_note()
CASE WHEN told THEN '; that of the percent change is by Fieller''s theorem'
    ELSE '; percent change withheld: the first sum is too close to 0 to divide by' END
    || CASE WHEN least(a, b) < 0 THEN '; the intervals of the sums are cut at 0, and that of the difference is not' ELSE '' END
    || CASE WHEN status = 'provisional' THEN '; provisional' ELSE '' END

-- fragment overlapping()
(@day(from_start) <= @day(to_end) AND @day(to_start) <= @day(from_end))

-- fragment wrong_comparison()
(SELECT 20, 'the spans are of unequal length: ' || earlier || CASE earlier WHEN 1 THEN ' period' ELSE ' periods' END
    || ' against ' || later || '. Compare as many periods with as many'
FROM (
    SELECT count(*) FILTER (p.period_start >= @day(from_start) AND p.period_end <= @day(from_end)) AS earlier,
        count(*) FILTER (p.period_start >= @day(to_start) AND p.period_end <= @day(to_end)) AS later
    FROM @periods() p
)
WHERE earlier <> later
UNION ALL
SELECT 21, CASE WHEN against IS NULL
    THEN 'the two spans share days. Ask for spans that do not, or compare cells with against'
    ELSE 'cells and against share cells in the same days. Name others, or use share() for a part of a whole' END
WHERE @overlapping() AND NOT EXISTS (
    SELECT 1 FROM @symbols(coalesce(against, cells), cells) y WHERE y.own_place > 0
    GROUP BY y.dimension HAVING NOT bool_or(y.in_a AND y.in_b)
))

CREATE MACRO compare(the_statistic, from_start, from_end, to_start, to_end, cells := '', against := NULL, level := 95,
    db := NULL) AS TABLE
SELECT @compared_columns(), 'intervals of ' || level::VARCHAR || ' %' || @compared_note() AS note
FROM @guard(FROM @wrong_span(from_start, from_start, from_end, from_end)
    UNION ALL FROM @wrong_span(to_start, to_start, to_end, to_end) UNION ALL FROM @missing(cells, cells)
    UNION ALL FROM @wrong_cells(cells, cells) UNION ALL FROM @wrong_cells(against, against)
    UNION ALL FROM @wrong_comparison()) LEFT JOIN (
    FROM @compared(@answered(@symbols(coalesce(against, cells), cells),
        (SELECT 1 AS q, 1 AS s, @day(from_start) AS start_a, @day(from_end) AS end_a, @day(to_start) AS start_b,
            @day(to_end) AS end_b), @change_directions()))
) ON true;
COMMENT ON MACRO TABLE compare IS 'compare(the_statistic, from_start, from_end, to_start, to_end, cells := '''', against := NULL, level := 95, db := NULL): two sums over spans of as many whole released periods (days inclusive), their difference and the percent change, with intervals. With against, the first sum is of other cells, in the same span or another.';

-- Each period with the one a year before it; a week with the one 52 weeks before it.
-- fragment year_apart()
(SELECT p.period_start AS q, 1 AS s, e.period_start AS start_a, e.period_end AS end_a, p.period_start AS start_b,
    p.period_end AS end_b
FROM @periods() p JOIN @periods() e ON CASE WHEN p.period_end - p.period_start = 6
    THEN p.period_start - e.period_start = 364 AND p.period_end - e.period_end = 364
    ELSE e.period_start = (p.period_start - INTERVAL 1 YEAR)::DATE
        AND e.period_end + 1 = (p.period_end + 1 - INTERVAL 1 YEAR)::DATE END)

-- fragment no_year_before()
(SELECT 20, 'no period of ' || the_statistic || ' has one a year before it: it is released from '
    || min(p.period_start) || ' to ' || max(p.period_end) || '. Ask again when more than a year is released'
FROM @periods() p WHERE NOT EXISTS (FROM @year_apart()) HAVING count(*) > 0)

CREATE MACRO year_on_year(the_statistic, cells := '', level := 95, db := NULL) AS TABLE
SELECT start_b AS period_start, end_b AS period_end, @compared_columns(), @many() || @compared_note() AS note
FROM @guard(FROM @missing(cells, cells) UNION ALL FROM @wrong_cells(cells, cells)
    UNION ALL FROM @no_year_before()) LEFT JOIN (
    FROM @compared(@answered(@symbols(cells, cells), @year_apart(), @change_directions()))
) ON true
ORDER BY start_b;
COMMENT ON MACRO TABLE year_on_year IS 'year_on_year(the_statistic, cells := '''', level := 95, db := NULL): one row for each period that has one a year before it: both sums, their difference and the percent change, with intervals.';
