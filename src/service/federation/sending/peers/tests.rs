//! Servers that take what they are sent, that don't, and that are too slow for it.

use ruma::server_name;

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn peers() -> Peers {
    Peers::new(Rng::seeded(1))
}

fn item(position: u64) -> Item {
    let (room, number) = (RoomNumber(1), EventNumber(position));
    Item::Event { position: Position(position), room, number, is_arrival: false }
}

fn names(servers: &[&str]) -> Vec<OwnedServerName> {
    servers.iter().map(|server| OwnedServerName::try_from(*server).unwrap()).collect()
}

fn tell(peers: &mut Peers, positions: std::ops::RangeInclusive<u64>, servers: &[&str]) {
    let until = Position(*positions.end());
    let items = positions.map(|position| (item(position), names(servers))).collect();
    peers.tell(News { until, items, ..News::default() }, NOW);
}

fn took(items: usize, behind: Option<Behind>) -> Done {
    Done { items, messages: false, behind, took: true }
}

/// That nothing came back of a transaction that held nothing.
fn unanswered() -> Failure {
    Failure::Unanswered(Again {
        name: "name".to_owned(),
        sent_at: NOW,
        extent: None,
        messages: None,
        greeting: false,
    })
}

/// How far the log would be noted as sent, and who would be noted.
fn note(peers: &mut Peers) -> (u64, Vec<Destination>) {
    let (rows, sent) = peers.take_notes().unwrap();
    (sent.0, rows)
}

#[test]
fn what_is_noted_as_sent_is_sent_or_noted_as_lacking() {
    let mut peers = peers();
    tell(&mut peers, 5..=6, &["slow.example", "dead.example"]);
    assert_eq!(peers.take_notes(), Some((vec![], Position(4))));
    let (slow, dead) = (peers.next(NOW).unwrap(), peers.next(NOW).unwrap());
    assert!(peers.next(NOW).is_none(), "each has one turn at a time");
    peers.failed(&dead, unanswered(), NOW);
    tell(&mut peers, 7..=7, &["slow.example", "dead.example"]);
    let (sent, rows) = note(&mut peers);
    assert_eq!((sent, rows.len()), (4, 1));
    assert_eq!((&rows[0].server, rows[0].behind_since), (&dead.server, Some(Position(4))));
    peers.done(&slow, took(2, None), NOW);
    assert_eq!(note(&mut peers), (6, vec![]));
    let slow = peers.next(NOW).unwrap();
    assert_eq!(slow.items, [item(7)]);
    peers.done(&slow, took(1, None), NOW);
    assert_eq!(note(&mut peers), (7, vec![]));
    assert_eq!(peers.take_notes(), None);
    assert_eq!(peers.count(NOW), Count { waiting: 1, behind: 1, resting: 1 });

    // What could not be noted is noted the next time, and holds the log back.
    peers.not_noted(&rows, Position(4));
    let (sent, rows) = note(&mut peers);
    assert_eq!((sent, rows.len()), (7, 1));
}

#[test]
fn who_is_too_slow_is_caught_up_and_then_told_again_what_comes() {
    let mut peers = peers();
    let many = 2 * limits::SENDING_QUEUE as u64;
    tell(&mut peers, 10..=10, &["slow.example"]);
    let slow = peers.next(NOW).unwrap();
    tell(&mut peers, 11..=many, &["slow.example"]);
    peers.done(&slow, took(1, None), NOW);
    let slow = peers.next(NOW).unwrap();
    let behind = Behind { since: Position(9), round: None };
    assert_eq!((slow.items.len(), slow.behind), (0, Some(behind)));
    let (sent, rows) = note(&mut peers);
    assert_eq!((sent, rows[0].behind_since, rows[0].failures), (many, Some(Position(9)), 0));
    peers.done(&slow, took(0, Some(Behind { since: Position(many - 1), ..behind })), NOW);
    let slow = peers.next(NOW).unwrap();
    peers.done(&slow, took(0, Some(Behind { since: Position(many + 1), ..behind })), NOW);
    assert_eq!(note(&mut peers).1[0].behind_since, None);
    tell(&mut peers, many + 1..=many + 2, &["slow.example"]);
    assert_eq!(peers.next(NOW).unwrap().items, [item(many + 2)], "it has what it was caught up with");
}

