use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn stand(user: u32, number: u64, host: &str, since: u64, behind: Option<u64>) -> PusherStand {
    PusherStand {
        number: PusherNumber(number),
        user: UserNumber(user),
        url: format!("https://{host}/_matrix/push/v1/notify"),
        since: Position(since),
        behind: behind.map(Position),
    }
}

fn queue(stands: &[PusherStand]) -> Queue {
    let mut queue = Queue::new(Rng::seeded(1));
    queue.begin(Some(Position(10)), stands, Position(10));
    queue
}

fn stir(queue: &mut Queue, users: &[u32], until: u64) {
    let users = users.iter().map(|user| UserNumber(*user)).collect();
    queue.stir(&queue.users(), users, Position(until));
}

fn until(position: u64, told: Option<u64>) -> Done {
    Done { until: Position(position), told }
}

#[test]
fn a_turn_begins_behind_what_was_told_and_ends_where_all_is() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None), stand(2, 2, "b", 5, None)]);
    assert_eq!(queue.next(NOW), None);
    stir(&mut queue, &[1], 12);
    let work = queue.next(NOW).unwrap();
    assert_eq!((work.key.0, work.from, work.unread), (UserNumber(1), Position(10), None));
    // It is busy, and more comes.
    stir(&mut queue, &[1], 14);
    assert_eq!(queue.next(NOW), None);
    queue.done(&work, until(12, Some(3)));
    let work = queue.next(NOW).unwrap();
    assert_eq!((work.from, work.unread), (Position(12), Some(3)));
    // It was looked further than whom that concerns: nothing is told twice.
    queue.done(&work, until(16, None));
    stir(&mut queue, &[1, 2], 18);
    let froms = [queue.next(NOW).unwrap(), queue.next(NOW).unwrap()].map(|work| work.from.0);
    assert_eq!(froms, [16, 14]);
}

#[test]
fn whoever_comes_meanwhile_misses_nothing() {
    let mut queue = queue(&[]);
    assert!(queue.is_empty() && queue.take_notes().is_none());
    queue.put(&stand(1, 1, "a", 20, None));
    assert_eq!((queue.told(), queue.next(NOW)), (Position(20), None));
    let known = queue.users();
    queue.put(&stand(2, 2, "b", 20, None));
    queue.stir(&known, BTreeSet::new(), Position(25));
    assert_eq!(queue.next(NOW).unwrap().key.0, UserNumber(2));
    queue.put(&stand(3, 3, "a", 24, None));
    let work = queue.next(NOW).unwrap();
    assert_eq!((work.key.0, work.from), (UserNumber(3), Position(24)));
}

/// All whose turn it is now.
fn begun(queue: &mut Queue, now: Timestamp) -> Vec<Work> {
    std::iter::from_fn(|| queue.next(now)).collect()
}

fn count(begun: &[Work], is_like: impl Fn(&Work) -> bool) -> usize {
    begun.iter().filter(|work| is_like(work)).count()
}

/// Has these gateways answer once, which each have a pusher of a user.
fn answering(queue: &mut Queue, hosts: &[&str]) {
    for (n, host) in hosts.iter().enumerate() {
        let n = 10_000 + n as u32;
        queue.put(&stand(n, n.into(), host, 10, Some(9)));
        let work = queue.next(NOW).unwrap();
        queue.heard(&work, true);
        queue.done(&work, until(10, Some(0)));
    }
}

#[test]
fn no_gateway_and_nobody_takes_all_places() {
    let mut stands: Vec<_> = (1..100).map(|n| stand(n, n.into(), "slow", 5, None)).collect();
    stands.extend((200..300).map(|n| stand(100, n, &n.to_string(), 5, None)));
    stands.push(stand(101, 400, "good", 5, None));
    let mut queue = queue(&stands);
    answering(&mut queue, &["slow"]);
    stir(&mut queue, &(1..=101).collect::<Vec<_>>(), 12);
    let begun = begun(&mut queue, NOW);
    assert_eq!(count(&begun, |work| &*work.gateway == "slow"), limits::PUSHES_PER_GATEWAY);
    assert_eq!(count(&begun, |work| work.key.0 == UserNumber(100)), limits::PUSHES_PER_USER - 1);
    assert_eq!(count(&begun, |work| &*work.gateway == "good"), 1);
}

