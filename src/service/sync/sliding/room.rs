//! Writes one room of an answer: what changed since it was told last, or all of it.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedUserId,
    api::{Direction, client::filter::RoomEventFilter},
    events::TimelineEventType,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{json, value::RawValue};

use super::{
    answer::{Hero, Room},
    connection::{DIRECT, Told, ToldMember, ToldRoom},
    request::{Ask, Selection, Shape},
    rooms::{Candidate, Wish},
};
use crate::{
    base::{
        ids::{EventNumber, Position, RoomNumber, StateRoot},
        limits,
    },
    room::{
        format,
        visibility::{StateAccess, VisibleEvent},
    },
    service::{
        notifying::Allowance,
        read::{
            access::{Access, Span},
            listing::Listing,
            page::{Walk, walk},
            reader::Reader,
            token::{PageToken, SyncToken},
        },
        sync::{
            plan::{Change, Kind},
            rooms::stripped_state,
            summary::summary,
        },
        unread::{self, Counted},
    },
    store::{
        StoreError, View,
        events::{Item, KeyName, Membership, Place},
    },
};
/// The rooms of an answer, as far as they are written.
pub(super) struct Rooms<'a, 'v> {
    pub(super) view: &'a View<'v>,
    pub(super) ask: &'a Ask,
    pub(super) had: &'a Told,
    /// Members of an object, with commas between them.
    pub(super) json: Vec<u8>,
    /// What is left of a list that goes on behind that, and what follows the list. No room comes after it.
    pub(super) rest: Option<(Listing, Vec<u8>)>,
    pub(super) allowance: Allowance,
    pub(super) counted: Vec<Counted>,
    /// Members of whom the client hears as they became of interest, and rooms that it is told anew.
    pub(super) members: Vec<ToldMember>,
    pub(super) anew: BTreeSet<RoomNumber>,
    pub(super) has_echo: bool,
}

/// A room that is to be told, if it has news.
pub(super) struct Subject<'a> {
    pub(super) candidate: &'a Candidate,
    pub(super) wish: &'a Wish<'a>,
    /// The choice by which it was told before; none of it if it is not remembered.
    pub(super) choice: &'a [Arc<Selection>],
    /// Whether it is another than the one by which it is told now.
    pub(super) is_chosen_anew: bool,
    pub(super) is_direct: bool,
    /// What is new to the user there may have changed without an event.
    pub(super) is_read: bool,
}

impl Subject<'_> {
    /// Whether the user's membership is news.
    fn is_new(&self) -> bool {
        self.candidate.told.is_none_or(|told| self.candidate.stay.since > told.until)
    }

    /// Whether there may be something to tell.
    pub(super) fn has_news(&self) -> bool {
        let Self { candidate, wish, .. } = self;
        match candidate.told {
            Some(told) if candidate.is_joined() && !self.is_new() => {
                candidate.newest > told.until
                    || told.timeline < wish.timeline
                    || self.is_chosen_anew
                    || self.is_read
                    || self.is_direct_anew().is_some()
            }
            _ => self.is_new(),
        }
    }

    /// Whether the room is one of two and was not told so, or the other way round.
    fn is_direct_anew(&self) -> Option<bool> {
        let was = self.candidate.told.map(|told| told.flags & DIRECT != 0);
        Some(self.is_direct).filter(|is| was != Some(*is) && (*is || was.is_some()))
    }
}

impl Rooms<'_, '_> {
    /// Writes a room, if it has news; gives how many of its newest events the client has then.
    ///
    /// # Errors
    /// The store failed; nothing is written then.
    pub(super) fn tell(&mut self, subject: &Subject<'_>) -> Result<u16, StoreError> {
        let (begin, members) = (self.json.len(), self.members.len());
        let told = match subject.candidate.stay.membership {
            _ if !subject.has_news() => Ok(subject.candidate.told.map_or(0, |told| told.timeline)),
            Membership::Join => self.joined(subject),
            Membership::Invite | Membership::Knock => self.pending(subject),
            Membership::Leave | Membership::Ban => self.left(subject),
        };
        if told.is_err() {
            self.json.truncate(begin);
            self.members.truncate(members);
            self.rest = None;
        }
        told
    }

    /// The members whom the client was told of then.
    pub(super) fn members_told(&self) -> Arc<[ToldMember]> {
        if self.members.is_empty() && self.anew.is_empty() {
            return self.had.members.clone();
        }
        let before = self.had.members.iter().filter(|(room, _)| !self.anew.contains(room));
        let all: Vec<_> = before.chain(&self.members).copied().collect();
        // The newest are the likeliest to say more.
        all[all.len().saturating_sub(limits::SLIDING_MEMBERS)..].into()
    }

