-- Ranks of symbols or periods. Two of them are told apart by the noise of their difference, which depends only on the kinds
-- of the two: the part of a symbol; the place of a period in its block of time, and whether both are in the same block.

-- What is ranked: a dimension, or the periods.
-- fragment ranked()
coalesce("by", (SELECT CASE WHEN count(*) = 1 THEN min(d.dimension) ELSE 'period' END FROM @dimensions() d))

-- The periods of the statistic in the span, each with the leaves that it is made of.
-- fragment ranked_periods()
(SELECT p.period_start, p.period_end, min(t.block) AS block, min(t.shape) AS shape, list(t.place ORDER BY t.place) AS places
FROM @periods() p JOIN @table(noise_periods) t
    ON t.period_start >= p.period_start AND t.period_end <= p.period_end AND t.population = @population()
WHERE p.period_start >= @day(the_start) AND p.period_end <= @day(the_end)
GROUP BY p.period_start, p.period_end)

-- fragment items()
(SELECT p.period_start::VARCHAR AS item, p.shape || ':' || p.places::VARCHAR AS kind, p.block AS home,
    p.period_start AS first_day, p.period_end AS last_day
FROM @ranked_periods() p WHERE @ranked() = 'period'
UNION ALL
SELECT y.symbol, y.part::VARCHAR, 0, @day(the_start), @day(the_end)
FROM @symbols(cells, cells) y WHERE y.dimension = @ranked() AND y.own_place > 0 AND y.in_a)

-- Two items of a kind, which are enough to tell the noise of all.
-- fragment examples()
(FROM @items() QUALIFY row_number() OVER (PARTITION BY kind, home ORDER BY item) <= 2)

-- One pair of items for each two kinds, and one item alone for each kind.
-- fragment pairs()
(SELECT *, row_number() OVER (ORDER BY kind_a, kind_b, together) AS q
FROM (
    SELECT i.kind AS kind_a, j.kind AS kind_b, i.home = j.home AS together,
        arg_min({'a': i, 'b': j}, i.item || ' ' || coalesce(j.item, '')) AS pair
    FROM @examples() i JOIN (FROM @examples() UNION ALL SELECT NULL, NULL, NULL, NULL, NULL) j
        ON i.item IS DISTINCT FROM j.item
    GROUP BY ALL
))

-- fragment pair_symbols()
(SELECT DISTINCT CASE WHEN @ranked() = 'period' THEN 1 ELSE p.q END AS s, y.dimension, y.own_place, y.part, y.symbol,
    y.in_a AND (y.dimension <> @ranked() OR y.symbol = p.pair.a.item) AS in_a,
    y.in_b AND (y.dimension <> @ranked() OR y.symbol IS NOT DISTINCT FROM p.pair.b.item) AS in_b
FROM @symbols(cells, cells) y CROSS JOIN @pairs() p)

-- fragment pair_spans()
(SELECT p.q, CASE WHEN @ranked() = 'period' THEN 1 ELSE p.q END AS s, p.pair.a.first_day AS start_a,
    p.pair.a.last_day AS end_a, p.pair.b.first_day AS start_b, p.pair.b.last_day AS end_b
FROM @pairs() p)

-- Each of the others can be wrongly placed on one side only, with half the probability that the margin leaves out. These
-- are shared among the others, after Bonferroni, so that all hold together at the level.
-- fragment pair_directions()
(SELECT g.direction, g.alpha, g.beta, 1 - 2 * (1 - g.level_of) / greatest(k.others, 1) AS confidence
FROM (VALUES ('rank', -1, 1, @confidence()), ('90', -1, 1, 0.9), ('95', -1, 1, 0.95), ('99', -1, 1, 0.99), ('99.9', -1, 1, 0.999))
    g(direction, alpha, beta, level_of) CROSS JOIN (SELECT count(*) - 1 AS others FROM @items()) k
UNION ALL SELECT 'a', 1, 0, @confidence())

-- The margins of each pair of kinds.
-- fragment pair_margins()
(SELECT p.kind_a, p.kind_b, p.together, max(n.margin) FILTER (n.direction = 'a') AS own,
    max(n.margin) FILTER (n.direction = 'rank') AS rank, max(n.margin) FILTER (n.direction = '90') AS m90,
    max(n.margin) FILTER (n.direction = '95') AS m95, max(n.margin) FILTER (n.direction = '99') AS m99,
    max(n.margin) FILTER (n.direction = '99.9') AS m999
FROM @pairs() p LEFT JOIN @noise(@pair_symbols(), @pair_spans(), @pair_directions()) n ON n.q = p.q
GROUP BY p.kind_a, p.kind_b, p.together)