#[test]
fn the_dead_leave_turns_to_the_living() {
    let mut peers = peers();
    let dead: Vec<_> = (0..limits::SENDERS).map(|n| format!("dead{n}.example")).collect();
    let dead: Vec<_> = dead.iter().map(String::as_str).collect();
    tell(&mut peers, 1..=1, &dead);
    let turns: Vec<_> = std::iter::from_fn(|| peers.next(NOW)).collect();
    assert_eq!(turns.len(), limits::SENDERS_DOUBTFUL);
    peers.spoke(server_name!("alive.example"), NOW);
    tell(&mut peers, 2..=2, &["unknown.example", "alive.example"]);
    assert_eq!(peers.next(NOW).unwrap().server, "alive.example");
    assert!(peers.next(NOW).is_none());
    peers.failed(&turns[0], unanswered(), NOW);
    let next = peers.next(NOW).unwrap();
    assert_eq!(next.server, dead[limits::SENDERS_DOUBTFUL]);

    // Of those that failed, fewer still are tried at once.
    for turn in turns[1..].iter().chain([&next]) {
        peers.failed(turn, unanswered(), NOW);
    }
    while let Some(turn) = peers.next(NOW) {
        peers.failed(&turn, unanswered(), NOW);
    }
    let later = NOW.plus(limits::SENDING_RETRY * 2);
    assert_eq!(std::iter::from_fn(|| peers.next(later)).count(), limits::SENDERS_FAILING);
}

#[test]
fn of_five_hundred_servers_the_two_hundred_dead_cost_a_row_and_a_timer() {
    let mut peers = peers();
    let all: Vec<_> =
        (0..500).map(|n| format!("s{n}.{}.example", if n % 5 < 2 { "dead" } else { "live" })).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    let is_dead = |server: &OwnedServerName| server.as_str().contains(".dead.");
    let end = |peers: &mut Peers, work: &Work, behind: Option<Behind>, now: Timestamp| {
        if is_dead(&work.server) {
            assert_eq!(peers.failed(work, unanswered(), now), None);
        } else {
            peers.done(work, took(work.items.len(), behind), now);
        }
    };
    let turns =
        |peers: &mut Peers, now: Timestamp| -> Vec<Work> { std::iter::from_fn(|| peers.next(now)).collect() };
    // What all servers hold at once: of a dead one, not even room for a queue.
    let is_bounded = |peers: &Peers| {
        peers.peers.iter().all(|(server, peer)| match is_dead(server) {
            true => peer.queue.capacity() == 0 && peer.ephemeral.capacity() == 0,
            false => peer.queue.len() <= limits::SENDING_QUEUE,
        })
    };

    // Nobody is known yet, and while some are tried, more is said than their queues hold.
    tell(&mut peers, 1..=1, &all);
    let first = turns(&mut peers, NOW);
    assert_eq!(first.len(), limits::SENDERS_DOUBTFUL);
    tell(&mut peers, 2..=limits::SENDING_QUEUE as u64, &all);
    assert!(peers.peers.values().all(|peer| peer.queue.len() <= limits::SENDING_QUEUE));
    first.iter().for_each(|work| end(&mut peers, work, None, NOW));
    while let Some(work) = peers.next(NOW) {
        end(&mut peers, &work, work.behind, NOW);
    }
    assert!(is_bounded(&peers));
    assert_eq!((peers.due.len(), peers.count(NOW)), (200, Count { waiting: 200, behind: 200, resting: 200 }));
    let (_, rows) = note(&mut peers);
    assert!(
        rows.len() == 200
            && rows.iter().all(|row| row.behind_since == Some(Position(0)) && row.failures == 1)
    );

    // What comes then goes to the living, and changes nothing of the dead.
    let last = limits::SENDING_QUEUE as u64 + 1;
    tell(&mut peers, last..=last, &all);
    let living = turns(&mut peers, NOW);
    assert_eq!((living.len(), living.iter().filter(|work| is_dead(&work.server)).count()), (300, 0));
    tell(&mut peers, last + 1..=10 * last, &all);
    assert!(is_bounded(&peers));
    let caught_up = Some(Behind { since: peers.told(), round: None });
    living.iter().for_each(|work| end(&mut peers, work, None, NOW));
    while let Some(work) = peers.next(NOW) {
        end(&mut peers, &work, caught_up, NOW);
    }
    assert!(is_bounded(&peers));
    assert_eq!((peers.due.len(), peers.count(NOW)), (200, Count { waiting: 200, behind: 200, resting: 200 }));
    note(&mut peers);

    // Also when the dead are tried again, the living come first, and there are turns for them.
    let later = NOW.plus(limits::SENDING_RETRY * 2);
    tell(&mut peers, 10 * last + 1..=10 * last + 1, &all);
    let order = turns(&mut peers, later);
    assert_eq!(order.len(), 300 + limits::SENDERS_FAILING);
    assert!(order[..300].iter().all(|work| !is_dead(&work.server)));
    order.iter().for_each(|work| end(&mut peers, work, None, later));
    while let Some(work) = peers.next(later) {
        end(&mut peers, &work, None, later);
    }
    assert_eq!(peers.due.len(), 200);
    assert!(is_bounded(&peers) && note(&mut peers).1.len() == 200);
}

