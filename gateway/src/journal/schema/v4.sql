-- Version 4. Frozen: a later change is a new file, never an edit of this one.
-- The same states as before, in a form for which SQLite does not fill a table of them at each write. Only the words of the checks change,
-- nothing that is stored; https://www.sqlite.org/lang_altertable.html describes this way.

PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql,
    'CHECK (state IN (''received'', ''admitted'', ''ignored'', ''running'', ''done'', ''failed'', ''uncertain''))',
    'CHECK (state = ''received'' OR state = ''admitted'' OR state = ''ignored'' OR state = ''running'' OR state = ''done'' OR state = ''failed'' OR state = ''uncertain'')')
WHERE type = 'table' AND name = 'inbox';
UPDATE sqlite_schema SET sql = replace(sql,
    'CHECK (state IN (''queued'', ''running'', ''done'', ''failed'', ''aborted'', ''uncertain''))',
    'CHECK (state = ''queued'' OR state = ''running'' OR state = ''done'' OR state = ''failed'' OR state = ''aborted'' OR state = ''uncertain'')')
WHERE type = 'table' AND name = 'runs';
UPDATE sqlite_schema SET sql = replace(sql,
    'CHECK (state IN (''pending'', ''sending'', ''sent'', ''refused'', ''uncertain''))',
    'CHECK (state = ''pending'' OR state = ''sending'' OR state = ''sent'' OR state = ''refused'' OR state = ''uncertain'')')
WHERE type = 'table' AND name = 'outbox';
UPDATE sqlite_schema SET sql = replace(sql,
    'CHECK (state IN (''queued'', ''sent'', ''running'', ''ok'', ''error'', ''timed_out'', ''cancelled'', ''node_away'', ''uncertain''))',
    'CHECK (state = ''queued'' OR state = ''sent'' OR state = ''running'' OR state = ''ok'' OR state = ''error'' OR state = ''timed_out'' OR state = ''cancelled'' OR state = ''node_away'' OR state = ''uncertain'')')
WHERE type = 'table' AND name = 'calls';
PRAGMA writable_schema = RESET;
