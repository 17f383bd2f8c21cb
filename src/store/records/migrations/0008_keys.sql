-- What devices and users publish so that others encrypt to them and trust them. Every key is JSON, as it was signed.

CREATE TABLE device_keys (
    device INTEGER NOT NULL PRIMARY KEY REFERENCES devices (number) ON DELETE CASCADE,
    keys   TEXT    NOT NULL
) STRICT;

-- Each is given out once, in the order of upload.
CREATE TABLE one_time_keys (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    device    INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    algorithm TEXT    NOT NULL,
    id        TEXT    NOT NULL,                -- without the algorithm
    key       TEXT    NOT NULL,
    UNIQUE (device, algorithm, id)
) STRICT;
CREATE INDEX one_time_keys_in_order ON one_time_keys (device, algorithm, number);

-- What is given out where no one-time key is left.
CREATE TABLE fallback_keys (
    device    INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    algorithm TEXT    NOT NULL,
    id        TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    used      INTEGER NOT NULL,
    PRIMARY KEY (device, algorithm)
) STRICT, WITHOUT ROWID;

CREATE TABLE cross_signing_keys (
    user  INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    usage TEXT    NOT NULL,                    -- master, self_signing or user_signing
    id    TEXT    NOT NULL,                    -- the public key
    key   TEXT    NOT NULL,
    PRIMARY KEY (user, usage)
) STRICT, WITHOUT ROWID;

-- Signatures that were added to keys later.
CREATE TABLE key_signatures (
    user       INTEGER NOT NULL,               -- whose key is signed
    key        TEXT    NOT NULL,               -- a device id, or a master key's public key
    signer     INTEGER NOT NULL REFERENCES users (number) ON DELETE CASCADE,
    signing_id TEXT    NOT NULL,               -- algorithm and id of the key that signed
    signature  TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (user, key, signer, signing_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_signatures_by_signer ON key_signatures (signer, position);

-- When what everybody may see of a user's keys changed last.
CREATE TABLE key_changes (
    user     INTEGER NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;
CREATE INDEX key_changes_by_position ON key_changes (position);
