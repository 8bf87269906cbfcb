CREATE TABLE IF NOT EXISTS cursor (
    connector  TEXT PRIMARY KEY,
    head       INTEGER NOT NULL,  -- the journal's head when this row was saved
    start      INTEGER NOT NULL,  -- the offset the lane began at
    position   INTEGER NOT NULL,  -- everything below is settled
    ahead      TEXT    NOT NULL,  -- JSON: ranges [start, stop] settled out of order above it
    delivered  INTEGER NOT NULL,
    unselected INTEGER NOT NULL,
    filtered   INTEGER NOT NULL,
    parked     INTEGER NOT NULL,
    expired    INTEGER NOT NULL,
    erased     INTEGER NOT NULL,
    saved      REAL    NOT NULL   -- Unix seconds
) STRICT;

CREATE TABLE IF NOT EXISTS parked (
    number    INTEGER PRIMARY KEY,
    source    TEXT    NOT NULL,
    connector TEXT,               -- NULL: parked at the source, it never got into the journal
    offset    INTEGER,
    type      TEXT,
    cause     TEXT    NOT NULL,   -- unreadable, refused, filter
    reason    TEXT    NOT NULL,
    attempts  INTEGER NOT NULL,
    parked    REAL    NOT NULL,   -- Unix seconds
    body      BLOB    NOT NULL,
    UNIQUE (connector, offset)    -- an event sent again after a crash is parked once
) STRICT;

-- For people: the books of every connector.
CREATE VIEW IF NOT EXISTS ledger AS
SELECT connector, head - start AS accepted, delivered, unselected, filtered, parked, expired, erased,
       head - start - delivered - unselected - filtered - parked - expired - erased AS pending,
       datetime(saved, 'unixepoch') AS saved
FROM cursor;
