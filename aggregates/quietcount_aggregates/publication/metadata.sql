-- What a careful reader needs beside the figures. Where there is nothing to say, the text says so; nothing is blank.
CREATE TABLE descriptions (
    population VARCHAR NOT NULL,
    statistic VARCHAR NOT NULL,
    title VARCHAR NOT NULL,
    description VARCHAR NOT NULL,
    unit VARCHAR NOT NULL,
    events VARCHAR NOT NULL,
    conditions VARCHAR NOT NULL,
    dimensions VARCHAR NOT NULL,
    period VARCHAR NOT NULL,
    first_period DATE NOT NULL,
    counting VARCHAR NOT NULL,
    contribution VARCHAR NOT NULL,
    data_until VARCHAR NOT NULL,
    next_release VARCHAR NOT NULL,
    publisher VARCHAR NOT NULL,
    licence VARCHAR NOT NULL,
    citation VARCHAR NOT NULL
);
COMMENT ON TABLE descriptions IS 'What each statistic counts and how, who publishes it, and how new it is: one row a statistic.';
COMMENT ON COLUMN descriptions.population IS 'The population that is counted.';
COMMENT ON COLUMN descriptions.statistic IS 'The name of the table of the population, and of its view.';
COMMENT ON COLUMN descriptions.title IS 'What is counted, in a few words, and what it is broken down by.';
COMMENT ON COLUMN descriptions.description IS 'More about it, in the words of the publisher; none if there are none.';
COMMENT ON COLUMN descriptions.unit IS 'cases, if a case counts once at most over its lifetime; otherwise events, of which a case may add several over time; or the number that is averaged.';
COMMENT ON COLUMN descriptions.events IS 'The event types that are counted.';
COMMENT ON COLUMN descriptions.conditions IS 'Which of these events are counted alone; none if all are.';
COMMENT ON COLUMN descriptions.dimensions IS 'What it is broken down by beside the period: columns of its view; none if there are none.';
COMMENT ON COLUMN descriptions.period IS 'What it is released by: day, week, month, quarter or year.';
COMMENT ON COLUMN descriptions.first_period IS 'The first day of its first period (UTC).';
COMMENT ON COLUMN descriptions.counting IS 'In words, how often a case counts.';
COMMENT ON COLUMN descriptions.contribution IS 'In words, what one case can add at most.';
COMMENT ON COLUMN descriptions.data_until IS 'The last day that is released (UTC), as text; none before the first release.';
COMMENT ON COLUMN descriptions.next_release IS 'The day (UTC) on which the next period is due by the clock, as text, or why there is no such day. A service that runs releases it then.';
COMMENT ON COLUMN descriptions.publisher IS 'Who publishes the figures.';
COMMENT ON COLUMN descriptions.licence IS 'Under what licence they are published.';
COMMENT ON COLUMN descriptions.citation IS 'How to cite the statistic.';

CREATE TABLE labels (
    population VARCHAR NOT NULL,
    dimension VARCHAR NOT NULL,
    symbol VARCHAR NOT NULL,
    language VARCHAR NOT NULL,
    label VARCHAR NOT NULL
);
COMMENT ON TABLE labels IS 'What people read for the symbols of dimensions, by language, as far as the schemas say it.';
COMMENT ON COLUMN labels.population IS 'The population whose dimension it is.';
COMMENT ON COLUMN labels.dimension IS 'The dimension, or the number that is summed up.';
COMMENT ON COLUMN labels.symbol IS 'The symbol; empty for the title of the dimension or number itself.';
COMMENT ON COLUMN labels.language IS 'The language, as in en, de or pt-BR (BCP 47).';
COMMENT ON COLUMN labels.label IS 'What people read.';

CREATE TABLE notes (
    statistic VARCHAR NOT NULL,
    period_start DATE NOT NULL,
    period_end DATE NOT NULL,
    kind VARCHAR NOT NULL,
    note VARCHAR NOT NULL
);
COMMENT ON TABLE notes IS 'What has to be known about single periods: one row a note. Most periods have none.';
COMMENT ON COLUMN notes.statistic IS 'The name of the statistic.';
COMMENT ON COLUMN notes.period_start IS 'The first day of the period (UTC).';
COMMENT ON COLUMN notes.period_end IS 'The last day of the period (UTC), inclusive.';
COMMENT ON COLUMN notes.kind IS 'first period, break, provisional, revised or withheld.';
COMMENT ON COLUMN notes.note IS 'The note, in words.';
