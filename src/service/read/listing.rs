//! Lists of events that may be too long for memory, written page by page, each page on a view of its own.
//!
//! What a list holds is settled by the first view: by a state's root, whose entries never change, or by the events'
//! numbers. So it is of one moment, and its reader's right is judged once, however long somebody takes to read it. A
//! list that ends within its first page is whole at once, and costs no further view.

use std::{collections::VecDeque, mem, sync::Arc, vec};

use ruma::{api::client::filter::RoomEventFilter, events::room::member::MembershipState, serde::Raw};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    access::Access,
    look::Look,
    page,
    reader::{Onlooker, Reader},
};
use crate::{
    base::{
        ids::{EventNumber, KeyNumber, StateRoot},
        limits,
    },
    room::{
        filter,
        members::membership_set,
        visibility::{StateAccess, VisibleEvent},
    },
    service::App,
    store::{StoreError, View, events::Membership},
};

/// Items of a JSON array or object, as far as they are written.
#[derive(Debug, Default)]
pub struct Listing {
    /// What is written, with a comma between any two items, and not yet taken.
    json: Vec<u8>,
    rest: Option<Box<Rest>>,
}

/// What is still to be written, and for whom.
#[derive(Debug)]
struct Rest {
    onlooker: Onlooker,
    access: Access,
    items: Items,
}

/// Items that are still to be written.
#[derive(Debug)]
pub(in crate::service) struct Items {
    sources: VecDeque<Source>,
    style: Style,
    is_begun: bool,
}

/// What a list is made of.
#[derive(Debug)]
pub(in crate::service) enum Source {
    /// These events.
    Events(vec::IntoIter<VisibleEvent>),
    /// Those of these events of a state that a filter lets through, if there is one.
    OfState(StateAccess, vec::IntoIter<EventNumber>, Option<Arc<RoomEventFilter>>),
    /// What is wanted of a state, behind a key.
    State { right: StateAccess, root: StateRoot, after: Option<KeyNumber>, wanted: Wanted },
}

/// How events are written.
#[derive(Debug)]
pub(in crate::service) enum Style {
    /// Whole, with what is summed up of those that relate to them.
    Whole,
    /// Without their room, as [`Reader::write_in_room`] does; only these fields, if they are given.
    InRoom { bundled: bool, fields: Option<Arc<[String]>> },
}

/// What of a state is wanted.
#[derive(Debug)]
pub(in crate::service) enum Wanted {
    All,
    Filtered(Arc<RoomEventFilter>),
    /// Member events of these memberships.
    Members {
        membership: Option<MembershipState>,
        not_membership: Option<MembershipState>,
    },
    /// Those who are joined: not as events, but as a [`Member`] under each one's id.
    Joined,
}

/// A member as others see them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Member {
    #[serde(default, rename(serialize = "display_name"), skip_serializing_if = "Option::is_none")]
    displayname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
}

impl Listing {
    /// Begins a list in the view of a look.
    pub(in crate::service) fn of(look: &Look<'_>, source: Source) -> Result<Self, StoreError> {
        let (mut items, mut json) = (Items::new([source], Style::Whole), Vec::new());
        if items.write(&look.reader, &mut json)? {
            return Ok(Self { json, rest: None });
        }
        let (onlooker, access) = (look.reader.onlooker.clone(), look.access.clone());
        Ok(Self { json, rest: Some(Box::new(Rest { onlooker, access, items })) })
    }

    /// The same with nothing written yet, where there may be many such lists in one answer.
    pub(super) fn later(look: &Look<'_>, source: Source) -> Self {
        let (onlooker, access) = (look.reader.onlooker.clone(), look.access.clone());
        let items = Items::new([source], Style::Whole);
        Self { json: Vec::new(), rest: Some(Box::new(Rest { onlooker, access, items })) }
    }

    /// Writes events of a state without their room; gives what is behind a page of them. `is_begun` says that they follow
    /// others.
    pub(in crate::service) fn of_state(
        reader: &Reader<'_>,
        access: &Access,
        (right, numbers): (StateAccess, Vec<EventNumber>),
        is_begun: bool,
        json: &mut Vec<u8>,
    ) -> Result<Option<Self>, StoreError> {
        let source = Source::OfState(right, numbers.into_iter(), None);
        let style = Style::InRoom { bundled: false, fields: None };
        let mut items = Items { is_begun, ..Items::new([source], style) };
        if items.write(reader, json)? {
            return Ok(None);
        }
        let (onlooker, access) = (reader.onlooker.clone(), access.clone());
        Ok(Some(Self { json: Vec::new(), rest: Some(Box::new(Rest { onlooker, access, items })) }))
    }

    /// Whether all that is to come is written.
    pub fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether there is nothing in the list.
    pub fn is_empty(&self) -> bool {
        self.json.is_empty() && self.is_whole()
    }

    /// The next part of the list; none at its end.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next(&mut self, app: &App) -> Result<Option<Vec<u8>>, StoreError> {
        while self.json.is_empty() {
            let Some(rest) = self.rest.take() else { return Ok(None) };
            (self.json, self.rest) = app.store.read(move |view| rest.page(view)).await?;
        }
        Ok(Some(mem::take(&mut self.json)))
    }
}

