//! History visibility: which events of a room a user may see.
//!
//! It is judged by the state at each event, never by the current one. Whatever reaches a client is a
//! [`VisibleEvent`], and only this module makes one.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-5>

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use ruma::{
    OwnedUserId, UserId,
    events::{
        StateEventType,
        room::{history_visibility::HistoryVisibility, member::MembershipState},
    },
};
use serde::Deserialize;

use super::{
    graph::{Graph, State},
    members::{membership, membership_set},
    pdu::Pdu,
    redact::redacted,
    version::Version,
};
use crate::base::ids::{EventNumber, StateRoot};

/// An event that somebody may see, as they may see it.
#[derive(Clone, Debug)]
pub struct VisibleEvent {
    number: EventNumber,
    pdu: Arc<Pdu>,
    membership: Option<MembershipState>,
}

impl VisibleEvent {
    /// Its number.
    pub fn number(&self) -> EventNumber {
        self.number
    }

    /// The event.
    pub fn pdu(&self) -> &Arc<Pdu> {
        &self.pdu
    }

    /// What its redaction leaves of it.
    pub fn redacted(self, version: Version) -> Self {
        Self { pdu: Arc::new(redacted(&self.pdu, version)), ..self }
    }

    /// The membership of whoever sees it when it had just happened; none if it was read as part of a state.
    pub fn membership(&self) -> Option<&MembershipState> {
        self.membership.as_ref()
    }
}

/// What ties a user to a room as they look at one moment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Nothing: they never were in the room, were no more, or forgot it. They see what the world may read.
    Stranger,
    /// They were in the room then, or came later.
    Member {
        /// Whether they were joined at any time after that moment; whoever is joined now was.
        joined_later: bool,
    },
}

/// Judges what one user may see of one room; remembers what it read of each state.
pub struct Eyes<'g, G> {
    graph: &'g G,
    user: OwnedUserId,
    seen: RefCell<HashMap<StateRoot, Moment>>,
}

/// What the state at one moment says of the user.
#[derive(Clone)]
struct Moment {
    visibility: HistoryVisibility,
    membership: MembershipState,
}

impl<'g, G: Graph> Eyes<'g, G> {
    /// The eyes of a user on a room.
    pub fn new(graph: &'g G, user: &UserId) -> Self {
        Self { graph, user: user.to_owned(), seen: RefCell::default() }
    }

    /// The event, if the user may see it. Rejected events and outliers are never seen.
    pub fn event(&self, number: EventNumber, tie: Tie) -> Result<Option<VisibleEvent>, G::Error> {
        let pdu = self.graph.event(number)?;
        let Some(root) = self.graph.state_before(number)?.filter(|_| !pdu.rejected()) else {
            return Ok(None);
        };
        let before = self.moment(root)?;
        let mut after = before.clone();
        if pdu.is_state(&StateEventType::RoomHistoryVisibility, "") {
            after.visibility = visibility_set(&pdu);
        } else if pdu.is_state(&StateEventType::RoomMember, self.user.as_str()) {
            after.membership = membership_set(&pdu).unwrap_or(MembershipState::Leave);
        }
        let visible = before.allows(tie) || after.allows(tie);
        Ok(visible.then_some(VisibleEvent { number, pdu, membership: Some(after.membership) }))
    }

    /// Whether the user may see an event that is no state event, by the state before it. It takes no reading of the
    /// event, and gives no right to.
    pub fn would_see(&self, before: StateRoot, tie: Tie) -> Result<bool, G::Error> {
        Ok(self.moment(before)?.allows(tie))
    }

    /// The user's own membership event, whatever they may see of the room besides; none if it is another event.
    pub fn own_membership(&self, number: EventNumber) -> Result<Option<VisibleEvent>, G::Error> {
        let pdu = self.graph.event(number)?;
        let own = !pdu.rejected() && pdu.is_state(&StateEventType::RoomMember, self.user.as_str());
        let membership = membership_set(&pdu);
        Ok(own.then_some(VisibleEvent { number, pdu, membership }))
    }

    /// The right to read a whole state: the same as to an event of that moment.
    ///
    /// Whoever left reads the state after their leaving by the right to the one before it.
    pub fn state(&self, state: &State, tie: Tie) -> Result<Option<StateAccess>, G::Error> {
        Ok(self.read(state)?.allows(tie).then_some(StateAccess(())))
    }

