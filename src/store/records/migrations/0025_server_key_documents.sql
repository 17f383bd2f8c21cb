-- What other servers said last of their keys, as they signed it: of those that are or were anything to a room.
CREATE TABLE server_key_documents (
    server      TEXT    PRIMARY KEY,
    document    TEXT    NOT NULL,
    valid_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
