-- Version 3. Frozen: a later change is a new file, never an edit of this one.
-- Setup codes are records too. SQLite cannot change a CHECK, so the table is made anew.

CREATE TABLE records_3 (
    kind   TEXT NOT NULL CHECK (kind IN ('device', 'approval', 'grant', 'setup-code')),
    id     TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
INSERT INTO records_3 SELECT kind, id, record FROM records;
DROP TABLE records;
ALTER TABLE records_3 RENAME TO records;
