//! The event nearest to a time. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event>
//!
//! A timeline is in the order in which events came, and their times are what their servers say. Mostly both agree but
//! for some disorder, so the place of a time is found by halving, without an index that every event would have to pay
//! for. Each probe takes the middle time of a few events: a server whose clock is wrong leads nobody astray unless it
//! has the floor to itself. Among the events around that place the nearest in time is taken, so disorder within that
//! window is no matter; if there is none that the user may see, the first one further on.
//!
//! Where events are missing beside the one that is found, other servers are asked for a nearer one ([`backfill::jump`]).

use std::{cmp::Reverse, iter, ops::Bound};

use ruma::{OwnedEventId, OwnedRoomId, RoomId, api::Direction};

use super::{
    access::{ReadError, Span},
    look::{Look, look},
    reader::Onlooker,
};
use crate::{
    base::{
        clock::Timestamp,
        ids::{EventNumber, Position, RoomNumber},
        limits,
    },
    room::visibility::VisibleEvent,
    service::{
        App,
        federation::backfill::{self, Gap, Nearest},
    },
    store::{
        StoreError, View,
        events::{Item, Place},
    },
};

/// Finds the event that is nearest to a time, not before it or not after it as the direction says.
///
/// # Errors
/// The user may not see the room, or no such event.
pub async fn event_at(
    app: &App,
    onlooker: Onlooker,
    room_id: OwnedRoomId,
    (time, direction): (Timestamp, Direction),
) -> Result<(OwnedEventId, Timestamp), ReadError> {
    let at = (time, direction);
    let (mut found, mut gap) = nearest(app, &onlooker, &room_id, at).await?;
    let deadline = app.clock.monotonic() + limits::BACKFILL_TIME;
    for _ in 0..limits::JUMPS {
        let left = deadline.saturating_sub(app.clock.monotonic());
        let Some(missing) = gap.filter(|_| !left.is_zero()) else { break };
        let known = found.as_ref().map(|(_, time)| *time);
        if !backfill::jump(app, missing, Nearest { time, direction, known }, left).await {
            break;
        }
        (found, gap) = nearest(app, &onlooker, &room_id, at).await?;
    }
    found.ok_or(ReadError::NotFound)
}

/// The nearest of the events that are here, and the gap in which others may be that are nearer, if the user is in the room.
async fn nearest(
    app: &App,
    onlooker: &Onlooker,
    room_id: &RoomId,
    (time, direction): (Timestamp, Direction),
) -> Result<(Option<(OwnedEventId, Timestamp)>, Option<Gap>), ReadError> {
    look(app, onlooker.clone(), room_id.to_owned(), move |look| {
        let is_joined = look.access.span == Span::Joined;
        let joined_at = match is_joined {
            true => look.view.stay(look.reader.onlooker.user, look.room())?.map(|stay| stay.since),
            false => None,
        };
        let event = Search { times: &*look, time, direction }.nearest(look.access.until(), joined_at)?;
        let sent = |event: &VisibleEvent| Timestamp::from(event.pdu().origin_server_ts());
        let gap = match &event {
            _ if !is_joined => None,
            Some(event) if sent(event) == time => None,
            Some(event) => {
                let place = look.view.header(look.room(), event.number())?.place;
                gap_beside(look.view, look.room(), (place, direction))?
            }
            None => gap_beside(look.view, look.room(), (None, direction))?,
        };
        let found = event.map(|event| (event.pdu().event_id().to_owned(), sent(&event)));
        Ok((found, gap.map(|gap| (look.room(), gap))))
    })
    .await
}

/// The gap that an event follows, or leads up to, in a search of this direction; without an event, the one before all.
fn gap_beside(
    view: &View<'_>,
    room: RoomNumber,
    (place, direction): (Option<Place>, Direction),
) -> Result<Option<Position>, StoreError> {
    let item = match (place, direction) {
        (Some(place), Direction::Forward) => view.timeline(room, ..place).next_back(),
        (Some(place), Direction::Backward) => {
            view.timeline(room, (Bound::Excluded(place), Bound::Unbounded)).next()
        }
        (None, Direction::Backward) => view.timeline(room, ..).next(),
        (None, Direction::Forward) => None,
    };
    Ok(match item.transpose()? {
        Some((place, Item::Gap(_))) => Some(place.anchor),
        _ => None,
    })
}

/// The event of a room that is nearest to a time in that sense, of those that `sees` lets pass: for another server.
///
/// # Errors
/// The store failed.
pub(in crate::service) fn nearest_seen(
    view: &View<'_>,
    (room, until): (RoomNumber, Position),
    (time, direction): (Timestamp, Direction),
    sees: impl Fn(EventNumber) -> Result<bool, StoreError>,
) -> Result<Option<EventNumber>, StoreError> {
    let times = Seen { view, room, until, sees };
    Search { times: &times, time, direction }.nearest(until, None)
}

/// A timeline up to a position, as somebody sees it who is no user.
struct Seen<'v, F> {
    view: &'v View<'v>,
    room: RoomNumber,
    until: Position,
    sees: F,
}

