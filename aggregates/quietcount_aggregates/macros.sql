-- Questions analysts ask of more than one cell. The noise of a sum is that of its terms together; its margin is exact.
-- No WITH: DuckDB 1.4.0 does not find it in a macro that DuckDB 2.0 wrote.
CREATE MACRO series(the_statistic, cells := '{}') AS TABLE
SELECT period_start, period_end, greatest(noisy, 0) AS estimate,
    greatest(noisy - margin, 0) AS lower, greatest(noisy, 0) + margin AS upper, noisy
FROM (
    SELECT chosen.*, (
        SELECT min(m.margin) FROM margins m WHERE m.statistic = the_statistic AND m.terms >= chosen.terms
    ) AS margin
    -- The one row on the left lets the guard below speak when nothing was chosen.
    FROM (SELECT 1) LEFT JOIN (
        SELECT period_start, period_end, sum(noisy)::BIGINT AS noisy, count(*) AS terms
        FROM statistics
        WHERE statistic = the_statistic
            AND json_contains(cell, CASE WHEN json_valid(cells) THEN cells ELSE '[]' END)
        GROUP BY ALL
    ) AS chosen ON true
)
WHERE CASE WHEN coalesce(json_type(CASE WHEN json_valid(cells) THEN cells ELSE '[]' END), '') <> 'OBJECT'
    THEN error('series(): write cells as a JSON object, as {"help_kind":"DESERTION"}')
    WHEN terms IS NOT NULL THEN true
    WHEN NOT EXISTS (FROM statistics s WHERE s.statistic = the_statistic)
    THEN error('series(): there are no whole released periods of a statistic of this name; the table budget has the names')
    ELSE error('series(): this statistic has no such cells; its view has a column for each field') END
ORDER BY period_start;
COMMENT ON MACRO TABLE series IS 'series(statistic, cells := ''{}''): one row a period, summed over the cells that hold the given symbols, with the 95 % interval of the sum.';

CREATE MACRO total(the_statistic, the_start, the_end, cells := '{}') AS TABLE
SELECT greatest(noisy, 0) AS estimate, greatest(noisy - margin, 0) AS lower, greatest(noisy, 0) + margin AS upper,
    noisy, margin, terms
FROM (
    SELECT *, (
        SELECT min(m.margin) FROM margins m WHERE m.statistic = the_statistic AND m.terms >= chosen.terms
    ) AS margin
    FROM (
        SELECT coalesce(sum(noisy), 0)::BIGINT AS noisy, count(*) AS terms,
            min(period_start) = the_start::DATE AND max(period_end) = the_end::DATE AS covered
        FROM statistics
        WHERE statistic = the_statistic
            AND json_contains(cell, CASE WHEN json_valid(cells) THEN cells ELSE '[]' END)
            AND period_start >= the_start::DATE AND period_end <= the_end::DATE
    ) AS chosen
)
-- Here, and not in a column, which a query that selects another would never compute.
WHERE CASE WHEN coalesce(json_type(CASE WHEN json_valid(cells) THEN cells ELSE '[]' END), '') <> 'OBJECT'
    THEN error('total(): write cells as a JSON object, as {"help_kind":"DESERTION"}')
    WHEN covered THEN true
    WHEN NOT EXISTS (FROM statistics s WHERE s.statistic = the_statistic)
    THEN error('total(): there are no whole released periods of a statistic of this name; the table budget has the names')
    WHEN NOT EXISTS (
        FROM statistics s
        WHERE s.statistic = the_statistic AND json_contains(s.cell, CASE WHEN json_valid(cells) THEN cells ELSE '[]' END)
    )
    THEN error('total(): this statistic has no such cells; its view has a column for each field')
    ELSE error('total(): the span is not made of whole released periods: it has to begin on the first day of a released '
        || 'period and end on the last day of one. See them with: SELECT DISTINCT period_start, period_end FROM '
        || the_statistic || ' ORDER BY ALL') END;
COMMENT ON MACRO TABLE total IS 'total(statistic, start, end, cells := ''{}''): the sum over a span of whole released periods (both days inclusive), with its 95 % interval.';

