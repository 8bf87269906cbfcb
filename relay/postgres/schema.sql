-- The tables of relay in PostgreSQL. `$.` stands for the schema. `relay journal init` makes them.

-- The cluster: all relays that share these tables.
CREATE TABLE $.cluster (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),  -- always true
    id         uuid    NOT NULL DEFAULT gen_random_uuid(),    -- tells two clusters apart
    lock       integer NOT NULL DEFAULT (random() * 2000000000)::integer,  -- first part of the cluster's advisory locks
    version    integer NOT NULL,  -- version of these tables
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
    node      text    NOT NULL DEFAULT '', -- name of the node that has the lease, or had it last
    process   integer NOT NULL DEFAULT 0,  -- number of its process
    since     timestamptz NOT NULL DEFAULT '-infinity',
    until     timestamptz NOT NULL DEFAULT '-infinity'  -- the end of the lease, unless it is renewed
);

-- The nodes: relays as admins start them, each with its processes.
CREATE TABLE $.node (
    node     text    NOT NULL,  -- name of the node
    worker   integer NOT NULL,  -- number of the worker within the node
    instance uuid    NOT NULL,  -- id of this run of the node
    host     text    NOT NULL,  -- name of the machine
    process  integer NOT NULL,  -- number of the process
    version  text    NOT NULL,  -- version of relay
    since    timestamptz NOT NULL,  -- the start of the process
    seen     timestamptz NOT NULL,  -- the last sign of life
    PRIMARY KEY (node, worker)
);

-- Segments of the logs. Each is a table of blocks, `block_NUMBER`, which is dropped as a whole.
CREATE TABLE $.segment (
    partition integer NOT NULL,
    number    bigint  GENERATED ALWAYS AS IDENTITY,  -- the segment's table is block_NUMBER
    base      bigint  NOT NULL,  -- offset of its first event
    opened    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (partition, number)
);

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
    END LOOP;
    RETURN greatest(known, wanted);
END
$body$;

-- Raise RL001 unless the lease of the partition has this epoch. Until the transaction ends, nobody takes the lease.
CREATE FUNCTION $.hold(held integer, mine bigint) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    now_held $.lease;
BEGIN
    PERFORM pg_advisory_xact_lock_shared((SELECT lock FROM $.cluster), 2 * held + 1);
    SELECT * INTO now_held FROM $.lease WHERE partition = held;
    IF now_held.epoch IS DISTINCT FROM mine THEN
        RAISE EXCEPTION 'node % (process %) works with partition % since %', now_held.node, now_held.process, held,
            now_held.since USING ERRCODE = 'RL001';
    END IF;
END
$body$;

-- Append a block to a partition; return its first offset, and when it was received. Return nothing if `newest` is not
-- the newest segment any more. The lock holds until the transaction has ended, so that no offset is given twice.
-- Each statement sees what was committed before it began, hence the lock comes first.
CREATE FUNCTION $.append(
    part integer, newest bigint, lowest bigint, events integer, meta bytea, body bytea, crc bigint, lock_ms integer
) RETURNS TABLE (first_offset bigint, received_us bigint) LANGUAGE plpgsql AS $body$
BEGIN
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    PERFORM set_config('lock_timeout', lock_ms::text, true);
    PERFORM pg_advisory_xact_lock((SELECT lock FROM $.cluster), 2 * part);
    IF newest IS DISTINCT FROM (SELECT max(number) FROM $.segment WHERE partition = part) THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'INSERT INTO $.%1$I (base, events, received, meta, body, crc)
         SELECT greatest((SELECT base FROM $.segment WHERE partition = $1 AND number = $2),
                         (SELECT base + events FROM $.%1$I ORDER BY base DESC LIMIT 1), $3), $4,
                greatest((SELECT received FROM $.%1$I ORDER BY base DESC LIMIT 1),
                         (extract(epoch FROM clock_timestamp()) * 1000000)::bigint), $5, $6, $7
         RETURNING base, received', 'block_' || newest)
    USING part, newest, lowest, events, meta, body, crc;
END
$body$;
