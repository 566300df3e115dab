-- noise_quantile(weights, scales, counts, confidence): what intervals.py computes, by the same method and with the same
-- bounds. intervals.py explains both. This copy searches in rounds instead of by bisection, and its lattices are shorter.
--
-- It refers to no table and no other macro, so that it works under any name of the file. It has no lambda (DuckDB 2.0
-- refuses one spelling, 1.2 the other) and no WITH (1.4.0 does not find it in a macro that 2.0 wrote). A list within a
-- list refers to no variable of the outer one (1.4.0 does not find it): it runs over list_resize([], n, x), n times x.
-- Read it from the bottom up: each SELECT names what those above it use.
CREATE MACRO noise_quantile(weights, scales, counts, confidence) AS (
SELECT CASE WHEN len(q_groups) = 0 OR exp(-0.5 * list_sum([g.n * ln(1 + g.k) for g in q_groups])) >= q_confidence + 1e-9
    THEN 0
    ELSE 1.000001 * least(q_m2, coalesce(q_last.base + q_fine * q_last.unit + q_last.beyond, q_m2)) END
-- The first that covers of the sixteen up to the one found below it.
FROM (SELECT *, list_min([i for i in range(q_sixteenth - 15, q_sixteenth + 1)
    if q_last.goal <= 2 * (q_last.base + i * q_last.unit) / q_last.length
        + list_dot_product(q_series3, [sin(x * j) for x, j in
            list_resize([]::DOUBLE[], len(q_at3), 2 * pi() / q_last.length * (q_last.base + i * q_last.unit))])])
    AS q_fine
-- The first that covers of every sixteenth candidate.
FROM (SELECT *, list_min([i for i in range(0, q_last.candidates + 16, 16)
    if q_last.goal <= 2 * (q_last.base + i * q_last.unit) / q_last.length
        + list_dot_product(q_series3, [sin(x * j) for x, j in
            list_resize([]::DOUBLE[], len(q_at3), 2 * pi() / q_last.length * (q_last.base + i * q_last.unit))])])
    AS q_sixteenth
FROM (SELECT *, [exp(-list_dot_product(q_n, [ln(1 + q_k[j] * pow(sin(q_w[j] * u), 2))
        for u, j in list_resize([]::DOUBLE[], len(q_w), t / 2)])) *
    CASE WHEN q_short THEN 2 * q_last.unit / q_last.length / sin(0.5 * q_last.unit * t)
    ELSE 4 / q_last.length / t * 13 / sinh(13)
        * sinh(sqrt(169 - pow(q_last.beyond * t, 2))) / sqrt(169 - pow(q_last.beyond * t, 2)) END
    for t in q_at3] AS q_series3
FROM (SELECT *, [2 * pi() / q_last.length * j for j in range(1, 1 + CASE
    WHEN q_short THEN (q_last.length / q_last.unit)::BIGINT // 2
    ELSE ceil(13 * q_last.length / (2 * pi() * q_last.beyond))::BIGINT - 1 END)] AS q_at3
-- The last pass has the candidates base + i * unit. `beyond` is what is added to the one that covers: h with smoothing.
FROM (SELECT *, CASE WHEN q_short THEN {
    'length': q_lattice.step * (2 * floor((q_far + q_most) / q_lattice.step / 2) + 5),
    'unit': q_lattice.step,
    'base': q_lattice.step * (greatest(floor(q_least / q_lattice.step) - 1, 0) + 0.5),
    'candidates': ceil((q_m2 - q_least) / q_lattice.step)::BIGINT + 3,
    'beyond': q_lattice.moved - q_lattice.step / 2,
    'goal': q_confidence + 1e-9
} ELSE {
    'length': q_wrapping + q_m2 + 2 * q_h3,
    'unit': (q_m2 + q_h3 - q_least) / 256,
    'base': q_least,
    'candidates': 256::BIGINT,
    'beyond': q_h3,
    'goal': q_confidence + 1e-5
} END AS q_last
-- The true quantile is not below the last candidate that did not cover, less h.
FROM (SELECT *, greatest(q_m2 / 280, q_h1 / 512) AS q_h3,
    greatest(q_m2 - CASE WHEN q_far_below THEN 2 * q_h2 + q_m1 / 64 ELSE 2 * q_h1 + q_most / 64 END, 0) AS q_least
FROM (SELECT *, least(q_m1, coalesce(q_h2 + q_m1 / 64 * list_min([i for i in range(1, 65)
    if q_confidence + 1e-5 <= q_m1 / 32 * i / q_length2
        + list_dot_product(q_series2, [sin(x * j) for x, j in
            list_resize([]::DOUBLE[], len(q_at2), 2 * pi() / q_length2 * q_m1 / 64 * i)])]), q_m1)) AS q_m2
FROM (SELECT *, [exp(-list_dot_product(q_n, [ln(1 + q_k[j] * pow(sin(q_w[j] * u), 2))
        for u, j in list_resize([]::DOUBLE[], len(q_w), t / 2)]))
    * 4 / q_length2 / t * 13 / sinh(13) * sinh(sqrt(169 - pow(q_h2 * t, 2))) / sqrt(169 - pow(q_h2 * t, 2))
    for t in q_at2] AS q_series2
FROM (SELECT *, [2 * pi() / q_length2 * j for j in range(1, CASE
    WHEN q_far_below THEN ceil(13 * q_length2 / (2 * pi() * q_h2))::BIGINT ELSE 1 END)] AS q_at2
-- If the first pass ends far below Chernoff's bound (rare huge draws among small ones), a second one with a narrower h.
FROM (SELECT *, q_wrapping + q_m1 + 2 * q_h2 AS q_length2, NOT q_short AND q_m1 < q_most / 4 AS q_far_below
-- The first pass, with a wide h, finds about how large the quantile is. Its result covers, too.
FROM (SELECT *, q_h1 / 16 AS q_h2, least(q_most, coalesce(q_h1 + q_most / 64 * list_min([i for i in range(1, 65)
    if q_confidence + 1e-5 <= q_most / 32 * i / q_length1
        + list_dot_product(q_series1, [sin(x * j) for x, j in
            list_resize([]::DOUBLE[], len(q_at1), 2 * pi() / q_length1 * q_most / 64 * i)])]), q_most)) AS q_m1
FROM (SELECT *, [exp(-list_dot_product(q_n, [ln(1 + q_k[j] * pow(sin(q_w[j] * u), 2))
        for u, j in list_resize([]::DOUBLE[], len(q_w), t / 2)]))
    * 4 / q_length1 / t * 13 / sinh(13) * sinh(sqrt(169 - pow(q_h1 * t, 2))) / sqrt(169 - pow(q_h1 * t, 2))
    for t in q_at1] AS q_series1
FROM (SELECT *, [2 * pi() / q_length1 * j for j in range(1, ceil(13 * q_length1 / (2 * pi() * q_h1))::BIGINT)]
    AS q_at1
FROM (SELECT *, q_wrapping + q_most + 2 * q_h1 AS q_length1,
    coalesce((q_far + q_most) / q_lattice.step <= 8192, false) AS q_short
-- The lattice on which the sum lies, or NULL.
FROM (SELECT *, q_most / 32 AS q_h1, [l for l in [{'step': step, 'moved': list_sum([
        abs(q_w[j] - u * round(q_w[j] / u)) * q_groups[j].s * (0.58 * q_n[j] + 2 * (24 + ln(len(q_w))))
        for u, j in list_resize([]::DOUBLE[], len(q_w), step)])}
    for step in q_steps] if l.moved < l.step / 4096][1] AS q_lattice
FROM (SELECT *, [q_smallest / d for d in range(1, 25)] AS q_steps,
    -- Chernoff's bounds.
    list_min([(m.mgf + ln(2 / (1 - q_confidence))) / m.at for m in q_mgf]) AS q_most,
    list_min([(m.mgf + 13.2) / m.at for m in q_mgf]) AS q_wrapping,
    list_min([(m.mgf + 24) / m.at for m in q_mgf]) AS q_far
FROM (SELECT *, list_min([g.w for g in q_groups if g.w > 1e-9 * q_largest]) AS q_smallest,
    [{'at': t, 'mgf': -list_dot_product(q_n, [ln(1 - q_k[j] * pow(sinh(q_w[j] * u), 2))
        for u, j in list_resize([]::DOUBLE[], len(q_w), t / 2)])} for t in q_places] AS q_mgf
FROM (SELECT *, list_max([g.w for g in q_groups]) AS q_largest,
    [q_infinite * CASE WHEN i < 5 THEN 1 - pow(0.5, 6 - i) ELSE pow(0.5, (i - 3) / 2) END for i in range(0, 36)]
        AS q_places
FROM (SELECT *, 1 / list_max([g.w * g.s for g in q_groups]) AS q_infinite,
    [g.w for g in q_groups] AS q_w, [g.n for g in q_groups] AS q_n, [g.k for g in q_groups] AS q_k
-- The groups that matter.
FROM (SELECT q_confidence, [{
    'w': abs(q_weights[i]), 's': q_scales[i], 'n': q_counts[i], 'k': pow(sinh(0.5 / q_scales[i]), -2)
} for i in range(1, len(q_weights) + 1)
    if q_weights[i] <> 0 AND q_counts[i] * exp(-1 / q_scales[i]) > 1e-13] AS q_groups
FROM (SELECT *, CASE
    WHEN len(q_weights) <> len(q_scales) OR len(q_weights) <> len(q_counts)
    THEN error('noise_quantile(): the three lists must have the same length')
    WHEN len([i for i in range(1, len(q_weights) + 1) if isfinite(q_weights[i]) AND isfinite(q_scales[i])
        AND q_scales[i] > 0 AND q_counts[i] >= 0]) < len(q_weights)
    THEN error('noise_quantile(): weights must be finite, scales above 0, and counts 0 or more')
    WHEN q_asked NOT BETWEEN 0.01 AND 0.9999
    THEN error('noise_quantile(): the confidence must be between 0.01 and 0.9999, as 0.95 is')
    ELSE q_asked END AS q_confidence
FROM (SELECT weights::DOUBLE[] AS q_weights, scales::DOUBLE[] AS q_scales, counts::DOUBLE[] AS q_counts,
    confidence::DOUBLE AS q_asked
)))))))))))))))))))))));
COMMENT ON MACRO noise_quantile IS 'noise_quantile(weights, scales, counts, confidence): with this confidence a weighted sum of independent discrete Laplace draws is at most so far from 0. Each place in the lists is a group of draws: their weight, their scale, and how many they are. Never too small, and at most 1 % above the smallest that holds.';
