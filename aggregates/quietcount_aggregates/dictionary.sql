-- What every table, view, macro and column means, in the order in which they have their columns.
INSERT INTO data_dictionary
SELECT table_name, column_name, description
FROM (
    SELECT table_name, NULL AS column_name, 0 AS place, comment AS description
    FROM duckdb_tables() WHERE database_name = 'public'
    UNION ALL SELECT view_name, NULL, 0, comment FROM duckdb_views() WHERE database_name = 'public' AND NOT internal
    UNION ALL SELECT DISTINCT function_name, NULL, 0, comment FROM duckdb_functions()
        WHERE database_name = 'public' AND NOT internal
    UNION ALL SELECT table_name, column_name, column_index, comment FROM duckdb_columns()
        WHERE database_name = 'public' AND NOT internal
    -- DuckDB keeps no comment on a column of a macro.
    UNION ALL FROM (VALUES
        ('series', 'period_start', 1, 'The first day of the period (UTC).'),
        ('series', 'period_end', 2, 'The last day of the period (UTC), inclusive.'),
        ('series', 'estimate', 3, 'The published figure of the sum: noisy, or 0 where noisy is negative.'),
        ('series', 'lower', 4, 'The lower end of the 95 % interval for the true sum.'),
        ('series', 'upper', 5, 'The upper end of the 95 % interval for the true sum.'),
        ('series', 'noisy', 6, 'The sum of the counts as drawn, with its sign.'),
        ('total', 'estimate', 1, 'The published figure of the sum: noisy, or 0 where noisy is negative.'),
        ('total', 'lower', 2, 'The lower end of the 95 % interval for the true sum.'),
        ('total', 'upper', 3, 'The upper end of the 95 % interval for the true sum.'),
        ('total', 'noisy', 4, 'The sum of the counts as drawn, with its sign.'),
        ('total', 'margin', 5, 'The 95 % margin of the sum, from the exact distribution of its noise.'),
        ('total', 'terms', 6, 'How many cells were added.'),
        ('compare', 'from_estimate', 1, 'The published figure of the earlier span: its sum, or 0 where that is negative.'),
        ('compare', 'to_estimate', 2, 'The published figure of the later span: its sum, or 0 where that is negative.'),
        ('compare', 'difference', 3, 'The sum of the later span less that of the earlier one, both as drawn.'),
        ('compare', 'difference_lower', 4, 'The lower end of the 95 % interval for the true difference.'),
        ('compare', 'difference_upper', 5, 'The upper end of the 95 % interval for the true difference.'),
        ('compare', 'percent_change', 6, 'The change in percent of the earlier span; null where the note says why.'),
        ('compare', 'percent_lower', 7, 'The lower end of the 95 % interval for the true percent change.'),
        ('compare', 'percent_upper', 8, 'The upper end of the 95 % interval for the true percent change.'),
        ('compare', 'note', 9, 'How the interval of the percent change was made, or why there is none.')
    )
)
ORDER BY table_name, place;