    fn moment(&self, root: StateRoot) -> Result<Moment, G::Error> {
        if let Some(moment) = self.seen.borrow().get(&root) {
            return Ok(moment.clone());
        }
        let moment = self.read(&State::stored(root))?;
        self.seen.borrow_mut().insert(root, moment.clone());
        Ok(moment)
    }

    fn read(&self, state: &State) -> Result<Moment, G::Error> {
        let visibility = visibility(state, self.graph)?;
        Ok(Moment { visibility, membership: membership(&self.user, state, self.graph)? })
    }
}

/// Judges what one server may see of a room that users of it are in: what any of them may have seen.
///
/// Who asks as a server is not told what those saw who are in the room no more, but for what all members may see.
pub struct ServerEyes<'g, G> {
    graph: &'g G,
    /// Those of its users who are or were anything to the room, as far as they are looked at.
    users: Vec<OwnedUserId>,
    seen: RefCell<HashMap<StateRoot, bool>>,
    /// How often a user may still be looked at; who can't be counts as one who saw nothing.
    looks: Cell<usize>,
}

impl<'g, G: Graph> ServerEyes<'g, G> {
    /// The eyes of a server with these users on a room, which look at so many.
    pub fn new(graph: &'g G, users: Vec<OwnedUserId>, looks: usize) -> Self {
        Self { graph, users, seen: RefCell::default(), looks: Cell::new(looks) }
    }

    /// Whether the server may see all of an event, and not just what a redaction would leave.
    ///
    /// # Errors
    /// A look-up failed.
    pub fn sees(&self, number: EventNumber) -> Result<bool, G::Error> {
        let Some(root) = self.graph.state_before(number)? else { return Ok(false) };
        let before = State::stored(root);
        let known = self.seen.borrow().get(&root).copied();
        let seen = match known {
            Some(seen) => seen,
            None => self.allowed(&visibility(&before, self.graph)?, &before)?,
        };
        self.seen.borrow_mut().insert(root, seen);
        if seen {
            return Ok(true);
        }
        // What changes who may see is seen on either side of the change.
        let pdu = self.graph.event(number)?;
        let Some(key) = pdu.key() else { return Ok(false) };
        let changes = match &key.0 {
            StateEventType::RoomHistoryVisibility => key.1.is_empty(),
            StateEventType::RoomMember => self.users.iter().any(|user| user.as_str() == key.1),
            _ => false,
        };
        if !changes {
            return Ok(false);
        }
        let mut after = before;
        after.set(key, number);
        self.allowed(&visibility(&after, self.graph)?, &after)
    }

