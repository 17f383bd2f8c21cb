//! Connections outlive the server: they are written down when it ends, and now and then those that nobody used for a while.
//! A request for one that isn't in memory looks for it there. Nothing depends on it: a client whose position is unknown
//! begins anew.

use std::sync::Arc;

use super::connection::{Changed, Choice, Pos, Told, ToldRoom, ToldRooms};
use crate::{
    base::{
        ids::{DeviceNumber, Position, RoomNumber, UserNumber},
        limits,
    },
    service::App,
    store::{StoreError, Transaction},
};

impl App {
    /// Writes down all connections that changed since they were written.
    pub async fn keep_connections(&self) {
        if let Err(error) = self.keep(|_| true).await {
            tracing::warn!(%error, "clients begin anew what they follow");
        }
    }

    /// Writes down those that were used, and not since the last call; waits for the first use before.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keep_idle_connections(&self) -> Result<(), StoreError> {
        self.sliding.used.notified().await;
        let mut last = self.sliding.requests();
        loop {
            tokio::time::sleep(limits::SLIDING_KEPT_AFTER).await;
            self.keep(|request| request <= last).await?;
            if self.sliding.requests() == last {
                return Ok(());
            }
            last = self.sliding.requests();
        }
    }

    async fn keep(&self, which: impl Fn(u64) -> bool) -> Result<(), StoreError> {
        let changed = self.sliding.changed(which);
        let keys: Vec<_> = changed.iter().map(|changed| changed.key.clone()).collect();
        let kept = self.write_changed(changed).await;
        if kept.is_err() {
            self.sliding.not_kept(&keys);
        }
        kept
    }

    async fn write_changed(&self, changed: Vec<Changed>) -> Result<(), StoreError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for changed in changed {
            let state = encode(&changed.had, changed.offered.as_deref());
            if state.len() > limits::JOB_BYTES {
                continue;
            }
            if bytes + state.len() > limits::JOB_BYTES {
                self.write_connections(std::mem::take(&mut rows)).await?;
                bytes = 0;
            }
            bytes += state.len();
            rows.push((changed.key, state));
        }
        self.write_connections(rows).await
    }

    async fn write_connections(
        &self,
        rows: Vec<((DeviceNumber, String), Vec<u8>)>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let job = move |transaction: &mut Transaction<'_>| {
            rows.iter()
                .try_for_each(|((device, name), state)| transaction.keep_connection(*device, name, state))
        };
        self.store.write(job).await
    }

    /// Brings a connection back that was written down and isn't in memory.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn recall_connection(
        &self,
        (user, device): (UserNumber, DeviceNumber),
        name: &str,
    ) -> Result<(), StoreError> {
        if self.sliding.has(device, name) {
            return Ok(());
        }
        let key = (device, name.to_owned());
        let kept = self.store.read(move |view| {
            let kept = view.connection(key.0, &key.1)?;
            // One that knows more than the store is of another time.
            let told = kept.and_then(|kept| decode(&kept));
            Ok::<_, StoreError>((
                told.filter(|told| told.iter().all(|told| told.pos.seen <= view.position())),
                key,
            ))
        });
        if let (Some(told), key) = kept.await? {
            self.sliding.restore(user, key, told);
        }
        Ok(())
    }
}

/// Writes what a client has, and what it has if it got the last answer.
fn encode(had: &Told, offered: Option<&Told>) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for told in [Some(had), offered].into_iter().flatten() {
        let cursor = |position: Option<Position>| position.map_or(u64::MAX, |position| position.0);
        let Pos { seen, serial } = told.pos;
        let cursors = [told.e2ee, told.account_data, told.threads].map(cursor);
        for number in [seen.0, serial, told.heard].into_iter().chain(cursors) {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.push(told.choices.len() as u8);
        for choice in &*told.choices {
            bytes.extend_from_slice(&choice.name.to_be_bytes());
        }
        bytes.extend_from_slice(&(told.rooms.len() as u32).to_be_bytes());
        for ToldRoom { room, timeline, choice, flags, until } in told.rooms() {
            bytes.extend_from_slice(&room.to_be_bytes());
            bytes.extend_from_slice(&timeline.to_be_bytes());
            bytes.extend_from_slice(&[choice, flags]);
            bytes.extend_from_slice(&until.to_be_bytes());
        }
    }
    bytes
}

/// Reads one or two of what [`encode`] wrote; none if it is damaged, or another version's.
fn decode(bytes: &[u8]) -> Option<Vec<Arc<Told>>> {
    let (VERSION, mut rest) = bytes.split_first().map(|(version, rest)| (*version, rest))? else {
        return None;
    };
    let mut all = Vec::new();
    while !rest.is_empty() {
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let (seen, serial, heard) = (number()?, number()?, number()?);
        let (e2ee, account_data, threads) = (number()?, number()?, number()?);
        let cursor = |number: u64| Some(Position(number)).filter(|_| number != u64::MAX);
        let [count] = take(&mut rest)?;
        let mut choices = Vec::new();
        for _ in 0..count {
            choices.push(Choice { name: u64::from_be_bytes(take(&mut rest)?), state: None });
        }
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut rooms = Vec::new();
        for _ in 0..count {
            let room = RoomNumber::from_be_bytes(take(&mut rest)?);
            let timeline = u16::from_be_bytes(take(&mut rest)?);
            let [choice, flags] = take(&mut rest)?;
            let until = Position::from_be_bytes(take(&mut rest)?);
            rooms.push(ToldRoom { room, timeline, choice, flags, until });
        }
        all.push(Arc::new(Told {
            pos: Pos { seen: Position(seen), serial },
            heard,
            e2ee: cursor(e2ee),
            account_data: cursor(account_data),
            threads: cursor(threads),
            rooms: ToldRooms::of(rooms, Position(seen)),
            choices: Arc::new(choices),
            // They are told again.
            members: Arc::default(),
        }));
    }
    Some(all).filter(|all| matches!(all.len(), 1 | 2))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_comes_back_as_it_was() {
        let room = ToldRoom { room: RoomNumber(3), timeline: 20, choice: 1, flags: 5, until: Position(70) };
        let choice = |name| Choice { name, state: None };
        let had = Told {
            pos: Pos { seen: Position(71), serial: 9 },
            heard: 1_000,
            e2ee: Some(Position(70)),
            account_data: None,
            threads: Some(Position(69)),
            rooms: ToldRooms::of([room, ToldRoom { room: RoomNumber(4), ..room }], Position(71)),
            choices: Arc::new(vec![choice(5), choice(6)]),
            members: Arc::default(),
        };
        let offered = Told { pos: Pos { seen: Position(72), serial: 10 }, ..Told::default() };
        let bytes = encode(&had, Some(&offered));
        let [first, second] = &decode(&bytes).unwrap()[..] else { panic!("two were written") };
        assert_eq!((first.pos, second.pos), (had.pos, offered.pos));
        assert_eq!((first.heard, first.e2ee, first.account_data), (1_000, Some(Position(70)), None));
        assert_eq!(first.threads, Some(Position(69)));
        assert_eq!(first.rooms, had.rooms);
        assert_eq!(encode(first, Some(second)), bytes);
        assert_eq!(decode(&encode(&had, None)).unwrap().len(), 1);
        for length in 0..bytes.len() {
            let whole = length == encode(&had, None).len();
            assert_eq!(decode(&bytes[..length]).is_some(), whole, "{length}");
        }
        assert!(decode(&[&[1], &bytes[1..]].concat()).is_none());
    }
}
