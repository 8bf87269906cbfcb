CREATE TABLE IF NOT EXISTS cohort (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created REAL NOT NULL,  -- Unix seconds, as told to Braze
    synced REAL NOT NULL,   -- Unix seconds of the last change
    task TEXT NOT NULL      -- what that change belonged to
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (
    cohort TEXT NOT NULL,
    kind TEXT NOT NULL,     -- external_id, device_id or alias:LABEL
    id TEXT NOT NULL,
    offset INTEGER NOT NULL, -- of the last event that had the user in
    PRIMARY KEY (cohort, kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part (  -- of syncs that name every member and are not complete yet
    cohort TEXT NOT NULL,
    task TEXT NOT NULL,
    page INTEGER NOT NULL,
    part INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (cohort, task, page, part)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS target (  -- which Braze was told of a cohort, and in what way
    cohort TEXT PRIMARY KEY,
    target TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (  -- of a change that is not through yet: whom Braze was told of
    cohort TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    offset INTEGER NOT NULL, -- of the change
    PRIMARY KEY (cohort, kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asked (  -- whom a request without an answer, so far or for good, may have added
    cohort TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (cohort, kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slug (  -- part of the name of an attribute; a rename does not change it
    cohort TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS left_out (  -- users whom Braze cannot find by the kind of their id
    cohort TEXT PRIMARY KEY,
    users INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS error (  -- what Braze did not take in answers that otherwise succeeded
    cohort TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    last TEXT NOT NULL
) WITHOUT ROWID;
