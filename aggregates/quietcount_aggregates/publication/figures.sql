-- How figures are published, from whole millionths; published_figures() in projection.py says the same.
CREATE OR REPLACE TEMP MACRO in_units(millionths) AS (millionths::DECIMAL(18, 0) * 0.000001::DECIMAL(7, 6))::DECIMAL(18, 6);
CREATE OR REPLACE TEMP MACRO as_shown(estimate) AS greatest(round(estimate, 0), 0)::BIGINT;
CREATE OR REPLACE TEMP MACRO as_lower(estimate, around) AS greatest(least(ceil(estimate - around), round(estimate, 0)), 0)::BIGINT;
-- At least the margin above 0, so that no noise makes a 0 look certain.
CREATE OR REPLACE TEMP MACRO as_upper(estimate, around) AS greatest(floor(greatest(estimate, 0) + around), round(estimate, 0))::BIGINT;
CREATE OR REPLACE TEMP MACRO as_reliable(estimate, around) AS
    CASE WHEN 10 * around <= estimate THEN 'good' WHEN 10 * around <= 3 * estimate THEN 'fair' ELSE 'poor' END;
