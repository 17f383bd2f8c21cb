//! What a user may see of a room, computed from its bare events by the letter of the specification.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A room's events, and what the specification lets a user see of them.
pub(super) struct Truth {
    pub(super) moments: Vec<Moment>,
    user: String,
    pub(super) forgotten: bool,
}

/// An event, and what was around it.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) event: Value,
    pub(super) before: Setting,
    pub(super) after: Setting,
    /// The state after it.
    pub(super) state: State,
}

/// State events by type and state key.
pub(super) type State = BTreeMap<(String, String), Value>;

/// Ids of events that relate to one, by the type of the relation, in their order.
pub(super) type Related = BTreeMap<String, Vec<String>>;

/// What the rules ask of a state.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) visibility: String,
    pub(super) membership: String,
}

impl Truth {
    pub(super) fn of(events: &[Value], user: &str, forgotten: bool) -> Self {
        let mut state = State::new();
        let mut setting = Setting { visibility: "shared".to_owned(), membership: "leave".to_owned() };
        let moments = events.iter().map(|event| {
            let before = setting.clone();
            let kind = event["type"].as_str().unwrap();
            let text = |field: &str| event["content"][field].as_str().unwrap_or_default().to_owned();
            match (kind, event["state_key"].as_str()) {
                ("m.room.history_visibility", Some(_)) => setting.visibility = text("history_visibility"),
                ("m.room.member", Some(key)) if key == user => setting.membership = text("membership"),
                _ => {}
            }
            state.extend(entry(event));
            Moment { event: event.clone(), before, after: setting.clone(), state: state.clone() }
        });
        Self { moments: moments.collect(), user: user.to_owned(), forgotten }
    }

    pub(super) fn now(&self) -> &Moment {
        self.moments.last().unwrap()
    }

    /// The last moment at which the user was in the room, if they were and remember it.
    pub(super) fn end(&self) -> Option<usize> {
        self.moments.iter().rposition(Moment::is_present).filter(|_| !self.forgotten)
    }

    pub(super) fn place(&self, event: &Value) -> usize {
        self.moments.iter().position(|moment| id(&moment.event) == id(event)).unwrap()
    }

    /// Whether the user may see an event. Its own setting counts on either side of it.
    pub(super) fn allows(&self, at: usize) -> bool {
        let Moment { before, after, .. } = &self.moments[at];
        self.allows_by(at, before) || self.allows_by(at, after)
    }

    /// Whether the user may read the whole state after an event. Whoever left knows what they left.
    pub(super) fn allows_state(&self, at: usize) -> bool {
        self.allows_by(at, &self.moments[at].after) || self.end() == Some(at)
    }

    fn allows_by(&self, at: usize, Setting { visibility, membership }: &Setting) -> bool {
        if visibility == "world_readable" {
            return true;
        }
        // Whoever did not join sees nothing else, and whoever left nothing that came later.
        if self.end().is_none_or(|end| end < at) {
            return false;
        }
        match (&visibility[..], &membership[..]) {
            (_, "join") | ("invited", "invite") => true,
            ("invited" | "joined", _) => false,
            _ => self.moments[at + 1..].iter().any(|later| later.after.membership == "join"),
        }
    }

    /// The events from some one on at which the user was in the room.
    pub(super) fn present(&self, from: usize) -> BTreeSet<String> {
        self.some(|at| at >= from && self.moments[at].is_present())
    }

    pub(super) fn visible(&self) -> BTreeSet<String> {
        self.some(|at| self.allows(at))
    }

    /// The event by which the user is out of the room now. By the letter they may not see it unless they were in the
    /// room, but a client has to learn somehow that an invitation is gone.
    fn leaving(&self) -> Option<&Value> {
        let own = self.now().state.get(&self.own_key())?;
        Some(own)
            .filter(|own| own["content"]["membership"] == "leave" || own["content"]["membership"] == "ban")
    }

    fn own_key(&self) -> (String, String) {
        ("m.room.member".to_owned(), self.user.clone())
    }