    fn joined(&mut self, subject: &Subject<'_>) -> Result<u16, StoreError> {
        let Candidate { room, record, .. } = subject.candidate;
        let record = record.clone().expect("a room that the user is in has its record");
        let access = Access { room: *room, record, span: Span::Joined };
        self.followed(subject, &access, subject.candidate.told.filter(|_| !subject.is_new()), None)
    }

    fn left(&mut self, subject: &Subject<'_>) -> Result<u16, StoreError> {
        let Candidate { room, stay, .. } = *subject.candidate;
        let Some(until) = stay.joined_until else { return self.turned_down(subject) };
        let access = Access { room, record: self.view.room(room)?, span: Span::Until(until) };
        let mut known = subject.candidate.told;
        if let Some(told) = known
            && !self.was_joined(&access, told.until)?
            && until > told.until
        {
            // They came and went again since.
            known = None;
        }
        self.followed(subject, &access, known, Some(stay.event))
    }

    fn was_joined(&self, access: &Access, at: Position) -> Result<bool, StoreError> {
        let (view, room) = (self.view, access.room);
        let root = view.room_state_at(room, at)?;
        let event = view.state_event(room, root, MEMBER, self.ask.onlooker.user_id.as_str())?;
        let header = event.map(|number| view.header(room, number)).transpose()?;
        Ok(header.is_some_and(|header| header.membership == Some(Membership::Join)))
    }

    /// Writes a room that the user follows, or did.
    fn followed(
        &mut self,
        subject: &Subject<'_>,
        access: &Access,
        known: Option<ToldRoom>,
        left_by: Option<EventNumber>,
    ) -> Result<u16, StoreError> {
        let (view, ask, wish) = (self.view, self.ask, subject.wish);
        let room = access.room;
        // Whoever has left sees no state that came after, not even that it did.
        let since = known.map(|known| match access.span {
            Span::Until(until) => known.until.min(until),
            Span::Joined | Span::World => known.until,
        });
        let graph = view.graph(room);
        let mut reader = Reader::new(view, &graph, access, &ask.onlooker);
        let grown = known.filter(|known| known.timeline < wish.timeline);
        let to = since.filter(|_| grown.is_none());
        let limit = wish.timeline.min(limits::SLIDING_TIMELINE);
        let steps = Walk {
            direction: Direction::Backward,
            from: None,
            to: to.map(|to| SyncToken::at(to).into()),
            limit: limit.into(),
            stops: true,
        };
        let mut page = walk(view, access, &mut reader, &RoomEventFilter::default(), steps)?;
        page.events.reverse();
        let has_more = page.end.is_some();
        let start = page.events.first().map(|(place, _)| *place);
        let limited = has_more && limit > 0;
        let timeline = match known {
            // The client lacks what is between.
            Some(_) if to.is_some() && has_more => limit,
            Some(known) if to.is_some() => known.timeline,
            _ if has_more => wish.timeline,
            _ => u16::MAX,
        };
        let seen = self.had.pos.seen;
        let is_live = |place: &Place| seen > Position(0) && place.anchor > seen;
        let num_live = page.events.iter().filter(|(place, _)| is_live(place)).count();
        let mut events: Vec<VisibleEvent> = page.events.into_iter().map(|(_, event)| event).collect();
        // Whoever was not in the room may see nothing of it, and yet has to learn that they are not.
        if let Some(by) = left_by
            && events.iter().all(|event| event.number() != by)
        {
            events.extend(reader.own_membership(by)?);
        }

        let end = reader.state(access.until())?;
        let before = since.map(|since| view.room_state_at(room, since)).transpose()?;
        let mut state = State { view, room, wish, told: BTreeSet::new(), gone: Vec::new(), names: 0 };
        if let Some((root, _)) = end {
            let old = subject.is_chosen_anew.then_some(subject.choice);
            state.collect((before, root), old, limited && to.is_some())?;
            if known.is_none() {
                self.anew.insert(room);
            }
            let had = if known.is_some() { &*self.had.members } else { &[] };
            let members = state.add_members(root, &events, had)?;
            self.members.extend(members.into_iter().map(|member| (room, member)));
        }
        let root = end.map(|(root, _)| root).unwrap_or_default();

        let mut told = Room { initial: known.is_none(), ..Room::default() };
        if state.names & NAME != 0 {
            told.name = self.text(access, root, "m.room.name", "name")?.or_unset(before.is_some());
        }
        if state.names & AVATAR != 0 {
            told.avatar = self.text(access, root, "m.room.avatar", "url")?.or_unset(before.is_some());
        }
        if access.span == Span::Joined && before != Some(root) {
            let before = before.unwrap_or_default();
            if let Some(summary) = summary(view, access, ask.onlooker.user, (before, root))? {
                told.heroes = self.heroes(access, root, summary.heroes)?;
                told.joined_count = Some(summary.joined);
                told.invited_count = Some(summary.invited);
            }
        }
        told.is_dm = subject.is_direct_anew();
        told.bump_stamp = match access.span {
            Span::Joined => self.bump_stamp(access, since)?,
            _ => Some(subject.candidate.stay.since),
        };
        let has_state = !state.told.is_empty() || !state.gone.is_empty();
        let is_empty = told.is_empty() && events.is_empty() && !has_state && !limited;
        if is_empty && !subject.is_read {
            return Ok(timeline);
        }
        told.limited = limited;
        if let (Some(start), Some(since)) = (start, since) {
            told.expand(ask.shape, start.anchor <= since);
        }
        if told.initial || limited || !events.is_empty() {
            let gap = SyncToken::at(since.unwrap_or(access.until()));
            told.prev_batch = Some(start.map_or(gap.into(), PageToken).to_string());
            told.num_live = Some(num_live);
        }
        if ask.shape == Shape::Experimental && access.span == Span::Joined {
            let counted = unread::unread(view, room, &ask.onlooker, &mut self.allowance)?;
            let counts = counted.unread.counts.values();
            let (notifications, highlights) = counts
                .fold((0, 0), |(all, loud), counts| (all + counts.notifications, loud + counts.highlights));
            (told.notification_count, told.highlight_count) = (Some(notifications), Some(highlights));
            self.counted.push(counted);
        }
        // Who is told all that happened sums it up, and does so already.
        let bundled = limited || to.is_none();
        for event in events {
            told.timeline.push(reader.write_in_room::<IgnoredAny>(&event, bundled)?.into_json());
        }
        let gone = state.gone.iter().filter(|_| ask.shape == Shape::Accepted);
        let gone: Vec<_> = gone.map(|name| json!({"type": name.kind, "state_key": name.state_key})).collect();
        let state = end.map(|(_, right)| (right, state.told.into_iter().collect()));
        self.write(subject, &reader, access, (gone, state), told)?;
        self.has_echo |= reader.wrote_echo();
        Ok(timeline)
    }

