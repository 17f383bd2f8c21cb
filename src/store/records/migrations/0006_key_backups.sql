-- Backups of room keys, encrypted by the clients.
CREATE TABLE key_backups (
    number    INTEGER PRIMARY KEY,
    user      INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    version   INTEGER NOT NULL,
    algorithm TEXT    NOT NULL,
    auth_data TEXT    NOT NULL,                -- JSON
    count     INTEGER NOT NULL DEFAULT 0,      -- of its keys
    bytes     INTEGER NOT NULL DEFAULT 0,      -- of its keys
    etag      INTEGER NOT NULL DEFAULT 0,      -- of its keys: counts their changes
    UNIQUE (user, version)
) STRICT;

-- A user's versions count up from 1. What is not above this and has no backup was deleted.
CREATE TABLE key_backup_versions (
    user INTEGER NOT NULL PRIMARY KEY REFERENCES users (number) ON DELETE CASCADE,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE backed_up_keys (
    backup     INTEGER NOT NULL REFERENCES key_backups (number) ON DELETE CASCADE,
    room_id    TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    data       TEXT    NOT NULL,               -- JSON
    UNIQUE (backup, room_id, session_id)
) STRICT;
