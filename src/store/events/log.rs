//! The log of rooms, as its readers walk it.

use std::ops::Bound;

use super::{
    Header, Place, Standing,
    codec::{Damaged, event::Entry},
    damaged, part,
};
use crate::{
    base::ids::{EventNumber, Position},
    store::{StoreError, Table, View},
};

/// A live event, where it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub position: Position,
    pub number: EventNumber,
    pub header: Header,
}

impl View<'_> {
    /// The live events behind a position, of at most so many entries of the log; and how far that goes.
    pub fn live_after(&self, after: Position, limit: usize) -> Result<(Vec<Logged>, Position), StoreError> {
        self.logged_after(after, limit, |_| false)
    }

    /// The same with what may be an invitation to a room that this server is not in, or its end.
    pub fn news_after(&self, after: Position, limit: usize) -> Result<(Vec<Logged>, Position), StoreError> {
        self.logged_after(after, limit, |header| {
            header.standing == Standing::Outlier && header.membership.is_some()
        })
    }

    /// The entries behind a position of events that stand in a timeline. One that got its place after it was stored is met
    /// there as well.
    pub fn placed_after(&self, after: Position, limit: usize) -> Result<(Vec<Logged>, Position), StoreError> {
        self.logged_after(after, limit, |header| header.place.is_some())
    }

    fn logged_after(
        &self,
        after: Position,
        limit: usize,
        also: fn(&Header) -> bool,
    ) -> Result<(Vec<Logged>, Position), StoreError> {
        let (mut logged, mut read) = (Vec::new(), 0);
        let start = after.to_be_bytes();
        for entry in self.range(Table::Events, (Bound::Excluded(&start[..]), Bound::Unbounded)) {
            let (key, value) = entry?;
            let position = part(&key, 0).map(Position::from_be_bytes);
            let position = position.map_err(|Damaged| damaged(Table::Events, &key))?;
            let (number, header) = match Entry::decode(&value) {
                Ok(Entry::Event(stored)) => (EventNumber(position.0), stored.header),
                Ok(Entry::Promoted(number)) => (number, self.header(self.room_of(number)?, number)?),
                Err(Damaged) => return Err(damaged(Table::Events, &key)),
            };
            // One that became live later is met once more, there.
            let is_live = header.standing == Standing::Live && header.place == Some(Place::live(position));
            if is_live || also(&header) {
                logged.push(Logged { position, number, header });
            }
            read += 1;
            if read == limit {
                return Ok((logged, position));
            }
        }
        Ok((logged, self.position().max(after)))
    }
}
