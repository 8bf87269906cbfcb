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
    expired    INTEGER NOT NULL,  -- had left the journal before their turn came
    damaged    INTEGER NOT NULL,  -- could not be read when their turn came
    erased     INTEGER NOT NULL,
    saved      REAL    NOT NULL   -- Unix seconds
) STRICT;

CREATE TABLE IF NOT EXISTS parked (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: an admin may still hold it
    source     TEXT    NOT NULL,
    connector  TEXT,               -- NULL: parked at the source, it never got into the journal
    offset     INTEGER,
    type       TEXT,
    cause      TEXT    NOT NULL,   -- unreadable, filter, refused, too_large, gave_up, bug
    reason     TEXT    NOT NULL,   -- of the last failure
    attempts   INTEGER NOT NULL,
    first      REAL    NOT NULL,   -- Unix seconds of the first failure
    last       REAL    NOT NULL,   -- Unix seconds of the last failure
    again      REAL,               -- Unix seconds at which a replay was asked for; NULL: it was not
    id_field   TEXT    NOT NULL,   -- where the source's events keep their id,
    time_field TEXT    NOT NULL,   -- and their time
    received   REAL    NOT NULL,   -- Unix seconds at which the event was in the journal
    body       BLOB    NOT NULL,
    status     INTEGER,            -- of the answer to the last attempt
    answer     TEXT    NOT NULL DEFAULT '',  -- the first bytes of it
    replay     INTEGER,            -- the replay that parked it; NULL: the lane itself
    key        TEXT,               -- what it stays in order with
    part       INTEGER NOT NULL DEFAULT 0,  -- of the event, which filters of the connector have split
    UNIQUE (connector, offset, part)  -- an event sent again after a crash is parked once
) STRICT;

CREATE INDEX IF NOT EXISTS parked_key ON parked (connector, key, offset, part) WHERE key IS NOT NULL;
DROP INDEX IF EXISTS parked_again;  -- an older one knew no order
CREATE INDEX IF NOT EXISTS parked_due ON parked (connector, offset, part) WHERE again IS NOT NULL OR cause = 'order';
CREATE INDEX IF NOT EXISTS parked_last ON parked (last) WHERE again IS NULL;
DROP INDEX IF EXISTS parked_kinds;  -- parked_total counts now
CREATE INDEX IF NOT EXISTS parked_unreadable ON parked (last) WHERE connector IS NULL;