impl<F: Fn(EventNumber) -> Result<bool, StoreError>> Times for Seen<'_, F> {
    type Event = EventNumber;

    fn events(&self, place: Place, direction: Direction) -> impl Iterator<Item = Result<Timed, StoreError>> {
        timed(self.view, (self.room, self.until), place, direction)
    }

    fn visible(&self, number: EventNumber) -> Result<Option<EventNumber>, StoreError> {
        Ok((self.sees)(number)?.then_some(number))
    }
}

/// A timeline by the times of its events.
trait Times {
    type Event;

    /// The events from a place on, or back from it without it.
    fn events(&self, place: Place, direction: Direction) -> impl Iterator<Item = Result<Timed, StoreError>>;

    /// An event, if the user may see it.
    fn visible(&self, number: EventNumber) -> Result<Option<Self::Event>, StoreError>;
}

/// An event by its time; those of the same time by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timed {
    time: Timestamp,
    place: Place,
    number: EventNumber,
}

impl Times for Look<'_> {
    type Event = VisibleEvent;

    fn events(&self, place: Place, direction: Direction) -> impl Iterator<Item = Result<Timed, StoreError>> {
        timed(self.view, (self.room(), self.access.until()), place, direction)
    }

    fn visible(&self, number: EventNumber) -> Result<Option<VisibleEvent>, StoreError> {
        self.reader.visible(number)
    }
}

/// The events of a timeline up to a position, from a place on or back from it.
fn timed<'v>(
    view: &'v View<'v>,
    (room, until): (RoomNumber, Position),
    place: Place,
    direction: Direction,
) -> impl Iterator<Item = Result<Timed, StoreError>> {
    let until = Place::live(until);
    let items: Box<dyn Iterator<Item = _>> = match direction {
        Direction::Forward if place > until => Box::new(iter::empty()),
        Direction::Forward => Box::new(view.timeline(room, place..=until)),
        Direction::Backward => Box::new(view.timeline(room, ..place).rev()),
    };
    items.filter_map(move |item| match item {
        Ok((place, Item::Event(number))) => {
            let header = view.header(room, number);
            Some(header.map(|header| Timed { time: header.origin_server_ts, place, number }))
        }
        Ok((_, Item::Gap(_))) => None,
        Err(error) => Some(Err(error)),
    })
}

struct Search<'t, T> {
    times: &'t T,
    time: Timestamp,
    direction: Direction,
}

