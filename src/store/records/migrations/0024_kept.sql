-- What redactions took effect on, the oldest first: the content goes for good some time later. An event may come twice.
CREATE TABLE redacted (
    at    INTEGER NOT NULL,                    -- when the redaction took effect
    event INTEGER NOT NULL,                    -- its number
    PRIMARY KEY (at, event)
) STRICT, WITHOUT ROWID;
-- What was redacted before there was this table.
INSERT INTO tasks (kind, subject, step) SELECT 'note-redacted', 0, 0 FROM identity;

-- What all media of other servers have, in bytes, so that nobody has to add it up.
CREATE TABLE media_of_others_size (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO media_of_others_size (only, bytes) SELECT 1, coalesce(sum(size), 0) FROM media WHERE uploader IS NULL;
CREATE TRIGGER media_of_others_inserted AFTER INSERT ON media WHEN new.uploader IS NULL BEGIN
    UPDATE media_of_others_size SET bytes = bytes + new.size;
END;
CREATE TRIGGER media_of_others_updated AFTER UPDATE OF size ON media WHEN new.uploader IS NULL BEGIN
    UPDATE media_of_others_size SET bytes = bytes - old.size + new.size;
END;
CREATE TRIGGER media_of_others_deleted AFTER DELETE ON media WHEN old.uploader IS NULL BEGIN
    UPDATE media_of_others_size SET bytes = bytes - old.size;
END;
