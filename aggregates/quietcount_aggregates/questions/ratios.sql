-- Intervals of a ratio B / A by Fieller's theorem (E. C. Fieller, 1954): all r for which b - r a is within its noise.

-- The directions in which a ratio needs the noise: A, B and B - A for their own intervals, and further ones of B - r A.
-- The factor, a quantile in standard deviations, is the largest of them: for small scales it jumps with r, and these
-- reach the largest within 1 %, which is added. Those that end in _strict are for counts that are hardly above 0.
-- $ratios: a list of r.
-- fragment ratio_directions(ratios)
(SELECT direction, alpha, beta, @confidence() AS confidence
FROM (VALUES ('a', 1, 0), ('b', 0, 1), ('difference', -1, 1)) v(direction, alpha, beta)
UNION ALL
SELECT direction, alpha, beta, 1 - (1 - @confidence()) / 20
FROM (VALUES ('a_strict', 1, 0), ('b_strict', 0, 1), ('difference_strict', -1, 1)) v(direction, alpha, beta)
UNION ALL
SELECT 'ratio', -r, 1, @confidence() FROM (SELECT unnest($ratios) AS r))

-- fragment factor(condition)
1.01 * list_max([n.margin / sqrt(n.variance) FOR n IN noises IF $condition])

-- fragment variance(direction)
[n.variance FOR n IN noises IF n.direction = '$direction'][1]

-- A percent change or a share is told only if A is above 0 at the strict level, 99.75 % for 95 %. Up to twice that,
-- its interval is of the strict level, too: shown by chance, a small count is mostly shown too large, and its interval
-- must not miss then. So among the shown ones at most 5 in 100 miss, if A is such that it is shown once in 20 times.
-- $answered: rows with a, b and noises. Adds told, ratio, ratio_lower, ratio_upper.
-- fragment ratio(answered)
(SELECT *, CASE WHEN told THEN greatest(b, 0) / a END AS ratio,
    CASE WHEN told THEN greatest((mixed - root) / squared, 0) END AS ratio_lower,
    -- At least what the margin of B comes to, so that no noise makes a fall to nothing look certain.
    CASE WHEN told THEN greatest((mixed + root) / squared, @margin(b) / a) END AS ratio_upper
FROM (
    SELECT *, sqrt(greatest(mixed ** 2 - squared * (b ** 2 - factor ** 2 * variance_b), 0)) AS root
    FROM (
        SELECT *, a ** 2 - factor ** 2 * variance_a AS squared,
            a::DOUBLE * b - factor ** 2 * (variance_a + variance_b - variance_difference) / 2 AS mixed
        FROM (
            SELECT * REPLACE (CASE WHEN a > 2 * strict * sqrt(variance_a) THEN factor ELSE strict END AS factor),
                coalesce(a > strict * sqrt(variance_a), false) AS told
            FROM (
                SELECT *, @factor(NOT ends_with(n.direction, '_strict')) AS factor,
                    greatest(@factor(true), factor) AS strict,
                    @variance(a) AS variance_a, @variance(b) AS variance_b,
                    coalesce(@variance(difference), 0) AS variance_difference
                FROM $answered
            )
        )
    )
))
