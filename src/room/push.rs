//! Which push rule an event matches. Matching takes a bounded number of steps, whatever rules somebody made.
//! <https://spec.matrix.org/v1.19/client-server-api/#push-rules>

use std::{
    collections::{HashMap, HashSet},
    ops::RangeBounds,
};

use ruma::{
    RoomId, UInt, UserId,
    push::{AnyPushRuleRef, PushCondition, Ruleset, ScalarJsonValue},
};
use serde_json::Value;

use crate::base::{
    glob::{self, Wildcards},
    limits,
};

/// What an event is matched with, besides itself.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub room_id: &'a RoomId,
    /// Those who are in the room.
    pub members: u32,
    /// Whose rules these are, and their name in the room.
    pub user_id: &'a UserId,
    pub display_name: Option<&'a str>,
    /// Whether the sender may notify everybody: each kind of notification needs a level of its own.
    pub may_notify: &'a dyn Fn(&str) -> bool,
    /// Whether the user follows the event's thread; none if it is in none, or if nothing of theirs knows how to follow one.
    pub follows_thread: &'a dyn Fn() -> Option<bool>,
}

/// The first enabled rule that matches an event, JSON; none for what the user sent. The steps that it
/// took are taken from `steps`.
pub fn matching<'r>(
    rules: &'r Ruleset,
    event: &Value,
    context: &Context<'_>,
    steps: &mut usize,
) -> Option<AnyPushRuleRef<'r>> {
    let sender = event["sender"].as_str()?;
    if sender == context.user_id.as_str() {
        return None;
    }
    let mut matcher = Matcher { event, context, steps: limits::PUSH_RULE_STEPS };
    let matching = rules.iter().filter(|rule| rule.enabled()).find(|rule| match rule {
        AnyPushRuleRef::Override(rule) => matcher.all(&rule.conditions),
        AnyPushRuleRef::PostContent(rule) => matcher.all(&rule.conditions),
        AnyPushRuleRef::Underride(rule) => matcher.all(&rule.conditions),
        AnyPushRuleRef::Content(rule) => matcher.is_match("content.body", &rule.pattern),
        AnyPushRuleRef::Room(rule) => rule.rule_id == *context.room_id,
        AnyPushRuleRef::Sender(rule) => rule.rule_id == sender,
        _ => false,
    });
    *steps = steps.saturating_sub(limits::PUSH_RULE_STEPS - matcher.steps);
    matching
}

struct Matcher<'a> {
    event: &'a Value,
    context: &'a Context<'a>,
    /// Steps that are left; without any, nothing matches.
    steps: usize,
}

impl<'a> Matcher<'a> {
    fn all(&mut self, conditions: &[PushCondition]) -> bool {
        conditions.iter().all(|condition| self.holds(condition))
    }

    fn holds(&mut self, condition: &PushCondition) -> bool {
        match condition {
            PushCondition::EventMatch(data) => self.is_match(&data.key, &data.pattern),
            PushCondition::RoomMemberCount(data) => data.is.contains(&UInt::from(self.context.members)),
            PushCondition::SenderNotificationPermission(data) => (self.context.may_notify)(data.key.as_ref()),
            PushCondition::ThreadSubscription(data) => {
                (self.context.follows_thread)() == Some(data.subscribed)
            }
            PushCondition::EventPropertyIs(data) => {
                self.property(&data.key).is_some_and(|value| is(value, &data.value))
            }
            PushCondition::EventPropertyContains(data) => {
                let values = self.property(&data.key).and_then(Value::as_array);
                let values = values.filter(|values| self.take(values.len()));
                values.is_some_and(|values| values.iter().any(|value| is(value, &data.value)))
            }
            condition if condition.kind() == "contains_display_name" => {
                let name = self.context.display_name.filter(|name| !name.is_empty());
                let body = self.property("content.body").and_then(Value::as_str);
                name.zip(body).is_some_and(|(name, body)| {
                    // A name is no pattern.
                    self.take(body.len()) && has_word(&body.to_lowercase(), &name.to_lowercase())
                })
            }
            _ => false,
        }
    }

