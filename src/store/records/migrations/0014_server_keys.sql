-- The keys of other servers that are or were anything to a room, so many of each. What one does not list any more stays: old events are checked by it.
CREATE TABLE server_keys (
    server      TEXT    NOT NULL,
    id          TEXT    NOT NULL,              -- algorithm and version
    key         BLOB    NOT NULL,
    valid_until INTEGER NOT NULL,
    expired_at  INTEGER,                       -- NULL: the server has not given it up
    PRIMARY KEY (server, id)
) STRICT, WITHOUT ROWID;
