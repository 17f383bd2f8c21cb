-- Events that are told to everybody in their room for a while.
CREATE TABLE sticky_events (
    number      INTEGER PRIMARY KEY,
    room        INTEGER NOT NULL,
    sender      INTEGER NOT NULL,
    position    INTEGER NOT NULL,              -- since when they are to be told
    ends_at     INTEGER NOT NULL,
    soft_failed INTEGER NOT NULL               -- 1: not to be told, as things are
) STRICT;
CREATE INDEX sticky_events_by_position ON sticky_events (room, position);
CREATE INDEX sticky_events_by_end ON sticky_events (ends_at);

-- For how long a delayed event is to be sticky, once it is sent.
ALTER TABLE delayed_events ADD COLUMN sticky_ms INTEGER;