-- fragment ranked_items()
(SELECT i.item, i.kind, i.home, i.first_day, i.last_day, coalesce(m.estimate, 0) AS estimate, m.status
FROM @items() i LEFT JOIN (
    SELECT CASE WHEN k.ranked = 'period' THEN t.period_start::VARCHAR ELSE k.symbol END AS item,
        sum(t.estimate)::DECIMAL(18, 6) AS estimate, max(t.status) AS status
    FROM @table(statistics) t JOIN (
        SELECT c.cell, r.ranked, substr([n FOR n IN string_split(c.cell, ', ') IF starts_with(n, r.ranked || '=')][1],
            len(r.ranked) + 2) AS symbol
        FROM @chosen_cells(@symbols(cells, cells)) c CROSS JOIN (SELECT @ranked() AS ranked) r
        WHERE c.in_a
    ) k ON k.cell = t.cell
    WHERE t.statistic = the_statistic AND t.period_start >= @day(the_start) AND t.period_end <= @day(the_end)
    GROUP BY 1
) m ON m.item = i.item)

-- fragment wrong_by()
(SELECT 4, 'by is needed, because the statistic has several dimensions: '
    || array_to_string(list(d.dimension ORDER BY d.place), ', ') || '. Name one of them, or period'
FROM @dimensions() d WHERE "by" IS NULL HAVING count(*) > 1
UNION ALL
SELECT 4, 'by: the statistic has no dimension "' || "by"::VARCHAR || '". Did you mean "'
    || arg_max(d.dimension, @likeness(d.dimension, "by"::VARCHAR)) || '"? It has '
    || array_to_string(list(d.dimension ORDER BY d.place), ', ')
FROM (SELECT dimension, place FROM @dimensions() UNION ALL SELECT 'period', 1000) d
WHERE "by" IS NOT NULL HAVING NOT bool_or(d.dimension = "by"::VARCHAR))

CREATE MACRO ranking(the_statistic, the_start, the_end, "by" := NULL, cells := '', level := 95, db := NULL) AS TABLE
SELECT rank, item, first_day AS period_start, last_day AS period_end, estimate, @shown(estimate) AS shown,
    @lower(estimate, own) AS lower, @upper(estimate, own) AS upper, rank_lower, rank_upper,
    CASE WHEN lead IS NULL THEN 'nothing to compare with'
        ELSE ['cannot tell', '90 %', '95 %', '99 %', '99.9 %'][lead + 1] END AS lead_confidence,
    @many() || CASE WHEN status = 'provisional' THEN '; provisional' ELSE '' END AS note
FROM @guard(FROM @wrong_span(start, the_start, end, the_end) UNION ALL FROM @wrong_by()
    UNION ALL FROM @missing(cells, cells) UNION ALL FROM @wrong_cells(cells)) LEFT JOIN (
    SELECT item, first_day, last_day, estimate, status, max(own) AS own,
        1 + count(*) FILTER (ahead < 0) AS rank, 1 + count(*) FILTER (-ahead > sure) AS rank_lower,
        count(*) - count(*) FILTER (ahead > sure) AS rank_upper,
        -- Of the first, its lead over the nearest; of another, the lead that the first has over it.
        CASE WHEN bool_and(coalesce(ahead, 0) >= 0) THEN min(held) ELSE arg_min(held, ahead) END AS lead
    FROM (
        SELECT i.*, n.own, n.rank AS sure, i.estimate - j.estimate AS ahead,
            (abs(ahead) > n.m90)::INTEGER + (abs(ahead) > n.m95)::INTEGER + (abs(ahead) > n.m99)::INTEGER
                + (abs(ahead) > n.m999)::INTEGER AS held
        FROM @ranked_items() i JOIN @pair_margins() n ON n.kind_a = i.kind
            -- The one more is an item alone.
            JOIN (FROM @ranked_items() UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL) j
                ON j.kind IS NOT DISTINCT FROM n.kind_b AND (j.home = i.home) IS NOT DISTINCT FROM n.together
                AND j.item IS DISTINCT FROM i.item
    )
    GROUP BY item, first_day, last_day, estimate, status
) ON true
ORDER BY rank, item;
COMMENT ON MACRO TABLE ranking IS 'ranking(statistic, start, end, by := NULL, cells := '''', level := 95, db := NULL): the symbols of a dimension, or the periods (by := ''period''), from the highest to the lowest, with intervals of the counts and of the ranks, and the level at which the first leads.';