CREATE TABLE IF NOT EXISTS parked_total (  -- what lies parked; triggers keep it, whoever changes `parked`
    source    TEXT    NOT NULL,
    connector TEXT    NOT NULL,  -- '': parked at the source
    cause     TEXT    NOT NULL,
    events    INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    PRIMARY KEY (source, connector, cause)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS parked_removed (  -- what relay has removed by itself, ever
    source    TEXT    NOT NULL,
    connector TEXT    NOT NULL,  -- '': parked at the source
    cause     TEXT    NOT NULL,
    reason    TEXT    NOT NULL,  -- the setting: retention, max_size, min_free
    events    INTEGER NOT NULL,
    PRIMARY KEY (source, connector, cause, reason)
) STRICT, WITHOUT ROWID;

INSERT INTO parked_total  -- of an older relay's events
SELECT source, ifnull(connector, ''), cause, count(*),
       sum(200 + length(body) + length(reason) + length(answer) + ifnull(length(key), 0))
FROM parked WHERE NOT EXISTS (SELECT 1 FROM parked_total) GROUP BY 1, 2, 3;

CREATE TRIGGER IF NOT EXISTS parked_inserted AFTER INSERT ON parked BEGIN
    INSERT INTO parked_total VALUES (NEW.source, ifnull(NEW.connector, ''), NEW.cause, 1,
        200 + length(NEW.body) + length(NEW.reason) + length(NEW.answer) + ifnull(length(NEW.key), 0))
    ON CONFLICT DO UPDATE SET events = events + 1, bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER IF NOT EXISTS parked_deleted AFTER DELETE ON parked BEGIN
    UPDATE parked_total SET events = events - 1, bytes = bytes -
        (200 + length(OLD.body) + length(OLD.reason) + length(OLD.answer) + ifnull(length(OLD.key), 0))
    WHERE source = OLD.source AND connector = ifnull(OLD.connector, '') AND cause = OLD.cause;
END;

CREATE TRIGGER IF NOT EXISTS parked_updated AFTER UPDATE OF source, cause, reason, answer, key, body ON parked BEGIN
    UPDATE parked_total SET events = events - 1, bytes = bytes -
        (200 + length(OLD.body) + length(OLD.reason) + length(OLD.answer) + ifnull(length(OLD.key), 0))
    WHERE source = OLD.source AND connector = ifnull(OLD.connector, '') AND cause = OLD.cause;
    INSERT INTO parked_total VALUES (NEW.source, ifnull(NEW.connector, ''), NEW.cause, 1,
        200 + length(NEW.body) + length(NEW.reason) + length(NEW.answer) + ifnull(length(NEW.key), 0))
    ON CONFLICT DO UPDATE SET events = events + 1, bytes = bytes + excluded.bytes;
END;

CREATE TABLE IF NOT EXISTS replay (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    connector  TEXT    NOT NULL,
    start      INTEGER NOT NULL,  -- offsets from this one
    stop       INTEGER NOT NULL,  -- up to but without this one
    entries    TEXT    NOT NULL,  -- JSON: the selection
    rate       REAL    NOT NULL,  -- events per second, 0: no limit
    asked      REAL    NOT NULL,  -- Unix seconds
    asked_by   TEXT    NOT NULL DEFAULT '',  -- who, as they say
    position   INTEGER NOT NULL,  -- this and the following as in cursor
    ahead      TEXT    NOT NULL DEFAULT '[]',
    delivered  INTEGER NOT NULL DEFAULT 0,
    unselected INTEGER NOT NULL DEFAULT 0,
    filtered   INTEGER NOT NULL DEFAULT 0,
    parked     INTEGER NOT NULL DEFAULT 0,
    expired    INTEGER NOT NULL DEFAULT 0,
    damaged    INTEGER NOT NULL DEFAULT 0,
    erased     INTEGER NOT NULL DEFAULT 0,
    saved      REAL,
    ended      REAL,
    cancelled  REAL
) STRICT;

CREATE TABLE IF NOT EXISTS attempt (
    connector  TEXT    NOT NULL,
    replay     INTEGER NOT NULL,  -- 0: the lane itself
    start      INTEGER NOT NULL,  -- the first offset
    stop       INTEGER NOT NULL,  -- the offset behind the last one
    events     INTEGER NOT NULL,
    ranges     TEXT    NOT NULL,  -- JSON: which offsets between them
    attempts   INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,  -- pending, delivered, filtered (by the connector), parked
    answer     TEXT    NOT NULL,  -- of the last attempt that failed
    first      REAL    NOT NULL,  -- Unix seconds of the first failure
    last       REAL    NOT NULL,  -- Unix seconds of the last attempt
    UNIQUE (connector, replay, start, stop, events)
) STRICT;

CREATE TABLE IF NOT EXISTS source (
    name          TEXT    PRIMARY KEY,
    duplicates    INTEGER NOT NULL,  -- events left out because they had come before
    failing_since REAL,              -- Unix seconds of the first refusal since an answer was 2xx; NULL: it takes requests
    last          REAL,              -- Unix seconds of the last refusal
    status        INTEGER,           -- of the last refusal, and why
    reason        TEXT,
    deadline      REAL               -- Unix seconds at which the sender stops for good, where that is known
) STRICT;

CREATE TABLE IF NOT EXISTS source_memory (  -- of sources that remember something
    name   TEXT PRIMARY KEY,
    memory TEXT NOT NULL  -- as the source type writes it
) STRICT;

CREATE TABLE IF NOT EXISTS alert_track (  -- what alerts remember of what is, or was, wrong; in the first worker's database
    alert   TEXT NOT NULL,
    subject TEXT NOT NULL,
    family  TEXT NOT NULL,
    track   TEXT NOT NULL,  -- JSON
    PRIMARY KEY (alert, subject, family)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS alert_message (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL UNIQUE,  -- the same whenever it is sent
    alert    TEXT    NOT NULL,
    made     REAL    NOT NULL,  -- Unix seconds
    message  TEXT    NOT NULL,  -- JSON
    attempts INTEGER NOT NULL,
    last     REAL,              -- Unix seconds of the last attempt, and why it failed
    problem  TEXT    NOT NULL,
    sent     REAL,              -- Unix seconds
    given_up REAL               -- Unix seconds
) STRICT;

CREATE TABLE IF NOT EXISTS pause (
    connector TEXT PRIMARY KEY,
    since     REAL NOT NULL, -- Unix seconds at which an admin paused it
    until     REAL           -- Unix seconds at which that ends by itself; NULL: an admin ends it
) STRICT;

CREATE TABLE IF NOT EXISTS erasure (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    asked        REAL    NOT NULL,  -- Unix seconds
    asked_by     TEXT    NOT NULL DEFAULT '',  -- who, as they say; '': an event, or nobody has said
    type         TEXT,              -- of the event that asked for it, and where that is; NULL: an admin
    source       TEXT,
    offset       INTEGER,
    user_id      TEXT,              -- whom to erase; forgotten once that is done
    external_ids TEXT    NOT NULL,  -- JSON
    other_ids    TEXT    NOT NULL DEFAULT '[]',  -- JSON: kind and id of each
    digests      TEXT    NOT NULL,  -- JSON: SHA-256 of all these ids
    counted      INTEGER NOT NULL DEFAULT 0,  -- events below this offset are in the counts
    events       INTEGER NOT NULL DEFAULT 0,  -- removed from the journal
    changed      INTEGER NOT NULL DEFAULT 0,  -- that named others as well: only the user was taken out of them
    parked       INTEGER NOT NULL DEFAULT 0,  -- removed from parked events
    unreadable   INTEGER NOT NULL DEFAULT 0,  -- of those, parked at a source
    attempts     INTEGER NOT NULL DEFAULT 0,  -- notes of answers that lost their text
    compacted    REAL,              -- Unix seconds: since then journal and tables are without the user
    problem      TEXT,              -- why that has not been possible so far
    done         REAL               -- Unix seconds: the connectors have answered, and the ids are forgotten
) STRICT;

CREATE INDEX IF NOT EXISTS erasure_open ON erasure (number) WHERE done IS NULL;
CREATE INDEX IF NOT EXISTS erasure_done ON erasure (done) WHERE done NOT NULL;

CREATE TABLE IF NOT EXISTS erasure_answer (
    number    INTEGER NOT NULL,
    connector TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,  -- done, skipped, failed, forgotten
    reason    TEXT    NOT NULL,
    attempts  INTEGER NOT NULL,
    at        REAL    NOT NULL,  -- Unix seconds
    PRIMARY KEY (number, connector)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS identity (  -- only with erasure.identities
    user_id     TEXT NOT NULL,
    external_id TEXT NOT NULL,
    PRIMARY KEY (user_id, external_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS watch (     -- how far the journal was searched for events that ask for an erasure
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS journal_state (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    identity TEXT    NOT NULL,            -- of the journal, as in its file `identity`; '': it takes the one it finds
    head     INTEGER NOT NULL,            -- events below this offset were acknowledged
    time     REAL    NOT NULL,            -- Unix seconds: the newest time that was trusted
    ahead    REAL    NOT NULL DEFAULT 0,  -- seconds by which the clock is ahead of what can be right
    doubt    TEXT    NOT NULL DEFAULT '', -- what is wrong with database and journal, until an admin accepts it
    unheard  INTEGER,                     -- while doubt stands: where connectors begin that the database does not know
    accepted REAL    NOT NULL DEFAULT 0   -- Unix seconds at which an admin accepted the clock
) STRICT;

CREATE TABLE IF NOT EXISTS damage (  -- events that could not be read
    start    INTEGER NOT NULL,  -- offsets from this one
    stop     INTEGER NOT NULL,  -- up to but without this one
    file     TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    saved    INTEGER,           -- events of the file that a repair saves; NULL: there is nothing to repair
    met      REAL    NOT NULL,  -- Unix seconds
    accepted REAL,              -- Unix seconds at which an admin accepted or repaired it
    PRIMARY KEY (start, stop)
) STRICT;

CREATE TABLE IF NOT EXISTS history (  -- in the first worker's database alone
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    at       REAL NOT NULL,  -- Unix seconds
    kind     TEXT NOT NULL,
    subject  TEXT NOT NULL,  -- "relay", "connector heap", "source braze", "journal"
    sentence TEXT NOT NULL,
    done_by  TEXT NOT NULL,  -- who, as they say; '': relay itself
    about    TEXT NOT NULL   -- JSON: an object
) STRICT;

-- For people: the books of every connector.
CREATE VIEW IF NOT EXISTS ledger AS
SELECT connector, head - start AS accepted, delivered, unselected, filtered, parked, expired, damaged,
       erased, head - start - delivered - unselected - filtered - parked - expired - damaged - erased AS pending,
       datetime(saved, 'unixepoch') AS saved
FROM cursor;
