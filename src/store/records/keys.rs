//! Keys of devices and users, as they published them, and the signatures that connect them. What is put here was
//! verified before. <https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption>

use rusqlite::OptionalExtension;

use crate::{
    base::{
        ids::{DeviceNumber, Position, UserNumber},
        limits,
    },
    store::{StoreError, Topic, Transaction, View, events::Membership},
};

/// A device that published its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKeys {
    pub device_id: String,
    pub display_name: Option<String>,
    /// A JSON object with the device's own signature.
    pub keys: String,
}

/// A one-time key or a fallback key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneTimeKey {
    pub algorithm: String,
    /// Without the algorithm.
    pub id: String,
    /// JSON: a text, or an object with the device's signature.
    pub key: String,
}

/// A user's key of one usage: `master`, `self_signing` or `user_signing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossSigningKey {
    pub usage: String,
    /// The public key.
    pub id: String,
    /// A JSON object with the signatures that it came with.
    pub key: String,
}

/// A signature that was added to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySignature {
    /// What is signed: a device id, or a master key's public key.
    pub key: String,
    /// Algorithm and id of the key that signed.
    pub signing_id: String,
    pub signature: String,
}

impl OneTimeKey {
    pub(in crate::store) fn hash(&self) -> [u8; 32] {
        *blake3::hash(self.key.as_bytes()).as_bytes()
    }
}

