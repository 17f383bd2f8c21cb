//! What a search may find: what the index is asked, and what is looked at of each match.

use std::collections::{HashMap, HashSet};

use ruma::{OwnedUserId, api::client::filter::RoomEventFilter};

use super::{Ask, Order, token::SearchToken};
use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    room::filter::admits_events_of_type,
    service::{
        read::{access::Span, look::Look, page, reader::Onlooker},
        search::{
            document::{MESSAGE, NAME, TOPIC},
            words::Term,
        },
    },
    store::{Match, Part, Sought, StoreError, View},
};

pub(super) struct Scope<'a> {
    /// The user's rooms, as far as they are in question.
    pub(super) rooms: HashMap<RoomNumber, Span>,
    pub(super) sought: Sought,
    senders: Option<HashSet<UserNumber>>,
    not_senders: HashSet<UserNumber>,
    filter: &'a RoomEventFilter,
    order: Order,
}

impl<'a> Scope<'a> {
    pub(super) fn of(
        view: &View<'_>,
        onlooker: &Onlooker,
        (ask, term): (&'a Ask, &Term),
        token: &SearchToken,
    ) -> Result<Self, StoreError> {
        let filter = &ask.filter;
        let mut rooms = rooms(view, onlooker.user, filter)?;
        let mut senders = filter.senders.as_ref().map(|ids| numbers(view, ids)).transpose()?;
        if let Some(room) = token.room {
            rooms.retain(|other, _| *other == room);
        }
        if let Some(user) = token.sender {
            let is_in = senders.is_none_or(|senders| senders.contains(&user));
            senders = Some(is_in.then_some(user).into_iter().collect());
        }
        let few = |count: usize| count <= limits::SEARCH_TAGS;
        let parts = [(Part::Body, MESSAGE), (Part::Name, NAME), (Part::Topic, TOPIC)];
        let wanted = |(part, kind): &(Part, &str)| {
            ask.parts.as_ref().is_none_or(|parts| parts.contains(part)) && admits_events_of_type(filter, kind)
        };
        let wanted: Vec<_> = parts.iter().filter(|part| wanted(part)).map(|(part, _)| *part).collect();
        let sought = Sought {
            phrases: term.phrases.clone(),
            is_open: term.is_open,
            parts: (wanted.len() < parts.len()).then_some(wanted),
            rooms: few(rooms.len()).then(|| rooms.keys().copied().collect()),
            senders: senders
                .as_ref()
                .filter(|senders| few(senders.len()))
                .map(|senders| senders.iter().copied().collect()),
        };
        let not_senders = numbers(view, &filter.not_senders)?;
        Ok(Self { rooms, sought, senders, not_senders, filter, order: ask.order })
    }

    /// Where a match stands in the order that is asked for, the lightest first; nothing if the user isn't to find it.
    pub(super) fn weight(&self, look: &Look<'_>, found: &Match) -> Result<Option<u64>, StoreError> {
        match self.weigh(look, found) {
            // The index tells of an event that isn't there, or is damaged.
            Err(StoreError::Corrupt { .. }) => Ok(None),
            weight => weight,
        }
    }

    fn weigh(&self, look: &Look<'_>, found: &Match) -> Result<Option<u64>, StoreError> {
        let (reader, room) = (&look.reader, look.room());
        let header = look.view.header(room, found.number)?;
        let is_sender = self.senders.as_ref().is_none_or(|senders| senders.contains(&header.sender));
        if !is_sender
            || self.not_senders.contains(&header.sender)
            || !reader.would_see_whole(found.number, &header)?
        {
            return Ok(None);
        }
        if let Some(edit) = found.edit
            && !reader.would_see_whole(edit, &look.view.header(room, edit)?)?
        {
            return Ok(None);
        }
        if self.filter.url_filter.is_some() {
            let event = reader.visible(found.number)?;
            if !event.is_some_and(|event| page::admits(self.filter, event.pdu())) {
                return Ok(None);
            }
        }
        Ok(Some(match self.order {
            // The fewer words it has besides, the better it fits.
            Order::Rank => found.words,
            Order::Recent => limits::MAX_INTEGER.saturating_sub(header.origin_server_ts.0),
        }))
    }
}

/// The rooms that a user is or was in and has not forgotten, as far as a filter lets them through.
fn rooms(
    view: &View<'_>,
    user: UserNumber,
    filter: &RoomEventFilter,
) -> Result<HashMap<RoomNumber, Span>, StoreError> {
    let mut rooms = HashMap::new();
    match &filter.rooms {
        Some(named) => {
            for id in named {
                if let Some(room) = view.room_number(id)?
                    && let Some(span) = view.stay(user, room)?.and_then(Span::of)
                {
                    rooms.insert(room, span);
                }
            }
        }
        None => {
            for stay in view.stays(user) {
                let (room, stay) = stay?;
                rooms.extend(Span::of(stay).map(|span| (room, span)));
            }
        }
    }
    for id in &filter.not_rooms {
        if let Some(room) = view.room_number(id)? {
            rooms.remove(&room);
        }
    }
    Ok(rooms)
}

/// The numbers of those users whom this server knows.
fn numbers(view: &View<'_>, ids: &[OwnedUserId]) -> Result<HashSet<UserNumber>, StoreError> {
    ids.iter().filter_map(|id| view.user_number(id).transpose()).collect()
}
