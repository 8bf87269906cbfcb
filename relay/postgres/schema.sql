-- The tables of relay in PostgreSQL. `$.` stands for the schema. `relay journal init` makes them.

-- The cluster: all relays that share these tables.
CREATE TABLE $.cluster (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),  -- always true
    id         uuid    NOT NULL DEFAULT gen_random_uuid(),    -- tells two clusters apart
    lock       integer NOT NULL DEFAULT (random() * 2000000000)::integer,  -- first part of the cluster's advisory locks
    version    integer NOT NULL,  -- version of these tables
    oldest     integer NOT NULL,  -- version of the tables that a relay must know at least to work with these
    barred     text    NOT NULL DEFAULT '',  -- why no relay starts with these tables; '': relays start
    made       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The partitions. A partition is the events and the state that one process works with.
CREATE TABLE $.partition (
    partition integer PRIMARY KEY,  -- number of the partition, from 0
    identity  text    NOT NULL,     -- id of its log
    changes   bigint  NOT NULL DEFAULT 0  -- raised by whoever writes without the lease
);

-- Who delivers a partition, and until when.
CREATE TABLE $.lease (
    partition integer PRIMARY KEY REFERENCES $.partition,
    epoch     bigint  NOT NULL DEFAULT 0,  -- number of times that a process has taken the lease
    instance  uuid,  -- id of the process that has the lease, or had it last
    node      text    NOT NULL DEFAULT '', -- name of its node
    host      text    NOT NULL DEFAULT '', -- name of its machine
    process   integer NOT NULL DEFAULT 0,  -- number of the process there
    since     timestamptz NOT NULL DEFAULT '-infinity',
    until     timestamptz NOT NULL DEFAULT '-infinity'  -- the end of the lease, unless it is renewed
);

-- Who has each lease, or had it last: the columns of `lease` that no renewal changes. Every transaction of the holder
-- reads them. A renewal leaves a dead version of its row, which nobody can remove during another's long transaction.
CREATE TABLE $.holder (
    partition integer PRIMARY KEY,
    epoch     bigint  NOT NULL,
    instance  uuid,
    node      text    NOT NULL,
    host      text    NOT NULL,
    process   integer NOT NULL,
    since     timestamptz NOT NULL
);

CREATE FUNCTION $.note_holder() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO $.holder
    VALUES (NEW.partition, NEW.epoch, NEW.instance, NEW.node, NEW.host, NEW.process, NEW.since)
    ON CONFLICT (partition) DO UPDATE SET (epoch, instance, node, host, process, since)
        = (excluded.epoch, excluded.instance, excluded.node, excluded.host, excluded.process, excluded.since);
    RETURN NULL;
END
$body$;

CREATE TRIGGER lease_taken AFTER INSERT OR UPDATE OF epoch ON $.lease FOR EACH ROW EXECUTE FUNCTION $.note_holder();

-- The processes that run, or ran lately. A node is a relay as an admin starts it, with one process for each worker.
CREATE TABLE $.node (
    node     text    NOT NULL,  -- name of the node
    worker   integer NOT NULL,  -- number of the worker within the node
    slot     integer NOT NULL UNIQUE,  -- number of the process among all; one that ended long ago leaves its own
    instance uuid    NOT NULL,  -- id of the process
    host     text    NOT NULL,  -- name of the machine
    machine  text    NOT NULL,  -- boot and process namespace of the machine, in which the number of the process holds
    process  integer NOT NULL,  -- number of the process
    version  text    NOT NULL,  -- version of relay
    since    timestamptz NOT NULL DEFAULT clock_timestamp(),  -- the start of the process
    seen     timestamptz NOT NULL DEFAULT clock_timestamp(),  -- its last sign of life
    until    timestamptz NOT NULL,  -- until then it counts as running without another sign of life
    PRIMARY KEY (node, worker)
);

-- What each of these processes has said of itself last.
CREATE TABLE $.node_report (
    node     text    NOT NULL,
    worker   integer NOT NULL,
    instance uuid    NOT NULL,
    at       timestamptz NOT NULL,
    status   bytea   NOT NULL,  -- its status as JSON, compressed (zlib)
    tables   text    NOT NULL,  -- digests of the tables of its configuration, as a JSON object
    PRIMARY KEY (node, worker)
);

-- Return the timeline of the server: another one once a standby was promoted, or a backup was restored up to a time. ''
-- where a server does not tell.
CREATE FUNCTION $.read_timeline() RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
    RETURN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END
$body$;

