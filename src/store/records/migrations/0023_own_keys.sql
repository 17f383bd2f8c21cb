-- The keys by which this server signs, and did, in the order in which they came to it: the last one that is not given up is the one.
CREATE TABLE own_keys (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,         -- algorithm and version
    key        BLOB    NOT NULL,                -- the public one
    expired_at INTEGER                          -- NULL: it is not given up
) STRICT;