    /// Writes a room that the user is invited to or knocks at.
    fn pending(&mut self, subject: &Subject<'_>) -> Result<u16, StoreError> {
        let Candidate { room, stay, .. } = *subject.candidate;
        let access = Access { room, record: self.view.room(room)?, span: Span::World };
        let change = Change { access, kind: Kind::Pending(stay) };
        let shown = stripped_state(self.view, &change, (self.ask.onlooker.user, stay))?;
        self.stripped(subject, shown.events, Vec::new())
    }

    /// Writes that the user is not invited, or doesn't knock, any more at a room that they never were in.
    fn turned_down(&mut self, subject: &Subject<'_>) -> Result<u16, StoreError> {
        let (view, Candidate { room, stay, .. }) = (self.view, subject.candidate);
        let access = Access { room: *room, record: view.room(*room)?, span: Span::World };
        let graph = view.graph(*room);
        let reader = Reader::new(view, &graph, &access, &self.ask.onlooker);
        let Some(event) = reader.own_membership(stay.event)? else { return Ok(0) };
        match self.ask.shape {
            Shape::Experimental => {
                let event = reader.write_in_room::<IgnoredAny>(&event, false)?.into_json();
                self.stripped(subject, Vec::new(), vec![event])
            }
            Shape::Accepted => {
                let event = format::stripped::<IgnoredAny>(event.pdu());
                self.stripped(subject, event.map(|event| event.into_json()).into_iter().collect(), Vec::new())
            }
        }
    }

    /// Writes a room of which the user may know no more than it shows.
    fn stripped(
        &mut self,
        subject: &Subject<'_>,
        state: Vec<Box<RawValue>>,
        timeline: Vec<Box<RawValue>>,
    ) -> Result<u16, StoreError> {
        let mut told = Room { initial: true, timeline, ..Room::default() };
        told.bump_stamp = Some(subject.candidate.stay.since);
        told.is_dm = subject.is_direct_anew();
        match self.ask.shape {
            Shape::Experimental => told.invite_state = Some(state).filter(|_| told.timeline.is_empty()),
            Shape::Accepted => told.stripped_state = Some(state),
        }
        self.begin(subject.candidate.room)?;
        self.fields(subject, told, b'{');
        Ok(0)
    }

