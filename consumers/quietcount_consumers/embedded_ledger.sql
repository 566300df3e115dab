CREATE TABLE fence (epoch INTEGER NOT NULL);
INSERT INTO fence VALUES (0);
CREATE TABLE entries ("index" INTEGER PRIMARY KEY, entry BLOB NOT NULL);
-- The ledger only grows. The hash chain finds an edit by hand; these rules stop a mistake.
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
-- Where in the log some of the entries were made: exact counts, for the service alone. No published file holds them.
CREATE TABLE places ("index" INTEGER PRIMARY KEY, place BLOB NOT NULL);
CREATE TRIGGER places_are_not_changed BEFORE UPDATE ON places BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER places_are_not_deleted BEFORE DELETE ON places BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
