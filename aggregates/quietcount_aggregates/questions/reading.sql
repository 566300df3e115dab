-- How the macros read the file, and what they read from `cells`.

-- The table in the file that is asked: the one in use, or the one that `db` names.
-- fragment table(name)
query_table('"' || coalesce(db, current_database()) || '".main.$name')

-- The same, for the table that is looked for first: only here can it be said that none is there.
-- fragment first_table(name)
query_table('"' || coalesce(db, CASE WHEN current_database() IN ('memory', 'temp', 'system')
    THEN error('$macro(): the database in use is "' || current_database() || '", which is no file of quietcount. '
        || 'Pass db := the name under which you attached the file, or write USE and that name')
    ELSE current_database() END) || '".main.$name')

-- The population of the statistic.
-- fragment population()
(SELECT min(t.population) FROM @table(noise_scales) t WHERE t.statistic = the_statistic::VARCHAR)

-- The level of the intervals, as a probability. The guard refuses other levels, and nothing is computed for them.
-- fragment confidence()
CASE WHEN try_cast(level AS DOUBLE) IN (90, 95, 99) THEN try_cast(level AS DOUBLE) / 100 ELSE 0.95 END

-- The conditions written in `cells`: one row each.
-- fragment conditions(cells)
(SELECT written, negated, split_part(written, CASE WHEN negated THEN '!=' ELSE '=' END, 1) AS dimension,
    string_split(split_part(written, CASE WHEN negated THEN '!=' ELSE '=' END, 2), '|') AS symbols
FROM (
    SELECT written, contains(written, '!=') AS negated
    FROM (
        SELECT unnest(CASE WHEN bare IN ('', 'all') THEN []::VARCHAR[] ELSE string_split(bare, ',') END) AS written
        FROM (SELECT regexp_replace($cells::VARCHAR, '[\s\x{00A0}]', '', 'g') AS bare)
    )
))

-- The released periods of the statistic.
-- fragment periods()
(SELECT t.period_start, t.period_end FROM @table(margins) t JOIN @table(budget) b ON b.statistic = t.statistic
WHERE t.statistic = the_statistic::VARCHAR AND t.dimension = 'all' AND t.period = b.period)

-- Each symbol that the statistic counts, and whether the selections A and B hold it: one row a symbol and dimension.
-- `s` numbers the selections where a macro asks for many at once.
-- fragment symbols(cells_a, cells_b)
(SELECT 1 AS s, t.dimension, t.place AS own_place, t.part, t.symbol,
    t.counted AND coalesce(list_contains(a.symbols, t.symbol) <> a.negated, true) AS in_a,
    t.counted AND coalesce(list_contains(b.symbols, t.symbol) <> b.negated, true) AS in_b
FROM @table(noise_symbols) t
    LEFT JOIN @conditions($cells_a) a ON a.dimension = t.dimension
    LEFT JOIN @conditions($cells_b) b ON b.dimension = t.dimension
WHERE t.statistic = the_statistic::VARCHAR)

-- Each cell of the statistic, and whether the selections hold it. All periods have the same cells.
-- fragment chosen_cells(symbols)
(SELECT u.cell, bool_and(coalesce(y.in_a, true)) AS in_a, bool_and(coalesce(y.in_b, true)) AS in_b
FROM (
    SELECT t.cell, unnest(string_split(t.cell, ', ')) AS named
    FROM @table(statistics) t
    WHERE t.statistic = the_statistic::VARCHAR AND t.period_start = (SELECT max(p.period_start) FROM @periods() p)
) u LEFT JOIN $symbols y ON u.named = y.dimension || '=' || y.symbol AND y.own_place > 0
GROUP BY u.cell)

-- The estimates of the selections A and B: one row a period of the statistic.
-- fragment sums(symbols)
(SELECT t.period_start, t.period_end, coalesce(sum(t.estimate) FILTER (k.in_a), 0) AS a,
    coalesce(sum(t.estimate) FILTER (k.in_b), 0) AS b, max(t.status) AS status
FROM @table(statistics) t JOIN @chosen_cells($symbols) k ON k.cell = t.cell
WHERE t.statistic = the_statistic::VARCHAR
GROUP BY t.period_start, t.period_end)
