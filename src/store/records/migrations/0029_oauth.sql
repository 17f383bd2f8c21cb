-- Who logs in by a browser, with what, and what came of it.

-- Programs that registered themselves. The id follows from what they said: the same twice is one row.
CREATE TABLE oauth_clients (
    id       TEXT    NOT NULL PRIMARY KEY,
    metadata TEXT    NOT NULL,                  -- JSON
    used_at  INTEGER NOT NULL                   -- when it registered last
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_clients_by_use ON oauth_clients (used_at);

-- The devices that are logged in by OAuth. Each refresh token of one begins with a secret of the session, so that it is
-- known whose it was when it is used once more.
CREATE TABLE oauth_sessions (
    device      INTEGER PRIMARY KEY REFERENCES devices (number) ON DELETE CASCADE,
    client      TEXT    NOT NULL REFERENCES oauth_clients (id),
    family_hash BLOB    NOT NULL UNIQUE,        -- SHA-256 of that secret
    scope       TEXT    NOT NULL
) STRICT;
CREATE INDEX oauth_sessions_by_client ON oauth_sessions (client);

-- Browsers in which somebody is signed in.
CREATE TABLE browsers (
    hash         BLOB    NOT NULL PRIMARY KEY,  -- SHA-256 of what the cookie holds
    user         INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    signed_in_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX browsers_by_user ON browsers (user, signed_in_at);
