-- How far each connector is in the journal, and what became of its events. The view `ledger` shows it to people.
CREATE TABLE IF NOT EXISTS cursor (
    connector  TEXT PRIMARY KEY,  -- name of the connector
    head       INTEGER NOT NULL,  -- head of the journal when the row was saved
    start      INTEGER NOT NULL,  -- offset at which the connector began
    position   INTEGER NOT NULL,  -- all events below this offset are settled
    ahead      TEXT    NOT NULL,  -- JSON: ranges [start, stop] above `position` that are settled already
    delivered  INTEGER NOT NULL,  -- events delivered
    unselected INTEGER NOT NULL,  -- events that `events` of the connector left out
    filtered   INTEGER NOT NULL,  -- events that its filters dropped
    parked     INTEGER NOT NULL,  -- events parked
    expired    INTEGER NOT NULL,  -- events that had left the journal before their turn came
    damaged    INTEGER NOT NULL,  -- events that could not be read when their turn came
    erased     INTEGER NOT NULL,  -- events erased before their turn came
    saved      REAL    NOT NULL   -- Unix seconds at which the row was saved
) STRICT;

-- Parked events (dead letters).
CREATE TABLE IF NOT EXISTS parked (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,  -- number of the parked event, never given twice
    source     TEXT    NOT NULL,    -- name of the source
    connector  TEXT,                -- name of the connector; NULL: parked at the source, and never in the journal
    offset     INTEGER,             -- offset in the journal; NULL: never in the journal
    type       TEXT,                -- event type, if it is known
    cause      TEXT    NOT NULL,    -- unreadable, filter, refused, too_large, gave_up, bug or order
    reason     TEXT    NOT NULL,    -- reason of the last failure
    attempts   INTEGER NOT NULL,    -- attempts to deliver the event
    first      REAL    NOT NULL,    -- Unix seconds of the first failure
    last       REAL    NOT NULL,    -- Unix seconds of the last failure
    again      REAL,                -- Unix seconds at which a replay was requested; NULL: none was requested
    id_field   TEXT    NOT NULL,    -- field in which the events of the source keep their id
    time_field TEXT    NOT NULL,    -- field in which the events of the source keep their time
    received   REAL    NOT NULL,    -- Unix seconds at which relay received the event
    body       BLOB    NOT NULL,    -- the event, byte for byte
    status     INTEGER,             -- HTTP status of the last answer, if there was one
    answer     TEXT    NOT NULL DEFAULT '',  -- first bytes of the last answer
    replay     INTEGER,             -- number of the replay that parked the event; NULL: normal delivery
    key        TEXT,                -- key by which the event stays in order, if there is one
    part       INTEGER NOT NULL DEFAULT 0,  -- number of the part, if filters of the connector have split the event
    UNIQUE (connector, offset, part)  -- an event sent again after a crash is parked once
) STRICT;

CREATE INDEX IF NOT EXISTS parked_key ON parked (connector, key, offset, part) WHERE key IS NOT NULL;
DROP INDEX IF EXISTS parked_again;  -- an older one knew no order
CREATE INDEX IF NOT EXISTS parked_due ON parked (connector, offset, part) WHERE again IS NOT NULL OR cause = 'order';
CREATE INDEX IF NOT EXISTS parked_last ON parked (last) WHERE again IS NULL;
DROP INDEX IF EXISTS parked_kinds;  -- parked_total counts now
CREATE INDEX IF NOT EXISTS parked_unreadable ON parked (last) WHERE connector IS NULL;

-- How many events are parked. Triggers keep the table, whoever changes `parked`.
CREATE TABLE IF NOT EXISTS parked_total (
    source    TEXT    NOT NULL,  -- name of the source
    connector TEXT    NOT NULL,  -- name of the connector; '': parked at the source
    cause     TEXT    NOT NULL,  -- as in `parked`
    events    INTEGER NOT NULL,  -- parked events
    bytes     INTEGER NOT NULL,  -- bytes that they take
    PRIMARY KEY (source, connector, cause)
) STRICT, WITHOUT ROWID;

