-- What waits for devices until they have it. A message's number is its position.
CREATE TABLE to_device (
    position INTEGER PRIMARY KEY,
    device   INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    sender   TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    content  TEXT    NOT NULL,                 -- JSON
    ends_at  INTEGER NOT NULL                  -- bytes of the device's queue up to this message's end
) STRICT;
CREATE INDEX to_device_by_device ON to_device (device);

-- Requests to send such messages that were answered, by the device that made them.
CREATE TABLE to_device_transactions (
    device   INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    type     TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (device, type, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX to_device_transactions_by_position ON to_device_transactions (device, position);
