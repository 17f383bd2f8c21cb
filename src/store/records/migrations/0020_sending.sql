-- What goes out to other servers.

-- How far the log was sent to all servers but those that lack something of it, and when that was noted.
CREATE TABLE sending (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    position INTEGER NOT NULL,
    noted_at INTEGER NOT NULL
) STRICT;

-- Servers that lack something, or that could not be reached.
CREATE TABLE destinations (
    server        TEXT    PRIMARY KEY,
    behind_since  INTEGER,                     -- a position: what followed it may lack; NULL: nothing of the log
    failures      INTEGER NOT NULL DEFAULT 0,  -- one after another
    next_try      INTEGER NOT NULL DEFAULT 0,  -- a time
    waiting_bytes INTEGER NOT NULL DEFAULT 0   -- of the messages below
) STRICT, WITHOUT ROWID;

-- Messages to devices of other servers' users, until their server has them.
CREATE TABLE outgoing_to_device (
    position INTEGER PRIMARY KEY,
    server   TEXT    NOT NULL,
    sender   TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    messages TEXT    NOT NULL                  -- JSON: contents by user and device
) STRICT;
CREATE INDEX outgoing_to_device_by_server ON outgoing_to_device (server, position);

-- The last change of each device that others saw, and of a user's cross-signing keys, as the device that has no name. Each
-- names the change of one of the user's devices before it.
CREATE TABLE device_changes (
    user     INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    device   TEXT    NOT NULL,
    position INTEGER NOT NULL,
    previous INTEGER,                          -- NULL: there was none
    PRIMARY KEY (user, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_changes_by_position ON device_changes (position);

-- What was before nobody was told, so that nobody knows what came before it.
INSERT INTO device_changes
SELECT devices.user, devices.id, key_changes.position, 0
FROM devices JOIN device_keys ON device_keys.device = devices.number
     JOIN key_changes ON key_changes.user = devices.user;
