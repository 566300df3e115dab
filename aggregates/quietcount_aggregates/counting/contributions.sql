CREATE OR REPLACE TEMP TABLE contributions (
    population VARCHAR, year INTEGER, case_mark UHUGEINT, case_year_mark UHUGEINT, event_mark UHUGEINT, period DATE,
    -- Of each table of the population, in its order; null where the table's own condition does not hold.
    cells BIGINT[],
    -- Of each table that sums up, in its order: what the event adds.
    amounts BIGINT[], member BOOLEAN, counted BOOLEAN
);
CREATE OR REPLACE TEMP TABLE year_marks (year INTEGER, case_mark UHUGEINT, mark UHUGEINT);
-- How much of its limit each case of an open event has used up in settled periods, if any.
CREATE OR REPLACE TEMP TABLE spent (population VARCHAR, year INTEGER, case_mark UHUGEINT, contributions INTEGER);
