-- The public file. Everything in it comes from the ledger: noised values and what was declared.
CREATE TABLE statistics (
    population VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL,
    period_start DATE NOT NULL,
    period_end DATE NOT NULL,
    cell VARCHAR NOT NULL,
    estimate BIGINT NOT NULL,
    lower BIGINT NOT NULL,
    upper BIGINT NOT NULL,
    noisy BIGINT NOT NULL,
    noise_scale DOUBLE NOT NULL,
    epsilon DOUBLE NOT NULL,
    max_contributions INTEGER NOT NULL,
    reliability VARCHAR NOT NULL,
    release_id VARCHAR NOT NULL,
    released_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE statistics IS 'One row for each released cell. Every number carries noise; intervals hold the true count in 95 of 100 cells.';
COMMENT ON COLUMN statistics.population IS 'The population that is counted: budget says how often a case counts in it.';
COMMENT ON COLUMN statistics.statistic IS 'The name of the table of the population.';
COMMENT ON COLUMN statistics.period_start IS 'The first day of the period (UTC).';
COMMENT ON COLUMN statistics.period_end IS 'The last day of the period (UTC), inclusive.';
COMMENT ON COLUMN statistics.cell IS 'The symbol of each dimension, as a JSON object with sorted keys; {} where there is none.';
COMMENT ON COLUMN statistics.estimate IS 'The published figure: noisy, or 0 where noisy is negative. Do not add estimates up: add noisy, or use total().';
COMMENT ON COLUMN statistics.lower IS 'The lower end of the 95 % interval for the true count, from the exact distribution of the noise.';
COMMENT ON COLUMN statistics.upper IS 'The upper end of the 95 % interval for the true count; never less than the margin above the estimate, so that no noise makes a 0 look certain.';
COMMENT ON COLUMN statistics.noisy IS 'The count as drawn, with its sign: negative values keep sums unbiased.';
COMMENT ON COLUMN statistics.noise_scale IS 'The scale of the discrete Laplace noise: max_contributions / epsilon.';
COMMENT ON COLUMN statistics.epsilon IS 'The privacy budget of the table, for all of its releases together.';
COMMENT ON COLUMN statistics.max_contributions IS 'How many events of one case count at most, over the horizon of the population, in all of its tables alike.';
COMMENT ON COLUMN statistics.reliability IS 'The margin relative to the estimate: good up to a tenth, fair up to three tenths, poor beyond.';
COMMENT ON COLUMN statistics.release_id IS 'The digest of the ledger entry that holds the release.';
COMMENT ON COLUMN statistics.released_at IS 'The tick (UTC) at which the period was released.';

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
COMMENT ON COLUMN ledger.kind IS 'opened, declared, settled, released, retired, completed or state_lost.';
COMMENT ON COLUMN ledger.population IS 'The population the entry is about, if any.';
COMMENT ON COLUMN ledger.statistic IS 'The table of the population, for a release.';
COMMENT ON COLUMN ledger.period_start IS 'The first day of the released period, for a release.';
COMMENT ON COLUMN ledger.recorded_at IS 'The clock of the tick (UTC).';
COMMENT ON COLUMN ledger.digest IS 'The SHA-256 digest of the entry, in hexadecimal.';
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

CREATE TABLE about (key VARCHAR NOT NULL, value VARCHAR NOT NULL);
COMMENT ON TABLE about IS 'What this file is, the bound that holds, and the head of the ledger it was built from.';
COMMENT ON COLUMN about.key IS 'What the value says.';
COMMENT ON COLUMN about.value IS 'The value, as text.';

CREATE TABLE margins (statistic VARCHAR NOT NULL, terms BIGINT NOT NULL, margin BIGINT NOT NULL, deviation DOUBLE NOT NULL);
COMMENT ON TABLE margins IS 'The 95 % margin of error of a sum of so many cells of a statistic, from the exact distribution of the sum of their noises.';
COMMENT ON COLUMN margins.statistic IS 'The name of the statistic.';
COMMENT ON COLUMN margins.terms IS 'How many cells are added; for a number not listed, the next larger one serves.';
COMMENT ON COLUMN margins.margin IS 'The smallest m such that the noise of the sum lies within -m and m with probability 0.95.';
COMMENT ON COLUMN margins.deviation IS 'The standard deviation of the noise of one cell.';

CREATE TABLE data_dictionary (table_name VARCHAR NOT NULL, column_name VARCHAR, description VARCHAR NOT NULL);
COMMENT ON TABLE data_dictionary IS 'What every table, view, macro and column means.';
COMMENT ON COLUMN data_dictionary.table_name IS 'The table, view or macro.';
COMMENT ON COLUMN data_dictionary.column_name IS 'The column; null where the description is of the whole.';
COMMENT ON COLUMN data_dictionary.description IS 'The meaning.';
