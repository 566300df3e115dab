-- What the file says of itself, for people: what is asked first comes first. Views, macros and tables, then columns.
SELECT object.kind, object.name, entry.column_name AS "column", of_column.data_type AS "type", entry.description
FROM (
    SELECT 'view' AS kind, view_name AS name FROM duckdb_views() WHERE NOT internal
    UNION ALL SELECT DISTINCT 'macro', function_name FROM duckdb_functions() WHERE NOT internal
    UNION ALL SELECT 'table', table_name FROM duckdb_tables() WHERE NOT internal
) AS object
JOIN (SELECT *, rowid AS place FROM data_dictionary) AS entry ON entry.table_name = object.name
LEFT JOIN duckdb_columns() AS of_column
    ON of_column.table_name = object.name AND of_column.column_name = entry.column_name AND NOT of_column.internal
ORDER BY list_position(['view', 'macro', 'table'], object.kind), object.name, entry.place