    /// Writes a room with its state, or as much of that as is a page.
    fn write(
        &mut self,
        subject: &Subject<'_>,
        reader: &Reader<'_>,
        access: &Access,
        (gone, state): (Vec<serde_json::Value>, Option<(StateAccess, Vec<EventNumber>)>),
        told: Room,
    ) -> Result<(), StoreError> {
        self.begin(access.room)?;
        let Some((right, numbers)) = state.filter(|(_, numbers)| !numbers.is_empty() || !gone.is_empty())
        else {
            self.fields(subject, told, b'{');
            return Ok(());
        };
        self.json.extend_from_slice(br#"{"required_state":["#);
        for (n, stub) in gone.iter().enumerate() {
            self.json.extend_from_slice(if n > 0 { b"," } else { b"" });
            self.json.extend_from_slice(stub.to_string().as_bytes());
        }
        let rest = Listing::of_state(reader, access, (right, numbers), !gone.is_empty(), &mut self.json)?;
        let end = self.json.len();
        self.json.push(b']');
        self.fields(subject, told, b',');
        self.rest = rest.map(|rest| (rest, self.json.split_off(end)));
        Ok(())
    }

    fn begin(&mut self, room: RoomNumber) -> Result<(), StoreError> {
        let room_id = serde_json::to_string(&self.view.room_id(room)?).expect("an id has a JSON text");
        if !self.json.is_empty() {
            self.json.push(b',');
        }
        self.json.extend_from_slice(room_id.as_bytes());
        self.json.push(b':');
        Ok(())
    }

    /// Writes all of a room but its state, and what says of whom it is told.
    fn fields(&mut self, subject: &Subject<'_>, mut told: Room, first: u8) {
        if self.ask.shape == Shape::Accepted {
            told.membership = Some(subject.candidate.stay.membership.into());
            told.lists = subject.wish.lists.iter().map(|list| (*list).to_owned()).collect();
        }
        let mut fields = serde_json::to_vec(&told).expect("a room has a JSON text");
        if fields == b"{}" {
            self.json.extend_from_slice(if first == b'{' { b"{}" } else { b"}" });
            return;
        }
        fields[0] = first;
        self.json.append(&mut fields);
    }

    /// A text in a piece of a room's state.
    fn text(&self, access: &Access, root: StateRoot, kind: &str, field: &str) -> Result<Text, StoreError> {
        let event = self.view.state_event(access.room, root, kind, "")?;
        let Some(number) = event else { return Ok(Text(None)) };
        let event = self.view.event(access.room, number)?.shown(access.record.version);
        let content: serde_json::Value = event.content_as().unwrap_or_default();
        Ok(Text(content[field].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)))
    }

    /// Others to name a room by, with their names; none if it has a name.
    fn heroes(
        &self,
        access: &Access,
        root: StateRoot,
        heroes: Vec<OwnedUserId>,
    ) -> Result<Option<Vec<Hero>>, StoreError> {
        #[derive(Default, Deserialize)]
        struct Member {
            displayname: Option<String>,
            avatar_url: Option<String>,
        }
        let mut told = Vec::with_capacity(heroes.len());
        for user_id in heroes {
            let event = self.view.state_event(access.room, root, MEMBER, user_id.as_str())?;
            let event = event.map(|event| self.view.event(access.room, event)).transpose()?;
            let member = event.and_then(|event| event.shown(access.record.version).content_as::<Member>());
            let Member { displayname, avatar_url } = member.unwrap_or_default();
            told.push(Hero { user_id, displayname, avatar_url });
        }
        Ok(Some(told).filter(|told| !told.is_empty()))
    }

    /// Where the newest event stands that shows that the room is in use; none if none came since.
    fn bump_stamp(&self, access: &Access, since: Option<Position>) -> Result<Option<Position>, StoreError> {
        let (view, room) = (self.view, access.room);
        let mut last = None;
        let from = PageToken::from(SyncToken::at(since.unwrap_or_default())).0;
        for item in view.timeline(room, from..).rev().take(limits::SLIDING_BUMP_STEPS) {
            let (place, Item::Event(number)) = item? else { continue };
            let header = view.header(room, number)?;
            if place.sub != 0 {
                continue;
            }
            last = Some(place.anchor);
            let kind = view.key_name(room, header.key)?.kind;
            if BUMPS.contains(&kind.as_str()) {
                return Ok(last);
            }
        }
        Ok(last.filter(|_| since.is_none()))
    }
}

