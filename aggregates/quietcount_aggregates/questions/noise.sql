-- The noise of selections, exactly: a weighted sum of independent draws. The file holds the weights, by the form of the
-- block of time and by the set of symbols that the populations' tables tell apart.

-- The kinds of symbols of a dimension: those of one part that both selections treat alike, so many symbols each.
-- fragment kinds(symbols)
(SELECT *, row_number() OVER (PARTITION BY s, dimension ORDER BY part, in_a, in_b) - 1 AS kind,
    count(*) OVER (PARTITION BY s, dimension) AS kinds,
    sum(in_a::DOUBLE * symbols) OVER (PARTITION BY s, dimension, part)
        / sum(symbols) OVER (PARTITION BY s, dimension, part) AS share_a,
    sum(in_b::DOUBLE * symbols) OVER (PARTITION BY s, dimension, part)
        / sum(symbols) OVER (PARTITION BY s, dimension, part) AS share_b
FROM (
    SELECT y.s, y.dimension, y.part, y.in_a, y.in_b, count(*) AS symbols FROM $symbols y GROUP BY ALL
))

-- The classes of cells of each table of the population: cells whose symbols are of the same kinds. One row for each
-- class and dimension; one row without a dimension for a table that has none.
-- fragment classes(symbols, spans)
(SELECT s, statistic, dimension, class, class // places % kinds AS kind
FROM (
    SELECT s, statistic, dimension, kinds, (product(kinds) OVER before / kinds)::BIGINT AS places,
        unnest(range((product(kinds) OVER whole)::BIGINT)) AS class
    FROM (
        SELECT p.s, n.statistic, d.dimension, d.place, coalesce(k.kinds, 1) AS kinds
        FROM (SELECT DISTINCT s FROM $spans) p CROSS JOIN @table(noise_scales) n
            LEFT JOIN (
                SELECT DISTINCT t.statistic, t.dimension, t.place FROM @table(noise_symbols) t WHERE t.place > 0
            ) d ON d.statistic = n.statistic
            LEFT JOIN @kinds($symbols) k ON k.s = p.s AND k.dimension = d.dimension AND k.kind = 0
        WHERE n.population = @population()
    )
    WINDOW whole AS (PARTITION BY s, statistic),
        before AS (PARTITION BY s, statistic ORDER BY place ROWS UNBOUNDED PRECEDING)
))

-- What the weight of a signal is multiplied with at the cells of a class, for the two selections, and how many cells
-- the class has.
-- fragment signal_factors(symbols, spans)
(SELECT c.s, c.statistic, c.class, e.signal, product(coalesce(k.symbols, 1)) AS draws,
    product(CASE WHEN k.part <> f.part THEN 0 WHEN f.residual THEN k.in_a::DOUBLE - k.share_a ELSE 1 END) AS a,
    product(CASE WHEN k.part <> f.part THEN 0 WHEN f.residual THEN k.in_b::DOUBLE - k.share_b ELSE 1 END) AS b
FROM @classes($symbols, $spans) c
    JOIN (
        SELECT DISTINCT t.statistic, t.signal FROM @table(noise_weights) t WHERE t.population = @population()
    ) e ON e.statistic = c.statistic
    LEFT JOIN @kinds($symbols) k ON k.s = c.s AND k.dimension = c.dimension AND k.kind = c.kind
    LEFT JOIN @table(noise_signals) f
        ON f.signal = e.signal AND f.dimension = c.dimension AND f.population = @population()
GROUP BY c.s, c.statistic, c.class, e.signal)

-- The ways in which questions touch blocks of time, each once, with the question of each block that is touched so.
-- fragment touches(spans)
(SELECT s, shape, places_a, places_b, list(q) AS questions, row_number() OVER () AS touch
FROM (
    SELECT p.q, p.s, t.shape,
        list(t.place ORDER BY t.place) FILTER (t.period_start >= p.start_a AND t.period_end <= p.end_a) AS places_a,
        list(t.place ORDER BY t.place) FILTER (t.period_start >= p.start_b AND t.period_end <= p.end_b) AS places_b
    FROM @table(noise_periods) t JOIN $spans p
        ON t.period_start BETWEEN p.start_a AND p.end_a OR t.period_start BETWEEN p.start_b AND p.end_b
    WHERE t.population = @population()
    GROUP BY p.q, p.s, t.block, t.shape
)
GROUP BY s, shape, places_a, places_b)

-- The weight of each signal in each way in which a question touches a block of time: G of the two selections.
-- fragment signal_weights(symbols, spans)
(SELECT l.touch, l.s, w.statistic, w.node, w.signal, any_value(l.questions) AS questions,
    coalesce(sum(w.weight * coalesce(r.a, 1)) FILTER (list_contains(l.places_a, w.place)), 0) AS a,
    coalesce(sum(w.weight * coalesce(r.b, 1)) FILTER (list_contains(l.places_b, w.place)), 0) AS b
FROM @touches($spans) l
    JOIN @table(noise_weights) w ON w.shape = l.shape
    LEFT JOIN (
        SELECT h.s, t.response, product(h.share_a) AS a, product(h.share_b) AS b
        FROM @table(noise_responses) t JOIN (
            SELECT DISTINCT k.s, k.dimension, k.part, k.share_a, k.share_b FROM @kinds($symbols) k
        ) h ON h.dimension = t.dimension AND h.part = t.part
        WHERE t.population = @population()
        GROUP BY h.s, t.response
    ) r ON r.s = l.s AND r.response = w.response
WHERE w.population = @population()
GROUP BY l.touch, l.s, w.statistic, w.node, w.signal)

