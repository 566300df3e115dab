CREATE TABLE fence (epoch INTEGER NOT NULL);
INSERT INTO fence VALUES (0);
CREATE TABLE entries ("index" INTEGER PRIMARY KEY, entry BLOB NOT NULL);
-- The ledger only ever grows. Whoever edits the file by hand meets the hash chain; whoever errs meets these.
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
