-- Events that are to be sent later, and for a while what became of them.
CREATE TABLE delayed_events (
    number         INTEGER PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,    -- whoever knows it may manage the event
    user           INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    device         INTEGER NOT NULL,           -- which may be gone when the event is sent
    transaction_id TEXT,
    room_id        TEXT    NOT NULL,
    type           TEXT    NOT NULL,
    state_key      TEXT,                       -- NULL: no state event
    content        TEXT    NOT NULL,           -- JSON
    delay_ms       INTEGER NOT NULL,
    since          INTEGER NOT NULL,           -- when it was scheduled, or restarted last
    due            INTEGER,                    -- NULL: it has ended
    ended_at       INTEGER,
    event_id       TEXT,                       -- NULL: it was not sent
    error          TEXT,                       -- why not, JSON; NULL: somebody cancelled it
    UNIQUE (device, room_id, transaction_id)
) STRICT;
CREATE INDEX delayed_events_by_due ON delayed_events (due) WHERE due NOT NULL;
CREATE INDEX delayed_events_by_user ON delayed_events (user, due);
CREATE INDEX delayed_events_by_end ON delayed_events (ended_at) WHERE ended_at NOT NULL;

-- Which threads users follow.
CREATE TABLE thread_subscriptions (
    user     INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    room     INTEGER NOT NULL,
    thread   INTEGER NOT NULL,                 -- the number of its root
    kind     INTEGER NOT NULL,                 -- 0: ended, 1: automatic, 2: manual
    position INTEGER NOT NULL,
    PRIMARY KEY (user, room, thread)
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_subscriptions_by_position ON thread_subscriptions (user, position);

-- What users reported, for the operator. AUTOINCREMENT: a report that is dealt with leaves its number unused.
CREATE TABLE reports (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    by       INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    room_id  TEXT,
    event_id TEXT,
    user_id  TEXT,                             -- who is reported, or sent the event
    reason   TEXT    NOT NULL
) STRICT;
CREATE INDEX reports_by_user ON reports (by, number);

-- Of each user's devices the one that nobody is logged in with.
CREATE TABLE dehydrated_devices (
    user   INTEGER PRIMARY KEY REFERENCES users (number) ON DELETE CASCADE,
    device INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    data   TEXT    NOT NULL                    -- JSON
) STRICT;
CREATE INDEX dehydrated_devices_by_device ON dehydrated_devices (device);