#[test]
fn a_rest_grows_and_ends_by_a_sign_of_life() {
    let rng = Rng::seeded(2);
    let mut least = Duration::ZERO;
    for failures in 1..=6 {
        let pauses: Vec<_> = (0..50).map(|_| back_off(failures, &rng)).collect();
        let (shortest, longest) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*shortest > least && shortest < longest, "{failures}: {shortest:?} to {longest:?}");
        least = *longest;
    }
    assert!(back_off(u32::MAX, &rng) <= limits::SENDING_RETRY_MAX * 5 / 4);

    let mut peers = peers();
    tell(&mut peers, 1..=1, &["dead.example"]);
    let work = peers.next(NOW).unwrap();
    peers.failed(&work, unanswered(), NOW);
    let due = peers.due().unwrap();
    assert!(peers.next(NOW).is_none() && due > NOW);
    assert!(peers.spoke(&work.server, NOW));
    let work = peers.next(NOW).unwrap();
    peers.failed(&work, unanswered(), NOW);
    assert!(!peers.spoke(&work.server, NOW) && peers.next(NOW).is_none());
    let later = NOW.plus(limits::SIGN_OF_LIFE_TIME);
    assert!(peers.spoke(&work.server, later) && peers.next(later).is_some());
    assert_eq!(peers.count(later).resting, 0);
}

#[test]
fn after_a_start_everybody_is_tried_soon() {
    let mut peers = peers();
    let row = |name: &str, behind_since, waiting_bytes| Destination {
        server: name.try_into().unwrap(),
        behind_since,
        failures: 9,
        failing_since: Some(NOW),
        next_try: NOW.plus(limits::SENDING_RETRY_MAX),
        waiting_bytes,
    };
    let rows =
        vec![row("a.example", Some(Position(3)), 0), row("b.example", None, 7), row("c.example", None, 0)];
    peers.begin(Position(8), rows, NOW);
    assert_eq!(peers.told(), Position(8));
    let soon = NOW.plus(limits::WAKE_TIME);
    let mut turns: Vec<_> = std::iter::from_fn(|| peers.next(soon)).collect();
    turns.sort_by(|a, b| a.server.cmp(&b.server));
    assert_eq!(turns.len(), 2, "for one of them there is nothing");
    assert_eq!(turns[0].behind.map(|behind| behind.since), Some(Position(3)));
    assert!(!turns[0].messages && turns[1].messages);
}

/// That a transaction of so many events was refused.
fn refused(work: &Work, pdus: usize) -> Refused {
    let since = work.behind.map_or(Position(0), |behind| behind.since);
    let behind = work.behind.map(|behind| Behind { since: Position(since.0 + pdus as u64), ..behind });
    let messages = Some(Position(7)).filter(|_| work.messages && work.share != Share::Log);
    Refused { pdus, messages, done: Done { items: 0, messages: false, behind, took: false } }
}

#[test]
fn what_a_server_always_refuses_is_passed_over() {
    let mut peers = peers();
    tell(&mut peers, 1..=3, &["odd.example"]);
    let mut now = NOW;
    let mut take = |peers: &mut Peers, is_taken: bool| {
        let work = peers.next(now).unwrap();
        let pdus = if work.is_single { 1 } else { 3 };
        let since = work.behind.map(|behind| behind.since.0);
        let mut loss = None;
        if is_taken {
            let behind = refused(&work, pdus).done.behind;
            peers.done(&work, took(0, behind), now);
        } else {
            loss = peers.failed(&work, Failure::Refused(refused(&work, pdus)), now);
            now = now.plus(limits::SENDING_RETRY_MAX * 2);
        }
        (work.is_single, since, loss)
    };
    assert_eq!(take(&mut peers, false), (false, None, None));
    assert_eq!(take(&mut peers, true), (true, Some(0), None));
    for _ in 0..limits::REFUSALS {
        assert_eq!(take(&mut peers, false), (true, Some(1), None));
    }
    assert_eq!(take(&mut peers, true), (true, Some(2), None));
    assert_eq!(peers.count(NOW), Count::default());

    let news = News { messages: names(&["odd.example"]), ..News::default() };
    peers.tell(news, now);
    let mut losses = Vec::new();
    while losses.last().is_none_or(|(_, loss): &(Share, Option<Loss>)| loss.is_none()) {
        let work = peers.next(now).unwrap();
        if work.messages && work.share != Share::Log {
            losses.push((work.share, peers.failed(&work, Failure::Refused(refused(&work, 0)), now)));
            now = now.plus(limits::SENDING_RETRY_MAX * 2);
        } else {
            let done = Done { items: 0, messages: work.messages, behind: work.behind, took: false };
            peers.done(&work, done, now);
        }
    }
    let lost = Some(Loss::Refused(Position(7)));
    let alone = (Share::Message, None);
    assert_eq!(losses, [(Share::All, None), alone, alone, (Share::Message, lost)]);
}

