-- The private state. Marks are keyed hashes; nothing here names a case.
CREATE TABLE meta (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);
-- Where reading resumes; written in the transaction of what was folded, and nowhere else.
CREATE TABLE offsets ("partition" INTEGER PRIMARY KEY, next_offset BIGINT NOT NULL);
-- With the place of the withdrawal: a settlement knows of none behind its own place.
CREATE TABLE withdrawn (case_mark UHUGEINT NOT NULL, "offset" BIGINT NOT NULL);
-- What remains of settled contributions: how much of its limit each case used, in files of their own (limits.py); and
-- which events of the other cases no longer count, for about a year after the period in which they were settled (its
-- first day; close.sql says until when). With a yearly horizon these have no case mark.
CREATE TABLE limits (population VARCHAR NOT NULL, year INTEGER NOT NULL, generation INTEGER NOT NULL, marks BIGINT NOT NULL, checksum UINTEGER NOT NULL);
CREATE TABLE closed_events (population VARCHAR NOT NULL, event_mark UHUGEINT NOT NULL, case_mark UHUGEINT, period DATE NOT NULL);
CREATE TABLE first_open (population VARCHAR PRIMARY KEY, day DATE NOT NULL);
-- What was settled of a table's period that is not over: counts, or sums of values less their middle, without any
-- person in them.
CREATE TABLE sums (statistic VARCHAR NOT NULL, period DATE NOT NULL, cell BIGINT NOT NULL, contributions BIGINT NOT NULL);
-- Where in the log that begins which a population counts, if that is not the log's beginning.
CREATE TABLE begins (population VARCHAR NOT NULL, "partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL, PRIMARY KEY (population, "partition"));
-- How far the dead-letter topic went at earlier releases: what is old enough is purged from it.
CREATE TABLE dead_letter_ends ("partition" INTEGER NOT NULL, next_offset BIGINT NOT NULL, seen_on DATE NOT NULL);
-- Rejected records on their way to the dead-letter topic.
CREATE TABLE dead_letters ("partition" INTEGER NOT NULL, "offset" BIGINT NOT NULL, reason VARCHAR NOT NULL, value BLOB NOT NULL);
-- On which days (UTC, of the fold's clock) records were rejected for which reason, or counted in spite of which fault of
-- a client: nothing of how many or when.
CREATE TABLE noted_on (day DATE NOT NULL, note VARCHAR NOT NULL, PRIMARY KEY (day, note));
