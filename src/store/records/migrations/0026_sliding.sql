-- What connections of sliding sync were told, as it was when they were not in use.
CREATE TABLE connections (
    device INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    name   TEXT    NOT NULL,
    state  BLOB    NOT NULL,
    UNIQUE (device, name)
) STRICT;