CREATE MACRO compare(the_statistic, from_start, from_end, to_start, to_end, cells := '{}') AS TABLE
SELECT greatest(a, 0) AS from_estimate, greatest(b, 0) AS to_estimate,
    b - a AS difference, b - a - m_both AS difference_lower, b - a + m_both AS difference_upper,
    CASE WHEN bounded THEN round(100 * (greatest(b, 0)::DOUBLE / a - 1), 1) END AS percent_change,
    -- The ends go outwards to one decimal: the interval then misses no more often.
    CASE WHEN bounded THEN floor(1000 * (greatest((a::DOUBLE * b - root) / (a::DOUBLE ** 2 - g), 0) - 1)) / 10
        END AS percent_lower,
    -- At least what the margin of the later count comes to, so that no noise makes a fall to nothing look certain.
    CASE WHEN bounded THEN ceil(1000 * (greatest((a::DOUBLE * b + root) / (a::DOUBLE ** 2 - g), m_b::DOUBLE / a) - 1)) / 10
        END AS percent_upper,
    CASE WHEN bounded THEN 'interval by Fieller''s theorem with a quantile of the noise that is never too small'
        ELSE 'withheld: the earlier count is too small for a percent change' END AS note
FROM (
    SELECT *,
        -- The 95 % quantile of the noise in standard deviations, the largest of the three. A weighted difference falls
        -- between the whole numbers that the margins m are made for: with m in place of m + 1 it missed up to 10 in 100.
        greatest(
            (m_a + 1) / (deviation * sqrt(n_a)), (m_b + 1) / (deviation * sqrt(n_b)),
            (m_both + 1) / (deviation * sqrt(n_a + n_b))
        ) AS c,
        -- Fieller's theorem (1954): the ratios r for which b - r a is within c standard deviations of its noise.
        (c * deviation) ** 2 * n_a AS g, (c * deviation) ** 2 * n_b AS h,
        a > 0 AND a::DOUBLE ** 2 > g AS bounded,
        sqrt(greatest((a::DOUBLE ** 2 - g) * h + g * b::DOUBLE ** 2, 0)) AS root
    FROM (
        SELECT *,
            (SELECT min(m.margin) FROM margins m WHERE m.statistic = the_statistic AND m.terms >= n_a) AS m_a,
            (SELECT min(m.margin) FROM margins m WHERE m.statistic = the_statistic AND m.terms >= n_b) AS m_b,
            (SELECT min(m.margin) FROM margins m WHERE m.statistic = the_statistic AND m.terms >= n_a + n_b) AS m_both,
            (SELECT min(m.deviation) FROM margins m WHERE m.statistic = the_statistic) AS deviation
        FROM (
            SELECT
                coalesce(sum(noisy) FILTER (NOT later), 0)::BIGINT AS a,
                coalesce(sum(noisy) FILTER (later), 0)::BIGINT AS b,
                count(*) FILTER (NOT later) AS n_a, count(*) FILTER (later) AS n_b,
                min(period_start) FILTER (NOT later) = from_start::DATE
                    AND max(period_end) FILTER (NOT later) = from_end::DATE
                    AND min(period_start) FILTER (later) = to_start::DATE
                    AND max(period_end) FILTER (later) = to_end::DATE
                    AND (from_end::DATE < to_start::DATE OR to_end::DATE < from_start::DATE) AS covered
            FROM (
                SELECT period_start >= to_start::DATE AND period_end <= to_end::DATE AS later,
                    noisy, period_start, period_end
                FROM statistics
                WHERE statistic = the_statistic
                    AND json_contains(cell, CASE WHEN json_valid(cells) THEN cells ELSE '[]' END)
                    AND ((period_start >= from_start::DATE AND period_end <= from_end::DATE)
                        OR (period_start >= to_start::DATE AND period_end <= to_end::DATE))
            )
        )
    )
)
WHERE CASE WHEN coalesce(json_type(CASE WHEN json_valid(cells) THEN cells ELSE '[]' END), '') <> 'OBJECT'
    THEN error('compare(): write cells as a JSON object, as {"help_kind":"DESERTION"}')
    WHEN covered THEN true
    WHEN NOT EXISTS (FROM statistics s WHERE s.statistic = the_statistic)
    THEN error('compare(): there are no whole released periods of a statistic of this name; the table budget has the names')
    WHEN NOT EXISTS (
        FROM statistics s
        WHERE s.statistic = the_statistic AND json_contains(s.cell, CASE WHEN json_valid(cells) THEN cells ELSE '[]' END)
    )
    THEN error('compare(): this statistic has no such cells; its view has a column for each field')
    ELSE error('compare(): the two spans must not overlap, and each must be made of whole released periods: begin on the '
        || 'first day of one and end on the last day of one. See them with: SELECT DISTINCT period_start, period_end FROM '
        || the_statistic || ' ORDER BY ALL') END;
COMMENT ON MACRO TABLE compare IS 'compare(statistic, from_start, from_end, to_start, to_end, cells := ''{}''): the difference and the percent change between two spans of whole released periods (days inclusive), with 95 % intervals: exact for the difference, by Fieller''s theorem for the percent change.';