impl Rest {
    /// The next page, and what is behind it.
    fn page(mut self: Box<Self>, view: &View<'_>) -> Result<(Vec<u8>, Option<Box<Self>>), StoreError> {
        let Self { onlooker, access, items } = &mut *self;
        let graph = view.graph(access.room);
        let mut json = Vec::new();
        let is_whole = items.write(&Reader::new(view, &graph, access, onlooker), &mut json)?;
        Ok((json, (!is_whole).then_some(self)))
    }
}

impl Items {
    pub(in crate::service) fn new(sources: impl IntoIterator<Item = Source>, style: Style) -> Self {
        Self { sources: sources.into_iter().collect(), style, is_begun: false }
    }

    /// Writes a page; tells whether nothing is behind it.
    pub(in crate::service) fn write(
        &mut self,
        reader: &Reader<'_>,
        json: &mut Vec<u8>,
    ) -> Result<bool, StoreError> {
        let Self { sources, style, is_begun } = self;
        let mut page =
            Page { reader, style, is_begun, full: json.len() + limits::ANSWER_PIECE_BYTES, json, steps: 0 };
        while let Some(source) = sources.front_mut() {
            if !page.write(source)? {
                return Ok(false);
            }
            sources.pop_front();
        }
        Ok(true)
    }
}

/// A page that is being written.
struct Page<'a, 'v> {
    reader: &'a Reader<'v>,
    style: &'a Style,
    is_begun: &'a mut bool,
    json: &'a mut Vec<u8>,
    /// How long it may become, but for the last item.
    full: usize,
    /// Events that were looked at.
    steps: usize,
}

impl Page<'_, '_> {
    /// Writes what a source has; tells whether it was all.
    fn write(&mut self, source: &mut Source) -> Result<bool, StoreError> {
        let reader = self.reader;
        match source {
            Source::Events(events) => {
                while !self.is_full() {
                    let Some(event) = events.next() else { return Ok(true) };
                    self.event(&event)?;
                }
                Ok(events.len() == 0)
            }
            Source::OfState(right, numbers, filter) => {
                while !self.is_full() {
                    let Some(number) = numbers.next() else { return Ok(true) };
                    let event = reader.in_state(*right, number)?;
                    if filter.as_ref().is_none_or(|filter| page::admits(filter, event.pdu())) {
                        self.event(&event)?;
                    }
                }
                Ok(numbers.len() == 0)
            }
            Source::State { right, root, after, wanted } => {
                for entry in reader.view.state_after(reader.room, *root, *after)? {
                    if self.is_full() {
                        return Ok(false);
                    }
                    let (key, number) = entry?;
                    *after = Some(key);
                    if !wanted.includes(reader, (key, number))? {
                        continue;
                    }
                    let event = reader.in_state(*right, number)?;
                    match wanted {
                        Wanted::Joined => self.member(&event),
                        _ if wanted.admits(&event) => self.event(&event)?,
                        _ => {}
                    }
                }
                Ok(true)
            }
        }
    }

    fn is_full(&mut self) -> bool {
        self.steps += 1;
        self.json.len() >= self.full || self.steps > limits::WALK_STEPS
    }

    fn event(&mut self, event: &VisibleEvent) -> Result<(), StoreError> {
        let (bundled, fields) = match self.style {
            Style::Whole => {
                let written: Raw<IgnoredAny> = self.reader.write(event)?;
                self.item(written.json().get().as_bytes());
                return Ok(());
            }
            Style::InRoom { bundled, fields } => (*bundled, fields),
        };
        let written: Raw<IgnoredAny> = self.reader.write_in_room(event, bundled)?;
        match fields {
            None => self.item(written.json().get().as_bytes()),
            Some(fields) => {
                let whole: Value = serde_json::from_str(written.json().get()).unwrap_or_default();
                self.item(filter::select_fields(&whole, fields).to_string().as_bytes());
            }
        }
        Ok(())
    }

    fn member(&mut self, event: &VisibleEvent) {
        let member: Member = event.pdu().content_as().unwrap_or_default();
        let mut item = Vec::new();
        let named = serde_json::to_writer(&mut item, event.pdu().state_key().unwrap_or_default());
        item.push(b':');
        named.and_then(|()| serde_json::to_writer(&mut item, &member)).expect("texts have a JSON text");
        self.item(&item);
    }

    fn item(&mut self, json: &[u8]) {
        if mem::replace(self.is_begun, true) {
            self.json.push(b',');
        }
        self.json.extend_from_slice(json);
    }
}

impl Wanted {
    /// Whether an entry may be wanted: without a reading of the event.
    fn includes(
        &self,
        reader: &Reader<'_>,
        (key, number): (KeyNumber, EventNumber),
    ) -> Result<bool, StoreError> {
        Ok(match self {
            Self::All | Self::Filtered(_) => true,
            Self::Members { .. } => reader.view.key_name(reader.room, key)?.kind == "m.room.member",
            Self::Joined => reader.view.header(reader.room, number)?.membership == Some(Membership::Join),
        })
    }

    fn admits(&self, event: &VisibleEvent) -> bool {
        match self {
            Self::All | Self::Joined => true,
            Self::Filtered(filter) => page::admits(filter, event.pdu()),
            Self::Members { membership, not_membership } => {
                let set = membership_set(event.pdu());
                (membership.is_none() || *membership == set)
                    && (not_membership.is_none() || *not_membership != set)
            }
        }
    }
}
