//! States of a room: tries of numbers, asked by name.

use ruma::UserId;

use super::{
    Membership, RoomRecord,
    codec::Damaged,
    damaged, missing,
    trie::{self, Node, Nodes, NodesMut},
};
use crate::{
    base::ids::{EventNumber, KeyNumber, Position, RoomNumber, StateRoot, UserNumber},
    room::{advance::NEW, graph::State},
    store::{StoreError, Table, Task, Transaction, View},
};

/// The kind of task that says that a room's current state is on its way.
const APPROACH_STATE: &str = "approach-state";

impl View<'_> {
    /// The event at one key of a state. Reads a few nodes, however large the state is.
    pub fn state_event(
        &self,
        room: RoomNumber,
        root: StateRoot,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<EventNumber>, StoreError> {
        match self.key_number(room, kind, Some(state_key))? {
            Some(key) => self.state_entry(room, root, key),
            None => Ok(None),
        }
    }

    /// The event at one key of a state, by the key's number.
    pub fn state_entry(
        &self,
        room: RoomNumber,
        root: StateRoot,
        key: KeyNumber,
    ) -> Result<Option<EventNumber>, StoreError> {
        trie::entry(&self.nodes(room), root, key)
    }

    /// All entries of a state, in an order that depends on nothing but their keys.
    pub fn state(
        &self,
        room: RoomNumber,
        root: StateRoot,
    ) -> impl Iterator<Item = Result<(KeyNumber, EventNumber), StoreError>> {
        trie::Iter::new(self.nodes(room), root)
    }

    /// The entries of a state behind a key, in the same order; all of them if that is none.
    pub fn state_after(
        &self,
        room: RoomNumber,
        root: StateRoot,
        key: Option<KeyNumber>,
    ) -> Result<impl Iterator<Item = Result<(KeyNumber, EventNumber), StoreError>>, StoreError> {
        match key {
            Some(key) => trie::after(self.nodes(room), root, key),
            None => Ok(trie::Iter::new(self.nodes(room), root)),
        }
    }

    /// The entries of a state whose event has a number above `floor`; what holds none of these is not read.
    pub fn state_above(
        &self,
        room: RoomNumber,
        root: StateRoot,
        floor: EventNumber,
    ) -> impl Iterator<Item = Result<(KeyNumber, EventNumber), StoreError>> {
        trie::above(self.nodes(room), root, floor)
    }

    /// How many entries a state has.
    pub fn state_len(&self, room: RoomNumber, root: StateRoot) -> Result<u32, StoreError> {
        trie::len(&self.nodes(room), root)
    }

    /// Calls `visit` with each key in which two states differ, the event in `a` and the event in `b`. Reads only what
    /// differs.
    pub fn state_difference(
        &self,
        room: RoomNumber,
        a: StateRoot,
        b: StateRoot,
        mut visit: impl FnMut(KeyNumber, Option<EventNumber>, Option<EventNumber>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        trie::difference(&self.nodes(room), a, b, &mut |(key, a, b)| visit(key, a, b))
    }

    /// Whether a room's current state is on its way to another one, and so not that of its extremities.
    pub fn is_approaching(&self, room: RoomNumber) -> Result<bool, StoreError> {
        self.has_task(APPROACH_STATE, room.0)
    }

    pub(super) fn nodes(&self, room: RoomNumber) -> RoomNodes<'_> {
        RoomNodes { view: self, room }
    }
}

