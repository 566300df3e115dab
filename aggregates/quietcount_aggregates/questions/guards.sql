-- What is refused. Each mistake has its own sentence: the argument, what is wrong, the closest match, what to do.

-- How alike two names are, from 0 to 1.
-- fragment likeness(one, other)
jaro_winkler_similarity(upper($one), upper($other))

-- The name that is nearest to a given one, as a question; nothing if none is near.
-- fragment meant(names, likeness)
coalesce('Did you mean "' || CASE WHEN max($likeness) > 0.75 THEN arg_max($names, $likeness) END || '"? ', '')

-- fragment day(given)
try_cast($given::VARCHAR AS DATE)

-- fragment missing(name, given)
(SELECT 2 AS place, '$name is NULL. Give it a value, or leave it out if it has a default' AS problem
WHERE $given IS NULL)

-- The macros of one file read the tables of another: DuckDB looks for them where the macro is called. A table that is
-- missing there is taken from a variable of the caller's Python, so the first one has a name that no notebook has.
-- fragment editions()
(SELECT 1 AS place, 'several published files are attached (' || array_to_string(names, ', ')
    || '), and a macro cannot know which is meant. Pass db := ''' || names[1] || ''', or another of them' AS problem
FROM (
    SELECT list(DISTINCT t.database_name ORDER BY t.database_name) AS names
    FROM duckdb_tables() t WHERE t.table_name = 'noise_scales' AND t.schema_name = 'main'
) CROSS JOIN (SELECT count(*) FROM @first_table(noise_scales))
WHERE db IS NULL AND len(names) > 1)

-- fragment wrong_level()
(FROM @missing(level, level) UNION ALL
SELECT 3, 'level := ' || level::VARCHAR || ' is not offered. Choose 90, 95 or 99'
WHERE coalesce(try_cast(level AS DOUBLE), 0) NOT IN (90, 95, 99) AND level IS NOT NULL)

-- fragment unknown_statistic()
(FROM @missing(statistic, the_statistic) UNION ALL
SELECT 3, CASE WHEN NOT coalesce(list_contains(names, the_statistic::VARCHAR), false)
    THEN 'there is no statistic "' || the_statistic::VARCHAR || '". '
        || closest || 'The table descriptions lists them all'
    WHEN EXISTS (FROM @table(averages) t WHERE t.statistic = the_statistic::VARCHAR)
    THEN '"' || the_statistic || '" is an average and no count. The table averages has it, and its view'
    ELSE 'no period of "' || the_statistic || '" is released yet. ' || coalesce((
        SELECT arg_min(t.period_start || ' to ' || t.period_end || ' never will be: ' || t.reason, t.period_start)
        FROM @table(withheld) t WHERE t.statistic = the_statistic::VARCHAR
    ), 'The table budget says since when it counts') END
FROM (
    SELECT list(t.statistic) AS names, @meant(t.statistic, @likeness(t.statistic, the_statistic::VARCHAR)) AS closest
    FROM @table(budget) t
)
WHERE the_statistic IS NOT NULL AND NOT EXISTS (FROM @periods()))

-- The dimensions that the statistic is broken down by, and their symbols.
-- fragment dimensions()
(SELECT t.dimension, t.place, list(t.symbol ORDER BY t.symbol) AS known
FROM @table(noise_symbols) t WHERE t.statistic = the_statistic::VARCHAR AND t.place > 0
GROUP BY t.dimension, t.place)

-- $given: an argument that holds conditions, and $name, what it is called.
-- fragment wrong_cells(name, given)
(
SELECT 4, '$name: "' || c.written || '" is no condition. ' || CASE WHEN count(t.symbol) = 0
    THEN 'The statistic has no dimensions: leave $name out'
    ELSE @meant(t.dimension || '=' || t.symbol,
        greatest(@likeness(t.symbol, c.written), @likeness(t.dimension || '=' || t.symbol, c.written)))
        || 'Write dimension=SYMBOL, =A|B for either, != for all others, and a comma between conditions' END
FROM @conditions($given) c LEFT JOIN @table(noise_symbols) t ON t.statistic = the_statistic::VARCHAR AND t.place > 0
WHERE NOT regexp_full_match(c.written, '\w+!?=[\w.<+-]+(\|[\w.<+-]+)*')
GROUP BY c.written
UNION ALL
SELECT 5, '$name: the statistic has no dimension "' || c.dimension || '". ' || CASE WHEN count(d.dimension) = 0
    THEN 'It has none: leave $name out'
    ELSE @meant(d.dimension, @likeness(d.dimension, c.dimension))
        || 'It has ' || array_to_string(list(d.dimension ORDER BY d.place), ', ') END
FROM @conditions($given) c LEFT JOIN @dimensions() d ON true
GROUP BY c.dimension
HAVING NOT coalesce(bool_or(d.dimension = c.dimension), false)
UNION ALL
SELECT 6, '$name: the dimension "' || c.dimension
    || '" is named twice. Write its symbols in one condition, with | between'
FROM @conditions($given) c GROUP BY c.dimension HAVING count(*) > 1
UNION ALL
SELECT 7, '$name: the dimension "' || w.dimension || '" has no symbol "' || w.symbol || '". '
    || @meant(t.symbol, @likeness(t.symbol, w.symbol)) || 'It has '
    || array_to_string((list(t.symbol ORDER BY t.symbol))[:20], ', ')
    || CASE WHEN count(*) > 20 THEN ' and more' ELSE '' END
FROM (SELECT c.dimension, unnest(c.symbols) AS symbol FROM @conditions($given) c) w
    JOIN @table(noise_symbols) t ON t.statistic = the_statistic::VARCHAR AND t.place > 0 AND t.dimension = w.dimension
GROUP BY w.dimension, w.symbol
HAVING NOT bool_or(t.symbol = w.symbol)
UNION ALL
SELECT 8, '$name: no cell is left: no symbol of "' || y.dimension || '" that the statistic counts is named. Name others'
FROM @symbols($given, '') y WHERE y.own_place > 0 GROUP BY y.dimension HAVING NOT bool_or(y.in_a))

-- fragment released_by()
' is released by the ' || (SELECT min(t.period) FROM @table(budget) t WHERE t.statistic = the_statistic::VARCHAR)

-- fragment released()
@released_by() || ', so far from '

-- $start, $end: the arguments that hold the first and the last day; their names are told without the_.
-- fragment wrong_span(start_name, start, end_name, end)
(FROM @missing($start_name, $start) UNION ALL FROM @missing($end_name, $end) UNION ALL
SELECT 4, '$start_name: "' || $start::VARCHAR || '" is no date. Write it as in ''2024-01-31'''
WHERE $start IS NOT NULL AND @day($start) IS NULL
UNION ALL
SELECT 4, '$end_name: "' || $end::VARCHAR || '" is no date. Write it as in ''2024-01-31'''
WHERE $end IS NOT NULL AND @day($end) IS NULL
UNION ALL
SELECT 10, CASE
    WHEN first_day > last_day
    THEN 'the span is reversed: $start_name is ' || first_day || ', after $end_name, ' || last_day || '. Swap the two'
    WHEN why IS NOT NULL THEN 'the span ' || first_day || ' to ' || last_day
        || ' holds a period that is never released, ' || why || '. Ask for a span on one side of it'
    WHEN first_day < released_from THEN '$start_name is ' || first_day || ', before the first released period: '
        || the_statistic || @released() || released_from || ' to ' || released_to
    WHEN last_day > released_to THEN '$end_name is ' || last_day || ', after the last released period: '
        || the_statistic || @released() || released_from || ' to ' || released_to
    ELSE 'the span ' || first_day || ' to ' || last_day || ' is not made of whole periods: ' || the_statistic || @released_by()
        || '. The nearest whole span' || CASE WHEN begins_within <= ends_within
            THEN ' within it is ' || begins_within || ' to ' || ends_within || ', the nearest' ELSE '' END
        || ' around it is ' || begins_before || ' to ' || ends_after END
FROM (
    SELECT first_day, last_day, (
            SELECT arg_min(t.period_start || ' to ' || t.period_end || ': ' || t.reason, t.period_start)
            FROM @table(withheld) t
            WHERE t.statistic = the_statistic::VARCHAR AND t.period_start <= @day($end) AND t.period_end >= @day($start)
        ) AS why,
        min(p.period_start) AS released_from, max(p.period_end) AS released_to,
        bool_or(p.period_start = first_day) AND bool_or(p.period_end = last_day) AS whole,
        min(p.period_start) FILTER (p.period_start >= first_day) AS begins_within,
        max(p.period_end) FILTER (p.period_end <= last_day) AS ends_within,
        max(p.period_start) FILTER (p.period_start <= first_day) AS begins_before,
        min(p.period_end) FILTER (p.period_end >= last_day) AS ends_after
    FROM (SELECT @day($start) AS first_day, @day($end) AS last_day) CROSS JOIN @periods() p
    GROUP BY first_day, last_day
)
WHERE first_day > last_day OR why IS NOT NULL OR NOT whole)

-- One row, or the error of the first problem. It stands on the left of a join, where no query can leave it out.
-- $problems: the problems that are looked for, (place, problem), joined by UNION ALL. The first place is told.
-- fragment guard(problems)
(SELECT true AS sound
FROM (
    SELECT arg_min(problem, place) AS problem
    FROM (FROM @editions() UNION ALL FROM @unknown_statistic() UNION ALL FROM @wrong_level() UNION ALL $problems)
) CROSS JOIN (
    -- An argument that is a column of the caller's would be taken for one of ours of that name. DuckDB refuses columns
    -- here, and takes constants, parameters and subqueries.
    SELECT 1 AS one LIMIT CASE WHEN coalesce($arguments) IS NULL THEN 1 ELSE 1 END
)
WHERE CASE WHEN problem IS NULL THEN true ELSE error('$macro(): ' || problem) END)
