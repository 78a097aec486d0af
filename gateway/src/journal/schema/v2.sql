-- Version 2. Frozen: a later change is a new file, never an edit of this one.
-- What a call needs to be listed, repeated and delivered later. `waiting` holds, as one JSON value, a call that has not been sent.

ALTER TABLE calls ADD COLUMN deadline_at INTEGER;
ALTER TABLE calls ADD COLUMN idempotency_key TEXT;
ALTER TABLE calls ADD COLUMN fingerprint BLOB;
ALTER TABLE calls ADD COLUMN memory TEXT;
ALTER TABLE calls ADD COLUMN waiting TEXT;
