//! What is told with an event of those that relate to it.
//! <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>
//!
//! Only what the reader may see counts, and nothing that is said by those whom they ignore. The events themselves stay
//! unread, but for the few that are told: the index of relations says who sent each and at which state. One look-up
//! in it is all that an event costs to which nothing relates, or only reactions, which are not summed up.

use ruma::serde::Raw;
use serde_json::value::RawValue;

use super::reader::{Bundled, Reader, Style};
use crate::{
    base::limits,
    room::{
        format::{Aggregations, Reference, ReferenceList, ThreadSummary},
        visibility::VisibleEvent,
    },
    store::{
        StoreError,
        events::{Child, Header, Parent, Place, Relation, RelationKind, StoredEvent},
    },
};

impl Reader<'_> {
    /// Sums up what relates to an event; state events have nothing summed up.
    pub(super) fn aggregations(
        &self,
        stored: &StoredEvent,
        style: Style,
    ) -> Result<Option<Aggregations>, StoreError> {
        let StoredEvent { header, pdu, .. } = stored;
        if style.bundled == Bundled::Nothing || header.is_state {
            return Ok(None);
        }
        let parent = self.view.parent(self.room, pdu.event_id());
        if self.view.first_kind(parent)?.is_none_or(|kind| kind > RelationKind::Thread) {
            return Ok(None);
        }
        let relation = Relation::of(pdu).map(|relation| relation.kind());
        let mut sums = Aggregations { reference: self.references(parent)?, ..Aggregations::default() };
        if header.redacted_by.is_none() && relation != Some(RelationKind::Replace) {
            sums.replace = self.replacement(parent, header, style)?;
        }
        // No thread begins at what relates to something itself, so there is none within another.
        if style.bundled == Bundled::All && relation.is_none() {
            sums.thread = self.thread(parent, header, style)?;
        }
        let some = sums.replace.is_some() || sums.thread.is_some() || sums.reference.is_some();
        Ok(some.then_some(sums))
    }

    /// Whether the user sent an event or said something in the thread of which it is the root.
    pub(super) fn participates(&self, parent: Parent, root: &Header) -> Result<bool, StoreError> {
        let own = self.onlooker.user;
        let mut participates = root.sender == own;
        if !participates {
            self.each((parent, RelationKind::Thread), self.until, self.reach.thread, |child| {
                participates |= child.sender == own;
                Ok(!participates)
            })?;
        }
        Ok(participates)
    }

    /// Where the newest event stands that the user sees of a thread up to a place.
    pub(super) fn newest_in(&self, parent: Parent, until: Place) -> Result<Option<Place>, StoreError> {
        let mut newest = None;
        self.each((parent, RelationKind::Thread), until, self.reach.thread, |child| {
            newest = self.would_see(&child)?.then_some(child.place);
            Ok(newest.is_none())
        })?;
        Ok(newest)
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mreplace-relationships>
    fn replacement(
        &self,
        parent: Parent,
        replaced: &Header,
        style: Style,
    ) -> Result<Option<Box<RawValue>>, StoreError> {
        let mut valid = Vec::new();
        self.each((parent, RelationKind::Replace), self.until, limits::REPLACEMENTS, |child| {
            let own = child.sender == replaced.sender && child.key == replaced.key;
            if child.can_replace && own && self.would_see(&child)? {
                valid.push(child);
            }
            Ok(true)
        })?;
        valid.sort_unstable_by_key(|child| std::cmp::Reverse(child.origin_server_ts));
        for at_once in valid.chunk_by(|a, b| a.origin_server_ts == b.origin_server_ts) {
            let mut numbers = Vec::with_capacity(at_once.len());
            for child in at_once {
                numbers.push((self.view.event_id(self.room, child.number)?, child.number));
            }
            numbers.sort_unstable();
            for (_, number) in numbers.into_iter().rev() {
                if let Some(event) = self.visible(number)? {
                    return self.nested(&event, style, Bundled::Nothing).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mthread-relationships>
    fn thread(
        &self,
        parent: Parent,
        root: &Header,
        style: Style,
    ) -> Result<Option<ThreadSummary>, StoreError> {
        let (mut latest, mut count, mut participated) = (None, 0, root.sender == self.onlooker.user);
        self.each((parent, RelationKind::Thread), self.until, self.reach.thread, |child| {
            participated |= child.sender == self.onlooker.user;
            if self.would_see(&child)? {
                count += 1;
                if latest.is_none() {
                    latest = self.visible(child.number)?;
                }
            }
            Ok(true)
        })?;
        let Some(latest) = latest else { return Ok(None) };
        let latest_event = self.nested(&latest, style, Bundled::InThread)?;
        Ok(Some(ThreadSummary { latest_event, count, current_user_participated: participated }))
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#server-side-aggregation-of-mreference>
    fn references(&self, parent: Parent) -> Result<Option<ReferenceList>, StoreError> {
        let mut chunk = Vec::new();
        self.each((parent, RelationKind::Reference), self.until, limits::REFERENCES, |child| {
            if self.would_see(&child)? {
                chunk.push(Reference { event_id: self.view.event_id(self.room, child.number)? });
            }
            Ok(true)
        })?;
        chunk.reverse();
        Ok((!chunk.is_empty()).then_some(ReferenceList { chunk }))
    }

    fn nested(
        &self,
        event: &VisibleEvent,
        style: Style,
        bundled: Bundled,
    ) -> Result<Box<RawValue>, StoreError> {
        let written: Raw<serde::de::IgnoredAny> = self.write_as(event, Style { bundled, ..style })?;
        Ok(written.into_json())
    }

    /// Visits what relates to an event in one way up to a place, the newest first, as long as `visit` wants more and
    /// the bounds allow.
    fn each(
        &self,
        (parent, kind): (Parent, RelationKind),
        until: Place,
        most: usize,
        mut visit: impl FnMut(Child) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let left = self.reach.left.get();
        let most = most.min(left.max(self.reach.least));
        let mut visited = 0;
        for child in self.view.children(parent, kind, ..=until).rev().take(most) {
            visited += 1;
            if !visit(child?)? {
                break;
            }
        }
        self.reach.left.set(left.saturating_sub(visited));
        Ok(())
    }
}