-- The draws of each question: so many draws of a scale that have these weights in A and in B.
-- fragment draws(symbols, spans)
(SELECT q, weight_a, weight_b, scale, variance, sum(draws) AS draws
FROM (
    SELECT unnest(questions) AS q, round(weight_a, 10) AS weight_a, round(weight_b, 10) AS weight_b, scale, variance,
        draws
    FROM (
        SELECT h.touch, h.node, h.statistic, c.class, any_value(h.questions) AS questions, any_value(c.draws) AS draws,
            sum(h.a * c.a) AS weight_a, sum(h.b * c.b) AS weight_b
        FROM @signal_weights($symbols, $spans) h
            JOIN @signal_factors($symbols, $spans) c
                ON c.s = h.s AND c.statistic = h.statistic AND c.signal = h.signal
        GROUP BY h.touch, h.node, h.statistic, c.class
    ) w JOIN @table(noise_scales) n ON n.statistic = w.statistic
)
GROUP BY q, weight_a, weight_b, scale, variance)

-- By how much the rounding of the estimates can move A and B: half a millionth for each finest cell and period.
-- fragment rounding(symbols, spans)
(SELECT p.q, 5e-7 * sum(CASE WHEN t.period_start BETWEEN p.start_a AND p.end_a THEN coalesce(c.a, 1) ELSE 0 END) AS a,
    5e-7 * sum(CASE WHEN t.period_start BETWEEN p.start_b AND p.end_b THEN coalesce(c.b, 1) ELSE 0 END) AS b
FROM $spans p JOIN @table(noise_periods) t ON t.population = @population()
    LEFT JOIN (
        SELECT s, product(a) AS a, product(b) AS b
        FROM (
            SELECT y.s, y.dimension, sum(y.in_a::DOUBLE) AS a, sum(y.in_b::DOUBLE) AS b
            FROM $symbols y GROUP BY y.s, y.dimension
        )
        GROUP BY s
    ) c ON c.s = p.s
GROUP BY p.q)

-- fragment noise(symbols, spans, directions)
-- $symbols: (s, dimension, part, in_a, in_b), one row a symbol: the selections of cells. in_a and in_b say whether a
-- selection holds the symbol, or are its weight there, from 0 to 1.
-- $spans: (q, s, start_a, end_a, start_b, end_b): the questions, each with its selection of cells and its two spans.
-- $directions: (direction, alpha, beta, confidence): the noise of alpha A + beta B is asked for.
-- Answers (q, direction, variance, margin), the margin being the smallest m with P(|noise| <= m) >= confidence. From
-- 99.99 % on it is stretched: the tail falls at least as fast as the exponential through there, or one step later.
(SELECT u.question.q AS q, u.question.direction AS direction, u.variance,
    u.margin + abs(u.question.alpha) * r.a + abs(u.question.beta) * r.b AS margin
FROM (
    SELECT unnest(questions) AS question, variance,
        CASE WHEN stretch > 1 THEN (margin + list_max(weights)) * stretch ELSE margin END AS margin
    FROM (
        SELECT questions, list_sum([weights[i] ** 2 * variances[i] * counts[i]
            FOR i IN range(1, len(weights) + 1)]) AS variance, @noise_quantile() AS margin, stretch, weights
        FROM (
            -- Questions whose noise is alike are computed once.
            SELECT weights, scales, variances, counts, confidence, stretch,
                list({'q': q, 'direction': direction, 'alpha': alpha, 'beta': beta}) AS questions
            FROM (
                SELECT q, direction, alpha, beta, confidence, stretch,
                    list(weight ORDER BY scale, weight, draws) AS weights,
                    list(scale ORDER BY scale, weight, draws) AS scales,
                    list(variance ORDER BY scale, weight, draws) AS variances,
                    list(draws ORDER BY scale, weight, draws) AS counts
                FROM (
                    SELECT d.q, g.direction, g.alpha, g.beta, least(g.confidence, 0.9999) AS confidence,
                        greatest(ln(1 - g.confidence) / ln(0.0001), 1) AS stretch,
                        abs(g.alpha * d.weight_a + g.beta * d.weight_b) AS weight, d.scale, d.variance, d.draws
                    FROM @draws($symbols, $spans) d CROSS JOIN $directions g
                )
                WHERE weight > 0
                GROUP BY q, direction, alpha, beta, confidence, stretch
            )
            GROUP BY weights, scales, variances, counts, confidence, stretch
        )
    )
) u JOIN @rounding($symbols, $spans) r ON r.q = u.question.q)
