-- What every table, macro and column means, in the order in which they have their columns: a part of the template.
INSERT INTO data_dictionary
SELECT table_name, column_name, description
FROM (
    SELECT table_name, NULL AS column_name, 0 AS place, comment AS description
    FROM duckdb_tables() WHERE database_name = 'public'
    UNION ALL SELECT DISTINCT function_name, NULL, 0, comment FROM duckdb_functions()
        WHERE database_name = 'public' AND NOT internal
    UNION ALL SELECT table_name, column_name, column_index, comment FROM duckdb_columns()
        WHERE database_name = 'public' AND NOT internal
    UNION ALL FROM @answer_columns()
)
ORDER BY table_name, place;
