-- The people of this server and what is theirs. A user's number is the one by which rooms know them, too.

CREATE TABLE users (
    number         INTEGER PRIMARY KEY,
    localpart      TEXT    NOT NULL UNIQUE,
    password_hash  TEXT,                       -- PHC string; NULL: no log-in by password
    admin          INTEGER NOT NULL,
    locked         INTEGER NOT NULL DEFAULT 0,
    suspended      INTEGER NOT NULL DEFAULT 0,
    erased         INTEGER NOT NULL DEFAULT 0, -- who joins later sees this user's events redacted
    created_at     INTEGER NOT NULL,
    deactivated_at INTEGER                     -- the name is never given out again
) STRICT;

-- AUTOINCREMENT: a device that is deleted and comes back under the same id has another number.
CREATE TABLE devices (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    user         INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    id           TEXT    NOT NULL,
    display_name TEXT,
    last_seen_at INTEGER NOT NULL,
    UNIQUE (user, id)
) STRICT;

-- Access tokens, each with the refresh token that was given out beside it, if any. Only hashes (SHA-256) are stored.
CREATE TABLE tokens (
    access_hash  BLOB    NOT NULL PRIMARY KEY,
    refresh_hash BLOB    UNIQUE,
    device       INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    expires_at   INTEGER,                      -- of the access token; NULL: never
    fresh        INTEGER NOT NULL              -- came by a refresh and neither of the two was used yet
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_device ON tokens (device);

CREATE TABLE registration_tokens (
    token        TEXT    NOT NULL PRIMARY KEY,
    uses_allowed INTEGER,                      -- NULL: any number
    uses         INTEGER NOT NULL DEFAULT 0,
    expires_at   INTEGER,                      -- NULL: never
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE profiles (
    user  INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    field TEXT    NOT NULL,
    value TEXT    NOT NULL,                    -- JSON
    PRIMARY KEY (user, field)
) STRICT, WITHOUT ROWID;

CREATE TABLE account_data (
    user     INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    room_id  TEXT    NOT NULL,                 -- empty: of the account
    type     TEXT    NOT NULL,
    content  TEXT    NOT NULL,                 -- JSON
    position INTEGER NOT NULL,
    PRIMARY KEY (user, room_id, type)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_data_by_position ON account_data (user, position);

-- A filter's id follows from its content: the same filter twice is one row.
CREATE TABLE filters (
    user       INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    id         TEXT    NOT NULL,
    definition TEXT    NOT NULL,               -- JSON
    PRIMARY KEY (user, id)
) STRICT, WITHOUT ROWID;
