-- What the engine itself keeps: its identity, and the newest writes to rooms.

CREATE TABLE identity (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    database_id BLOB NOT NULL CHECK (length(database_id) = 16),
    epoch       INTEGER NOT NULL,
    -- Keys the hashes under which states and ids are found, so that nobody can make two collide.
    secret      BLOB NOT NULL CHECK (length(secret) = 32)
) STRICT;

-- The journal: one row a group of jobs, in two tables that take turns. The newest row of both is the counter of
-- positions and is never pruned.
CREATE TABLE journal_0 (
    position INTEGER PRIMARY KEY,
    previous INTEGER NOT NULL,
    puts     BLOB NOT NULL
) STRICT;

CREATE TABLE journal_1 (
    position INTEGER PRIMARY KEY,
    previous INTEGER NOT NULL,
    puts     BLOB NOT NULL
) STRICT;