impl Transaction<'_> {
    /// Stores a state of events that are stored, which nothing refers to yet, and gives its root.
    pub fn keep_state(&mut self, room: RoomNumber, state: &State) -> Result<StateRoot, StoreError> {
        self.store_state(room, state, NEW)
    }

    /// Makes a state the room's current one on the way to that of an event which changes more than one job may write. Until
    /// [`Self::end_approach`] it is not that of the room's extremities.
    pub fn approach_state(&mut self, room: RoomNumber, state: &State) -> Result<(), StoreError> {
        self.add_task(APPROACH_STATE, room.0)?;
        let root = self.keep_state(room, state)?;
        let position = self.next_position();
        let mut record = self.room(room)?;
        self.set_current_state(room, &mut record, root, position)?;
        self.put_room(room, &record);
        Ok(())
    }

    /// Notes that the room's current state is that of its extremities again.
    pub fn end_approach(&mut self, room: RoomNumber) -> Result<(), StoreError> {
        self.finish_task(Task { kind: APPROACH_STATE, subject: room.0, step: 0 })
    }

    /// Stores a state and gives its root. [`NEW`] in it becomes `number`.
    pub(super) fn store_state(
        &mut self,
        room: RoomNumber,
        state: &State,
        number: EventNumber,
    ) -> Result<StateRoot, StoreError> {
        let mut changes = Vec::with_capacity(state.changes.len());
        for ((kind, state_key), event) in &state.changes {
            let key = self.intern_key(room, &kind.to_string(), Some(state_key))?;
            changes.push((key, event.map(|event| if event == NEW { number } else { event })));
        }
        self.update_state(room, state.root, changes)
    }

    /// Stores the state that differs from another one by some entries.
    pub(super) fn update_state(
        &mut self,
        room: RoomNumber,
        root: StateRoot,
        changes: Vec<(KeyNumber, Option<EventNumber>)>,
    ) -> Result<StateRoot, StoreError> {
        if changes.is_empty() {
            return Ok(root);
        }
        trie::update(&mut RoomNodesMut { transaction: self, room }, root, changes)
    }

    /// Makes a stored state the room's current one at `position`, and memberships and how it is listed with it.
    pub(super) fn set_current_state(
        &mut self,
        room: RoomNumber,
        record: &mut RoomRecord,
        root: StateRoot,
        position: Position,
    ) -> Result<(), StoreError> {
        let mut changed = Vec::new();
        self.state_difference(room, record.state, root, |key, before, after| {
            changed.push((key, before, after));
            Ok(())
        })?;
        record.state = root;
        if changed.is_empty() {
            return Ok(());
        }
        let mut kinds = Vec::new();
        for (key, before, after) in changed {
            let Some(event) = after.or(before) else { continue };
            let header = self.header(room, event)?;
            let Some(set) = header.membership else {
                let name = self.key_name(room, key)?;
                kinds.extend(name.state_key.filter(String::is_empty).map(|_| name.kind.into()));
                continue;
            };
            let membership = if after.is_some() { set } else { Membership::Leave };
            let Some(target) = self.target(room, key)? else { continue };
            self.set_membership((room, record), target, membership, event, position)?;
        }
        self.relist_changed(room, record, &kinds)
    }

    /// The user whose membership a key holds; none if its state key is no user id.
    pub(super) fn target(
        &mut self,
        room: RoomNumber,
        key: KeyNumber,
    ) -> Result<Option<UserNumber>, StoreError> {
        let name = self.key_name(room, key)?;
        match <&UserId>::try_from(name.state_key.as_deref().unwrap_or_default()) {
            Ok(user) => self.intern_user(user).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// The nodes of one room's states.
#[derive(Clone, Copy)]
pub(super) struct RoomNodes<'v> {
    view: &'v View<'v>,
    room: RoomNumber,
}

impl Nodes for RoomNodes<'_> {
    type Error = StoreError;

    fn fetch(&self, name: StateRoot) -> Result<Node, StoreError> {
        let key = node_key(self.room, name);
        let value = self.view.get(Table::States, &key)?.ok_or_else(|| missing(Table::States, &key))?;
        Node::decode(&value).map_err(|Damaged| damaged(Table::States, &key))
    }
}

struct RoomNodesMut<'t, 'a> {
    transaction: &'t mut Transaction<'a>,
    room: RoomNumber,
}

impl Nodes for RoomNodesMut<'_, '_> {
    type Error = StoreError;

    fn fetch(&self, name: StateRoot) -> Result<Node, StoreError> {
        self.transaction.nodes(self.room).fetch(name)
    }
}

impl NodesMut for RoomNodesMut<'_, '_> {
    fn put(&mut self, node: &Node) -> StateRoot {
        let bytes = node.encode();
        let name = Node::name(&bytes, self.transaction.secret());
        self.transaction.put(Table::States, &node_key(self.room, name), &bytes);
        name
    }
}

pub(super) fn node_key(room: RoomNumber, name: StateRoot) -> Vec<u8> {
    [&room.to_be_bytes()[..], &name.0].concat()
}
