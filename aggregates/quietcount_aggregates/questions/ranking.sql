-- Ranks of symbols or periods. Two of them are told apart by the noise of their difference, which depends only on the
-- kinds of the two: the part of a symbol; or the place of a period in its block of time, and whether both are in one.

-- What is ranked, each with its kind, and its home: the items of one home share noise.
-- fragment items()
(SELECT p.period_start::VARCHAR AS item, f.shape || ':' || f.alike || '-' || l.alike AS kind, f.block AS home,
    p.period_start AS first_day, p.period_end AS last_day
FROM @periods() p
    JOIN @table(noise_periods) f ON f.period_start = p.period_start AND f.population = @population()
    JOIN @table(noise_periods) l ON l.period_end = p.period_end AND l.population = @population()
WHERE p.period_start >= @day(the_start) AND p.period_end <= @day(the_end) AND "by"::VARCHAR = 'period'
UNION ALL
SELECT y.symbol, y.part::VARCHAR, 0, @day(the_start), @day(the_end)
FROM @symbols(cells, cells) y WHERE y.dimension = "by"::VARCHAR AND y.own_place > 0 AND y.in_a)

-- Two items of a kind, which are enough to tell the noise of all.
-- fragment examples()
(FROM @items() QUALIFY row_number() OVER (PARTITION BY kind, home ORDER BY item) <= 2)

-- The kinds of two items, with a pair that is of them; and each kind alone.
-- fragment pairs()
(SELECT {'a': i.kind, 'b': j.kind, 'together': i.home = j.home} AS q, min({'a': i, 'b': j}) AS pair
FROM @examples() i JOIN (FROM @examples() UNION ALL SELECT NULL, NULL, NULL, NULL, NULL) j
    ON i.item IS DISTINCT FROM j.item
GROUP BY q)

-- fragment pair_symbols()
(SELECT DISTINCT CASE WHEN "by"::VARCHAR = 'period' THEN '' ELSE p.q::VARCHAR END AS s,
    y.dimension, y.own_place, y.part, y.symbol,
    y.in_a AND (y.dimension <> "by"::VARCHAR OR y.symbol = p.pair.a.item) AS in_a,
    y.in_b AND (y.dimension <> "by"::VARCHAR OR y.symbol IS NOT DISTINCT FROM p.pair.b.item) AS in_b
FROM @symbols(cells, cells) y CROSS JOIN @pairs() p)

-- fragment pair_spans()
(SELECT p.q, CASE WHEN "by"::VARCHAR = 'period' THEN '' ELSE p.q::VARCHAR END AS s, p.pair.a.first_day AS start_a,
    p.pair.a.last_day AS end_a, p.pair.b.first_day AS start_b, p.pair.b.last_day AS end_b
FROM @pairs() p)

-- Each of the others can be wrongly placed on one side only, with half the probability that the margin leaves out.
-- These are shared among the others, after Bonferroni, so that all hold together at the level.
-- fragment pair_directions()
(SELECT g.direction, g.alpha, g.beta, 1 - 2 * (1 - g.level_of) / greatest(k.others, 1) AS confidence
FROM (VALUES ('rank', -1, 1, @confidence()), ('90', -1, 1, 0.9), ('95', -1, 1, 0.95), ('99', -1, 1, 0.99),
    ('99.9', -1, 1, 0.999)) g(direction, alpha, beta, level_of)
    CROSS JOIN (SELECT count(*) - 1 AS others FROM @items()) k
UNION ALL SELECT 'a', 1, 0, @confidence())

-- fragment ranked_items()
(SELECT i.item, i.kind, i.home, i.first_day, i.last_day, coalesce(m.estimate, 0) AS estimate, m.status,
    coalesce(m.estimate, 0) = max(coalesce(m.estimate, 0)) OVER () AS first
FROM @items() i LEFT JOIN (
    SELECT CASE WHEN "by"::VARCHAR = 'period' THEN t.period_start::VARCHAR ELSE k.symbol END AS item,
        sum(t.estimate)::DECIMAL(18, 6) AS estimate, max(t.status) AS status
    FROM @table(statistics) t JOIN (
        SELECT c.cell, substr([n FOR n IN string_split(c.cell, ', ') IF starts_with(n, "by"::VARCHAR || '=')][1],
            len("by"::VARCHAR) + 2) AS symbol
        FROM @chosen_cells(@symbols(cells, cells)) c
        WHERE c.in_a
    ) k ON k.cell = t.cell
    WHERE t.statistic = the_statistic::VARCHAR AND t.period_start >= @day(the_start) AND t.period_end <= @day(the_end)
    GROUP BY 1
) m ON m.item = i.item)

