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
    number     INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: an admin may still hold it
    source     TEXT    NOT NULL,
    connector  TEXT,               -- NULL: parked at the source, it never got into the journal
    offset     INTEGER,
    type       TEXT,
    cause      TEXT    NOT NULL,   -- unreadable, refused, filter
    reason     TEXT    NOT NULL,   -- of the last failure
    attempts   INTEGER NOT NULL,
    first      REAL    NOT NULL,   -- Unix seconds of the first failure
    last       REAL    NOT NULL,   -- Unix seconds of the last failure
    again      REAL,               -- Unix seconds at which a replay was asked for; NULL: it was not
    id_field   TEXT    NOT NULL,   -- where the source's events keep their id,
    time_field TEXT    NOT NULL,   -- and their time
    received   REAL    NOT NULL,   -- Unix seconds at which the event was in the journal
    body       BLOB    NOT NULL,
    UNIQUE (connector, offset)     -- an event sent again after a crash is parked once
) STRICT;

CREATE INDEX IF NOT EXISTS parked_again ON parked (connector, offset) WHERE again IS NOT NULL;

-- For people: the books of every connector.
CREATE VIEW IF NOT EXISTS ledger AS
SELECT connector, head - start AS accepted, delivered, unselected, filtered, parked, expired, erased,
       head - start - delivered - unselected - filtered - parked - expired - erased AS pending,
       datetime(saved, 'unixepoch') AS saved
FROM cursor;
