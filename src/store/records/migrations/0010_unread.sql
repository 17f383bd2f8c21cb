-- How far people have read, and what is new to the people of this server.

CREATE TABLE receipts (
    room     INTEGER NOT NULL,
    user     INTEGER NOT NULL,
    type     TEXT    NOT NULL,                 -- m.read or m.read.private
    thread   TEXT    NOT NULL,                 -- a thread's root, or main; empty: whatever the thread
    event_id TEXT    NOT NULL,
    anchor   INTEGER NOT NULL,                 -- where the event stands in the room's timeline
    sent_at  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (room, user, type, thread)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_position ON receipts (position);

-- Counts of what push rules notify of, up to a position; what came later is counted when it is asked for.
CREATE TABLE unread (
    user    INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    room    INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    PRIMARY KEY (user, room)
) STRICT, WITHOUT ROWID;
CREATE TABLE unread_counts (
    user          INTEGER NOT NULL,
    room          INTEGER NOT NULL,
    thread        TEXT    NOT NULL,
    notifications INTEGER NOT NULL,
    highlights    INTEGER NOT NULL,
    PRIMARY KEY (user, room, thread),
    FOREIGN KEY (user, room) REFERENCES unread (user, room) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
