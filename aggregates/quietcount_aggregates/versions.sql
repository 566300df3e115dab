-- The version of each event that stands: the highest revision, the first in the log among equals. The event keeps the
-- place of its first version. Events of withdrawn cases do not stand.
CREATE OR REPLACE TEMP TABLE versions AS
SELECT * EXCLUDE (first_place) REPLACE (first_place AS first_offset)
FROM (
    SELECT *, min(first_offset) OVER (PARTITION BY event_mark) AS first_place
    FROM open_events
    ANTI JOIN withdrawn USING (case_mark)
    QUALIFY row_number() OVER (PARTITION BY event_mark ORDER BY revision DESC, "offset", "partition") = 1
);
CREATE OR REPLACE TEMP TABLE contributions (
    population VARCHAR, year INTEGER, case_mark UHUGEINT, case_year_mark UHUGEINT, event_mark UHUGEINT, period DATE,
    -- Of each table of the population, in its order; null where the table's own condition does not hold.
    cells BIGINT[], counted BOOLEAN
);
CREATE OR REPLACE TEMP TABLE year_marks (year INTEGER, case_mark UHUGEINT, mark UHUGEINT);
