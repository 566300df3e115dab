-- Fill the database `next` with what remains of the state once the periods before `following` are settled.
CREATE TABLE next.open_events (
    event VARCHAR NOT NULL, case_mark UHUGEINT NOT NULL, event_mark UHUGEINT NOT NULL, revision INTEGER NOT NULL,
    occurred_on DATE NOT NULL, "partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL,
    first_offset BIGINT NOT NULL -- values
);
INSERT INTO next.open_events BY NAME SELECT * FROM remaining ORDER BY "partition", "offset", first_offset;

INSERT INTO next.meta SELECT * FROM meta
WHERE key <> 'purge_due'
    -- The checks of years whose secret is about to be destroyed go with it.
    AND NOT (key LIKE 'year %' AND try_cast(substr(key, 6) AS INTEGER) < (SELECT min(year_from) FROM following WHERE year_from > 0));
INSERT INTO next.meta VALUES ('purge_due', 'yes');
INSERT INTO next.offsets SELECT * FROM offsets;
INSERT INTO next.withdrawn SELECT case_mark, min("offset") FROM withdrawn GROUP BY ALL ORDER BY case_mark;
INSERT INTO next.dead_letters SELECT * FROM dead_letters;
INSERT INTO next.begins SELECT * FROM begins WHERE population IN (SELECT population FROM opened);
INSERT INTO next.dead_letter_ends SELECT DISTINCT * FROM dead_letter_ends;
-- What nobody asks for any more is not kept: flags are shown of the day before the tick's.
INSERT INTO next.noted_on SELECT day, note FROM noted_on
WHERE day >= (SELECT try_cast(value AS DATE) FROM meta WHERE key = 'released_on') - 1;
INSERT INTO next.first_open SELECT population, day FROM opened;
-- Retired populations are not in `following`: they release nothing any more, so nothing of them is remembered.

-- The marks keep an event that comes again, or a late correction of it, from counting. Three kinds of event need none:
-- * one that does not belong to the population: it never counted, and a correction by which it belongs is a late event;
-- * one of a case whose limit is used up: it counts no more anyway. (A yearly limit begins again each January: there no
--   case is ever used up, and a case mark would outlive its year.);
-- * one of a period before marks_from: it is dropped as too old.
-- The order of the marks says nothing of the order of arrival.
INSERT INTO next.closed_events
SELECT population, event_mark, CASE WHEN year_from = 0 THEN case_mark END, period
FROM (
    SELECT population, event_mark, case_mark, period FROM closed_events SEMI JOIN following USING (population)
    ANTI JOIN (SELECT case_mark FROM withdrawn WHERE "offset" < getvariable('settled_upto')) USING (case_mark)
    UNION ALL
    SELECT population, event_mark, case_mark, period FROM contributions JOIN following USING (population)
    WHERE period < day AND member
)
JOIN following USING (population)
ANTI JOIN (
    SELECT population, case_mark
    FROM (
        SELECT population, case_mark, contributions FROM spent WHERE year = 0
        UNION ALL
        SELECT population, case_mark, 1 FROM contributions JOIN following USING (population)
        WHERE counted AND period < day AND year = 0
    ) JOIN following USING (population)
    GROUP BY population, case_mark, max_contributions HAVING sum(contributions) >= max_contributions
) USING (population, case_mark)
WHERE period >= marks_from
ORDER BY population, event_mark;

INSERT INTO next.sums
SELECT statistic, period, cell, sum(contributions)::BIGINT FROM waiting GROUP BY ALL ORDER BY ALL;
