-- Events of other servers whose parents are not known yet, in the order in which they came.
CREATE TABLE waiting_events (
    number   INTEGER PRIMARY KEY,
    room     INTEGER NOT NULL,
    event_id TEXT    NOT NULL,
    origin   TEXT    NOT NULL,                 -- the server that brought it
    json     TEXT    NOT NULL,                 -- as it brought it
    tries    INTEGER NOT NULL DEFAULT 0,       -- how often its parents were not to be had
    try_at   INTEGER NOT NULL,                 -- when they are asked for next
    UNIQUE (room, event_id)
) STRICT;
