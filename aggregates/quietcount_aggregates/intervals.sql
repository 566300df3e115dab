-- noise_quantile(weights, scales, counts, confidence): what intervals.py computes, by the same method, which is explained
-- there. This copy searches in rounds of sixteen instead of by bisection, and its lattices are shorter.
--
-- It refers to no table and no other macro, so that it works under any name of the file. It has no lambda, because DuckDB
-- 2.0 refuses one spelling and 1.2 the other, and no WITH, which 1.4.0 does not find in a macro that 2.0 wrote. So read
-- from the bottom up: each SELECT names one more step of what the SELECT above it uses.
CREATE MACRO noise_quantile(weights, scales, counts, confidence) AS (
SELECT CASE
    WHEN len(q_groups) = 0 OR exp(-0.5 * list_sum([g.n * ln(1 + g.k) for g in q_groups])) >= q_confidence + 1e-9 THEN 0
    ELSE 1.000001 * least(q_first, coalesce(q_plan.base + q_fine * q_plan.unit + q_plan.beyond, q_first)) END
-- Of the sixteen candidates up to the one that covers, the first that covers.
FROM (SELECT *, list_min([i for i in range(q_round - 15, q_round + 1) if q_plan.goal <=
        2 * (q_plan.base + i * q_plan.unit) / q_plan.length
        + list_dot_product(q_series, [sin((q_plan.base + i * q_plan.unit) * t) for t in q_at])]) AS q_fine
-- Of every sixteenth candidate, the first that covers.
FROM (SELECT *, list_min([i for i in range(0, q_plan.candidates + 16, 16) if q_plan.goal <=
        2 * (q_plan.base + i * q_plan.unit) / q_plan.length
        + list_dot_product(q_series, [sin((q_plan.base + i * q_plan.unit) * t) for t in q_at])]) AS q_round
FROM (SELECT *, [exp(-list_sum([g.n * ln(1 + g.k * pow(sin(0.5 * g.w * t), 2)) for g in q_groups])) *
    CASE WHEN q_short THEN 2 * q_plan.unit / q_plan.length / sin(0.5 * q_plan.unit * t)
    ELSE 4 / q_plan.length / t * 13 / sinh(13)
        * sinh(sqrt(169 - pow(q_plan.beyond * t, 2))) / sqrt(169 - pow(q_plan.beyond * t, 2)) END
    for t in q_at] AS q_series
FROM (SELECT *, [2 * pi() / q_plan.length * j for j in range(1, 1 + CASE
    WHEN q_short THEN (q_plan.length / q_plan.unit)::BIGINT // 2
    ELSE ceil(13 * q_plan.length / (2 * pi() * q_plan.beyond))::BIGINT - 1 END)] AS q_at
-- The second pass has the candidates base + i * unit. `beyond` is what is added to the one that covers: h if there is smoothing.
FROM (SELECT *, CASE WHEN q_short THEN {
    'length': q_lattice.step * (2 * floor((q_bounds.far + q_bounds.most) / q_lattice.step / 2) + 5),
    'unit': q_lattice.step,
    'base': q_lattice.step * (greatest(floor(q_least / q_lattice.step) - 1, 0) + 0.5),
    'candidates': ceil((q_first - q_least) / q_lattice.step)::BIGINT + 3,
    'beyond': q_lattice.moved - q_lattice.step / 2,
    'goal': q_confidence + 1e-9
} ELSE {
    'length': q_bounds.wrapping + q_first + 2 * q_h,
    'unit': (q_first + q_h - q_least) / 256,
    'base': q_least,
    'candidates': 256::BIGINT,
    'beyond': q_h,
    'goal': q_confidence + 1e-5
} END AS q_plan
-- The true quantile is not below the last candidate of the first pass that did not cover, less h.
FROM (SELECT *, greatest(q_first / 280, q_wide / 16) AS q_h, greatest(q_first - 2 * q_wide - q_bounds.most / 64, 0) AS q_least
-- The first pass, with a wide h, finds about how large the quantile is. Its result covers, too.
FROM (SELECT *, coalesce(q_wide + list_min([i for i in range(1, 67)
    if q_confidence + 1e-5 <= q_bounds.most / 32 * i / q_width
        + list_dot_product(q_rough, [sin(q_bounds.most / 64 * i * t) for t in q_coarse])]) * q_bounds.most / 64,
    q_bounds.most) AS q_first
FROM (SELECT *, [exp(-list_sum([g.n * ln(1 + g.k * pow(sin(0.5 * g.w * t), 2)) for g in q_groups]))
    * 4 / q_width / t * 13 / sinh(13) * sinh(sqrt(169 - pow(q_wide * t, 2))) / sqrt(169 - pow(q_wide * t, 2))
    for t in q_coarse] AS q_rough
FROM (SELECT *, [2 * pi() / q_width * j for j in range(1, ceil(13 * q_width / (2 * pi() * q_wide))::BIGINT)] AS q_coarse
FROM (SELECT *, q_bounds.wrapping + q_bounds.most + 2 * q_wide AS q_width,
    coalesce((q_bounds.far + q_bounds.most) / q_lattice.step <= 4096, false) AS q_short
-- The lattice on which the sum lies, or NULL.
FROM (SELECT *, q_bounds.most / 32 AS q_wide, [l for l in [{'step': step, 'moved': list_sum([
        abs(g.w - step * round(g.w / step)) * g.s * (0.58 * g.n + 2 * (24 + ln(len(q_groups)))) for g in q_groups])}
    for step in q_steps] if l.moved < l.step / 4096][1] AS q_lattice
-- Chernoff's bounds.
FROM (SELECT *, {
    'most': list_min([(m.mgf + ln(2 / (1 - q_confidence))) / m.at for m in q_mgf]),
    'wrapping': list_min([(m.mgf + 13.2) / m.at for m in q_mgf]),
    'far': list_min([(m.mgf + 24) / m.at for m in q_mgf])
} AS q_bounds
FROM (SELECT *,
    [q_smallest / d for d in range(1, 25)] AS q_steps,
    [{'at': u, 'mgf': -list_sum([g.n * ln(1 - g.k * pow(sinh(0.5 * g.w * u), 2)) for g in q_groups])} for u in q_places] AS q_mgf
FROM (SELECT *,
    list_min([g.w for g in q_groups if g.w > 1e-9 * q_largest]) AS q_smallest,
    [CASE WHEN i < 5 THEN 1 - pow(0.5, 6 - i) ELSE pow(0.5, (i - 3) / 2) END / q_farthest for i in range(0, 36)] AS q_places
FROM (SELECT *, list_max([g.w for g in q_groups]) AS q_largest, list_max([g.w * g.s for g in q_groups]) AS q_farthest
-- The groups that matter.
FROM (SELECT q_confidence, [{'w': abs(q_weights[i]), 's': q_scales[i], 'n': q_counts[i], 'k': pow(sinh(0.5 / q_scales[i]), -2)}
    for i in range(1, len(q_weights) + 1) if q_weights[i] <> 0 AND q_counts[i] * exp(-1 / q_scales[i]) > 1e-13] AS q_groups
FROM (SELECT weights::DOUBLE[] AS q_weights, scales::DOUBLE[] AS q_scales, counts::DOUBLE[] AS q_counts,
    confidence::DOUBLE AS q_confidence
))))))))))))))))));
COMMENT ON MACRO noise_quantile IS 'noise_quantile(weights, scales, counts, confidence): how far from 0 a weighted sum of independent discrete Laplace draws lies with the confidence, never told too small. One place in each list is a group of draws: their weight, their scale, and how many they are.';
