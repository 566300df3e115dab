-- How estimates and margins become intervals.

-- One question about A and B: their estimates, and the noise in each direction.
-- $directions: see noise(). Answers (q, a, b, status, noises: a list of {'direction', 'variance', 'margin'}).
-- fragment answered(symbols, spans, directions)
(SELECT e.q, e.a, e.b, e.status, n.noises
FROM (
    SELECT p.q, coalesce(sum(m.a) FILTER (m.period_start >= p.start_a AND m.period_end <= p.end_a), 0)::DECIMAL(18, 6) AS a,
        coalesce(sum(m.b) FILTER (m.period_start >= p.start_b AND m.period_end <= p.end_b), 0)::DECIMAL(18, 6) AS b,
        max(m.status) AS status
    FROM $spans p LEFT JOIN @sums($symbols) m
        ON m.period_start BETWEEN p.start_a AND p.end_a OR m.period_start BETWEEN p.start_b AND p.end_b
    GROUP BY p.q
) e LEFT JOIN (
    SELECT q, list({'direction': direction, 'variance': variance, 'margin': margin}) AS noises
    FROM @noise($symbols, $spans, $directions)
    GROUP BY q
) n ON n.q = e.q)

-- fragment margin(direction)
[n.margin FOR n IN noises IF n.direction = '$direction'][1]

-- The ends of an interval of a count. Rounding of the estimates to millionths must not move them inwards.
-- fragment lower(estimate, margin)
greatest(0, ceil($estimate - $margin - 1e-6))::BIGINT

-- fragment upper(estimate, margin)
floor(greatest($estimate, 0) + $margin + 1e-6)::BIGINT

-- fragment shown(estimate)
greatest(0, round($estimate))::BIGINT
