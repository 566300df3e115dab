CREATE MACRO series(the_statistic) AS TABLE SELECT 1 AS one;
COMMENT ON MACRO TABLE series IS 'x';
