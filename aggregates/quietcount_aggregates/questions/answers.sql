-- How estimates and margins become intervals.

-- fragment noises(symbols, spans, directions)
(SELECT q, list({'direction': direction, 'variance': variance, 'margin': margin}) AS noises
FROM @noise($symbols, $spans, $directions)
GROUP BY q)

-- One question about A and B: their estimates, and the noise in each direction.
-- $directions: see noise(). Answers q, its spans, a, b, status, and noises: {'direction', 'variance', 'margin'} each.
-- fragment answered(symbols, spans, directions)
(SELECT e.*, n.noises
FROM (
    SELECT p.q, p.start_a, p.end_a, p.start_b, p.end_b,
        coalesce(sum(m.a) FILTER (m.period_start BETWEEN p.start_a AND p.end_a), 0)::DECIMAL(18, 6) AS a,
        coalesce(sum(m.b) FILTER (m.period_start BETWEEN p.start_b AND p.end_b), 0)::DECIMAL(18, 6) AS b,
        max(m.status) AS status
    FROM $spans p LEFT JOIN @sums($symbols) m
        ON m.period_start BETWEEN p.start_a AND p.end_a OR m.period_start BETWEEN p.start_b AND p.end_b
    GROUP BY p.q, p.start_a, p.end_a, p.start_b, p.end_b
) e LEFT JOIN @noises($symbols, $spans, $directions) n ON n.q = e.q)

-- fragment margin(direction)
[n.margin FOR n IN noises IF n.direction = '$direction'][1]

-- The ends of an interval of a count.
-- fragment lower(estimate, margin)
CASE WHEN $estimate IS NOT NULL THEN greatest(0, least(ceil($estimate - $margin), round($estimate)))::BIGINT END

-- fragment upper(estimate, margin)
CASE WHEN $estimate IS NOT NULL THEN greatest(0, floor(greatest($estimate, 0) + $margin), round($estimate))::BIGINT END

-- fragment shown(estimate)
CASE WHEN $estimate IS NOT NULL THEN greatest(0, round($estimate))::BIGINT END

-- How many of the intervals of an answer with many of them miss.
-- fragment many()
'intervals of ' || level::VARCHAR || ' %: about 1 in ' || round(1 / (1 - @confidence()))::BIGINT || ' of them misses'

-- The noise of A alone.
-- fragment one_direction()
(SELECT 'a' AS direction, 1 AS alpha, 0 AS beta, @confidence() AS confidence)