impl View<'_> {
    /// The keys of one device, a JSON object.
    pub fn keys_of_device(&self, device: DeviceNumber) -> Result<Option<String>, StoreError> {
        let sql = "SELECT keys FROM device_keys WHERE device = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([device], |row| row.get(0)).optional()?)
    }

    /// The keys of all devices of a user.
    pub fn keys_of_devices(&self, user: UserNumber) -> Result<Vec<DeviceKeys>, StoreError> {
        let sql = "SELECT id, display_name, keys FROM devices JOIN device_keys ON device = number
                   WHERE user = ?1 ORDER BY number";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map([user], |row| {
            Ok(DeviceKeys { device_id: row.get(0)?, display_name: row.get(1)?, keys: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A one-time key that was not given out yet.
    pub fn one_time_key(
        &self,
        device: DeviceNumber,
        algorithm: &str,
        id: &str,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT key FROM one_time_keys WHERE device = ?1 AND algorithm = ?2 AND id = ?3";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_row((device, algorithm, id), |row| row.get(0)).optional()?)
    }

    /// Whether a device's one-time key was given out lately: a client that didn't hear that its upload was taken sends
    /// it again.
    pub fn has_given(&self, device: DeviceNumber, key: &OneTimeKey) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM given_keys
                   WHERE device = ?1 AND algorithm = ?2 AND id = ?3 AND hash = ?4)";
        let row = (device, &key.algorithm, &key.id, key.hash());
        Ok(self.sql().prepare_cached(sql)?.query_row(row, |row| row.get(0))?)
    }

    /// How many one-time keys of each algorithm a device has left.
    pub fn one_time_key_counts(&self, device: DeviceNumber) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT algorithm, count(*) FROM one_time_keys WHERE device = ?1 GROUP BY algorithm";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map([device], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The algorithms of a device's fallback keys that were not given out yet.
    pub fn unused_fallback_keys(&self, device: DeviceNumber) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT algorithm FROM fallback_keys WHERE device = ?1 AND NOT used";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([device], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// A user's cross-signing keys.
    pub fn cross_signing_keys(&self, user: UserNumber) -> Result<Vec<CrossSigningKey>, StoreError> {
        let sql = "SELECT usage, id, key FROM cross_signing_keys WHERE user = ?1";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map([user], |row| {
            Ok(CrossSigningKey { usage: row.get(0)?, id: row.get(1)?, key: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The signatures that `signer` added to keys of `user`.
    pub fn key_signatures(
        &self,
        user: UserNumber,
        signer: UserNumber,
    ) -> Result<Vec<KeySignature>, StoreError> {
        let sql = "SELECT key, signing_id, signature FROM key_signatures WHERE user = ?1 AND signer = ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        let rows = statement.query_map((user, signer), |row| {
            Ok(KeySignature { key: row.get(0)?, signing_id: row.get(1)?, signature: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The users of whose keys something changed that everybody may see, after `since`.
    pub fn key_changes_since(&self, since: Position) -> Result<Vec<UserNumber>, StoreError> {
        let sql = "SELECT user FROM key_changes WHERE position > ?1";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([since], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// When something changed last of a user's keys that everybody may see; none if they never had any.
    pub fn keys_changed_at(&self, user: UserNumber) -> Result<Option<Position>, StoreError> {
        let sql = "SELECT position FROM key_changes WHERE user = ?1";
        Ok(self.sql().prepare_cached(sql)?.query_row([user], |row| row.get(0)).optional()?)
    }

    /// The users of whom `signer` signed keys after `since`.
    pub fn signed_since(&self, signer: UserNumber, since: Position) -> Result<Vec<UserNumber>, StoreError> {
        let sql = "SELECT DISTINCT user FROM key_signatures WHERE signer = ?1 AND position > ?2";
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map((signer, since), |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

impl Transaction<'_> {
    /// Sets the keys of a device. What was signed on other ones goes.
    pub fn set_device_keys(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        id: &str,
        keys: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO device_keys (device, keys) VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET keys = excluded.keys";
        self.sql().prepare_cached(sql)?.execute((device, keys))?;
        let sql = "DELETE FROM key_signatures WHERE user = ?1 AND key = ?2";
        self.sql().prepare_cached(sql)?.execute((user, id))?;
        Ok(())
    }

    /// Removes all that a device has signed, because it signs with another key from now on.
    pub fn remove_signed_by_device(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        id: &str,
    ) -> Result<(), StoreError> {
        self.remove_device_keys(user, device, id)?;
        for sql in [
            "DELETE FROM one_time_keys WHERE device = ?1",
            "DELETE FROM given_keys WHERE device = ?1",
            "DELETE FROM fallback_keys WHERE device = ?1",
        ] {
            self.sql().prepare_cached(sql)?.execute([device])?;
        }
        Ok(())
    }

    /// Adds a one-time key behind those that a device has.
    pub fn add_one_time_key(&mut self, device: DeviceNumber, key: &OneTimeKey) -> Result<(), StoreError> {
        let sql = "INSERT INTO one_time_keys (device, algorithm, id, key) VALUES (?1, ?2, ?3, ?4)";
        self.sql().prepare_cached(sql)?.execute((device, &key.algorithm, &key.id, &key.key))?;
        Ok(())
    }

    /// Sets a device's fallback key of an algorithm. The same key again stays used if it was.
    pub fn set_fallback_key(&mut self, device: DeviceNumber, key: &OneTimeKey) -> Result<(), StoreError> {
        let sql = "INSERT INTO fallback_keys (device, algorithm, id, key, used) VALUES (?1, ?2, ?3, ?4, 0)
                   ON CONFLICT DO UPDATE SET id = excluded.id, key = excluded.key, used = 0
                   WHERE (id, key) <> (excluded.id, excluded.key)";
        self.sql().prepare_cached(sql)?.execute((device, &key.algorithm, &key.id, &key.key))?;
        Ok(())
    }

    /// Takes the oldest one-time key of a device to give it out, or its fallback key where none is left.
    pub fn claim_one_time_key(
        &mut self,
        device: DeviceNumber,
        algorithm: &str,
    ) -> Result<Option<OneTimeKey>, StoreError> {
        let oldest = "SELECT id, key, number FROM one_time_keys WHERE device = ?1 AND algorithm = ?2
                      ORDER BY number LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(OneTimeKey { algorithm: algorithm.to_owned(), id: row.get(0)?, key: row.get(1)? })
        };
        let mut statement = self.sql().prepare_cached(oldest)?;
        let key = statement.query_row((device, algorithm), |row| Ok((read(row)?, row.get::<_, i64>(2)?)));
        let key = key.optional()?;
        drop(statement);
        if let Some((key, number)) = key {
            let sql = "DELETE FROM one_time_keys WHERE number = ?1";
            self.sql().prepare_cached(sql)?.execute([number])?;
            self.add_given(device, &key)?;
            return Ok(Some(key));
        }
        let fallback = "UPDATE fallback_keys SET used = 1 WHERE device = ?1 AND algorithm = ?2
                        RETURNING id, key";
        Ok(self.sql().prepare_cached(fallback)?.query_row((device, algorithm), read).optional()?)
    }

    /// Notes that a key was given out, and forgets the oldest such notes.
    fn add_given(&mut self, device: DeviceNumber, key: &OneTimeKey) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO given_keys (device, algorithm, id, hash) VALUES (?1, ?2, ?3, ?4)";
        self.sql().prepare_cached(sql)?.execute((device, &key.algorithm, &key.id, key.hash()))?;
        let sql = "DELETE FROM given_keys WHERE device = ?1 AND number <=
                   (SELECT number FROM given_keys WHERE device = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
        self.sql().prepare_cached(sql)?.execute((device, limits::GIVEN_KEYS as i64))?;
        Ok(())
    }

    /// Sets a user's key of one usage. What another one before it signed, and what was signed on that, goes with it.
    pub fn set_cross_signing_key(
        &mut self,
        user: UserNumber,
        key: &CrossSigningKey,
    ) -> Result<(), StoreError> {
        let known = self.cross_signing_keys(user)?;
        if known.iter().any(|known| known.usage == key.usage && known.id != key.id) {
            self.remove_cross_signing_key(user, &key.usage)?;
        }
        let sql = "INSERT INTO cross_signing_keys (user, usage, id, key) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT DO UPDATE SET key = excluded.key";
        self.sql().prepare_cached(sql)?.execute((user, &key.usage, &key.id, &key.key))?;
        Ok(())
    }

    /// Removes a user's key of one usage, with what it signed and what was signed on it.
    pub fn remove_cross_signing_key(&mut self, user: UserNumber, usage: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM cross_signing_keys WHERE user = ?1 AND usage = ?2 RETURNING id";
        let id = self.sql().prepare_cached(sql)?.query_row((user, usage), |row| row.get::<_, String>(0));
        match id.optional()? {
            Some(id) => self.remove_key_signatures(user, &id),
            None => Ok(()),
        }
    }

    /// Adds a signature to a key of `user`, at a position of its own; returns whether it was not there before.
    pub fn add_key_signature(
        &mut self,
        user: UserNumber,
        signer: UserNumber,
        signature: &KeySignature,
    ) -> Result<bool, StoreError> {
        let position = self.next_position();
        let sql = "INSERT INTO key_signatures (user, key, signer, signing_id, signature, position)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT DO UPDATE SET signature = excluded.signature, position = excluded.position
                   WHERE signature <> excluded.signature";
        let KeySignature { key, signing_id, signature } = signature;
        let row = (user, key, signer, signing_id, signature, position);
        Ok(self.sql().prepare_cached(sql)?.execute(row)? > 0)
    }

    /// Notes that others see other keys of a user now, and wakes everybody who shares a room with them.
    pub fn change_keys(&mut self, user: UserNumber) -> Result<(), StoreError> {
        let position = self.next_position();
        let sql = "INSERT INTO key_changes (user, position) VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET position = excluded.position";
        self.sql().prepare_cached(sql)?.execute((user, position))?;
        let mut topics = vec![Topic::User(user)];
        for stay in self.stays(user) {
            let (room, stay) = stay?;
            if stay.membership == Membership::Join {
                topics.extend([Topic::Room(room), Topic::Devices(room)]);
            }
        }
        topics.into_iter().for_each(|topic| self.touch(topic));
        Ok(())
    }

    /// Removes what a device that goes has published; returns whether there was anything that others saw.
    pub(super) fn remove_device_keys(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        id: &str,
    ) -> Result<bool, StoreError> {
        let sql = "DELETE FROM device_keys WHERE device = ?1";
        let had_keys = self.sql().prepare_cached(sql)?.execute([device])? > 0;
        self.remove_key_signatures(user, id)?;
        Ok(had_keys)
    }

    /// Removes the signatures on a key and those that it made.
    fn remove_key_signatures(&mut self, user: UserNumber, id: &str) -> Result<(), StoreError> {
        let on = "DELETE FROM key_signatures WHERE user = ?1 AND key = ?2";
        self.sql().prepare_cached(on)?.execute((user, id))?;
        let by = "DELETE FROM key_signatures WHERE signer = ?1 AND signing_id = 'ed25519:' || ?2";
        self.sql().prepare_cached(by)?.execute((user, id))?;
        Ok(())
    }
}
