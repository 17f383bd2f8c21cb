-- Where devices want to be notified: by which gateway, and how that knows them.
CREATE TABLE pushers (
    number              INTEGER PRIMARY KEY AUTOINCREMENT,
    user                INTEGER NOT NULL,
    device              INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    app_id              TEXT    NOT NULL,
    pushkey             TEXT    NOT NULL,
    url                 TEXT    NOT NULL,
    data                TEXT    NOT NULL,      -- JSON: what else the gateway is told with each notification
    app_display_name    TEXT    NOT NULL,
    device_display_name TEXT    NOT NULL,
    profile_tag         TEXT,
    lang                TEXT    NOT NULL,
    set_at              INTEGER NOT NULL,      -- a time
    since               INTEGER NOT NULL,      -- a position: nothing before it is told
    behind              INTEGER,               -- up to where all is told; NULL: as far as below
    UNIQUE (user, app_id, pushkey)
) STRICT;
CREATE INDEX pushers_by_device ON pushers (device);
CREATE INDEX pushers_by_key ON pushers (app_id, pushkey);

-- How far the log was told by all pushers that are not behind.
CREATE TABLE pushed (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    position INTEGER NOT NULL
) STRICT;
