//! What is new in the log and beside it, and which servers that concerns.

use std::{collections::VecDeque, sync::Arc};

use ruma::{OwnedServerName, ServerName};

use super::{
    audience::{Rooms, Sender, acquainted, audience, is_arrival, listeners, sender},
    edus::{Ephemeral, is_own},
    peers::{Item, News},
};
use crate::{
    base::{
        ids::{Position, RoomNumber, UserNumber},
        limits,
    },
    service::presence::Seen,
    store::{Receipt, StoreError, View},
};

/// Something that isn't in the log or may be lost.
#[derive(Clone, Debug)]
pub(super) enum Rumour {
    Typing { room: RoomNumber, user: UserNumber, typing: bool },
    Receipt(Receipt),
    Presence { user: UserNumber, seen: Seen },
}

impl News {
    /// What came behind a position, as much of it as one step looks at, and those rumours that it didn't.
    pub(super) fn read(
        view: &View<'_>,
        (own, rooms): (&ServerName, &Rooms),
        after: Position,
        mut rumours: VecDeque<Rumour>,
    ) -> Result<(Self, VecDeque<Rumour>), StoreError> {
        let (events, mut until) = view.live_after(after, limits::SENDING_STEP)?;
        let changes = view.device_changes_after(after, limits::SENDING_STEP)?;
        if let (limits::SENDING_STEP, Some(last)) = (changes.len(), changes.last()) {
            until = until.min(last.position);
        }
        let mut news = Self { entries: events.len(), ..Self::default() };
        let mut names = 0;
        let (mut events, mut changes) = (events.iter().peekable(), changes.iter().peekable());
        // In the order of the log, so that what doesn't fit into this step is whole in the next.
        while names < limits::SENDING_NAMES {
            let change = changes.next_if(|change| {
                change.position <= until && events.peek().is_none_or(|event| change.position < event.position)
            });
            if let Some(change) = change {
                let (user, position) = (change.user, change.position);
                let servers: Vec<_> = acquainted(view, own, user)?.into_iter().collect();
                names += servers.len();
                news.add(Item::Change { position, user }, servers);
                continue;
            }
            let Some(event) = events.next_if(|event| event.position <= until) else { break };
            let Some(sender) = sender(view, own, event)? else { continue };
            let servers = audience(view, (own, rooms), (event, &sender))?;
            names += servers.len();
            let (position, room, number) = (event.position, event.header.room, event.number);
            let is_arrival = sender == Sender::Own && is_arrival(view, &event.header)?;
            news.add(Item::Event { position, room, number, is_arrival }, servers);
        }
        let rest = [events.next().map(|event| event.position), changes.next().map(|change| change.position)];
        let rest = rest.into_iter().flatten().filter(|next| *next <= until).min();
        news.until = rest.map_or(until, |next| Position(next.0 - 1));
        news.messages = view.outgoing_servers(after, news.until)?;
        while names < limits::SENDING_NAMES
            && let Some(rumour) = rumours.pop_front()
        {
            if let Some((ephemeral, servers)) = rumour.told(view, (own, rooms))?
                && !servers.is_empty()
            {
                names += servers.len();
                news.ephemeral.push((Arc::new(ephemeral), servers));
            }
        }
        Ok((news, rumours))
    }

    fn add(&mut self, item: Item, servers: Vec<OwnedServerName>) {
        if !servers.is_empty() {
            self.items.push((item, servers));
        }
    }
}

impl Rumour {
    /// What is sent of it, and to whom.
    fn told(
        self,
        view: &View<'_>,
        (own, rooms): (&ServerName, &Rooms),
    ) -> Result<Option<(Ephemeral, Vec<OwnedServerName>)>, StoreError> {
        let (Self::Typing { user, .. } | Self::Receipt(Receipt { user, .. }) | Self::Presence { user, .. }) =
            self;
        let user_id = view.user_id(user)?;
        if !is_own(&user_id, own) {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Typing { room, typing, .. } => {
                let room_id = view.room_id(room)?;
                (
                    Ephemeral::typing((room, &room_id), (user, &user_id), typing),
                    listeners(view, (own, rooms), room)?,
                )
            }
            Self::Receipt(receipt) => {
                let (room, room_id) = (receipt.room, view.room_id(receipt.room)?);
                (Ephemeral::receipt(&room_id, &user_id, receipt), listeners(view, (own, rooms), room)?)
            }
            Self::Presence { seen, .. } => {
                let servers = acquainted(view, own, user)?.into_iter().collect();
                (Ephemeral::presence((user, &user_id), &seen), servers)
            }
        }))
    }
}