    /// Adds to what is visible what a sync tells besides.
    pub(super) fn told(&self, visible: BTreeSet<String>) -> BTreeSet<String> {
        visible.into_iter().chain(self.leaving().map(id)).collect()
    }

    /// Checks what a client that played all syncs knows of the room's state.
    pub(super) fn check_told(&self, state: &State, name: &str) {
        let leaving = self.leaving().filter(|_| !self.forgotten);
        if leaving.is_some() {
            assert_eq!(state.get(&self.own_key()), leaving, "{name}");
        }
        if self.end().is_some() {
            let others = |state: &State| {
                let mut state = state.clone();
                state.remove(&self.own_key());
                state
            };
            assert_eq!(others(state), others(self.state().unwrap()), "{name}");
        }
        if self.now().is_present() {
            assert_eq!(state.get(&self.own_key()), self.now().state.get(&self.own_key()), "{name}");
        }
    }

    /// What is met by paging: whoever left gets as far as they followed the room.
    pub(super) fn paged(&self) -> BTreeSet<String> {
        self.some(|at| self.allows(at) && self.end().is_none_or(|end| at <= end))
    }

    /// The first message, to which others relate, and its place.
    pub(super) fn root(&self) -> (usize, String) {
        let is_message = |moment: &Moment| moment.event["type"] == "m.room.message";
        let at = self.moments.iter().position(is_message).unwrap();
        (at, id(&self.moments[at].event))
    }

    /// What relates to that, as far as the user may see it.
    pub(super) fn related(&self) -> Related {
        let (paged, mut related) = (self.paged(), Related::new());
        for Moment { event, .. } in &self.moments {
            if let Some(rel_type) = rel_type(event).filter(|_| paged.contains(&id(event))) {
                related.entry(rel_type.to_owned()).or_default().push(id(event));
            }
        }
        related
    }

    /// The messages of which the user was notified since they are in the room.
    pub(super) fn notified(&self) -> BTreeSet<String> {
        let join = self.moments.iter().rposition(|moment| moment.before.membership != "join");
        let join = join.filter(|_| self.now().after.membership == "join");
        self.some(|at| {
            let event = &self.moments[at].event;
            let loud = event["type"] == "m.room.message" && rel_type(event) != Some("m.replace");
            loud && join.is_some_and(|join| at > join)
        })
    }

    fn some(&self, wanted: impl Fn(usize) -> bool) -> BTreeSet<String> {
        let wanted = (0..self.moments.len()).filter(|at| wanted(*at));
        wanted.map(|at| id(&self.moments[at].event)).collect()
    }

    /// The room's state for the user: as it is, or as it was when they left.
    pub(super) fn state(&self) -> Option<&State> {
        match self.end() {
            Some(end) => Some(&self.moments[end].state),
            None => Some(&self.now().state).filter(|_| self.now().after.visibility == "world_readable"),
        }
    }

    /// The topics of the moments that the user may see.
    pub(super) fn topics(&self) -> BTreeSet<String> {
        let visible = (0..self.moments.len()).filter(|at| self.allows(*at));
        visible
            .filter_map(|at| self.moments[at].state.get(&("m.room.topic".to_owned(), String::new())))
            .map(topic)
            .collect()
    }
}

impl Moment {
    pub(super) fn is_present(&self) -> bool {
        self.before.membership == "join" || self.after.membership == "join"
    }
}

/// Where a state event stands in the state, with what every reader gets of it.
pub(super) fn entry(event: &Value) -> Option<((String, String), Value)> {
    let text = |field: &str| event[field].as_str().map(str::to_owned);
    let (kind, id, content) = (text("type")?, id(event), &event["content"]);
    Some(((kind.clone(), text("state_key")?), json!({"type": kind, "event_id": id, "content": content})))
}

fn rel_type(event: &Value) -> Option<&str> {
    event["content"]["m.relates_to"]["rel_type"].as_str()
}

/// An event's id.
pub(super) fn id(event: &Value) -> String {
    event["event_id"].as_str().unwrap().to_owned()
}

/// The topic that an event sets.
pub(super) fn topic(event: &Value) -> String {
    event["content"]["topic"].as_str().unwrap().to_owned()
}
