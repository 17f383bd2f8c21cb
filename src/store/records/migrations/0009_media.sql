-- The content repository: what mxc:// URIs name. The files lie beside the database, each under the hash of its content.

-- AUTOINCREMENT: who waits for an upload never wakes for another one.
CREATE TABLE media (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    origin       TEXT    NOT NULL,             -- server name
    id           TEXT    NOT NULL,
    uploader     INTEGER REFERENCES users (number), -- NULL: of another server
    hash         BLOB,                         -- BLAKE3 of the content; NULL: not uploaded yet
    size         INTEGER NOT NULL DEFAULT 0,   -- bytes
    content_type TEXT,
    file_name    TEXT,
    unguarded    INTEGER NOT NULL DEFAULT 0,   -- was uploaded when downloads needed no access token
    created_at   INTEGER NOT NULL,             -- of the row; an upload may come later
    expires_at   INTEGER,                      -- what is not uploaded by then is forgotten; NULL: uploaded
    UNIQUE (origin, id)
) STRICT;
CREATE INDEX media_by_hash ON media (hash) WHERE hash NOT NULL;
CREATE INDEX media_by_uploader ON media (uploader, expires_at, size);