#[test]
fn a_gateway_that_is_not_known_to_answer_has_one_place() {
    let mut stands: Vec<_> = (1..=40).map(|n| stand(n, n.into(), &(n % 4).to_string(), 5, None)).collect();
    stands.push(stand(41, 41, "good", 5, None));
    let mut queue = queue(&stands);
    stir(&mut queue, &(1..=41).collect::<Vec<_>>(), 12);
    let first = begun(&mut queue, NOW);
    assert_eq!((first.len(), count(&first, |work| &*work.gateway == "good")), (5, 1));
    // One that answers, even with an error, gets more.
    queue.heard(&first[0], true);
    queue.failed(&first[0], Position(10), NOW);
    let second = begun(&mut queue, NOW);
    let is_same = |work: &Work| work.gateway == first[0].gateway;
    assert_eq!((second.len(), count(&second, is_same)), (limits::PUSHES_PER_GATEWAY, second.len()));
    // Until it doesn't.
    queue.heard(&second[0], false);
    for work in &second {
        queue.failed(work, Position(10), NOW);
    }
    assert_eq!(begun(&mut queue, NOW).len(), 1);
}

#[test]
fn what_takes_long_gives_its_place_up() {
    let hosts = ["a", "b", "c", "d"];
    let mut stands = Vec::new();
    for (n, host) in hosts.iter().enumerate() {
        stands.extend((0..50).map(|m| 50 * n as u32 + m).map(|n| stand(n, n.into(), host, 5, None)));
    }
    let mut queue = queue(&stands);
    answering(&mut queue, &[&hosts[..], &["good"]].concat());
    stir(&mut queue, &(0..200).collect::<Vec<_>>(), 12);
    // They fall silent all at once.
    let first = begun(&mut queue, NOW);
    assert_eq!(first.len(), limits::PUSHES);
    stir(&mut queue, &[10_004], 13);
    assert_eq!(queue.next(NOW), None);
    let soon = queue.due(NOW).unwrap();
    assert_eq!(soon, NOW.plus(limits::PUSH_PROMPT));
    let second = begun(&mut queue, soon);
    assert_eq!(count(&second, |work| &*work.gateway == "good"), 1);
    for host in hosts {
        let all = [&first[..], &second].concat();
        assert_eq!(count(&all, |work| &*work.gateway == host), limits::PUSHES_PER_GATEWAY);
    }
}

#[test]
fn what_failed_leaves_most_places_to_others() {
    let hosts: Vec<_> = (1..=60).map(|n| n.to_string()).collect();
    let mut stands: Vec<_> = (1..).zip(&hosts).map(|(n, host)| stand(n, n.into(), host, 5, None)).collect();
    stands.push(stand(70, 70, "good", 5, None));
    let mut queue = queue(&stands);
    answering(&mut queue, &["good"]);
    stir(&mut queue, &(1..=60).collect::<Vec<_>>(), 12);
    let mut now = NOW;
    let mut under_way = 0;
    loop {
        let begun = begun(&mut queue, now);
        under_way += begun.len();
        assert!(begun.len() <= limits::PUSHES_DOUBTFUL);
        stir(&mut queue, &[70], 13);
        let work = queue.next(now).unwrap();
        assert_eq!(&*work.gateway, "good");
        queue.done(&work, until(13, None));
        if begun.is_empty() {
            break;
        }
        now = now.plus(limits::PUSH_PROMPT);
    }
    assert_eq!(under_way, limits::PUSHES_DOUBTFUL + limits::PUSHES_SLOW);
}

#[test]
fn of_gateways_that_nobody_uses_nothing_is_left() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None)]);
    for n in 0..100 {
        queue.put(&stand(1, 1, &n.to_string(), 5, None));
        stir(&mut queue, &[1], 12 + n);
        let work = queue.next(NOW).unwrap();
        queue.heard(&work, true);
        queue.done(&work, until(12 + n, Some(1)));
        assert!(queue.places.answering() <= 1);
    }
}

#[test]
fn what_fails_is_tried_again_later_and_later() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None)]);
    stir(&mut queue, &[1], 12);
    let (mut now, mut last) = (NOW, Duration::ZERO);
    for failures in 0..30 {
        let work = queue.next(now).unwrap();
        assert_eq!((work.failures, work.from.0), (failures, if failures == 0 { 10 } else { 11 }));
        queue.failed(&work, Position(11), now);
        let pause = queue.due(now).unwrap().since(now);
        assert!(pause >= limits::PUSH_RETRY * 3 / 4 && pause <= limits::PUSH_RETRY_MAX * 5 / 4);
        assert!(pause > last || pause >= limits::PUSH_RETRY_MAX * 3 / 4, "{failures}: {pause:?}");
        assert_eq!(queue.next(now), None);
        (now, last) = (now.plus(pause), pause);
    }
    let work = queue.next(now).unwrap();
    queue.done(&work, until(12, Some(1)));
    stir(&mut queue, &[1], 13);
    assert_eq!(queue.next(now).unwrap().failures, 0);
}