    /// Whether a property, a text, matches a pattern, without regard to case.
    fn is_match(&mut self, key: &str, pattern: &str) -> bool {
        let value = if key == "room_id" {
            Some(self.context.room_id.as_str())
        } else {
            self.property(key).and_then(Value::as_str)
        };
        let Some(value) = value else { return false };
        let is_body = key == "content.body";
        let is_word = is_body && !pattern.contains(['*', '?']);
        let steps = if is_word { value.len() } else { value.len().saturating_mul(pattern.len()) };
        if !self.take(steps.max(value.len())) {
            return false;
        }
        let (value, pattern) = (value.to_lowercase(), pattern.to_lowercase());
        if !is_body {
            glob::matches(&pattern, &value, Wildcards::StarAndQuestionMark)
        } else if is_word {
            has_word(&value, &pattern)
        } else {
            has_words(&value, &pattern)
        }
    }

    /// A property of the event by its path, whose dots within a name have a backslash before them.
    /// <https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths>
    fn property(&mut self, path: &str) -> Option<&'a Value> {
        if !self.take(path.len() + 1) {
            return None;
        }
        let (mut value, mut name, mut characters) = (self.event, String::new(), path.chars());
        loop {
            match characters.next() {
                Some('\\') => match characters.next() {
                    Some(escaped @ ('.' | '\\')) => name.push(escaped),
                    other => {
                        name.push('\\');
                        name.extend(other);
                    }
                },
                Some('.') => value = value.as_object()?.get(&std::mem::take(&mut name))?,
                Some(character) => name.push(character),
                None => return value.as_object()?.get(&name),
            }
        }
    }

    fn take(&mut self, steps: usize) -> bool {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or_default();
        left.is_some()
    }
}

fn is(value: &Value, wanted: &ScalarJsonValue) -> bool {
    match (value, wanted) {
        (Value::Null, ScalarJsonValue::Null) => true,
        (Value::Bool(value), ScalarJsonValue::Bool(wanted)) => value == wanted,
        (Value::String(value), ScalarJsonValue::String(wanted)) => value == wanted,
        (Value::Number(value), ScalarJsonValue::Integer(wanted)) => value.as_i64() == Some((*wanted).into()),
        _ => false,
    }
}

/// Whether a text holds another that starts and ends at a word's boundary.
fn has_word(text: &str, word: &str) -> bool {
    if word.is_empty() {
        return false;
    }
    text.match_indices(word).any(|(start, _)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + word.len()..].chars().next());
        !before.is_some_and(is_of_word) && !after.is_some_and(is_of_word)
    })
}

/// Whether a part of a text that starts and ends at a word's boundary matches a pattern. Every start is followed at
/// once, in a bit for each character of the pattern: bit n means that n of them were found, stars aside.
fn has_words(text: &str, pattern: &str) -> bool {
    let length = pattern.chars().filter(|character| *character != '*').count();
    let nothing = vec![0_u64; length / 64 + 1];
    // Where a star lets anything pass, and where each character leads; any other leads where a question mark does.
    let (mut stars, mut any, mut leads) = (nothing.clone(), nothing.clone(), leads(pattern, text, &nothing));
    let set = |bits: &mut [u64], at: usize| bits[at / 64] |= 1 << (at % 64);
    let mut at = 0;
    for character in pattern.chars() {
        match character {
            '*' => set(&mut stars, at),
            '?' => set(&mut any, at + 1),
            _ => {
                if let Some(leads) = leads.get_mut(&character) {
                    set(leads, at + 1);
                }
            }
        }
        at += usize::from(character != '*');
    }
    let (mut found, mut before, mut rest) = (nothing.clone(), None, text.chars());
    loop {
        let next = rest.clone().next();
        found[0] |= u64::from(!before.is_some_and(is_of_word));
        if found[length / 64] >> (length % 64) & 1 == 1 && !next.is_some_and(is_of_word) {
            return true;
        }
        let Some(next) = rest.next() else { return false };
        let leads = leads.get(&next).unwrap_or(&nothing);
        let mut carried = 0;
        for (((found, stars), any), leads) in found.iter_mut().zip(&stars).zip(&any).zip(leads) {
            let moved = *found << 1 | carried;
            carried = *found >> 63;
            *found = moved & (any | leads) | *found & stars;
        }
        before = Some(next);
    }
}

/// A place for where each character leads that a pattern and a text have in common: of others there may be so many that
/// they fill the memory.
fn leads(pattern: &str, text: &str, nothing: &[u64]) -> HashMap<char, Vec<u64>> {
    let in_pattern: HashSet<char> = pattern.chars().collect();
    let mut leads = HashMap::new();
    for character in text.chars().filter(|character| in_pattern.contains(character)) {
        leads.entry(character).or_insert_with(|| nothing.to_vec());
    }
    leads
}

