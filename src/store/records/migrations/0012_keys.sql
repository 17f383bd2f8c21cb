-- One-time keys that were given out, the newest of each device: one that comes again is not given out again.
CREATE TABLE given_keys (
    number    INTEGER PRIMARY KEY,
    device    INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    algorithm TEXT    NOT NULL,
    id        TEXT    NOT NULL,                -- without the algorithm
    hash      BLOB    NOT NULL,                -- BLAKE3 of the key
    UNIQUE (device, algorithm, id)
) STRICT;
CREATE INDEX given_keys_in_order ON given_keys (device, number);

-- What waits for each device is counted, so that whoever sends most of it makes room for the others.
ALTER TABLE devices ADD COLUMN waiting_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE devices SET waiting_bytes =
    (SELECT coalesce(sum(100 + octet_length(sender) + octet_length(type) + octet_length(content)), 0)
     FROM to_device WHERE device = devices.number);
ALTER TABLE to_device DROP COLUMN ends_at;

-- What devices signed on a master key goes with them, however it came.
INSERT OR IGNORE INTO key_signatures (user, key, signer, signing_id, signature, position)
SELECT signed.user, signed.id, signed.user, made.key, made.value, 0
FROM cross_signing_keys AS signed, json_each(signed.key, '$.signatures') AS by_user,
     json_each(by_user.value) AS made, devices, device_keys
WHERE signed.usage = 'master' AND devices.user = signed.user AND made.key = 'ed25519:' || devices.id
  AND device_keys.device = devices.number;
UPDATE cross_signing_keys SET key = json_remove(key, '$.signatures') WHERE usage = 'master';
