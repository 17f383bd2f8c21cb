use State::{Offline, Online, Unavailable};

use super::*;
use crate::base::clock::Timestamp;

const ALICE: UserNumber = UserNumber(1);
const PHONE: DeviceNumber = DeviceNumber(1);
const LAPTOP: DeviceNumber = DeviceNumber(2);

/// People, and somebody who hears of them.
struct Story {
    people: People,
    count: Count,
    now: Duration,
    heard: Option<u64>,
}

impl Story {
    fn new() -> Self {
        Self { people: People::default(), count: Count::new(Timestamp(7)), now: Duration::ZERO, heard: None }
    }

    /// Lets time pass.
    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn state(&self) -> State {
        self.people.seen(ALICE, self.now).shown.state
    }

    fn begin(&mut self, device: DeviceNumber, state: State) {
        self.people.begin(ALICE, device, state, self.now);
    }

    fn end(&mut self, device: DeviceNumber) {
        self.people.end(ALICE, device, self.now);
    }

    fn say(&mut self, device: DeviceNumber, state: State) {
        self.people.say(ALICE, device, (state, None), self.now);
    }

    fn act(&mut self) {
        self.people.act(ALICE, self.now);
    }

    /// What is news: states, whether it is loud, and whether they are active.
    fn news(&mut self) -> Vec<(State, bool, bool)> {
        self.people.settle(&self.count, self.now);
        let span = self.count.since(self.heard);
        self.heard = Some(span.until);
        let (changes, _) = self.people.changes(span, self.now);
        changes.iter().map(|c| (c.seen.shown.state, c.is_loud, c.seen.shown.active)).collect()
    }
}

#[test]
fn users_of_other_servers_leave_a_place_for_ours() {
    let mut story = Story::new();
    let told = |state| Elsewhere { state, active: false, status: None, idle: None };
    let user = |number: usize| UserNumber(1_000 + number as u32);
    for number in 0..=limits::PRESENCE_REMOTE {
        story.people.hear(user(number), told(Online), story.now);
    }
    let known = |story: &Story, number| story.people.people.contains_key(&user(number));
    assert!(known(&story, 0) && !known(&story, limits::PRESENCE_REMOTE));
    story.begin(PHONE, Online);
    assert_eq!(story.state(), Online);
    // Whoever went gives way, once that is shown; nobody is remembered only to be gone.
    story.people.hear(user(0), told(Offline), story.now);
    story.wait(60);
    story.people.settle(&story.count, story.now);
    story.people.hear(user(limits::PRESENCE_REMOTE), told(Offline), story.now);
    assert!(!known(&story, limits::PRESENCE_REMOTE));
    story.people.hear(user(limits::PRESENCE_REMOTE), told(Unavailable), story.now);
    assert!(known(&story, limits::PRESENCE_REMOTE) && !known(&story, 0));
    story.wait(limits::PRESENCE_REMOTE_TIME.as_secs());
    assert_eq!(story.people.seen(user(1), story.now).shown.state, Offline);
}

#[test]
fn one_is_there_while_one_syncs_and_a_moment_longer() {
    let mut story = Story::new();
    story.begin(PHONE, Online);
    story.wait(120);
    assert_eq!(story.state(), Online);
    story.end(PHONE);
    story.wait(29);
    assert_eq!(story.state(), Online);
    story.wait(1);
    assert_eq!(story.state(), Offline);
}

#[test]
fn the_most_present_device_counts() {
    let mut story = Story::new();
    story.begin(LAPTOP, Online);
    story.say(LAPTOP, Unavailable);
    assert_eq!(story.state(), Unavailable);
    story.begin(PHONE, Online);
    assert_eq!(story.state(), Online);
    story.say(LAPTOP, Unavailable);
    assert_eq!(story.state(), Online, "the phone is not idle");
    story.say(PHONE, Offline);
    assert_eq!(story.state(), Unavailable);
    story.say(LAPTOP, Offline);
    assert_eq!(story.state(), Offline);
}

#[test]
fn whoever_does_nothing_is_idle_until_they_do_something() {
    let mut story = Story::new();
    story.begin(PHONE, Online);
    story.wait(5 * 60);
    assert_eq!(story.state(), Unavailable);
    story.end(PHONE);
    story.begin(PHONE, Online);
    assert_eq!(story.state(), Unavailable, "to go on syncing is to do nothing");
    story.say(LAPTOP, Unavailable);
    assert_eq!(story.state(), Unavailable, "nor is it to say that one is idle");
    story.act();
    assert_eq!(story.state(), Online);
    story.begin(PHONE, Unavailable);
    story.say(PHONE, Unavailable);
    story.end(LAPTOP);
    story.wait(30);
    assert_eq!(story.state(), Unavailable);
    story.begin(PHONE, Online);
    assert_eq!(story.state(), Online, "a device that is idle no longer is used");
}