impl<T: Times> Search<'_, T> {
    /// The nearest event. `joined_at` is where a user came into the room who saw nothing of it before, perhaps.
    fn nearest(&self, last: Position, joined_at: Option<Position>) -> Result<Option<T::Event>, StoreError> {
        let anchor = self.halve(last)?;
        let place = Place { anchor, sub: i32::MIN };
        if let Some(event) = self.around(place)? {
            return Ok(Some(event));
        }
        if let Some(event) = self.beyond(place)? {
            return Ok(Some(event));
        }
        match joined_at.map(Place::live) {
            Some(joined) if joined > place && self.direction == Direction::Forward => self.beyond(joined),
            _ => Ok(None),
        }
    }

    /// The first position from which on events are not earlier than the time; the one after the last if there is none.
    fn halve(&self, last: Position) -> Result<Position, StoreError> {
        let (mut low, mut high) = (0, last.0 + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let place = Place { anchor: Position(middle), sub: i32::MIN };
            let sample = self.times.events(place, Direction::Forward).take(limits::TIME_SAMPLE);
            let mut sample: Vec<Timed> = sample.collect::<Result<_, _>>()?;
            sample.sort_unstable();
            if sample.get(sample.len() / 2).is_none_or(|typical| typical.time >= self.time) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(Position(low))
    }

    /// The nearest of the events around a place.
    fn around(&self, place: Place) -> Result<Option<T::Event>, StoreError> {
        let mut near = Vec::new();
        for direction in [Direction::Backward, Direction::Forward] {
            for event in self.times.events(place, direction).take(limits::TIME_WINDOW) {
                near.extend(Some(event?).filter(|event| self.is_wanted(*event)));
            }
        }
        match self.direction {
            Direction::Forward => near.sort_unstable(),
            Direction::Backward => near.sort_unstable_by_key(|event| Reverse(*event)),
        }
        self.first_visible(near.into_iter().map(Ok))
    }

    /// The first one further on from a place.
    fn beyond(&self, place: Place) -> Result<Option<T::Event>, StoreError> {
        self.first_visible(self.times.events(place, self.direction).take(limits::WALK_STEPS))
    }

    fn first_visible(
        &self,
        events: impl Iterator<Item = Result<Timed, StoreError>>,
    ) -> Result<Option<T::Event>, StoreError> {
        for event in events {
            let event = event?;
            if self.is_wanted(event)
                && let Some(visible) = self.times.visible(event.number)?
            {
                return Ok(Some(visible));
            }
        }
        Ok(None)
    }

    fn is_wanted(&self, event: Timed) -> bool {
        match self.direction {
            Direction::Forward => event.time >= self.time,
            Direction::Backward => event.time <= self.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, ops::Range};

    use proptest::prelude::*;

    use super::*;

    /// A room whose events have these times, at every third position, and of which some can't be seen.
    struct Room {
        times: Vec<u64>,
        hidden: Range<usize>,
        reads: Cell<usize>,
    }

    impl Room {
        fn of(times: Vec<u64>) -> Self {
            Self { times, hidden: 0..0, reads: Cell::new(0) }
        }

        fn event(&self, at: usize) -> Timed {
            self.reads.set(self.reads.get() + 1);
            let position = at as u64 * 3 + 1;
            let place = Place::live(Position(position));
            Timed { time: Timestamp(self.times[at]), place, number: EventNumber(position) }
        }

        fn find(&self, time: u64, direction: Direction, joined: Option<usize>) -> Option<usize> {
            let search = Search { times: self, time: Timestamp(time), direction };
            let position = |at: usize| Position(at as u64 * 3 + 1);
            search.nearest(position(self.times.len() - 1), joined.map(position)).unwrap()
        }

        /// The nearest of all events.
        fn truth(&self, time: u64, direction: Direction) -> Option<usize> {
            let visible = (0..self.times.len()).filter(|at| !self.hidden.contains(at));
            match direction {
                Direction::Forward => {
                    visible.filter(|at| self.times[*at] >= time).min_by_key(|at| (self.times[*at], *at))
                }
                Direction::Backward => {
                    visible.filter(|at| self.times[*at] <= time).max_by_key(|at| (self.times[*at], *at))
                }
            }
        }
    }

    impl Times for Room {
        type Event = usize;

        fn events(
            &self,
            place: Place,
            direction: Direction,
        ) -> impl Iterator<Item = Result<Timed, StoreError>> {
            let from = (place.anchor.0 as usize + 1) / 3;
            let events: Box<dyn Iterator<Item = usize>> = match direction {
                Direction::Forward => Box::new(from..self.times.len()),
                Direction::Backward => Box::new((0..from.min(self.times.len())).rev()),
            };
            events.map(|at| Ok(self.event(at)))
        }

        fn visible(&self, number: EventNumber) -> Result<Option<usize>, StoreError> {
            let at = number.0 as usize / 3;
            Ok(Some(at).filter(|at| !self.hidden.contains(at)))
        }
    }

    const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];

    #[test]
    fn a_large_room_takes_few_reads() {
        let room = Room::of((0..100_000).map(|at| at * 1_000).collect());
        for time in [0, 1, 500, 49_999_999, 50_000_000, 99_999_000, 99_999_001, u64::MAX] {
            for direction in BOTH {
                room.reads.set(0);
                assert_eq!(room.find(time, direction, None), room.truth(time, direction), "{time}");
                assert!(room.reads.get() < 2 * limits::TIME_WINDOW + 200 + limits::WALK_STEPS);
                let found = room.truth(time, direction).is_some();
                assert!(!found || room.reads.get() < 2 * limits::TIME_WINDOW + 200);
            }
        }
    }

    #[test]
    fn a_clock_that_is_wrong_leads_nobody_astray() {
        let mut room = Room::of((0..100_000).map(|at| at * 1_000).collect());
        for at in (0..100_000).step_by(7) {
            room.times[at] = if at % 2 == 0 { 0 } else { u64::MAX };
        }
        for time in (1..100).map(|part| part * 1_000_000) {
            for direction in BOTH {
                assert_eq!(room.find(time, direction, None), room.truth(time, direction), "{time}");
            }
        }
    }

    #[test]
    fn times_that_mean_nothing_end_in_some_event_of_that_direction() {
        let room = Room::of((0..10_000_u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11).collect());
        for time in (1..50).map(|part| part << 47) {
            for direction in BOTH {
                let found = room.times[room.find(time, direction, None).unwrap()];
                assert!(if direction == Direction::Forward { found >= time } else { found <= time });
            }
        }
    }

    #[test]
    fn what_one_saw_nothing_of_is_passed_over() {
        let mut room = Room::of((0..50_000).collect());
        room.hidden = 0..40_000;
        assert_eq!(room.find(100, Direction::Forward, Some(40_000)), Some(40_000));
        assert_eq!(room.find(39_900, Direction::Forward, None), Some(40_000));
        assert_eq!(room.find(39_999, Direction::Backward, Some(40_000)), None);
        room.hidden = 20_000..21_000;
        assert_eq!(room.find(20_500, Direction::Forward, None), Some(21_000));
        assert_eq!(room.find(20_500, Direction::Backward, None), Some(19_999));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever came late, by up to so many events.
        #[test]
        fn disorder_within_the_window_is_no_matter(
            lateness in prop::collection::vec(0..100_u64, 1..3_000),
            time in 0..3_200_u64,
        ) {
            let mut events: Vec<(u64, u64)> = lateness.iter().zip(0..).map(|(late, at)| (at + late, at)).collect();
            events.sort_unstable();
            let room = Room::of(events.into_iter().map(|(_, sent)| sent).collect());
            for direction in BOTH {
                prop_assert_eq!(room.find(time, direction, None), room.truth(time, direction));
            }
        }
    }
}
