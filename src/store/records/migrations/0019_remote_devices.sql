-- Users of other servers whose keys are kept, because they share a room with somebody here. What is kept is as the user's server told it.
CREATE TABLE remote_users (
    user         INTEGER NOT NULL PRIMARY KEY,
    position     INTEGER NOT NULL,             -- of the last change of any of it
    stream_id    INTEGER,                      -- the server's number for it; NULL: it told none
    stale        INTEGER NOT NULL,             -- whether it is to be had anew
    master       TEXT,                         -- JSON
    self_signing TEXT                          -- JSON
) STRICT;
CREATE INDEX remote_users_stale ON remote_users (user) WHERE stale;

-- Their devices that have keys.
CREATE TABLE remote_devices (
    user         INTEGER NOT NULL REFERENCES remote_users (user) ON DELETE CASCADE,
    id           TEXT    NOT NULL,
    display_name TEXT,
    keys         TEXT    NOT NULL,             -- JSON
    PRIMARY KEY (user, id)
) STRICT, WITHOUT ROWID;

-- Messages to devices that other servers sent, the newest of each server: one that comes again is not delivered again.
CREATE TABLE received_to_device (
    origin   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (origin, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX received_to_device_by_position ON received_to_device (origin, position);