-- How many parked events relay has removed by itself, ever.
CREATE TABLE IF NOT EXISTS parked_removed (
    source    TEXT    NOT NULL,  -- name of the source
    connector TEXT    NOT NULL,  -- name of the connector; '': parked at the source
    cause     TEXT    NOT NULL,  -- as in `parked`
    reason    TEXT    NOT NULL,  -- the setting that had them removed: retention, max_size or min_free
    events    INTEGER NOT NULL,  -- removed events
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

-- Replays: those that run, and those that have ended.
CREATE TABLE IF NOT EXISTS replay (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,  -- number of the replay
    connector  TEXT    NOT NULL,    -- name of the connector
    start      INTEGER NOT NULL,    -- first offset of the replay
    stop       INTEGER NOT NULL,    -- offset behind the last event of the replay
    entries    TEXT    NOT NULL,    -- JSON: the selection
    rate       REAL    NOT NULL,    -- events per second at most; 0: no limit
    asked      REAL    NOT NULL,    -- Unix seconds at which the replay was requested
    asked_by   TEXT    NOT NULL DEFAULT '',  -- who requested it, as they say
    position   INTEGER NOT NULL,    -- as in `cursor`, like the columns that follow
    ahead      TEXT    NOT NULL DEFAULT '[]',  -- as in `cursor`
    delivered  INTEGER NOT NULL DEFAULT 0,  -- as in `cursor`
    unselected INTEGER NOT NULL DEFAULT 0,  -- as in `cursor`
    filtered   INTEGER NOT NULL DEFAULT 0,  -- as in `cursor`
    parked     INTEGER NOT NULL DEFAULT 0,  -- as in `cursor`
    expired    INTEGER NOT NULL DEFAULT 0,  -- as in `cursor`
    damaged    INTEGER NOT NULL DEFAULT 0,  -- as in `cursor`
    erased     INTEGER NOT NULL DEFAULT 0,  -- as in `cursor`
    saved      REAL,                -- Unix seconds at which the row was saved
    ended      REAL,                -- Unix seconds at which the replay ended
    cancelled  REAL                 -- Unix seconds at which the replay was cancelled
) STRICT;

-- Deliveries that have failed at least once, with their last answer.
CREATE TABLE IF NOT EXISTS attempt (
    connector  TEXT    NOT NULL,  -- name of the connector
    replay     INTEGER NOT NULL,  -- number of the replay; 0: normal delivery
    start      INTEGER NOT NULL,  -- offset of the first event
    stop       INTEGER NOT NULL,  -- offset behind the last event
    events     INTEGER NOT NULL,  -- number of events
    ranges     TEXT    NOT NULL,  -- JSON: the offsets between `start` and `stop` that belong to it
    attempts   INTEGER NOT NULL,  -- number of attempts
    outcome    TEXT    NOT NULL,  -- pending, delivered, filtered (by the connector) or parked
    answer     TEXT    NOT NULL,  -- answer to the last attempt that failed
    first      REAL    NOT NULL,  -- Unix seconds of the first failure
    last       REAL    NOT NULL,  -- Unix seconds of the last attempt
    UNIQUE (connector, replay, start, stop, events)
) STRICT;

-- What relay remembers of each source.
CREATE TABLE IF NOT EXISTS source (
    name          TEXT    PRIMARY KEY,  -- name of the source
    duplicates    INTEGER NOT NULL,  -- events left out because they had come before
    failing_since REAL,             -- Unix seconds of the first refusal since the last 2xx; NULL: requests are taken
    last          REAL,             -- Unix seconds of the last refusal
    status        INTEGER,          -- HTTP status of the last refusal
    reason        TEXT,             -- reason of the last refusal
    deadline      REAL              -- Unix seconds at which the sender stops for good, if that is known
) STRICT;

-- What source types remember for themselves.
CREATE TABLE IF NOT EXISTS source_memory (
    name   TEXT PRIMARY KEY,  -- name of the source
    memory TEXT NOT NULL      -- as the source type writes it
) STRICT;

-- What alerts remember of trouble. It is in the database of the first worker.
CREATE TABLE IF NOT EXISTS alert_track (
    alert   TEXT NOT NULL,  -- name of the alert
    subject TEXT NOT NULL,  -- what the trouble is about, such as "connector heap"
    family  TEXT NOT NULL,  -- kinds of trouble that follow each other
    track   TEXT NOT NULL,  -- JSON
    PRIMARY KEY (alert, subject, family)
) STRICT, WITHOUT ROWID;

-- Messages of alerts that are to be sent, or were sent. It is in the database of the first worker.
CREATE TABLE IF NOT EXISTS alert_message (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,  -- number of the message
    id       TEXT    NOT NULL UNIQUE,  -- id of the message, the same whenever it is sent
    alert    TEXT    NOT NULL,      -- name of the alert
    made     REAL    NOT NULL,      -- Unix seconds at which the message was made
    message  TEXT    NOT NULL,      -- JSON
    attempts INTEGER NOT NULL,      -- number of attempts to send it
    last     REAL,                  -- Unix seconds of the last attempt
    problem  TEXT    NOT NULL,      -- why the last attempt failed
    sent     REAL,                  -- Unix seconds at which it was sent
    given_up REAL                   -- Unix seconds at which relay gave up
) STRICT;

-- Which relay has opened the database last. An earlier relay writes no more.
CREATE TABLE IF NOT EXISTS holder (
    one     INTEGER PRIMARY KEY CHECK (one = 1),  -- always 1
    epoch   INTEGER NOT NULL,  -- number of times that a relay has opened the database
    since   REAL    NOT NULL,  -- Unix seconds of the last opening
    host    TEXT    NOT NULL,  -- name of the machine
    process INTEGER NOT NULL,  -- number of the process
    run     INTEGER NOT NULL DEFAULT 0,  -- number of starts with the journal, as in its file `end`
    closed  INTEGER NOT NULL DEFAULT 0   -- 1: the journal was closed, and `journal_state` has its last head
) STRICT;

-- Connectors that an admin has paused.
CREATE TABLE IF NOT EXISTS pause (
    connector TEXT PRIMARY KEY,  -- name of the connector
    since     REAL NOT NULL,     -- Unix seconds at which an admin paused it
    until     REAL               -- Unix seconds at which the pause ends by itself; NULL: an admin ends it
) STRICT;

-- Erasures: those that are open, and those that are done.
CREATE TABLE IF NOT EXISTS erasure (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,  -- number of the erasure
    asked        REAL    NOT NULL,  -- Unix seconds at which the erasure was requested
    asked_by     TEXT    NOT NULL DEFAULT '',  -- who requested it, as they say; '': an event, or nobody has said
    type         TEXT,              -- type of the event that requested it; NULL: an admin
    source       TEXT,              -- source of that event
    offset       INTEGER,           -- offset of that event
    user_id      TEXT,              -- user id to erase; NULL once the erasure is done
    external_ids TEXT    NOT NULL,  -- JSON: external ids to erase; empty once the erasure is done
    other_ids    TEXT    NOT NULL DEFAULT '[]',  -- JSON: kind and id of other ids to erase; empty once the erasure is done
    digests      TEXT    NOT NULL,  -- JSON: SHA-256 of all these ids
    counted      INTEGER NOT NULL DEFAULT 0,  -- events below this offset are in the counts
    events       INTEGER NOT NULL DEFAULT 0,  -- events removed from the journal
    changed      INTEGER NOT NULL DEFAULT 0,  -- events that named others too: only the user was taken out
    parked       INTEGER NOT NULL DEFAULT 0,  -- parked events removed
    unreadable   INTEGER NOT NULL DEFAULT 0,  -- of those, parked at a source
    attempts     INTEGER NOT NULL DEFAULT 0,  -- texts of answers removed from `attempt`
    compacted    REAL,              -- Unix seconds: since then journal and tables are without the user
    problem      TEXT,              -- why the erasure has not been possible so far
    done         REAL               -- Unix seconds at which all connectors had answered, and the ids were forgotten
) STRICT;

CREATE INDEX IF NOT EXISTS erasure_open ON erasure (number) WHERE done IS NULL;
CREATE INDEX IF NOT EXISTS erasure_done ON erasure (done) WHERE done NOT NULL;

-- What each connector answered to an erasure.
CREATE TABLE IF NOT EXISTS erasure_answer (
    number    INTEGER NOT NULL,  -- number of the erasure
    connector TEXT    NOT NULL,  -- name of the connector
    outcome   TEXT    NOT NULL,  -- done, skipped, failed or forgotten
    reason    TEXT    NOT NULL,  -- reason of the outcome
    attempts  INTEGER NOT NULL,  -- number of attempts
    at        REAL    NOT NULL,  -- Unix seconds of the answer
    PRIMARY KEY (number, connector)
) STRICT, WITHOUT ROWID;

-- External ids by user id, with `erasure.identities` alone.
CREATE TABLE IF NOT EXISTS identity (
    user_id     TEXT NOT NULL,  -- user id in Braze
    external_id TEXT NOT NULL,  -- external id of the user
    PRIMARY KEY (user_id, external_id)
) STRICT, WITHOUT ROWID;

-- How far relay has searched the journal for events that request an erasure.
CREATE TABLE IF NOT EXISTS watch (
    one      INTEGER PRIMARY KEY CHECK (one = 1),  -- always 1
    position INTEGER NOT NULL       -- all events below this offset are searched
) STRICT;

-- What relay knows of the journal that belongs to this database.
CREATE TABLE IF NOT EXISTS journal_state (
    one      INTEGER PRIMARY KEY CHECK (one = 1),  -- always 1
    identity TEXT    NOT NULL,      -- id of the journal, as in its file `identity`; empty: relay takes the journal it finds
    head     INTEGER NOT NULL,      -- events below this offset were acknowledged
    time     REAL    NOT NULL,      -- Unix seconds: the newest time that was trusted
    ahead    REAL    NOT NULL DEFAULT 0,  -- seconds by which the clock is ahead of what can be right
    doubt    TEXT    NOT NULL DEFAULT '',  -- what is wrong with database and journal, until an admin accepts it
    unheard  INTEGER,               -- while doubt stands: where connectors begin that the database does not know
    accepted REAL    NOT NULL DEFAULT 0  -- Unix seconds at which an admin accepted the clock
) STRICT;

-- Events that could not be read.
CREATE TABLE IF NOT EXISTS damage (
    start    INTEGER NOT NULL,  -- offset of the first event
    stop     INTEGER NOT NULL,  -- offset behind the last event
    file     TEXT    NOT NULL,  -- file of the journal
    reason   TEXT    NOT NULL,  -- why they could not be read
    saved    INTEGER,           -- events of the file that a repair saves; NULL: there is nothing to repair
    met      REAL    NOT NULL,  -- Unix seconds at which relay found the damage
    accepted REAL,              -- Unix seconds at which an admin accepted or repaired it
    PRIMARY KEY (start, stop)
) STRICT;

-- What happened, as `relay history` shows it. It is in the database of the first worker.
CREATE TABLE IF NOT EXISTS history (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,  -- number of the entry
    at       REAL NOT NULL,         -- Unix seconds
    kind     TEXT NOT NULL,         -- kind of the entry
    subject  TEXT NOT NULL,         -- "relay", "connector heap", "source braze", "journal", ...
    sentence TEXT NOT NULL,         -- the entry in words
    done_by  TEXT NOT NULL,         -- who did it, as they say; '': relay itself
    about    TEXT NOT NULL          -- JSON: an object
) STRICT;

-- What became of all events of each connector, up to the moment at which its row was saved.
CREATE VIEW IF NOT EXISTS ledger AS
SELECT connector,                  -- name of the connector
       head - start AS accepted,   -- events that relay has accepted since the connector began
       delivered,                  -- events delivered
       unselected,                 -- events that `events` of the connector left out
       filtered,                   -- events that its filters dropped
       parked,                     -- events parked, those dropped or removed since included
       expired,                    -- events that had left the journal before their turn came
       damaged,                    -- events that could not be read when their turn came
       erased,                     -- events erased before their turn came
       head - start - delivered - unselected - filtered - parked - expired - damaged - erased
           AS pending,             -- events that are still to be delivered
       datetime(saved, 'unixepoch')
           AS saved                -- time at which the row was saved, in UTC
FROM cursor;
