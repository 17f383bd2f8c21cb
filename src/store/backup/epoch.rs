//! Begins an epoch, when the records of a backup become those of a server.
//!
//! What happened after the backup is lost here, and known elsewhere: clients and other servers were told positions that are
//! to come again, one-time keys were given out that are still there. So the log goes on far above all that, and what may have
//! become untrue is forgotten or told anew.

use rusqlite::{Connection, Transaction};

use crate::{
    base::{clock::Timestamp, ids::Position, limits},
    store::{
        OneTimeKey, StoreError,
        journal::{self, Half, Packer, Puts},
    },
};

/// Begins an epoch in the records of a state at `last`. Gives the position at which the log goes on.
pub(super) fn begin(sql: &mut Connection, last: Position, now: Timestamp) -> Result<Position, StoreError> {
    let epoch = first(last, now);
    let transaction = sql.transaction()?;
    transaction.execute("UPDATE identity SET epoch = ?1", [epoch])?;
    give_up_keys(&transaction)?;
    transaction.execute_batch(
        "-- What connections were told since is not known.
         DELETE FROM connections;
         -- A program may have renewed its tokens since. It shows what it has by a secret of its session.
         DELETE FROM tokens WHERE device IN (SELECT device FROM oauth_sessions);
         -- What others' servers told of them since then, they tell no more unasked.
         UPDATE remote_users SET stale = 1;",
    )?;
    let position = announce_devices(&transaction, epoch)?;
    transaction.execute_batch("DELETE FROM journal_0; DELETE FROM journal_1")?;
    journal::append(&transaction, &mut Packer::new()?, Half::First, position, last, &Puts::default())?;
    transaction.commit()?;
    Ok(position)
}

/// The first position of an epoch that follows a state at `last`. Two that follow the same have different ones, by the time
/// at which they begin.
fn first(last: Position, now: Timestamp) -> Position {
    let seconds = now.since(RATE_BEGINS).as_secs();
    // A clock that is out by a lifetime must not use up all positions.
    let by_time =
        seconds.checked_mul(limits::EPOCH_RATE).filter(|position| *position < limits::MAX_INTEGER / 2);
    Position((last.0 + limits::EPOCH).max(by_time.unwrap_or_default()))
}

/// One-time keys may have been given out since, and are good once; clients upload others when they hear that none is left.
/// Those that come again are refused as if they were given out here. A fallback key is good more than once: it serves those
/// who need one before its device is there again, which then replaces it, because it counts as used.
fn give_up_keys(sql: &Transaction<'_>) -> Result<(), StoreError> {
    let mut keys = sql.prepare("SELECT device, algorithm, id, key FROM one_time_keys ORDER BY number")?;
    let mut given = sql
        .prepare("INSERT OR REPLACE INTO given_keys (device, algorithm, id, hash) VALUES (?1, ?2, ?3, ?4)")?;
    let mut rows = keys.query([])?;
    while let Some(row) = rows.next()? {
        let device: i64 = row.get(0)?;
        let key = OneTimeKey { algorithm: row.get(1)?, id: row.get(2)?, key: row.get(3)? };
        given.execute((device, &key.algorithm, &key.id, key.hash()))?;
    }
    Ok(sql.execute_batch("DELETE FROM one_time_keys; UPDATE fallback_keys SET used = 1")?)
}

/// Tells everybody anew whose devices they know, at positions of this epoch. What came before each change nobody knows, so
/// that other servers ask for all of a user's devices. Gives the last of these positions.
fn announce_devices(sql: &Transaction<'_>, epoch: Position) -> Result<Position, StoreError> {
    let users = sql.execute(
        "UPDATE key_changes SET position = ?1 + place
         FROM (SELECT user AS whose, row_number() OVER (ORDER BY position) AS place FROM key_changes)
         WHERE user = whose",
        [epoch],
    )?;
    let devices = sql.execute(
        "UPDATE device_changes SET position = ?1 + place, previous = 0
         FROM (SELECT user AS whose, device AS which, row_number() OVER (ORDER BY position) AS place FROM device_changes)
         WHERE user = whose AND device = which",
        [Position(epoch.0 + users as u64)],
    )?;
    Ok(Position(epoch.0 + users as u64 + devices as u64))
}

/// From here on time makes positions: 2026 begins.
const RATE_BEGINS: Timestamp = Timestamp(1_767_225_600_000);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn epochs_that_follow_from_one_state_are_apart() {
        let (last, now) = (Position(1_000), RATE_BEGINS.plus(Duration::from_secs(86_400 * 365)));
        let one = first(last, now);
        let other = first(last, now.plus(Duration::from_secs(1)));
        assert!(one.0 >= last.0 + limits::EPOCH && other.0 - one.0 == limits::EPOCH_RATE);
        let next = first(Position(other.0 + 1_000), now.plus(Duration::from_secs(60)));
        assert_eq!(next.0, other.0 + 1_000 + limits::EPOCH, "a clock that stands still is no harm");
        for astray in [Timestamp(0), Timestamp(limits::MAX_INTEGER)] {
            assert_eq!(first(last, astray).0, last.0 + limits::EPOCH);
        }
    }
}
