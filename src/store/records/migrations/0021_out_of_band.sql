-- What users of this server are to rooms that it is not in, by invitation or because they asked to be let in.
CREATE TABLE out_of_band (
    user   INTEGER NOT NULL,
    room   INTEGER NOT NULL,
    server TEXT,                               -- by which it came to be so; NULL: it is over
    state  TEXT    NOT NULL,                    -- JSON; stripped state events
    PRIMARY KEY (user, room)
) STRICT, WITHOUT ROWID;

-- Rooms of other servers whose state is stored, and of which nothing but that is known yet.
CREATE TABLE loads (
    room  INTEGER PRIMARY KEY,
    root  BLOB    NOT NULL,                    -- of the state before the join
    event TEXT    NOT NULL                     -- the join
) STRICT;