/// <https://spec.matrix.org/v1.19/client-server-api/#conditions-1>
fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::{
        push::{Action, NewConditionalPushRule, NewPatternedPushRule, NewPushRule, NewSimplePushRule},
        room_id, user_id,
    };
    use serde_json::json;

    use super::*;

    fn message(body: &str) -> Value {
        json!({
            "type": "m.room.message",
            "sender": "@bob:x",
            "content": {"msgtype": "m.text", "body": body, "m.mentions": {}},
        })
    }

    /// The id of the rule that Alice's rules give.
    fn matched(rules: &Ruleset, event: &Value, members: u32) -> Option<String> {
        matched_in(rules, event, members, None)
    }

    /// The same where she follows the event's thread or not.
    fn matched_in(rules: &Ruleset, event: &Value, members: u32, follows: Option<bool>) -> Option<String> {
        let context = Context {
            room_id: room_id!("!r:x"),
            members,
            user_id: user_id!("@alice:x"),
            display_name: Some("Alice (away)"),
            may_notify: &|key| key == "room",
            follows_thread: &|| follows,
        };
        let mut steps = limits::PUSH_RULE_STEPS;
        matching(rules, event, &context, &mut steps).map(|rule| rule.rule_id().to_owned())
    }

    fn conditions(conditions: Value) -> Ruleset {
        let mut rules = Ruleset::server_default(user_id!("@alice:x"));
        let conditions = serde_json::from_value(conditions).unwrap();
        let rule = NewConditionalPushRule::new("rule".to_owned(), conditions, vec![Action::Notify]);
        rules.insert(NewPushRule::Override(rule), None, None).unwrap();
        rules
    }

    fn holds(condition: Value, event: &Value) -> bool {
        matched(&conditions(json!([condition])), event, 3).as_deref() == Some("rule")
    }

    #[test]
    fn the_specification_s_rules() {
        let rules = Ruleset::server_default(user_id!("@alice:x"));
        let rule = |event: Value, members| matched(&rules, &event, members);
        assert_eq!(rule(message("hi"), 3).as_deref(), Some(".m.rule.message"));
        assert_eq!(rule(message("hi"), 2).as_deref(), Some(".m.rule.room_one_to_one"));
        let mut notice = message("hi");
        notice["content"]["msgtype"] = json!("m.notice");
        assert_eq!(rule(notice, 3).as_deref(), Some(".m.rule.suppress_notices"));
        let mut mention = message("hi");
        mention["content"]["m.mentions"] = json!({"user_ids": ["@carol:x", "@alice:x"]});
        assert_eq!(rule(mention, 3).as_deref(), Some(".m.rule.is_user_mention"));
        let mut room = message("hi");
        room["content"]["m.mentions"] = json!({"room": true});
        assert_eq!(rule(room, 3).as_deref(), Some(".m.rule.is_room_mention"));
        let mut own = message("hi");
        own["sender"] = json!("@alice:x");
        assert_eq!(rule(own, 3), None);
        let encrypted = json!({"type": "m.room.encrypted", "sender": "@bob:x", "content": {}});
        assert_eq!(rule(encrypted, 3).as_deref(), Some(".m.rule.encrypted"));
        let invite = json!({
            "type": "m.room.member", "sender": "@bob:x", "state_key": "@alice:x", "content": {"membership": "invite"},
        });
        assert_eq!(rule(invite, 3).as_deref(), Some(".m.rule.invite_for_me"));
        let reaction = json!({"type": "m.reaction", "sender": "@bob:x", "content": {}});
        assert_eq!(rule(reaction, 3).as_deref(), Some(".m.rule.reaction"));
    }

    #[test]
    fn a_word_is_found_where_it_is_one() {
        let body = |pattern: &str, text: &str| {
            let mut rules = Ruleset::new();
            let rule = NewPatternedPushRule::new("rule".to_owned(), pattern.to_owned(), vec![]);
            rules.insert(NewPushRule::Content(rule), None, None).unwrap();
            matched(&rules, &message(text), 3).is_some()
        };
        for (pattern, text) in [
            ("tea", "Tea?"),
            ("tea", "teapot, tea"),
            ("ex*ple", "exple"),
            ("ex*ple", "An exciting triple-whammy"),
            ("ex*ple", "An example event."),
            ("t?a", "tüa"),
            ("lunc?*", "Lunch plans"),
            ("über", "naüber über"),
            ("*", "x"),
            ("a?", "ab"),
            ("?*?", "ab"),
            (&format!("{}*z", "?".repeat(64)), &format!("{}yz", "ü".repeat(64))),
            (&format!("{}*z", "a".repeat(200)), &format!("{} b z", "a".repeat(200))),
        ] {
            assert!(body(pattern, text), "{pattern} in {text}");
        }
        for (pattern, text) in [
            ("tea", "teapot"),
            ("tea", "instead"),
            ("tea", "tea_time"),
            ("ex*ple", "hexample"),
            ("t?a", "tea1"),
            ("", "x"),
            ("tea", ""),
            ("a?", "a"),
            ("?*?", "a"),
            (&format!("{}*z", "?".repeat(64)), &format!("{}z", "y".repeat(63))),
            (&format!("{}*z", "a".repeat(200)), &format!("{}z", "a".repeat(199))),
        ] {
            assert!(!body(pattern, text), "{pattern} in {text}");
        }
    }

    proptest! {
        /// Against every part of the text, one by one.
        #[test]
        fn words_are_found_wherever_they_are(text in "[ab_ ü]{0,12}", pattern in "[ab ü*?]{1,8}") {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let is_boundary = |at: usize, part: &str| {
                let (before, after) = (text[..at].chars().next_back(), text[at + part.len()..].chars().next());
                !before.is_some_and(is_of_word) && !after.is_some_and(is_of_word)
            };
            let expected = ends.iter().flat_map(|start| ends.iter().map(move |end| (*start, *end))).any(|(start, end)| {
                start <= end
                    && is_boundary(start, &text[start..end])
                    && glob::matches(&pattern, &text[start..end], Wildcards::StarAndQuestionMark)
            });
            prop_assert_eq!(has_words(&text, &pattern), expected);
        }
    }

    // <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>
    #[test]
    fn threads_notify_those_who_follow_them_whatever_the_room_s_rule_says() {
        let mut rules = Ruleset::server_default(user_id!("@alice:x"));
        let word = NewPatternedPushRule::new("lunch".to_owned(), "lunch".to_owned(), vec![Action::Notify]);
        rules.insert(NewPushRule::Content(word), None, None).unwrap();
        let quiet = NewSimplePushRule::new(room_id!("!r:x").to_owned(), vec![]);
        rules.insert(NewPushRule::Room(quiet), None, None).unwrap();
        let mut mention = message("hi");
        mention["content"]["m.mentions"] = json!({"user_ids": ["@alice:x"]});
        for (event, follows, rule) in [
            (&message("hi"), None, "!r:x"),
            (&message("hi"), Some(false), ".io.element.msc4306.rule.unsubscribed_thread"),
            (&message("hi"), Some(true), ".io.element.msc4306.rule.subscribed_thread"),
            (&message("lunch"), Some(false), "lunch"),
            (&mention, Some(false), ".m.rule.is_user_mention"),
        ] {
            assert_eq!(matched_in(&rules, event, 3, follows).as_deref(), Some(rule), "{event} {follows:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_characters_takes_no_more_than_its_text() {
        let pattern: String = ('\u{4e00}'..'\u{9e00}').chain(['*']).collect();
        assert_eq!(leads(&pattern, "a \u{4e00}", &[0; 320]).len(), 1);
        assert!(
            has_words("a \u{4e00}\u{4e01}, b", "\u{4e00}*\u{4e01}") && !has_words("a \u{4e00}", &pattern)
        );
    }

    #[test]
    fn properties_are_found_and_compared() {
        let event = json!({
            "type": "m.room.topic",
            "sender": "@bob:x",
            "content": {"topic": "Lunch plans", "m.federate": true, "n": 7, "list": ["a", 1], "none": null, "a\\b": "x"},
        });
        let is_match = |key: &str, pattern: &str| {
            holds(json!({"kind": "event_match", "key": key, "pattern": pattern}), &event)
        };
        assert!(
            is_match("content.topic", "lunc?*") && is_match("room_id", "!r:x") && is_match("type", "m.*")
        );
        assert!(!is_match("content.topic", "lunch") && !is_match("content.nothing", "*"));
        assert!(!is_match("content.n", "*") && !is_match("content", "*") && is_match("content.a\\\\b", "x"));
        let property = |kind: &str, key: &str, value: Value| {
            holds(json!({"kind": kind, "key": key, "value": value}), &event)
        };
        assert!(property("event_property_is", "content.m\\.federate", json!(true)));
        assert!(property("event_property_is", "content.n", json!(7)));
        assert!(property("event_property_is", "content.none", json!(null)));
        assert!(!property("event_property_is", "content.topic", json!("lunch plans")), "exactly");
        assert!(!property("event_property_is", "content.m.federate", json!(true)));
        assert!(property("event_property_contains", "content.list", json!("a")));
        assert!(!property("event_property_contains", "content.list", json!("1")));
        assert!(!holds(json!({"kind": "org.example.unknown"}), &event));
        assert!(holds(json!({"kind": "room_member_count", "is": ">=3"}), &event));
        assert!(!holds(json!({"kind": "room_member_count", "is": "<3"}), &event));
        assert!(holds(json!({"kind": "sender_notification_permission", "key": "room"}), &event));
        assert!(!holds(json!({"kind": "sender_notification_permission", "key": "x"}), &event));
        let name = json!({"kind": "contains_display_name"});
        assert!(holds(name.clone(), &message("ask alice (away)!")));
        assert!(!holds(name, &message("ask alice")));
    }

    #[test]
    fn every_condition_takes_steps() {
        let list: Vec<u32> = (0..10_000).chain([7_777_777]).collect();
        let mut event = message(&format!("{} Alice (away)", "word ".repeat(10_000)));
        event["content"]["list"] = json!(list);
        for condition in [
            json!({"kind": "contains_display_name"}),
            json!({"kind": "event_match", "key": "content.body", "pattern": "word"}),
            json!({"kind": "event_match", "key": "content.body", "pattern": "*"}),
            json!({"kind": "event_property_contains", "key": "content.list", "value": 7_777_777}),
            json!({"kind": "event_property_is", "key": format!("{}content", "no.".repeat(10_000)), "value": null}),
        ] {
            let steps = |times| {
                let rules = conditions(json!(vec![condition.clone(); times]));
                let context = Context {
                    room_id: room_id!("!r:x"),
                    members: 3,
                    user_id: user_id!("@alice:x"),
                    display_name: Some("Alice (away)"),
                    may_notify: &|_| true,
                    follows_thread: &|| None,
                };
                let mut matcher =
                    Matcher { event: &event, context: &context, steps: limits::PUSH_RULE_STEPS };
                let AnyPushRuleRef::Override(rule) = rules.iter().nth(1).unwrap() else { panic!("ours") };
                let matches = matcher.all(&rule.conditions);
                (matches, limits::PUSH_RULE_STEPS - matcher.steps)
            };
            let (matches, taken) = steps(1);
            assert!(taken >= 10_000, "{condition} takes {taken}");
            if matches {
                assert_eq!(steps(1_000), (false, limits::PUSH_RULE_STEPS), "{condition}");
            }
        }
    }

    #[test]
    fn a_match_tells_what_it_took() {
        let mut rules = Ruleset::new();
        let rule = NewPatternedPushRule::new("rule".to_owned(), "te*".to_owned(), vec![]);
        rules.insert(NewPushRule::Content(rule), None, None).unwrap();
        let context = Context {
            room_id: room_id!("!r:x"),
            members: 3,
            user_id: user_id!("@alice:x"),
            display_name: None,
            may_notify: &|_| false,
            follows_thread: &|| None,
        };
        let mut steps = 1_000;
        assert!(matching(&rules, &message("tea"), &context, &mut steps).is_some());
        assert!((900..1_000).contains(&steps), "{steps}");
        assert!(matching(&rules, &message(&"a".repeat(1_000)), &context, &mut steps).is_none());
        assert_eq!(steps, 0, "never below");
    }

    #[test]
    fn hostile_rules_end_soon() {
        let mut rules = Ruleset::new();
        for n in 0..200 {
            let pattern = "*a?".repeat(100);
            let rule = NewPatternedPushRule::new(n.to_string(), pattern, vec![]);
            rules.insert(NewPushRule::Content(rule), None, None).unwrap();
        }
        assert_eq!(matched(&rules, &message(&"a b ".repeat(15_000)), 3), None);
        assert_eq!(matched(&rules, &message(&"a".repeat(60_000)), 3), None);
    }
}