#[test]
fn what_was_said_holds_as_long_as_one_is_there() {
    for said in [Unavailable, Offline] {
        let mut story = Story::new();
        story.say(PHONE, Online);
        story.begin(PHONE, Online);
        story.say(PHONE, said);
        story.begin(PHONE, Online);
        story.end(PHONE);
        assert_eq!(story.state(), said, "whatever is synced");
        story.end(PHONE);
        story.wait(30);
        story.begin(PHONE, Online);
        assert_eq!(story.state(), Online, "it is another stay");
    }
}

#[test]
fn whoever_seems_away_is_not_seen_acting() {
    let mut story = Story::new();
    story.begin(PHONE, Online);
    story.say(PHONE, Offline);
    story.wait(10);
    story.act();
    let seen = story.people.seen(ALICE, story.now);
    assert_eq!((seen.shown.state, seen.idle), (Offline, Some(Duration::from_secs(10))));
}

#[test]
fn news_come_in_rounds_and_are_those_of_the_moment() {
    let mut story = Story::new();
    story.begin(PHONE, Online);
    assert_eq!(story.news(), [(Online, true, true)]);
    story.say(PHONE, Unavailable);
    assert_eq!(story.people.due(), Some(Duration::ZERO), "somebody is to be woken");
    assert_eq!(story.people.take_loud(), [ALICE]);
    assert_eq!(story.people.due(), Some(Duration::from_secs(2)));
    assert_eq!(story.news(), []);
    story.say(PHONE, Offline);
    story.wait(2);
    assert_eq!(story.news(), [(Offline, true, false)]);
    story.say(PHONE, Online);
    story.say(PHONE, Offline);
    story.wait(2);
    assert_eq!(story.news(), [], "who came and went came and went");
}

#[test]
fn time_alone_makes_news_and_activity_none_that_wakes() {
    let mut story = Story::new();
    story.begin(PHONE, Online);
    story.news();
    story.people.take_loud();
    story.wait(59);
    story.act();
    assert_eq!((story.news(), story.people.due()), (vec![], Some(Duration::from_secs(119))));
    story.wait(60);
    assert_eq!(story.news(), [(Online, false, false)]);
    story.wait(2);
    story.act();
    assert_eq!(story.news(), [(Online, false, true)]);
    assert!(story.people.take_loud().is_empty());
    story.wait(300);
    assert_eq!(story.news(), [(Unavailable, true, false)]);
    story.end(PHONE);
    story.wait(30);
    assert_eq!(story.news(), [(Offline, true, false)]);
    story.people.take_loud();
    assert_eq!(story.people.due(), None, "nothing is left to wait for");
    story.heard = None;
    assert_eq!(story.news(), [], "who is away is no news to somebody new");
}

#[test]
fn who_does_not_come_back_after_a_start_has_gone() {
    let mut story = Story::new();
    let until = Duration::from_secs(30);
    story.people.recall([ALICE, UserNumber(2)], until);
    story.begin(PHONE, Online);
    assert_eq!(story.news(), [(Online, true, true)]);
    story.wait(30);
    assert_eq!(story.news(), [(Offline, true, false)], "the other one");
}

#[test]
fn there_is_a_place_for_so_many() {
    let mut story = Story::new();
    for user in 1..=limits::PRESENCE_USERS as u32 {
        story.people.begin(UserNumber(user), PHONE, Online, story.now);
    }
    let late = UserNumber(u32::MAX);
    story.people.begin(late, PHONE, Online, story.now);
    assert_eq!(story.people.seen(late, story.now), Seen::default());
    story.end(PHONE);
    story.wait(30);
    story.news();
    story.people.begin(late, PHONE, Online, story.now);
    assert_eq!(story.people.seen(late, story.now).shown.state, Online);
    assert_eq!((story.people.people.len(), story.state()), (limits::PRESENCE_USERS, Offline));
    for device in 1..=limits::PRESENCE_DEVICES as u64 + 1 {
        story.people.begin(late, DeviceNumber(device), Online, story.now);
    }
    assert_eq!(story.people.people[&late].devices.len(), limits::PRESENCE_DEVICES);
}