-- Timelines that relay has met, and when.
CREATE TABLE $.timeline (
    timeline text PRIMARY KEY,
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Processes that have told, under a timeline, how far they knew the logs.
CREATE TABLE $.witness (
    timeline text NOT NULL,
    instance uuid NOT NULL,  -- id of the process
    PRIMARY KEY (timeline, instance)
);

-- How far the logs had come, as processes knew when a timeline began. The database itself may have come back older.
CREATE TABLE $.known_end (
    partition integer PRIMARY KEY,
    stop      bigint  NOT NULL  -- events below this offset were acknowledged
);

-- Segments of the logs. Each is a table of blocks, which is dropped as a whole. The newest segment takes the next block.
CREATE SEQUENCE $.segment_number;
CREATE TABLE $.segment (
    partition integer NOT NULL,
    number    bigint  NOT NULL DEFAULT nextval('$.segment_number'),
    name      text    NOT NULL,  -- the segment's table: block_NUMBER; an erasure puts another table in its place
    base      bigint  NOT NULL,  -- offset of its first event
    stop      bigint,            -- offset behind its last event; null: the segment takes blocks
    size      bigint,            -- bytes of the table; null: the segment takes blocks
    received  bigint  NOT NULL DEFAULT 0,  -- when its last event was received, in Unix microseconds; before it is
                                           -- closed, that of the segment before
    timeline  text    NOT NULL DEFAULT $.read_timeline(),  -- the server's timeline when the segment was begun
    PRIMARY KEY (partition, number)
);

-- The form of a segment's table. A block is the events of one commit.
CREATE TABLE $.block (
    base     bigint  PRIMARY KEY,  -- offset of its first event
    events   integer NOT NULL,     -- number of its events
    received bigint  NOT NULL,     -- Unix microseconds by the server's clock
    meta     bytea   NOT NULL,     -- kinds and places of the events, or the form of compressed events
    body     bytea   NOT NULL,     -- the events, as they are in a journal on disk
    crc      bigint  NOT NULL      -- CRC-32 of events, meta and body
);
ALTER TABLE $.block ALTER COLUMN meta SET STORAGE EXTERNAL, ALTER COLUMN body SET STORAGE EXTERNAL;

-- While the journal is copied here: the segments that are there, and the version of what they were copied from.
CREATE TABLE $.copied (
    partition integer NOT NULL,
    base      bigint  NOT NULL,  -- offset of the segment's first event
    version   text    NOT NULL,
    PRIMARY KEY (partition, base)
);

-- What happened, as `relay history` shows it.
CREATE TABLE $.history (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- number of the entry
    at       double precision NOT NULL,  -- Unix seconds
    kind     text NOT NULL,  -- kind of the entry
    subject  text NOT NULL,  -- "relay", "connector heap", "source braze", "journal", ...
    sentence text NOT NULL,  -- the entry in words
    done_by  text NOT NULL,  -- who did it, as they say; '': relay itself
    about    text NOT NULL   -- JSON: an object
);

-- What alerts remember of trouble.
CREATE TABLE $.alert_track (
    alert   text NOT NULL,  -- name of the alert
    subject text NOT NULL,  -- what the trouble is about, such as "connector heap"
    family  text NOT NULL,  -- kinds of trouble that follow each other
    track   text NOT NULL,  -- JSON
    PRIMARY KEY (alert, subject, family)
);

-- Messages of alerts that are to be sent, or were sent.
CREATE TABLE $.alert_message (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- number of the message
    id       text    NOT NULL UNIQUE,  -- id of the message, the same whenever it is sent
    alert    text    NOT NULL,   -- name of the alert
    made     double precision NOT NULL,  -- Unix seconds at which the message was made
    message  text    NOT NULL,   -- JSON
    attempts integer NOT NULL,   -- number of attempts to send it
    last     double precision,   -- Unix seconds of the last attempt
    problem  text    NOT NULL,   -- why the last attempt failed
    sent     double precision,   -- Unix seconds at which it was sent
    given_up double precision    -- Unix seconds at which relay gave up
);

-- When recent events came, by their ids, for sources that leave out duplicates. The ids of all partitions are here, so
-- that nobody gets in twice by another door.
CREATE TABLE $.seen (
    source text   NOT NULL,  -- name of the source
    digest bytea  NOT NULL,  -- of an id, or of a subject
    at     bigint NOT NULL,  -- Unix microseconds
    PRIMARY KEY (source, digest)
);
CREATE INDEX seen_at ON $.seen (source, at);

-- Add partitions until there are `wanted`; return the number of partitions.
CREATE FUNCTION $.add_partitions(wanted integer) RETURNS integer LANGUAGE plpgsql AS $body$
DECLARE
    known integer;
BEGIN
    PERFORM pg_advisory_xact_lock((SELECT lock FROM $.cluster), -1);
    SELECT count(*) INTO known FROM $.partition;
    FOR fresh IN known .. wanted - 1 LOOP
        INSERT INTO $.partition (partition, identity) VALUES (fresh, replace(gen_random_uuid()::text, '-', ''));
        INSERT INTO $.lease (partition) VALUES (fresh);
        INSERT INTO $.journal_state (partition) VALUES (fresh);
        EXECUTE format('CREATE SEQUENCE $.parked_number_%s MINVALUE %s', fresh, fresh * 1000000000::bigint + 1);
        EXECUTE format('CREATE SEQUENCE $.replay_number_%s MINVALUE %s', fresh, fresh * 1000000000::bigint + 1);
    END LOOP;
    RETURN greatest(known, wanted);
END
$body$;

-- Begin to change what a partition knows, or with NULL what all know, without the lease. The holder's transactions wait
-- until this one has ended, and the holder sees that there is a change.
CREATE FUNCTION $.begin_change(changed integer) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    one integer;
BEGIN
    FOR one IN SELECT partition FROM $.partition WHERE partition = changed OR changed IS NULL ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock((SELECT lock FROM $.cluster), 2 * one + 1);
        UPDATE $.partition SET changes = changes + 1 WHERE partition = one;
    END LOOP;
END
$body$;

-- Return the first number that no process has.
CREATE FUNCTION $.find_free_slot() RETURNS integer LANGUAGE sql AS $body$
    SELECT min(free) FROM generate_series(0, (SELECT count(*)::integer FROM $.node)) AS free
    WHERE free NOT IN (SELECT slot FROM $.node)
$body$;

-- Raise RL001 unless this process has the lease of the partition, with this epoch. Until the transaction ends, nobody
-- takes the lease. The process counts, too: a database that has lost its newest transactions gives an epoch twice.
CREATE FUNCTION $.hold(held integer, mine bigint, me uuid) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    now_held $.holder;
BEGIN
    PERFORM pg_advisory_xact_lock_shared((SELECT lock FROM $.cluster), 2 * held + 1);
    SELECT * INTO now_held FROM $.holder WHERE partition = held;
    IF (now_held.epoch, now_held.instance) IS DISTINCT FROM (mine, me) THEN
        RAISE EXCEPTION 'node % (process % on %) works with partition % since %', now_held.node, now_held.process,
            now_held.host, held, now_held.since USING ERRCODE = 'RL001';
    END IF;
END
$body$;

-- The time by which events are received, in Unix microseconds.
CREATE FUNCTION $.read_clock() RETURNS bigint LANGUAGE sql AS $body$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$body$;

-- Wait for the right to append to a partition, until the transaction has ended. Every transaction that appends is
-- synced, whatever the role's settings say.
CREATE FUNCTION $.lock_log(part integer, lock_ms integer) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM set_config('lock_timeout', lock_ms::text, true);
    PERFORM pg_advisory_xact_lock((SELECT lock FROM $.cluster), 2 * part);
END
$body$;

-- Note when ids came. Each must be as it was found: unknown (null), or known since that time. Else raise RL003, as
-- another process has noted an id meanwhile. Waits for whoever notes one of the ids now, in the order of the ids.
CREATE FUNCTION $.note_ids(sources text[], digests bytea[], known bigint[], fresh bigint[], lock_ms integer)
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    noted bigint;
    renewed bigint := 0;
BEGIN
    PERFORM set_config('lock_timeout', lock_ms::text, true);
    INSERT INTO $.seen (source, digest, at)
        SELECT one.source, one.digest, one.at FROM unnest(sources, digests, known, fresh) AS one (source, digest, was, at)
        WHERE one.was IS NULL ORDER BY one.source, one.digest ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS noted = ROW_COUNT;
    IF noted < cardinality(sources) THEN
        PERFORM 1 FROM $.seen JOIN unnest(sources, digests) AS one (source, digest) USING (source, digest)
            ORDER BY source, digest FOR UPDATE OF seen;
        UPDATE $.seen SET at = one.at FROM unnest(sources, digests, known, fresh) AS one (source, digest, was, at)
            WHERE seen.source = one.source AND seen.digest = one.digest AND seen.at = one.was;
        GET DIAGNOSTICS renewed = ROW_COUNT;
    END IF;
    IF noted + renewed < cardinality(sources) THEN
        RAISE EXCEPTION 'another process has noted an id meanwhile' USING ERRCODE = 'RL003';
    END IF;
END
$body$;

-- Append a block to a partition; return its first offset, and when it was received. Raise RL002 if `newest` is not the
-- newest segment any more, or of an earlier timeline. The lock holds until the transaction has ended, so that no offset
-- is given twice. Each statement sees what was committed before it began, hence the lock comes first.
CREATE FUNCTION $.append(
    part integer, newest bigint, lowest bigint, events integer, meta bytea, body bytea, crc bigint, lock_ms integer
) RETURNS TABLE (first_offset bigint, received_us bigint) LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM $.lock_log(part, lock_ms);
    IF newest IS DISTINCT FROM (SELECT max(number) FROM $.segment WHERE partition = part)
        OR NOT EXISTS (SELECT FROM $.segment WHERE partition = part AND number = newest AND timeline = $.read_timeline())
    THEN
        RAISE EXCEPTION 'segment % is not the newest', newest USING ERRCODE = 'RL002';
    END IF;
    RETURN QUERY EXECUTE format(
        'INSERT INTO $.%1$I (base, events, received, meta, body, crc)
         SELECT greatest(segment.base, last.base + last.events, $3), $4,
                greatest(segment.received, last.received, $.read_clock()), $5, $6, $7
         FROM $.segment LEFT JOIN (SELECT base, events, received FROM $.%1$I ORDER BY base DESC LIMIT 1) AS last ON true
         WHERE partition = $1 AND number = $2
         RETURNING base, received', 'block_' || newest)
    USING part, newest, lowest, events, meta, body, crc;
END
$body$;

-- Return the Unix seconds of the server's clock. The clocks of the nodes may differ.
CREATE FUNCTION $.unix_time() RETURNS double precision LANGUAGE sql AS
'SELECT extract(epoch FROM clock_timestamp())::double precision';

-- Append a block of events that are no duplicates, and note their ids.
CREATE FUNCTION $.append_new(
    part integer, newest bigint, lowest bigint, events integer, meta bytea, body bytea, crc bigint, lock_ms integer,
    sources text[], digests bytea[], known bigint[], fresh bigint[]
) RETURNS TABLE (first_offset bigint, received_us bigint) LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM $.note_ids(sources, digests, known, fresh, lock_ms);
    RETURN QUERY SELECT * FROM $.append(part, newest, lowest, events, meta, body, crc, lock_ms);
END
$body$;

-- Return the newest segment of a partition, the offset behind its last event, when that was received, the server's time,
-- and whether the segment takes blocks: it does so under its own timeline. Return nothing for a partition without segments.
CREATE FUNCTION $.find_end(part integer)
RETURNS TABLE (newest bigint, stop bigint, received_us bigint, now_us bigint, is_open boolean) LANGUAGE plpgsql AS $body$
DECLARE
    last $.segment;
    tail record;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the server is a standby' USING ERRCODE = '25006';
    END IF;
    SELECT * INTO last FROM $.segment WHERE partition = part ORDER BY number DESC LIMIT 1;
    IF last IS NULL THEN
        RETURN;
    END IF;
    SELECT last.base AS stop, last.received AS received INTO tail;
    IF to_regclass('$.' || last.name) IS NOT NULL THEN
        EXECUTE format('SELECT coalesce(max(base + events), $1) AS stop, coalesce(max(received), $2) AS received
                        FROM (SELECT * FROM $.%I ORDER BY base DESC LIMIT 1) AS last', last.name)
        INTO tail USING last.base, last.received;
    END IF;
    RETURN QUERY SELECT last.number, tail.stop, tail.received, $.read_clock(), last.timeline = $.read_timeline();
END
$body$;

-- Make the table of a segment. Its events come into no sample of the server's planner.
CREATE FUNCTION $.make_blocks(name text) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE format('CREATE TABLE $.%1$I (LIKE $.block INCLUDING ALL)
                        WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
                    ALTER TABLE $.%1$I ALTER meta SET STATISTICS 0, ALTER body SET STATISTICS 0', name);
END
$body$;

-- Tell how far a process knows the logs. The first process that tells it under a timeline makes the timeline known.
CREATE FUNCTION $.testify(mine uuid, partitions integer[], stops bigint[]) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO $.timeline (timeline) VALUES ($.read_timeline()) ON CONFLICT DO NOTHING;
    INSERT INTO $.known_end AS known (partition, stop) SELECT * FROM unnest(partitions, stops) ORDER BY 1
        ON CONFLICT (partition) DO UPDATE SET stop = greatest(known.stop, excluded.stop);
    DELETE FROM $.witness WHERE timeline <> $.read_timeline();
    INSERT INTO $.witness VALUES ($.read_timeline(), mine) ON CONFLICT DO NOTHING;
END
$body$;

-- Raise RL004 while a process that ran shortly before this timeline began has yet to tell how far it knows the logs. A
-- process that is silent for 10 seconds is not waited for.
CREATE FUNCTION $.await_witnesses() RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    began timestamptz := (SELECT since FROM $.timeline WHERE timeline = $.read_timeline());
    silent text;
BEGIN
    SELECT string_agg(node, ', ' ORDER BY node) INTO silent FROM $.node
        WHERE isfinite(until) AND until > coalesce(began, clock_timestamp()) - interval '10 minutes'
            AND instance NOT IN (SELECT instance FROM $.witness WHERE timeline = $.read_timeline());
    IF silent IS NOT NULL AND (began IS NULL OR began > clock_timestamp() - interval '10 seconds') THEN
        RAISE EXCEPTION 'another server has taken over, and % has yet to tell how far the events had come', silent
            USING ERRCODE = 'RL004';
    END IF;
END
$body$;

-- Begin the next segment of a partition, at `lowest` or later. Do nothing if `after` is not the newest segment any more
-- (null: the partition has no segment).
CREATE FUNCTION $.begin_segment(part integer, after bigint, lowest bigint, lock_ms integer) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    last record;
    fresh bigint;
BEGIN
    PERFORM $.lock_log(part, lock_ms);
    IF after IS DISTINCT FROM (SELECT max(number) FROM $.segment WHERE partition = part) THEN
        RETURN;
    END IF;
    SELECT * INTO last FROM $.find_end(part);
    IF last.is_open IS NOT TRUE THEN
        -- The first segment of a partition waits only if relay has met another server: nobody knows a new log
        IF after IS NOT NULL OR EXISTS (SELECT FROM $.timeline WHERE timeline <> $.read_timeline()) THEN
            PERFORM $.await_witnesses();
        END IF;
        lowest := greatest(lowest, (SELECT stop FROM $.known_end WHERE partition = part),
            (SELECT head FROM $.journal_state WHERE partition = part));
    END IF;
    UPDATE $.segment SET stop = last.stop, received = last.received_us,
        size = coalesce(pg_total_relation_size(to_regclass('$.' || name)), 0)
        WHERE partition = part AND number = after;
    fresh := nextval('$.segment_number');
    INSERT INTO $.segment (partition, number, name, base, received)
        VALUES (part, fresh, 'block_' || fresh, greatest(last.stop, lowest), coalesce(last.received_us, 0));
    PERFORM $.make_blocks('block_' || fresh);
END
$body$;

-- What relay knows of the log of each partition, beside its blocks.
CREATE TABLE $.journal_state (
    partition integer PRIMARY KEY REFERENCES $.partition,
    head      bigint  NOT NULL DEFAULT 0,   -- events below this offset were acknowledged
    time      double precision NOT NULL DEFAULT 0,  -- Unix seconds: the newest time that was trusted
    ahead     double precision NOT NULL DEFAULT 0,  -- seconds by which a clock is ahead of what can be right
    doubt     text    NOT NULL DEFAULT '',  -- what is wrong with the log, until an admin accepts it
    unheard   bigint,                       -- while doubt stands: where connectors begin that have no cursor
    accepted  double precision NOT NULL DEFAULT 0,  -- Unix seconds at which an admin accepted the clock
    mark      text    NOT NULL DEFAULT ''   -- id of the last transaction that must not happen twice
) WITH (fillfactor = 50);

-- How far each connector is in the log, and what became of its events. The view `ledger` shows it to people.
CREATE TABLE $.cursor (
    partition  integer NOT NULL,
    connector  text    NOT NULL,  -- name of the connector
    head       bigint  NOT NULL,  -- head of the log when the row was saved
    start      bigint  NOT NULL,  -- offset at which the connector began
    position   bigint  NOT NULL,  -- all events below this offset are settled
    ahead      text    NOT NULL,  -- JSON: ranges [start, stop] above `position` that are settled already
    delivered  bigint  NOT NULL,  -- events delivered
    unselected bigint  NOT NULL,  -- events that `events` of the connector left out
    filtered   bigint  NOT NULL,  -- events that its filters dropped
    parked     bigint  NOT NULL,  -- events parked
    expired    bigint  NOT NULL,  -- events that had left the log before their turn came
    damaged    bigint  NOT NULL,  -- events that could not be read when their turn came
    erased     bigint  NOT NULL,  -- events erased before their turn came
    saved      double precision NOT NULL,  -- Unix seconds at which the row was saved
    begun      double precision NOT NULL DEFAULT $.unix_time(),  -- Unix seconds at which the connector began here
    PRIMARY KEY (partition, connector)
) WITH (fillfactor = 50);  -- a new version of a row finds room beside the old one

-- What became of all events of each connector, up to the moment at which its row was saved.
CREATE VIEW $.ledger AS
SELECT partition, connector, head - start AS accepted, delivered, unselected, filtered, parked, expired, damaged, erased,
       head - start - delivered - unselected - filtered - parked - expired - damaged - erased AS pending,
       to_timestamp(saved) AS saved
FROM $.cursor;

-- Parked events (dead letters). The numbers are of the sequence `parked_number_PARTITION`, and are never given twice.
CREATE TABLE $.parked (
    partition  integer NOT NULL,
    number     bigint  NOT NULL,  -- number of the parked event
    source     text    NOT NULL,  -- name of the source
    connector  text,              -- name of the connector; NULL: parked at the source, and never in the log
    "offset"   bigint,            -- offset in the log; NULL: never in the log
    type       text,              -- event type, if it is known
    cause      text    NOT NULL,  -- unreadable, filter, refused, too_large, gave_up, bug or order
    reason     text    NOT NULL,  -- reason of the last failure
    attempts   bigint  NOT NULL,  -- attempts to deliver the event
    first      double precision NOT NULL,  -- Unix seconds of the first failure
    last       double precision NOT NULL,  -- Unix seconds of the last failure
    again      double precision,  -- Unix seconds at which a replay was requested; NULL: none was requested
    id_field   text    NOT NULL,  -- field in which the events of the source keep their id
    time_field text    NOT NULL,  -- field in which the events of the source keep their time
    received   double precision NOT NULL,  -- Unix seconds at which relay received the event
    body       bytea   NOT NULL,  -- the event, byte for byte
    status     integer,           -- HTTP status of the last answer, if there was one
    answer     text    NOT NULL DEFAULT '',  -- first bytes of the last answer
    replay     bigint,            -- number of the replay that parked the event; NULL: normal delivery
    key        text,              -- key by which the event stays in order, if there is one
    part       integer NOT NULL DEFAULT 0,  -- number of the part, if filters of the connector have split the event
    size       bigint  NOT NULL GENERATED ALWAYS AS (
        200 + octet_length(body) + octet_length(reason) + octet_length(answer) + coalesce(octet_length(key), 0)
    ) STORED,                     -- about the bytes that the event takes
    PRIMARY KEY (partition, number),
    UNIQUE (partition, connector, "offset", part)  -- an event sent again after a crash is parked once
);

CREATE INDEX parked_key ON $.parked (partition, connector, left(key, 200), "offset", part) WHERE key IS NOT NULL;
CREATE INDEX parked_due ON $.parked (partition, connector, "offset", part) WHERE again IS NOT NULL OR cause = 'order';
CREATE INDEX parked_last ON $.parked (partition, last) WHERE again IS NULL;
CREATE INDEX parked_unreadable ON $.parked (partition, last) WHERE connector IS NULL;

-- How many events are parked. Triggers keep the table, whoever changes `parked`.
CREATE TABLE $.parked_total (
    partition integer NOT NULL,
    source    text    NOT NULL,  -- name of the source
    connector text    NOT NULL,  -- name of the connector; '': parked at the source
    cause     text    NOT NULL,  -- as in `parked`
    events    bigint  NOT NULL,  -- parked events
    bytes     bigint  NOT NULL,  -- bytes that they take
    PRIMARY KEY (partition, source, connector, cause)
) WITH (fillfactor = 50);

-- How many parked events relay has removed by itself, ever.
CREATE TABLE $.parked_removed (
    partition integer NOT NULL,
    source    text    NOT NULL,  -- name of the source
    connector text    NOT NULL,  -- name of the connector; '': parked at the source
    cause     text    NOT NULL,  -- as in `parked`
    reason    text    NOT NULL,  -- the setting that had them removed: retention or max_size
    events    bigint  NOT NULL,  -- removed events
    PRIMARY KEY (partition, source, connector, cause, reason)
);

-- Add up the rows that a statement has changed. Totals are locked in one order, so that two statements never wait for
-- each other. The argument is a query for the rows, with `sign` 1 for a row that has come and -1 for one that is gone.
CREATE FUNCTION $.count_parked() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE
        'INSERT INTO $.parked_total AS total
         SELECT partition, source, coalesce(connector, ''''), cause, sum(sign), sum(sign * size)
         FROM (' || TG_ARGV[0] || ') AS changed GROUP BY 1, 2, 3, 4
         HAVING sum(sign) <> 0 OR sum(sign * size) <> 0 ORDER BY 1, 2, 3, 4
         ON CONFLICT (partition, source, connector, cause)
         DO UPDATE SET events = total.events + excluded.events, bytes = total.bytes + excluded.bytes';
    RETURN NULL;
END
$body$;

CREATE TRIGGER parked_inserted AFTER INSERT ON $.parked REFERENCING NEW TABLE AS come
FOR EACH STATEMENT EXECUTE FUNCTION $.count_parked('SELECT *, 1 AS sign FROM come');
CREATE TRIGGER parked_deleted AFTER DELETE ON $.parked REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION $.count_parked('SELECT *, -1 AS sign FROM gone');
CREATE TRIGGER parked_updated AFTER UPDATE ON $.parked REFERENCING OLD TABLE AS gone NEW TABLE AS come
FOR EACH STATEMENT
EXECUTE FUNCTION $.count_parked('SELECT *, 1 AS sign FROM come UNION ALL SELECT *, -1 AS sign FROM gone');

-- Replays: those that run, and those that have ended. The numbers are of the sequence `replay_number_PARTITION`.
CREATE TABLE $.replay (
    partition  integer NOT NULL,
    number     bigint  NOT NULL,  -- number of the replay
    connector  text    NOT NULL,  -- name of the connector
    start      bigint  NOT NULL,  -- first offset of the replay
    stop       bigint  NOT NULL,  -- offset behind the last event of the replay
    entries    text    NOT NULL,  -- JSON: the selection
    rate       double precision NOT NULL,  -- events per second at most; 0: no limit
    asked      double precision NOT NULL,  -- Unix seconds at which the replay was requested
    asked_by   text    NOT NULL DEFAULT '',  -- who requested it, as they say
    position   bigint  NOT NULL,  -- as in `cursor`, like the columns that follow
    ahead      text    NOT NULL DEFAULT '[]',
    delivered  bigint  NOT NULL DEFAULT 0,
    unselected bigint  NOT NULL DEFAULT 0,
    filtered   bigint  NOT NULL DEFAULT 0,
    parked     bigint  NOT NULL DEFAULT 0,
    expired    bigint  NOT NULL DEFAULT 0,
    damaged    bigint  NOT NULL DEFAULT 0,
    erased     bigint  NOT NULL DEFAULT 0,
    saved      double precision,  -- Unix seconds at which the row was saved
    ended      double precision,  -- Unix seconds at which the replay ended
    cancelled  double precision,  -- Unix seconds at which the replay was cancelled
    PRIMARY KEY (partition, number)
) WITH (fillfactor = 50);

-- Deliveries that have failed at least once, with their last answer.
CREATE TABLE $.attempt (
    partition integer NOT NULL,
    number    bigint  GENERATED ALWAYS AS IDENTITY,  -- later attempts have higher numbers
    connector text    NOT NULL,  -- name of the connector
    replay    bigint  NOT NULL,  -- number of the replay; 0: normal delivery
    start     bigint  NOT NULL,  -- offset of the first event
    stop      bigint  NOT NULL,  -- offset behind the last event
    events    bigint  NOT NULL,  -- number of events
    ranges    text    NOT NULL,  -- JSON: the offsets between `start` and `stop` that belong to it
    attempts  bigint  NOT NULL,  -- number of attempts
    outcome   text    NOT NULL,  -- pending, delivered, filtered (by the connector) or parked
    answer    text    NOT NULL,  -- answer to the last attempt that failed
    first     double precision NOT NULL,  -- Unix seconds of the first failure
    last      double precision NOT NULL,  -- Unix seconds of the last attempt
    PRIMARY KEY (partition, number),
    UNIQUE (partition, connector, replay, start, stop, events)
);

-- Which events go out together, so that a restart or another node sends the same ones together, under the same key.
CREATE TABLE $.cut (
    partition integer NOT NULL,
    connector text    NOT NULL,  -- name of the connector
    part      text    NOT NULL,  -- '': the lane; "again": its parked events; else the number of a replay
    number    bigint  NOT NULL,  -- the order of the lines
    line      bytea   NOT NULL,  -- JSON: ranges of offsets, after "!" if they go together no more
    PRIMARY KEY (partition, connector, part, number)
);

-- What relay remembers of each source.
CREATE TABLE $.source (
    partition     integer NOT NULL,  -- number of the process that takes events in, as `slot` in `node`
    name          text    NOT NULL,  -- name of the source
    duplicates    bigint  NOT NULL,  -- events left out because they had come before
    failing_since double precision,  -- Unix seconds of the first refusal since the last 2xx; NULL: requests are taken
    last          double precision,  -- Unix seconds of the last refusal
    status        integer,           -- HTTP status of the last refusal
    reason        text,              -- reason of the last refusal
    deadline      double precision,  -- Unix seconds at which the sender stops for good, if that is known
    PRIMARY KEY (partition, name)
);

-- What source types remember for themselves.
CREATE TABLE $.source_memory (
    partition integer NOT NULL,
    name      text    NOT NULL,  -- name of the source
    memory    text    NOT NULL,  -- as the source type writes it
    PRIMARY KEY (partition, name)
);

-- Connectors that an admin has paused, in all partitions.
CREATE TABLE $.pause (
    connector text PRIMARY KEY,  -- name of the connector
    since     double precision NOT NULL,  -- Unix seconds at which an admin paused it
    until     double precision   -- Unix seconds at which the pause ends by itself; NULL: an admin ends it
);

-- Events that could not be read.
CREATE TABLE $.damage (
    partition integer NOT NULL,
    start     bigint  NOT NULL,  -- offset of the first event
    stop      bigint  NOT NULL,  -- offset behind the last event
    file      text    NOT NULL,  -- table of the segment
    reason    text    NOT NULL,  -- why they could not be read
    saved     bigint,            -- events of the segment that a repair saves; NULL: there is nothing to repair
    met       double precision NOT NULL,  -- Unix seconds at which relay found the damage
    accepted  double precision,  -- Unix seconds at which an admin accepted it
    PRIMARY KEY (partition, start, stop)
);

-- Erasures: those that are open, and those that are done. An erasure has a row of the same number in each partition.
CREATE SEQUENCE $.erasure_number;
CREATE TABLE $.erasure (
    partition    integer NOT NULL,
    number       bigint  NOT NULL,  -- number of the erasure
    asked        double precision NOT NULL,  -- Unix seconds at which the erasure was requested
    asked_by     text    NOT NULL DEFAULT '',  -- who requested it, as they say; '': an event, or nobody has said
    type         text,              -- type of the event that requested it; NULL: an admin
    source       text,              -- source of that event
    "offset"     bigint,            -- offset of that event
    user_id      text,              -- user id to erase; NULL once the erasure is done
    external_ids text    NOT NULL,  -- JSON: external ids to erase; empty once the erasure is done
    other_ids    text    NOT NULL DEFAULT '[]',  -- JSON: kind and id of other ids to erase; empty once it is done
    digests      text    NOT NULL,  -- JSON: SHA-256 of all these ids
    counted      bigint  NOT NULL DEFAULT 0,  -- events below this offset are in the counts
    events       bigint  NOT NULL DEFAULT 0,  -- events removed from the log
    changed      bigint  NOT NULL DEFAULT 0,  -- events that named others too: only the user was taken out
    parked       bigint  NOT NULL DEFAULT 0,  -- parked events removed
    unreadable   bigint  NOT NULL DEFAULT 0,  -- of those, parked at a source
    attempts     bigint  NOT NULL DEFAULT 0,  -- texts of answers removed from `attempt`
    compacted    double precision,  -- Unix seconds: since then log and tables are without the user
    problem      text,              -- why the erasure has not been possible so far
    done         double precision,  -- Unix seconds at which all connectors had answered, and the ids were forgotten
    PRIMARY KEY (partition, number)
);

CREATE INDEX erasure_open ON $.erasure (partition, number) WHERE done IS NULL;
CREATE INDEX erasure_done ON $.erasure (partition, done) WHERE done IS NOT NULL;

-- What each connector answered to an erasure.
CREATE TABLE $.erasure_answer (
    partition integer NOT NULL,
    number    bigint  NOT NULL,  -- number of the erasure
    connector text    NOT NULL,  -- name of the connector
    outcome   text    NOT NULL,  -- done, skipped, failed or forgotten
    reason    text    NOT NULL,  -- reason of the outcome
    attempts  bigint  NOT NULL,  -- number of attempts
    at        double precision NOT NULL,  -- Unix seconds of the answer
    PRIMARY KEY (partition, number, connector)
);

-- External ids by user id, with `erasure.identities` alone.
CREATE TABLE $.identity (
    partition   integer NOT NULL,
    user_id     text    NOT NULL,  -- user id in Braze
    external_id text    NOT NULL   -- external id of the user
);

CREATE INDEX identity_user ON $.identity (partition, left(user_id, 200));
CREATE INDEX identity_external ON $.identity (partition, left(external_id, 200));

-- How far relay has searched the log for events that request an erasure.
CREATE TABLE $.watch (
    partition integer PRIMARY KEY,
    position  bigint  NOT NULL  -- all events below this offset are searched
) WITH (fillfactor = 50);

-- The stores of connectors. The index takes the beginning of a key, and a digest of the rest, for keys may be long.
CREATE TABLE $.plugin_store (
    partition integer NOT NULL,
    connector text    NOT NULL,  -- name of the connector
    type      text    NOT NULL,  -- its type
    key       bytea   NOT NULL,
    value     bytea   NOT NULL,
    head      bytea   NOT NULL GENERATED ALWAYS AS (substring(key FROM 1 FOR 1000)) STORED,
    rest      bytea   NOT NULL GENERATED ALWAYS AS (
        CASE WHEN octet_length(key) > 1000 THEN sha256(substring(key FROM 1001)) ELSE '' END
    ) STORED,
    PRIMARY KEY (partition, connector, type, head, rest)
);

-- A row that is deleted to learn whether the server still keeps deleted rows for somebody. Nothing else is in it.
CREATE TABLE $.canary (number integer PRIMARY KEY);

-- Personal data is in no sample of the server's planner, from where an erasure could not remove it.
ALTER TABLE $.parked ALTER body SET STATISTICS 0, ALTER reason SET STATISTICS 0, ALTER answer SET STATISTICS 0,
    ALTER key SET STATISTICS 0;
ALTER INDEX $.parked_key ALTER COLUMN 3 SET STATISTICS 0;
ALTER TABLE $.attempt ALTER answer SET STATISTICS 0;
ALTER TABLE $.erasure ALTER user_id SET STATISTICS 0, ALTER external_ids SET STATISTICS 0,
    ALTER other_ids SET STATISTICS 0, ALTER problem SET STATISTICS 0;
ALTER TABLE $.erasure_answer ALTER reason SET STATISTICS 0;
ALTER TABLE $.identity ALTER user_id SET STATISTICS 0, ALTER external_id SET STATISTICS 0;
ALTER INDEX $.identity_user ALTER COLUMN 2 SET STATISTICS 0;
ALTER INDEX $.identity_external ALTER COLUMN 2 SET STATISTICS 0;
ALTER TABLE $.history ALTER sentence SET STATISTICS 0, ALTER about SET STATISTICS 0;
ALTER TABLE $.alert_message ALTER message SET STATISTICS 0, ALTER problem SET STATISTICS 0;
ALTER TABLE $.plugin_store ALTER key SET STATISTICS 0, ALTER value SET STATISTICS 0, ALTER head SET STATISTICS 0;
ALTER TABLE $.alert_track ALTER track SET STATISTICS 0;