#[test]
fn what_a_server_refuses_does_not_keep_the_rest_from_it() {
    let mut peers = peers();
    let news = News { messages: names(&["odd.example"]), ..News::default() };
    peers.tell(news, NOW);
    tell(&mut peers, 1..=1, &["odd.example"]);
    let mut now = NOW;
    for (share, is_taken) in [
        (Share::All, false),
        (Share::Log, true),
        (Share::Message, false),
        (Share::Log, true),
        (Share::Message, true),
    ] {
        let work = peers.next(now).unwrap();
        assert_eq!(work.share, share);
        if is_taken {
            let messages = share == Share::Log;
            peers.done(&work, Done { messages, ..took(0, work.behind) }, now);
        } else {
            peers.failed(&work, Failure::Refused(refused(&work, 1)), now);
            now = now.plus(limits::SENDING_RETRY_MAX * 2);
        }
    }
    assert_eq!(peers.next(now).unwrap().share, Share::All);
}

#[test]
fn what_must_go_at_once_waits_for_no_receipt() {
    let mut peers = peers();
    let many: Vec<_> = (0..1_000).map(|n| format!("s{n}.example")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let seen = crate::service::presence::Seen::default();
    let user = ruma::user_id!("@alice:own.example");
    let presence = Ephemeral::presence((UserNumber(1), user), &seen);
    let ephemeral = vec![(Arc::new(presence), names(&many))];
    peers.tell(News { ephemeral, ..News::default() }, NOW);
    let at_once = std::iter::from_fn(|| peers.next(NOW)).map(|work| work.server.to_string());
    let at_once: BTreeSet<_> = at_once.collect();
    let mut later = many.iter().filter(|name| !at_once.contains(**name));
    let (first, second) = (*later.next().unwrap(), *later.next().unwrap());
    peers.tell(News { messages: names(&[first]), ..News::default() }, NOW);
    tell(&mut peers, 1..=1, &[second]);
    let turns: BTreeSet<_> = peers.lines.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(turns, [first, second].map(ToOwned::to_owned).into());
}

#[test]
fn the_messages_of_who_is_gone_for_good_are_given_up() {
    let mut peers = peers();
    peers.tell(News { messages: names(&["gone.example", "behind.example"]), ..News::default() }, NOW);
    tell(&mut peers, 1..=1, &["behind.example"]);
    let mut now = NOW;
    let mut given_up = BTreeSet::new();
    let mut tries = 0;
    while given_up.len() < 2 {
        now = now.plus(limits::GIVEN_UP_AFTER / limits::GIVEN_UP_TRIES);
        while let Some(work) = peers.next(now) {
            tries += 1;
            if peers.failed(&work, unanswered(), now).is_some() {
                assert!(now.since(NOW) >= limits::GIVEN_UP_AFTER && tries >= limits::GIVEN_UP_TRIES);
                given_up.insert(work.server);
            }
        }
    }
    let (_, rows) = note(&mut peers);
    let row = |name: &str| rows.iter().find(|row| row.server == name).unwrap();
    assert_eq!((row("gone.example").failures, row("gone.example").failing_since), (0, None));
    let behind = row("behind.example");
    assert_eq!((behind.behind_since, behind.failures > 0), (Some(Position(0)), true));
    let works: Vec<_> = std::iter::from_fn(|| peers.next(now.plus(limits::SENDING_RETRY_MAX * 2))).collect();
    assert_eq!(
        works.iter().map(|work| (&*work.server, work.messages)).collect::<Vec<_>>(),
        [(<&ServerName>::try_from("behind.example").unwrap(), false)]
    );
}
