-- The keys of other servers. What one does not list any more stays: old events are checked by it.
CREATE TABLE server_keys (
    server      TEXT    NOT NULL,
    id          TEXT    NOT NULL,              -- algorithm and version
    key         BLOB    NOT NULL,
    valid_until INTEGER NOT NULL,
    expired_at  INTEGER,                       -- NULL: the server has not given it up
    PRIMARY KEY (server, id)
) STRICT, WITHOUT ROWID;
