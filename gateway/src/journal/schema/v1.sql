-- Version 1. Frozen: a later change is a new file, never an edit of this one.
-- Times are Unix milliseconds. Columns named like a protocol type hold its text form; JSON columns hold one JSON value.

CREATE TABLE cursor (
    channel    TEXT NOT NULL,
    account    TEXT NOT NULL,
    value      TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (channel, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    channel     TEXT NOT NULL,
    account     TEXT NOT NULL,
    inbound     TEXT NOT NULL,
    place       TEXT NOT NULL,
    sender      TEXT NOT NULL,
    content     TEXT NOT NULL,
    sent_at     INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('received', 'admitted', 'ignored', 'running', 'done', 'failed', 'uncertain')),
    reason      TEXT,
    run         TEXT,
    session     TEXT,
    UNIQUE (channel, account, inbound)
) STRICT;
CREATE INDEX inbox_open ON inbox (id) WHERE state IN ('received', 'admitted', 'running');
CREATE INDEX inbox_age ON inbox (updated_at);

CREATE TABLE runs (
    run        TEXT NOT NULL PRIMARY KEY,
    number     INTEGER NOT NULL UNIQUE,
    session    TEXT NOT NULL,
    agent      TEXT NOT NULL,
    inbox      INTEGER REFERENCES inbox (id) ON DELETE SET NULL,
    origin     TEXT NOT NULL,
    input      TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'aborted', 'uncertain')),
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER,
    error      TEXT,
    final_text TEXT
) STRICT;
CREATE INDEX runs_open ON runs (number) WHERE state IN ('queued', 'running');
CREATE INDEX runs_session ON runs (session, number);
CREATE INDEX runs_inbox ON runs (inbox) WHERE inbox IS NOT NULL;
CREATE INDEX runs_age ON runs (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    lane       TEXT NOT NULL,
    place      TEXT NOT NULL,
    outbound   TEXT NOT NULL,
    run        TEXT,
    part       INTEGER NOT NULL,
    key        TEXT NOT NULL UNIQUE,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'refused', 'uncertain')),
    attempts   INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL,
    receipt    TEXT,
    error      TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_open ON outbox (lane, id) WHERE state IN ('pending', 'sending');
CREATE INDEX outbox_run ON outbox (run) WHERE run IS NOT NULL;
CREATE INDEX outbox_age ON outbox (updated_at);

CREATE TABLE calls (
    call       TEXT NOT NULL PRIMARY KEY,
    number     INTEGER NOT NULL UNIQUE,
    run        TEXT,
    tool_call  TEXT,
    node       TEXT NOT NULL,
    command    TEXT NOT NULL,
    caller     TEXT NOT NULL,
    session    TEXT,
    state      TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'running', 'ok', 'error', 'timed_out', 'cancelled', 'node_away', 'uncertain')),
    opened_at  INTEGER NOT NULL,
    sent_at    INTEGER,
    ended_at   INTEGER,
    error_code TEXT,
    result     TEXT,
    CHECK ((run IS NULL) = (tool_call IS NULL))
) STRICT;
CREATE UNIQUE INDEX calls_key ON calls (run, tool_call) WHERE run IS NOT NULL;
CREATE INDEX calls_open ON calls (number) WHERE ended_at IS NULL;
CREATE INDEX calls_age ON calls (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE records (
    kind   TEXT NOT NULL CHECK (kind IN ('device', 'approval', 'grant')),
    id     TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sender_codes (
    channel    TEXT NOT NULL,
    account    TEXT NOT NULL,
    sender     TEXT NOT NULL,
    name       TEXT NOT NULL,
    code       TEXT NOT NULL CHECK (length(code) = 8),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (channel, account, sender),
    UNIQUE (channel, code)
) STRICT, WITHOUT ROWID;

CREATE TABLE senders (
    channel     TEXT NOT NULL,
    account     TEXT NOT NULL,
    sender      TEXT NOT NULL,
    name        TEXT NOT NULL,
    approved_at INTEGER NOT NULL,
    approved_by TEXT NOT NULL,
    PRIMARY KEY (channel, account, sender)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    target  TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
CREATE INDEX audit_age ON audit (at);

CREATE TABLE sessions (
    session          TEXT NOT NULL PRIMARY KEY,
    id               TEXT NOT NULL,
    agent            TEXT NOT NULL,
    file             TEXT NOT NULL,
    label            TEXT,
    display_name     TEXT,
    chat_type        TEXT NOT NULL CHECK (chat_type IN ('direct', 'group', 'channel')),
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    messages         INTEGER NOT NULL DEFAULT 0,
    input_tokens     INTEGER NOT NULL DEFAULT 0,
    output_tokens    INTEGER NOT NULL DEFAULT 0,
    total_tokens     INTEGER NOT NULL DEFAULT 0,
    context_tokens   INTEGER,
    compactions      INTEGER NOT NULL DEFAULT 0,
    delivery         TEXT,
    model            TEXT,
    settings         TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX sessions_agent ON sessions (agent, last_activity_at);
CREATE INDEX sessions_recent ON sessions (last_activity_at);
