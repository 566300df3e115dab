-- What the macros read of a published file; the columns are those of publication/projection.sql.
CREATE TABLE statistics (population VARCHAR, statistic VARCHAR, period_start DATE, period_end DATE, cell VARCHAR,
    estimate DECIMAL(18, 6), status VARCHAR);
CREATE TABLE budget (population VARCHAR, statistic VARCHAR, period VARCHAR);
CREATE TABLE margins (population VARCHAR, statistic VARCHAR, dimension VARCHAR, period VARCHAR, period_start DATE,
    period_end DATE);
CREATE TABLE withheld (statistic VARCHAR, period_start DATE, period_end DATE, reason VARCHAR);
CREATE TABLE averages (statistic VARCHAR);
CREATE TABLE buckets (population VARCHAR, dimension VARCHAR, place INTEGER, symbol VARCHAR, lower BIGINT, upper BIGINT);
CREATE TABLE noise_symbols (population VARCHAR, statistic VARCHAR, dimension VARCHAR, place INTEGER, symbol VARCHAR,
    part INTEGER, counted BOOLEAN);
CREATE TABLE noise_periods (population VARCHAR, period_start DATE, period_end DATE, block INTEGER, shape INTEGER,
    place INTEGER, alike INTEGER);
CREATE TABLE noise_scales (population VARCHAR, statistic VARCHAR, scale DOUBLE, variance DOUBLE);
CREATE TABLE noise_responses (population VARCHAR, response INTEGER, dimension VARCHAR, part INTEGER);
CREATE TABLE noise_signals (population VARCHAR, signal INTEGER, dimension VARCHAR, part INTEGER, residual BOOLEAN);
CREATE TABLE noise_weights (population VARCHAR, shape INTEGER, place INTEGER, response INTEGER, statistic VARCHAR,
    node INTEGER, signal INTEGER, weight DOUBLE);