#[test]
fn a_gateway_that_takes_something_again_ends_the_rest_of_all_its_pushers() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None), stand(2, 2, "a", 5, None), stand(3, 3, "b", 5, None)]);
    stir(&mut queue, &[1, 2, 3], 12);
    let mut now = NOW;
    for _ in 0..40 {
        begun(&mut queue, now).iter().for_each(|work| queue.failed(work, Position(10), now));
        now = queue.due(now).unwrap();
    }
    let back = loop {
        match queue.next(now) {
            Some(work) if &*work.gateway == "a" => break work,
            Some(other) => queue.failed(&other, Position(10), now),
            None => now = queue.due(now).unwrap(),
        }
    };
    assert_eq!(queue.next(now), None);
    queue.heard(&back, true);
    queue.done(&back, until(12, Some(1)));
    let begun = begun(&mut queue, now);
    assert_eq!((begun.len(), &*begun[0].gateway, begun[0].key == back.key), (1, "a", false));
}

#[test]
fn of_pushers_that_are_gone_nothing_is_left() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None), stand(1, 2, "b", 5, None), stand(2, 3, "a", 5, None)]);
    stir(&mut queue, &[1, 2], 12);
    let work = [queue.next(NOW), queue.next(NOW)].map(Option::unwrap);
    work.iter().for_each(|work| queue.failed(work, Position(10), NOW));
    for number in 4..100 {
        queue.put(&stand(1, number, "a", 12, Some(11)));
        queue.keep(UserNumber(1), &[PusherNumber(1)]);
    }
    let left: Vec<_> = queue.slots.keys().map(|(_, number)| number.0).collect();
    assert_eq!((left, queue.ready.len(), queue.due.len()), (vec![1, 3], 1, 1));
    queue.keep(UserNumber(1), &[]);
    assert_eq!(*queue.users(), [UserNumber(2)].into());
    assert_eq!((queue.next(NOW).map(|work| work.key.0), queue.due(NOW)), (Some(UserNumber(2)), None));
}

#[test]
fn what_an_old_gateway_does_not_take_is_no_failure_of_the_new_one() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None)]);
    stir(&mut queue, &[1], 12);
    let work = queue.next(NOW).unwrap();
    queue.put(&stand(1, 1, "b", 5, None));
    queue.failed(&work, Position(11), NOW);
    let work = queue.next(NOW).unwrap();
    assert_eq!((work.failures, work.from, &*work.gateway), (0, Position(11), "b"));
}

#[test]
fn a_pusher_that_got_another_gateway_is_tried_at_once() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None)]);
    stir(&mut queue, &[1], 12);
    let work = queue.next(NOW).unwrap();
    queue.failed(&work, Position(10), NOW);
    queue.put(&stand(1, 1, "a", 5, None));
    assert_eq!(queue.next(NOW), None);
    queue.put(&stand(1, 1, "b", 5, None));
    assert_eq!(queue.next(NOW).unwrap().failures, 0);
}

#[test]
fn what_is_noted_begins_the_next_time() {
    let mut queue = queue(&[stand(1, 1, "a", 5, None), stand(2, 2, "b", 5, None)]);
    assert!(!queue.is_to_be_noted());
    stir(&mut queue, &[1, 2], 12);
    let (one, two) = (queue.next(NOW).unwrap(), queue.next(NOW).unwrap());
    queue.done(&one, until(12, Some(1)));
    queue.failed(&two, Position(11), NOW);
    assert!(queue.is_to_be_noted());
    let notes = queue.take_notes().unwrap();
    assert_eq!(notes, (vec![(PusherNumber(2), Some(Position(11)))], Some(Position(12))));
    assert!(!queue.is_to_be_noted() && queue.take_notes().is_none());
    queue.not_noted(&notes.0);
    assert_eq!(queue.take_notes(), Some(notes));

    let mut again = Queue::new(Rng::seeded(1));
    again.begin(
        Some(Position(12)),
        &[stand(1, 1, "a", 5, None), stand(2, 2, "a", 5, Some(11))],
        Position(15),
    );
    assert_eq!(again.told(), Position(12));
    let work = again.next(NOW).unwrap();
    assert_eq!((work.key.0, work.from, again.next(NOW)), (UserNumber(2), Position(11), None));
    again.done(&work, until(12, Some(1)));
    assert_eq!(again.take_notes(), Some((vec![(PusherNumber(2), None)], Some(Position(12)))));
    stir(&mut again, &[2], 13);
    let busy = again.next(NOW).unwrap();
    assert_eq!(busy.key, work.key);
    again.gone(&busy);
    assert!(!again.users().contains(&UserNumber(2)) && again.users().contains(&UserNumber(1)));
}
