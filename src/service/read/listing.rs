//! Lists of events that may be too long for memory, written page by page, each page on a view of its own.
//!
//! What a list holds is settled by the first view: by a state's root, whose entries never change, or by the events'
//! numbers. So it is of one moment, and its reader's right is judged once, however long somebody takes to read it. A
//! list that ends within its first page is whole at once, and costs no further view.

use std::vec;

use ruma::{api::client::filter::RoomEventFilter, events::room::member::MembershipState, serde::Raw};
use serde::{Deserialize, Serialize, de::IgnoredAny};

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

/// What is still to be written.
#[derive(Debug)]
struct Rest {
    onlooker: Onlooker,
    access: Access,
    source: Source,
    is_begun: bool,
}

/// What a list is made of.
#[derive(Debug)]
pub(super) enum Source {
    /// These events, with what relates to them.
    Events(vec::IntoIter<VisibleEvent>),
    /// These events of a state.
    OfState(StateAccess, vec::IntoIter<EventNumber>),
    /// What is wanted of a state.
    State { right: StateAccess, root: StateRoot, after: Option<KeyNumber>, wanted: Wanted },
}

/// What of a state is wanted.
#[derive(Debug)]
pub(super) enum Wanted {
    All,
    Filtered(Box<RoomEventFilter>),
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
    pub(super) fn of(look: &Look<'_>, source: Source) -> Result<Self, StoreError> {
        let Reader { onlooker, .. } = look.reader;
        let mut rest =
            Rest { onlooker: onlooker.clone(), access: look.access.clone(), source, is_begun: false };
        let mut json = Vec::new();
        let is_whole = rest.write(look.view, &look.reader, &mut json)?;
        Ok(Self { json, rest: (!is_whole).then(|| Box::new(rest)) })
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
        Ok(Some(std::mem::take(&mut self.json)))
    }
}

impl Rest {
    /// The next page, and what is behind it.
    fn page(mut self: Box<Self>, view: &View<'_>) -> Result<(Vec<u8>, Option<Box<Self>>), StoreError> {
        let (access, onlooker) = (self.access.clone(), self.onlooker.clone());
        let graph = view.graph(access.room);
        let reader = Reader::new(view, &graph, &access, &onlooker);
        let mut json = Vec::new();
        let is_whole = self.write(view, &reader, &mut json)?;
        Ok((json, (!is_whole).then_some(self)))
    }

    /// Writes a page; tells whether nothing is behind it.
    fn write(
        &mut self,
        view: &View<'_>,
        reader: &Reader<'_>,
        json: &mut Vec<u8>,
    ) -> Result<bool, StoreError> {
        let Self { access, source, is_begun, .. } = self;
        let mut push = |json: &mut Vec<u8>, event: &VisibleEvent, wanted: Option<&Wanted>| {
            if std::mem::replace(is_begun, true) {
                json.push(b',');
            }
            if let Some(Wanted::Joined) = wanted {
                let member: Member = event.pdu().content_as().unwrap_or_default();
                to_json(json, event.pdu().state_key().unwrap_or_default());
                json.push(b':');
                to_json(json, &member);
            } else {
                let event: Raw<IgnoredAny> = reader.write(event)?;
                json.extend_from_slice(event.json().get().as_bytes());
            }
            Ok::<_, StoreError>(())
        };
        let is_full = |json: &Vec<u8>| json.len() >= limits::ANSWER_PIECE_BYTES;
        match source {
            Source::Events(events) => {
                while !is_full(json) {
                    let Some(event) = events.next() else { return Ok(true) };
                    push(json, &event, None)?;
                }
            }
            Source::OfState(right, numbers) => {
                while !is_full(json) {
                    let Some(number) = numbers.next() else { return Ok(true) };
                    push(json, &reader.in_state(*right, number)?, None)?;
                }
            }
            Source::State { right, root, after, wanted } => {
                let mut steps = 0;
                for entry in view.state_after(access.room, *root, *after)? {
                    if is_full(json) || steps == limits::WALK_STEPS {
                        return Ok(false);
                    }
                    let (key, number) = entry?;
                    (*after, steps) = (Some(key), steps + 1);
                    if !wanted.includes(view, access, (key, number))? {
                        continue;
                    }
                    let event = reader.in_state(*right, number)?;
                    if wanted.admits(&event) {
                        push(json, &event, Some(wanted))?;
                    }
                }
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Wanted {
    /// Whether an entry may be wanted, by its key: without a reading of the event.
    fn includes(
        &self,
        view: &View<'_>,
        access: &Access,
        (key, number): (KeyNumber, EventNumber),
    ) -> Result<bool, StoreError> {
        Ok(match self {
            Self::All | Self::Filtered(_) => true,
            Self::Members { .. } => view.key_name(access.room, key)?.kind == "m.room.member",
            Self::Joined => view.header(access.room, number)?.membership == Some(Membership::Join),
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

fn to_json(json: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("texts are written into memory");
}
