-- Every figure of the counts by one symbol, or in total: the margins, and the cells of tables with one dimension.
SELECT statistic, dimension, symbol, period, period_start, period_end, estimate, shown, lower, upper, status
FROM margins
UNION ALL
SELECT s.statistic, split_part(s.cell, '=', 1), split_part(s.cell, '=', 2), b.period, s.period_start, s.period_end,
    s.estimate, s.shown, s.lower, s.upper, s.status
FROM statistics s JOIN budget b USING (population, statistic)
WHERE s.cell <> 'all' AND NOT contains(s.cell, ', ')
ORDER BY ALL
