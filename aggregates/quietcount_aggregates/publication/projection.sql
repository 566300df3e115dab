-- The public file. Everything in it comes from the ledger: noised values and what was declared.
CREATE TABLE statistics (
    population VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL,
    period_start DATE NOT NULL,
    period_end DATE NOT NULL,
    cell VARCHAR NOT NULL,
    estimate DECIMAL(18, 6) NOT NULL,
    shown BIGINT NOT NULL,
    lower BIGINT NOT NULL,
    upper BIGINT NOT NULL,
    noisy BIGINT NOT NULL,
    noise_scale DOUBLE NOT NULL,
    epsilon DOUBLE NOT NULL,
    max_contributions INTEGER NOT NULL,
    reliability VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    first_estimate DECIMAL(18, 6) NOT NULL,
    release_id VARCHAR NOT NULL,
    released_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE statistics IS 'One row for each released cell. Every number carries noise; intervals hold the true count in 95 of 100 cells.';
COMMENT ON COLUMN statistics.population IS 'The population that is counted: budget says how often a case counts in it.';
COMMENT ON COLUMN statistics.statistic IS 'The name of the table of the population.';
COMMENT ON COLUMN statistics.period_start IS 'The first day of the period (UTC).';
COMMENT ON COLUMN statistics.period_end IS 'The last day of the period (UTC), inclusive.';
COMMENT ON COLUMN statistics.cell IS 'The symbol of each dimension, as in help_kind=DESERTION, urgent=false; all where there is no dimension.';
COMMENT ON COLUMN statistics.estimate IS 'The best figure that all tables of the population give together (least squares), with its sign: add these up. Quarters are sums of months, and margins sums of cells, to the last digit.';
COMMENT ON COLUMN statistics.shown IS 'The estimate for people: whole, and 0 where it is negative. Sums of these are too high.';
COMMENT ON COLUMN statistics.lower IS 'The lower end of the 95 % interval for the true count, from the exact distribution of the noise.';
COMMENT ON COLUMN statistics.upper IS 'The upper end of the 95 % interval for the true count; never less than the margin above 0, so that no noise makes a 0 look certain.';
COMMENT ON COLUMN statistics.noisy IS 'The count as drawn, with its sign. It never changes.';
COMMENT ON COLUMN statistics.noise_scale IS 'The scale of the discrete Laplace noise: max_contributions / epsilon.';
COMMENT ON COLUMN statistics.epsilon IS 'The privacy budget of the table, for all of its releases together.';
COMMENT ON COLUMN statistics.max_contributions IS 'How many events of one case count at most, over the horizon of the population, in all of its tables alike.';
COMMENT ON COLUMN statistics.reliability IS 'The margin relative to the estimate: good up to a tenth, fair up to three tenths, poor beyond.';
COMMENT ON COLUMN statistics.status IS 'final, or provisional: a table of a longer period that holds this one is not released yet, and its release will revise the estimate.';
COMMENT ON COLUMN statistics.first_estimate IS 'The estimate as it was when this period was released: where it differs from the estimate, that was revised.';
COMMENT ON COLUMN statistics.release_id IS 'The digest of the ledger entry that holds the release.';
COMMENT ON COLUMN statistics.released_at IS 'The tick (UTC) at which the period was released.';

CREATE TABLE margins (
    population VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL,
    dimension VARCHAR NOT NULL,
    symbol VARCHAR NOT NULL,
    period VARCHAR NOT NULL,
    period_start DATE NOT NULL,
    period_end DATE NOT NULL,
    estimate DECIMAL(18, 6) NOT NULL,
    shown BIGINT NOT NULL,
    lower BIGINT NOT NULL,
    upper BIGINT NOT NULL,
    reliability VARCHAR NOT NULL,
    status VARCHAR NOT NULL
);
COMMENT ON TABLE margins IS 'Sums of the cells of each statistic: of all of them, and of each symbol of each dimension, by its own and each longer period whose parts are all released. They overlap: do not add them up. The cells themselves are in statistics.';
COMMENT ON COLUMN margins.population IS 'The population that is counted.';
COMMENT ON COLUMN margins.statistic IS 'The name of the table of the population.';
COMMENT ON COLUMN margins.dimension IS 'The dimension whose symbol is counted; all for the total.';
COMMENT ON COLUMN margins.symbol IS 'The symbol that is counted, over all other dimensions; all for the total.';
COMMENT ON COLUMN margins.period IS 'What the sum is over: day, week, month, quarter or year.';
COMMENT ON COLUMN margins.period_start IS 'The first day of the period (UTC).';
COMMENT ON COLUMN margins.period_end IS 'The last day of the period (UTC), inclusive.';
COMMENT ON COLUMN margins.estimate IS 'The sum of the estimates, with its sign.';
COMMENT ON COLUMN margins.shown IS 'The estimate for people: whole, and 0 where it is negative.';
COMMENT ON COLUMN margins.lower IS 'The lower end of the 95 % interval for the true sum, from the exact distribution of its noise.';
COMMENT ON COLUMN margins.upper IS 'The upper end of the 95 % interval for the true sum.';
COMMENT ON COLUMN margins.reliability IS 'The margin of error relative to the estimate: good up to a tenth, fair up to three tenths, poor beyond.';
COMMENT ON COLUMN margins.status IS 'final, or provisional: a later release will revise the estimate.';

CREATE TABLE averages (
    population VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL,
    field VARCHAR NOT NULL,
    period VARCHAR NOT NULL,
    period_start DATE NOT NULL,
    period_end DATE NOT NULL,
    cell VARCHAR NOT NULL,
    sum DECIMAL(18, 6) NOT NULL,
    sum_lower BIGINT NOT NULL,
    sum_upper BIGINT NOT NULL,
    -- The same bytes each time: see published_bytes.py.
    average DECIMAL(18, 6) USING COMPRESSION uncompressed,
    average_lower DECIMAL(18, 6) NOT NULL,
    average_upper DECIMAL(18, 6) NOT NULL,
    noisy BIGINT USING COMPRESSION uncompressed,
    status VARCHAR NOT NULL,
    note VARCHAR NOT NULL
);
COMMENT ON TABLE averages IS 'Sums and averages of numbers: of each cell, and of all cells together, by the table''s own and each longer period whose parts are all released. They overlap: do not add up cells and all.';
COMMENT ON COLUMN averages.population IS 'The population that is counted.';
COMMENT ON COLUMN averages.statistic IS 'The name of the table that sums up.';
COMMENT ON COLUMN averages.field IS 'The number whose average it is.';
COMMENT ON COLUMN averages.period IS 'What the average is over: day, week, month, quarter or year.';
COMMENT ON COLUMN averages.period_start IS 'The first day of the period (UTC).';
COMMENT ON COLUMN averages.period_end IS 'The last day of the period (UTC), inclusive.';
COMMENT ON COLUMN averages.cell IS 'The symbol of each dimension; all for all cells together.';
COMMENT ON COLUMN averages.sum IS 'The sum of the values, each moved to between the two ends, with its sign.';
COMMENT ON COLUMN averages.sum_lower IS 'The lower end of the 95 % interval for the true sum.';
COMMENT ON COLUMN averages.sum_upper IS 'The upper end of the 95 % interval for the true sum.';
COMMENT ON COLUMN averages.average IS 'The sum divided by the count that all tables of the population tell; null if nobody can tell it.';
COMMENT ON COLUMN averages.average_lower IS 'The lower end of the 95 % interval for the true average (Fieller''s theorem); the lower of the two ends if nobody can tell.';
COMMENT ON COLUMN averages.average_upper IS 'The upper end of the 95 % interval for the true average; the upper of the two ends if nobody can tell.';
COMMENT ON COLUMN averages.noisy IS 'The sum as drawn, of values less their middle; null for what is added up of several.';
COMMENT ON COLUMN averages.status IS 'final, or provisional: a later release will revise the count below the average.';
COMMENT ON COLUMN averages.note IS 'Between which numbers the values were moved, and what cannot be told.';

CREATE TABLE ledger (
    "index" BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    population VARCHAR,
    statistic VARCHAR,
    -- The same bytes each time: see published_bytes.py.
    period_start DATE USING COMPRESSION uncompressed,
    recorded_at TIMESTAMP NOT NULL,
    digest VARCHAR NOT NULL,
    previous VARCHAR NOT NULL,
    entry BLOB NOT NULL
);
COMMENT ON TABLE ledger IS 'Every entry of the ledger this file was built from, so that anyone can check the chain.';
COMMENT ON COLUMN ledger."index" IS 'The place in the chain, from 0.';
COMMENT ON COLUMN ledger.kind IS 'opened, declared, described, settled, released, retired, completed, state_lost or rekeyed.';
COMMENT ON COLUMN ledger.population IS 'The population the entry is about, if any.';
COMMENT ON COLUMN ledger.statistic IS 'The table of the population, for a release.';
COMMENT ON COLUMN ledger.period_start IS 'The first day of the released period, for a release.';
COMMENT ON COLUMN ledger.recorded_at IS 'The clock of the tick (UTC).';
COMMENT ON COLUMN ledger.digest IS 'The SHA-256 digest of the entry, in hexadecimal: sha256(''quietcount ledger entry\x00''::BLOB || entry).';
COMMENT ON COLUMN ledger.previous IS 'The digest of the entry before.';
COMMENT ON COLUMN ledger.entry IS 'The entry itself, in Avro single-object encoding.';

CREATE TABLE budget (
    population VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL,
    epsilon DOUBLE NOT NULL,
    max_contributions INTEGER NOT NULL,
    horizon VARCHAR NOT NULL,
    period VARCHAR NOT NULL,
    since DATE NOT NULL,
    retired BOOLEAN NOT NULL,
    counting VARCHAR NOT NULL,
    declaration VARCHAR NOT NULL
);
COMMENT ON TABLE budget IS 'Where the lifetime epsilon went: one row for each table of a declared population, spent at its declaration and for ever.';
COMMENT ON COLUMN budget.population IS 'The population: one limit of contributions holds for all its tables together.';
COMMENT ON COLUMN budget.statistic IS 'The name of the table.';
COMMENT ON COLUMN budget.epsilon IS 'What all releases of the table together may tell about one person.';
COMMENT ON COLUMN budget.max_contributions IS 'How many events of one case count at most, over the horizon.';
COMMENT ON COLUMN budget.horizon IS 'lifetime, or year: then epsilon holds for each year in which a person came.';
COMMENT ON COLUMN budget.period IS 'What the table is released by.';
COMMENT ON COLUMN budget.since IS 'The first day of the first period released.';
COMMENT ON COLUMN budget.retired IS 'Whether the population is not released any more; its epsilon stays spent.';
COMMENT ON COLUMN budget.counting IS 'In words, how often a case counts.';
COMMENT ON COLUMN budget.declaration IS 'The canonical text of the population''s declaration, as JSON.';

CREATE TABLE withheld (statistic VARCHAR NOT NULL, period_start DATE NOT NULL, period_end DATE NOT NULL, reason VARCHAR NOT NULL);
COMMENT ON TABLE withheld IS 'The periods that are never released, with the reason.';
COMMENT ON COLUMN withheld.statistic IS 'The name of the statistic.';
COMMENT ON COLUMN withheld.period_start IS 'The first day of the period (UTC).';
COMMENT ON COLUMN withheld.period_end IS 'The last day of the period (UTC), inclusive.';
COMMENT ON COLUMN withheld.reason IS 'Why it is never released.';

CREATE TABLE buckets (
    population VARCHAR NOT NULL,
    dimension VARCHAR NOT NULL,
    place INTEGER NOT NULL,
    symbol VARCHAR NOT NULL,
    -- The same bytes each time: see published_bytes.py.
    lower BIGINT USING COMPRESSION uncompressed,
    upper BIGINT USING COMPRESSION uncompressed
);
COMMENT ON TABLE buckets IS 'The bounds of the symbols of each dimension that is a number: one row a bucket.';
COMMENT ON COLUMN buckets.population IS 'The population whose dimension it is.';
COMMENT ON COLUMN buckets.dimension IS 'The dimension.';
COMMENT ON COLUMN buckets.place IS 'The place of the bucket among those of the dimension, from 1.';
COMMENT ON COLUMN buckets.symbol IS 'The symbol, as it stands in cells.';
COMMENT ON COLUMN buckets.lower IS 'The lowest value in the bucket; null for unknown.';
COMMENT ON COLUMN buckets.upper IS 'The highest value in the bucket, inclusive; null for unknown.';

CREATE TABLE about (key VARCHAR NOT NULL, value VARCHAR NOT NULL);
COMMENT ON TABLE about IS 'What this file is, the bound that holds, and the head of the ledger it was built from.';
COMMENT ON COLUMN about.key IS 'What the value says.';
COMMENT ON COLUMN about.value IS 'The value, as text.';

-- What the noise of a sum of estimates is made of. Draws are independent discrete Laplace noise, each of which weighs as
-- its cell lies on the dimensions (aggregates/README.md).
CREATE TABLE noise_symbols (population VARCHAR NOT NULL, statistic VARCHAR NOT NULL, dimension VARCHAR NOT NULL, place INTEGER NOT NULL, symbol VARCHAR NOT NULL, part INTEGER NOT NULL, counted BOOLEAN NOT NULL);
COMMENT ON TABLE noise_symbols IS 'The symbols of each dimension that a table of the population knows.';
COMMENT ON COLUMN noise_symbols.population IS 'The population.';
COMMENT ON COLUMN noise_symbols.statistic IS 'The name of the table.';
COMMENT ON COLUMN noise_symbols.dimension IS 'A dimension of any table of the population.';
COMMENT ON COLUMN noise_symbols.place IS 'Which of the dimensions of this table it is, from 1; 0 if the table does not break down by it.';
COMMENT ON COLUMN noise_symbols.symbol IS 'A symbol of the dimension.';
COMMENT ON COLUMN noise_symbols.part IS 'Which symbols no table tells apart by its own condition: these are one part.';
COMMENT ON COLUMN noise_symbols.counted IS 'Whether the table counts events with this symbol.';

CREATE TABLE noise_periods (population VARCHAR NOT NULL, period_start DATE NOT NULL, period_end DATE NOT NULL, block INTEGER NOT NULL, shape INTEGER NOT NULL, place INTEGER NOT NULL, alike INTEGER NOT NULL);
COMMENT ON TABLE noise_periods IS 'The released periods of each population. Noise is shared within a block, and not between blocks.';
COMMENT ON COLUMN noise_periods.population IS 'The population.';
COMMENT ON COLUMN noise_periods.period_start IS 'The first day of the period (UTC).';
COMMENT ON COLUMN noise_periods.period_end IS 'The last day of the period (UTC), inclusive.';
COMMENT ON COLUMN noise_periods.block IS 'The block: periods that a released longer period ties together.';
COMMENT ON COLUMN noise_periods.shape IS 'The form of the block: noise_weights has the weights for each.';
COMMENT ON COLUMN noise_periods.place IS 'The place of the period in its block, from 0.';
COMMENT ON COLUMN noise_periods.alike IS 'The first place in the block that the same longer releases span: the noise of both is alike.';

CREATE TABLE noise_scales (population VARCHAR NOT NULL, statistic VARCHAR NOT NULL, scale DOUBLE NOT NULL, variance DOUBLE NOT NULL);
COMMENT ON TABLE noise_scales IS 'The noise of one draw of each statistic.';
COMMENT ON COLUMN noise_scales.population IS 'The population.';
COMMENT ON COLUMN noise_scales.statistic IS 'The name of the table.';
COMMENT ON COLUMN noise_scales.scale IS 'The scale of the discrete Laplace noise.';
COMMENT ON COLUMN noise_scales.variance IS 'Its variance.';

CREATE TABLE noise_responses (population VARCHAR NOT NULL, response INTEGER NOT NULL, dimension VARCHAR NOT NULL, part INTEGER NOT NULL);
COMMENT ON TABLE noise_responses IS 'What the least squares solve for: along these dimensions the total of a part.';
COMMENT ON COLUMN noise_responses.population IS 'The population.';
COMMENT ON COLUMN noise_responses.response IS 'The number of the unknown in noise_weights.';
COMMENT ON COLUMN noise_responses.dimension IS 'A dimension along which it is a total.';
COMMENT ON COLUMN noise_responses.part IS 'The part whose total it is.';

CREATE TABLE noise_signals (population VARCHAR NOT NULL, signal INTEGER NOT NULL, dimension VARCHAR NOT NULL, part INTEGER NOT NULL, residual BOOLEAN NOT NULL);
COMMENT ON TABLE noise_signals IS 'What a draw says to the least squares, along the dimensions of its table.';
COMMENT ON COLUMN noise_signals.population IS 'The population.';
COMMENT ON COLUMN noise_signals.signal IS 'The number of the observation in noise_weights.';
COMMENT ON COLUMN noise_signals.dimension IS 'A dimension of the table.';
COMMENT ON COLUMN noise_signals.part IS 'The part of the symbol of the draw''s cell.';
COMMENT ON COLUMN noise_signals.residual IS 'Whether it says how the symbols of the part differ, or what they add up to.';

CREATE TABLE noise_weights (population VARCHAR NOT NULL, shape INTEGER NOT NULL, place INTEGER NOT NULL, response INTEGER NOT NULL, statistic VARCHAR NOT NULL, node INTEGER NOT NULL, signal INTEGER NOT NULL, weight DOUBLE NOT NULL);
COMMENT ON TABLE noise_weights IS 'The least-squares solution: how much each observation counts in each unknown.';
COMMENT ON COLUMN noise_weights.population IS 'The population.';
COMMENT ON COLUMN noise_weights.shape IS 'The form of the block.';
COMMENT ON COLUMN noise_weights.place IS 'The period whose unknown it is, as its place in the block.';
COMMENT ON COLUMN noise_weights.response IS 'The unknown.';
COMMENT ON COLUMN noise_weights.statistic IS 'The table that was released.';
COMMENT ON COLUMN noise_weights.node IS 'Which of the table''s releases in the block it is, from 0.';
COMMENT ON COLUMN noise_weights.signal IS 'The observation.';
COMMENT ON COLUMN noise_weights.weight IS 'How much the observation counts.';

CREATE TABLE data_dictionary (table_name VARCHAR NOT NULL, column_name VARCHAR, description VARCHAR NOT NULL);
COMMENT ON TABLE data_dictionary IS 'What every table, view, macro and column means.';
COMMENT ON COLUMN data_dictionary.table_name IS 'The table, view or macro.';
COMMENT ON COLUMN data_dictionary.column_name IS 'The column; null where the description is of the whole.';
COMMENT ON COLUMN data_dictionary.description IS 'The meaning.';