    fn allowed(&self, visibility: &HistoryVisibility, state: &State) -> Result<bool, G::Error> {
        let suffices = |membership: &MembershipState| match visibility {
            HistoryVisibility::Invited => {
                matches!(membership, MembershipState::Join | MembershipState::Invite)
            }
            _ => *membership == MembershipState::Join,
        };
        if matches!(visibility, HistoryVisibility::WorldReadable | HistoryVisibility::Shared) {
            return Ok(true);
        }
        for user in &self.users {
            let Some(left) = self.looks.get().checked_sub(1) else { break };
            self.looks.set(left);
            if suffices(&membership(user, state, self.graph)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a state lets everybody read it.
pub fn is_world_readable<G: Graph>(state: &State, graph: &G) -> Result<bool, G::Error> {
    Ok(visibility(state, graph)? == HistoryVisibility::WorldReadable)
}

/// Somebody's right to read one state of a room.
#[derive(Clone, Copy, Debug)]
pub struct StateAccess(());

impl StateAccess {
    /// An event of that state, as it is shown. Soft-failed ones belong to it as others do.
    pub fn event(self, number: EventNumber, pdu: Arc<Pdu>) -> VisibleEvent {
        VisibleEvent { number, pdu, membership: None }
    }
}

impl Moment {
    fn allows(&self, tie: Tie) -> bool {
        if self.visibility == HistoryVisibility::WorldReadable {
            return true;
        }
        let Tie::Member { joined_later } = tie else { return false };
        match (&self.visibility, &self.membership) {
            (_, MembershipState::Join) => true,
            (HistoryVisibility::Shared, _) => joined_later,
            (HistoryVisibility::Invited, membership) => *membership == MembershipState::Invite,
            _ => false,
        }
    }
}

fn visibility<G: Graph>(state: &State, graph: &G) -> Result<HistoryVisibility, G::Error> {
    Ok(match state.entry(graph, &StateEventType::RoomHistoryVisibility, "")? {
        Some(number) => visibility_set(&*graph.event(number)?),
        None => HistoryVisibility::Shared,
    })
}

/// The visibility that an event sets; one that is not understood counts as shared.
fn visibility_set(event: &Pdu) -> HistoryVisibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: HistoryVisibility,
    }
    match event.content_as::<Content>().map(|content| content.history_visibility) {
        Some(HistoryVisibility::_Custom(_)) | None => HistoryVisibility::Shared,
        Some(known) => known,
    }
}

#[cfg(test)]
mod tests {
    use ruma::OwnedEventId;
    use serde_json::json;

    use super::*;
    use crate::room::fixture::{ALICE, CAROL, World};

    const DAVE: &str = "@dave:one.example";

    /// A room with the given visibility and Dave in the given membership, and a message at that time.
    fn scene(visibility: Option<&str>, membership: &str) -> (World, OwnedEventId) {
        let (mut world, mut last) = World::new("12");
        if let Some(visibility) = visibility {
            let content = json!({ "history_visibility": visibility });
            last = world.accept(ALICE, &[&last], "m.room.history_visibility", Some(""), content);
        }
        for step in match membership {
            "join" => &["join"][..],
            "left" => &["join", "leave"],
            "invite" => &["invite"],
            "ban" => &["ban"],
            _ => &[],
        } {
            let sender = if matches!(*step, "invite" | "ban") { ALICE } else { DAVE };
            let content = json!({ "membership": step });
            last = world.accept(sender, &[&last], "m.room.member", Some(DAVE), content);
        }
        last = world.accept(ALICE, &[&last], "m.room.message", None, json!({ "body": "then" }));
        (world, last)
    }

    fn sees(world: &World, id: &OwnedEventId, user: &str, joined_later: bool) -> bool {
        let user = <&UserId>::try_from(user).unwrap();
        let number = world.number(id).unwrap().unwrap();
        Eyes::new(world, user).event(number, Tie::Member { joined_later }).unwrap().is_some()
    }

    // RULES R31
    #[test]
    fn a_server_sees_what_any_of_its_users_could_see_then() {
        let sees = |world: &World, id: &OwnedEventId, users: &[&str]| {
            let users = users.iter().map(|user| OwnedUserId::try_from(*user).unwrap()).collect();
            let number = world.number(id).unwrap().unwrap();
            ServerEyes::new(world, users, 10).sees(number).unwrap()
        };
        for (visibility, memberships) in [
            (Some("world_readable"), &["join", "left", "invite", "ban", "none"][..]),
            (Some("shared"), &["join", "left", "invite", "ban", "none"]),
            (Some("invited"), &["join", "invite"]),
            (Some("joined"), &["join"]),
            (None, &["join", "left", "invite", "ban", "none"]),
        ] {
            for membership in ["join", "left", "invite", "ban", "none"] {
                let (world, message) = scene(visibility, membership);
                let expected = memberships.contains(&membership);
                let users = ["@nobody:one.example", DAVE];
                assert_eq!(sees(&world, &message, &users), expected, "{visibility:?} {membership}");
            }
        }
        let (mut world, last) = scene(Some("joined"), "none");
        let join = world.accept(DAVE, &[&last], "m.room.member", Some(DAVE), json!({ "membership": "join" }));
        assert!(sees(&world, &join, &[DAVE]) && !sees(&world, &join, &["@nobody:one.example"]));
        let users = vec!["@nobody:one.example".try_into().unwrap(), DAVE.try_into().unwrap()];
        for (looks, seen) in [(3, false), (4, true)] {
            let eyes = ServerEyes::new(&world, users.clone(), looks);
            assert_eq!(eyes.sees(world.number(&join).unwrap().unwrap()).unwrap(), seen, "{looks}");
        }
        let outlier = world.make(ALICE, &[&join], "m.room.message", None, json!({}));
        world.outlier(&outlier);
        assert!(!sees(&world, &world.id_of(&outlier), &[DAVE]));
    }

    #[test]
    fn every_visibility_by_every_membership() {
        for (visibility, memberships, later) in [
            (Some("world_readable"), &["join", "left", "invite", "ban", "none"][..], true),
            (Some("shared"), &["join"], true),
            (Some("invited"), &["join", "invite"], false),
            (Some("joined"), &["join"], false),
            (Some("org.example.unknown"), &["join"], true),
            (None, &["join"], true),
        ] {
            for membership in ["join", "left", "invite", "ban", "none"] {
                let (world, message) = scene(visibility, membership);
                let then = memberships.contains(&membership);
                assert_eq!(sees(&world, &message, DAVE, false), then, "{visibility:?} {membership}");
                assert_eq!(
                    sees(&world, &message, DAVE, true),
                    then || later,
                    "{visibility:?} {membership} later"
                );
            }
        }
    }

    #[test]
    fn a_later_setting_changes_nothing_for_earlier_events() {
        let (mut world, message) = scene(Some("joined"), "none");
        let content = json!({ "history_visibility": "world_readable" });
        world.accept(ALICE, &[&message], "m.room.history_visibility", Some(""), content);
        assert!(!sees(&world, &message, DAVE, true));
    }

    #[test]
    fn a_change_of_visibility_is_seen_by_whoever_sees_either_side() {
        for (before, after) in [("world_readable", "joined"), ("joined", "world_readable")] {
            let (mut world, last) = scene(Some(before), "none");
            let content = json!({ "history_visibility": after });
            let change = world.accept(ALICE, &[&last], "m.room.history_visibility", Some(""), content);
            assert!(sees(&world, &change, DAVE, false));
        }
        let (mut world, last) = scene(Some("joined"), "none");
        let content = json!({ "history_visibility": "invited" });
        let change = world.accept(ALICE, &[&last], "m.room.history_visibility", Some(""), content);
        assert!(!sees(&world, &change, DAVE, false));
    }

    #[test]
    fn ones_own_coming_and_going_is_seen_and_others_is_not() {
        let (mut world, last) = scene(Some("joined"), "none");
        let join = world.accept(DAVE, &[&last], "m.room.member", Some(DAVE), json!({ "membership": "join" }));
        let kick =
            world.accept(ALICE, &[&join], "m.room.member", Some(DAVE), json!({ "membership": "leave" }));
        let gone =
            world.accept(ALICE, &[&kick], "m.room.member", Some(CAROL), json!({ "membership": "leave" }));
        assert!(sees(&world, &join, DAVE, false) && sees(&world, &kick, DAVE, false));
        assert!(!sees(&world, &gone, DAVE, false));
        assert!(sees(&world, &gone, CAROL, false));
        assert!(!sees(&world, &join, "@erin:one.example", true), "not her own");
    }

    #[test]
    fn rejected_events_and_outliers_are_never_seen() {
        let (mut world, last) = scene(Some("world_readable"), "none");
        let rejected = world.make(DAVE, &[&last], "m.room.message", None, json!({}));
        let rejected_id = world.id_of(&rejected);
        world.arrive(rejected);
        let outlier = world.make(ALICE, &[&last], "m.room.message", None, json!({}));
        world.outlier(&outlier);
        let outlier_id = world.id_of(&outlier);
        assert!(!sees(&world, &rejected_id, ALICE, true) && !sees(&world, &outlier_id, ALICE, true));
    }

    #[test]
    fn a_stranger_sees_what_the_world_may_read_whatever_they_once_were() {
        for (visibility, expected) in
            [("world_readable", true), ("shared", false), ("invited", false), ("joined", false)]
        {
            for membership in ["join", "left", "invite", "ban", "none"] {
                let (world, message) = scene(Some(visibility), membership);
                let eyes = Eyes::new(&world, <&UserId>::try_from(DAVE).unwrap());
                let number = world.number(&message).unwrap().unwrap();
                assert_eq!(eyes.event(number, Tie::Stranger).unwrap().is_some(), expected);
                assert_eq!(eyes.state(&world.current, Tie::Stranger).unwrap().is_some(), expected);
            }
        }
    }

    #[test]
    fn a_whole_state_is_read_by_whoever_sees_the_events_of_its_moment() {
        for (visibility, membership, expected) in [
            ("shared", "join", true),
            ("shared", "left", false),
            ("shared", "invite", false),
            ("world_readable", "none", true),
            ("invited", "invite", true),
            ("joined", "invite", false),
        ] {
            let (world, _) = scene(Some(visibility), membership);
            let eyes = Eyes::new(&world, <&UserId>::try_from(DAVE).unwrap());
            let tie = Tie::Member { joined_later: false };
            assert_eq!(
                eyes.state(&world.current, tie).unwrap().is_some(),
                expected,
                "{visibility} {membership}"
            );
        }
    }
}
