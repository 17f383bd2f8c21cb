-- Who and what can be found by those who don't know it.

-- The words by which a user is found, folded: those of the name and of the user id's localpart. With an equals sign
-- before it, a whole name or localpart.
CREATE TABLE user_words (
    word TEXT    NOT NULL,
    user INTEGER NOT NULL,
    PRIMARY KEY (word, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_words_by_user ON user_words (user, word);

-- The rooms that are published or open to everybody, as they are now.
CREATE TABLE listed_rooms (
    room      INTEGER PRIMARY KEY,
    published INTEGER NOT NULL,                -- in the room directory
    open      INTEGER NOT NULL,                -- everybody may join or read it
    joined    INTEGER NOT NULL,                -- users
    type      TEXT,                            -- NULL: none
    text      TEXT    NOT NULL,                -- folded; what a search looks through
    listing   TEXT    NOT NULL                 -- JSON; what is told of it
) STRICT;
CREATE INDEX published_rooms ON listed_rooms (joined, room) WHERE published;
CREATE INDEX open_rooms ON listed_rooms (joined, room) WHERE open;

-- What was there before comes in step by step.
INSERT INTO tasks SELECT kind, 0, 0 FROM (SELECT 'list-users' AS kind UNION SELECT 'list-rooms')
WHERE EXISTS (SELECT 1 FROM users);
