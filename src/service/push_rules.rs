//! Push rules: which events a user wants to hear of. They are account data of the type `m.push_rules`; whoever never
//! changed them has the specification's. <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

use ruma::{
    RoomId, UserId,
    push::{
        Action, ConditionalPushRule, EventMatchConditionData, InsertPushRuleError, NewConditionalPushRule,
        NewPushRule, NewSimplePushRule, PushCondition, RemovePushRuleError, RuleKind, Ruleset,
    },
};
use serde::{Deserialize, Serialize};

use super::{App, sessions::Session};
use crate::{
    base::{ids::UserNumber, limits},
    store::{StoreError, Topic, View},
};

/// The type of the account data.
pub const TYPE: &str = "m.push_rules";

/// A change of somebody's rules.
#[derive(Clone, Debug)]
pub enum Change {
    /// Adds a rule or replaces one, in front of or behind another of its kind.
    Insert {
        rule: NewPushRule,
        after: Option<String>,
        before: Option<String>,
    },
    Remove {
        kind: RuleKind,
        id: String,
    },
    SetEnabled {
        kind: RuleKind,
        id: String,
        enabled: bool,
    },
    SetActions {
        kind: RuleKind,
        id: String,
        actions: Vec<Action>,
    },
}

/// Why the rules stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no such push rule")]
    NotFound,
    #[error("there is no such push rule to stand beside")]
    NoNeighbour,
    #[error("the push rule can't be set: {0}")]
    Refused(String),
    #[error("the push rules would be too large")]
    TooLarge,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user's rules.
pub fn ruleset(view: &View<'_>, user: UserNumber, user_id: &UserId) -> Result<Ruleset, StoreError> {
    let default = Ruleset::server_default(user_id);
    let Some(text) = view.account_data(user, None, TYPE)? else { return Ok(default) };
    let content: Content = serde_json::from_str(&text)
        .map_err(|_| StoreError::corrupt("account_data", TYPE.as_bytes(), "these are no push rules"))?;
    let mut rules = content.global;
    // Rules that the specification gained since. ruma forgets those of one kind, in which nobody has rules of their own.
    let mut of_threads = default.postcontent.clone();
    for rule in rules.postcontent.drain(..) {
        if of_threads.contains(rule.rule_id.as_str()) {
            of_threads.replace(rule);
        }
    }
    rules.update_with_server_default(default);
    rules.postcontent = of_threads;
    Ok(rules)
}

/// A user's rules as the content of their account data, JSON.
pub fn content(view: &View<'_>, user: UserNumber, user_id: &UserId) -> Result<String, StoreError> {
    Ok(text(ruleset(view, user, user_id)?))
}

/// The rules of whoever asks.
pub async fn of(app: &App, session: &Session) -> Result<Ruleset, StoreError> {
    let (user, user_id) = (session.number, session.user_id.clone());
    app.store.read(move |view| ruleset(view, user, &user_id)).await
}

/// Changes a user's rules, and wakes their syncs.
pub async fn change(app: &App, session: &Session, change: Change) -> Result<(), ChangeError> {
    let (user, user_id) = (session.number, session.user_id.clone());
    app.store
        .write(move |transaction| {
            let mut rules = ruleset(transaction, user, &user_id)?;
            apply(&mut rules, change.clone())?;
            let text = text(rules);
            if text.len() > limits::PUSH_RULES_BYTES {
                return Err(ChangeError::TooLarge);
            }
            transaction.set_account_data(user, None, TYPE, &text)?;
            // What is new to the user is judged by the rules of now.
            transaction.remove_all_unread(user)?;
            transaction.touch(Topic::User(user));
            Ok(())
        })
        .await
}

/// Adds for a new room what there is for an old one, unless something is there already; gives whether it did.
pub(super) fn follow(rules: &mut Ruleset, old: &RoomId, new: &RoomId) -> bool {
    let mut added = Vec::new();
    if let Some(rule) = rules.room.iter().find(|rule| rule.rule_id == old) {
        let rule_id = new.to_owned();
        added.push((NewPushRule::Room(NewSimplePushRule::new(rule_id, rule.actions.clone())), rule.enabled));
    }
    // Clients silence a room by a rule of these kinds.
    let rule_for_new = |rule: &ConditionalPushRule| {
        let conditions = rule.conditions.iter().map(|condition| of_room(condition, old, new)).collect();
        NewConditionalPushRule::new(new.to_string(), conditions, rule.actions.clone())
    };
    if let Some(rule) = rules.override_.iter().find(|rule| rule.rule_id == old.as_str()) {
        added.push((NewPushRule::Override(rule_for_new(rule)), rule.enabled));
    }
    if let Some(rule) = rules.underride.iter().find(|rule| rule.rule_id == old.as_str()) {
        added.push((NewPushRule::Underride(rule_for_new(rule)), rule.enabled));
    }
    added.retain(|(rule, _)| rules.get(rule.kind(), rule.rule_id()).is_none());
    for (rule, enabled) in &added {
        let (kind, id) = (rule.kind(), rule.rule_id().to_owned());
        let inserted = rules.insert(rule.clone(), None, None).is_ok();
        if inserted && !enabled {
            _ = rules.set_enabled(kind, id, false);
        }
    }
    !added.is_empty()
}

/// The condition, of the new room where it is of the old one.
fn of_room(condition: &PushCondition, old: &RoomId, new: &RoomId) -> PushCondition {
    match condition {
        PushCondition::EventMatch(of) if of.key == "room_id" && of.pattern == old.as_str() => {
            PushCondition::EventMatch(EventMatchConditionData::new(of.key.clone(), new.to_string()))
        }
        other => other.clone(),
    }
}

fn apply(rules: &mut Ruleset, change: Change) -> Result<(), ChangeError> {
    match change {
        Change::Insert { rule, after, before } => {
            let refused = |error: InsertPushRuleError| match error {
                InsertPushRuleError::UnknownRuleId => ChangeError::NoNeighbour,
                error => ChangeError::Refused(error.to_string()),
            };
            rules.insert(rule, after.as_deref(), before.as_deref()).map_err(refused)
        }
        Change::Remove { kind, id } => rules.remove(kind, id).map_err(|error| match error {
            RemovePushRuleError::NotFound => ChangeError::NotFound,
            error => ChangeError::Refused(error.to_string()),
        }),
        Change::SetEnabled { kind, id, enabled } => {
            rules.set_enabled(kind, id, enabled).map_err(|_| ChangeError::NotFound)
        }
        Change::SetActions { kind, id, actions } => {
            rules.set_actions(kind, id, actions).map_err(|_| ChangeError::NotFound)
        }
    }
}

pub(super) fn text(global: Ruleset) -> String {
    serde_json::to_string(&Content { global }).expect("push rules have a JSON text")
}

#[derive(Serialize, Deserialize)]
struct Content {
    global: Ruleset,
}