-- fragment lead(level)
bool_and(abs(i.estimate - j.estimate) > n.margin) FILTER (n.direction = '$level' AND j.item IS NOT NULL)

-- fragment wrong_by()
(FROM @missing(by, "by") UNION ALL
SELECT 4, 'by: the statistic has no dimension "' || "by"::VARCHAR || '". '
    || @meant(d.dimension, @likeness(d.dimension, "by"::VARCHAR)) || 'Choose one of '
    || array_to_string(list(d.dimension ORDER BY d.place), ', ')
FROM (SELECT dimension, place FROM @dimensions() UNION ALL SELECT 'period', 1000) d
WHERE "by" IS NOT NULL HAVING NOT bool_or(d.dimension = "by"::VARCHAR))

CREATE MACRO ranking(the_statistic, the_start, the_end, "by" := 'period', cells := '', level := 95, db := NULL) AS TABLE
SELECT rank, item, first_day AS period_start, last_day AS period_end, estimate, @shown(estimate) AS shown,
    @lower(estimate, own) AS lower, @upper(estimate, own) AS upper, rank_lower, rank_upper,
    CASE WHEN m90 IS NULL THEN 'nothing to compare with' ELSE CASE WHEN rank > 1 THEN 'behind the first: ' ELSE '' END ||
        CASE WHEN m999 THEN '99.9 %' WHEN m99 THEN '99 %'
        WHEN m95 THEN '95 %' WHEN m90 THEN '90 %' ELSE 'cannot tell' END END AS lead_confidence,
    @many() || CASE WHEN status = 'provisional' THEN '; provisional' ELSE '' END AS note
FROM @guard(FROM @wrong_span(start, the_start, end, the_end) UNION ALL FROM @wrong_by()
    UNION ALL FROM @missing(cells, cells) UNION ALL FROM @wrong_cells(cells, cells)) LEFT JOIN (
    SELECT i.item, i.first_day, i.last_day, i.estimate, i.status, max(n.margin) FILTER (n.direction = 'a') AS own,
        1 + count(*) FILTER (n.direction = 'rank' AND j.estimate > i.estimate) AS rank,
        1 + count(*) FILTER (n.direction = 'rank' AND j.estimate - i.estimate > n.margin) AS rank_lower,
        1 + count(*) FILTER (n.direction = 'rank' AND i.estimate - j.estimate <= n.margin) AS rank_upper,
        -- Of the first, its lead over all others; of another, the lead that the first has over it.
        @lead(90) AS m90, @lead(95) AS m95, @lead(99) AS m99, @lead(99.9) AS m999
    FROM @noise(@pair_symbols(), @pair_spans(), @pair_directions()) n JOIN @ranked_items() i ON i.kind = n.q.a
        -- The one more stands for none: an item alone.
        JOIN (FROM @ranked_items() UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) j
            ON j.kind IS NOT DISTINCT FROM n.q.b AND (j.home = i.home) IS NOT DISTINCT FROM n.q.together
            AND j.item IS DISTINCT FROM i.item
            AND CASE n.direction WHEN 'a' THEN j.item IS NULL WHEN 'rank' THEN j.item IS NOT NULL
                ELSE i.first OR j.first END
    GROUP BY i.item, i.first_day, i.last_day, i.estimate, i.status
) ON true
ORDER BY rank, item;
COMMENT ON MACRO TABLE ranking IS 'ranking(the_statistic, the_start, the_end, by := ''period'', cells := '''', level := 95, db := NULL): the periods, or the symbols of the dimension that by names, from the highest to the lowest, with intervals of the counts and of the ranks, and the level at which the first leads.';