/// What of a room's state is told.
struct State<'a, 'v> {
    view: &'a View<'v>,
    room: RoomNumber,
    wish: &'a Wish<'a>,
    told: BTreeSet<EventNumber>,
    gone: Vec<KeyName>,
    /// Whether the name or the picture is told.
    names: u8,
}

impl State<'_, '_> {
    /// Collects what is wanted of a state: where it differs from that before, and what the old choice didn't want, if that
    /// was another.
    fn collect(
        &mut self,
        (before, end): (Option<StateRoot>, StateRoot),
        old: Option<&[Arc<Selection>]>,
        is_gap: bool,
    ) -> Result<(), StoreError> {
        let Self { view, room, wish, .. } = *self;
        let Some(before) = before else {
            self.names = NAME | AVATAR;
            return self.collect_all(end, &[]);
        };
        // Whoever has a gap has to ask anew who is in the room.
        let has_members = !is_gap && wish.state.iter().any(|selection| selection.lazy);
        view.state_difference(room, before, end, |key, _, after| {
            let name = view.key_name(room, key)?;
            let state_key = name.state_key.as_deref().unwrap_or_default();
            self.names |= match (name.kind.as_str(), state_key) {
                ("m.room.name", "") => NAME,
                ("m.room.avatar", "") => AVATAR,
                _ => 0,
            };
            let is_wanted = wish.state.iter().any(|selection| selection.has(&name.kind, state_key));
            if is_wanted || (has_members && name.kind == MEMBER) {
                match after {
                    Some(number) => _ = self.told.insert(number),
                    None => self.gone.push(name),
                }
            }
            Ok(())
        })?;
        old.map_or(Ok(()), |old| self.collect_all(end, old))
    }

    /// Collects all that is wanted of a state and was not wanted before.
    fn collect_all(&mut self, root: StateRoot, old: &[Arc<Selection>]) -> Result<(), StoreError> {
        let Self { view, room, wish, .. } = *self;
        let wanted = |kind: &str, key: &str| {
            wish.state.iter().any(|selection| selection.has(kind, key))
                && !old.iter().any(|selection| selection.has(kind, key))
        };
        if wish.state.iter().any(|selection| selection.is_open_beyond(old)) {
            for entry in view.state(room, root) {
                let (key, number) = entry?;
                let name = view.key_name(room, key)?;
                if wanted(&name.kind, name.state_key.as_deref().unwrap_or_default()) {
                    self.told.insert(number);
                }
            }
            return Ok(());
        }
        for (kind, key) in wish.state.iter().flat_map(|selection| selection.named()) {
            if wanted(kind, key) {
                self.told.extend(view.state_event(room, root, kind, key)?);
            }
        }
        Ok(())
    }

    /// Adds the members whom events are of, if members are told as they become of interest, unless the client had them; gives
    /// those that it has from now on.
    fn add_members(
        &mut self,
        root: StateRoot,
        events: &[VisibleEvent],
        had: &[ToldMember],
    ) -> Result<Vec<EventNumber>, StoreError> {
        let mut added = Vec::new();
        if !self.wish.state.iter().any(|selection| selection.lazy) {
            return Ok(added);
        }
        let mut members = BTreeSet::new();
        for event in events {
            members.insert(event.pdu().sender().as_str());
            if *event.pdu().kind() == TimelineEventType::RoomMember {
                members.extend(event.pdu().state_key());
            }
        }
        for member in members {
            let number = self.view.state_event(self.room, root, MEMBER, member)?;
            if let Some(number) = number.filter(|number| !had.contains(&(self.room, *number))) {
                self.told.insert(number);
                added.push(number);
            }
        }
        Ok(added)
    }
}

/// A text, if there is one.
struct Text(Option<String>);

impl Text {
    /// How it is told: that there is none is left out unless the client may know another.
    fn or_unset(self, is_known: bool) -> Option<Option<String>> {
        (self.0.is_some() || is_known).then_some(self.0)
    }
}

const MEMBER: &str = "m.room.member";
const NAME: u8 = 1;
const AVATAR: u8 = 2;
/// The types of events that show that a room is in use.
const BUMPS: [&str; 7] = [
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
];
