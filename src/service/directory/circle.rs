//! Circles: the people who are in any of some rooms.
//!
//! One of few people is read once and costs nothing more; of one of many, each user is asked for, and as those are most
//! likely in it, whoever looks for some of them has them soon.

use std::collections::HashSet;

use crate::{
    base::{
        ids::{RoomNumber, UserNumber},
        limits,
    },
    store::{StoreError, View, events::Membership},
};

/// The people in some rooms.
pub(super) struct Circle {
    rooms: HashSet<RoomNumber>,
    /// All of them; none if they are too many.
    people: Option<HashSet<UserNumber>>,
}

impl Circle {
    /// Those who share a room with a user.
    pub(super) fn around(view: &View<'_>, user: UserNumber) -> Result<Self, StoreError> {
        let mut rooms = HashSet::new();
        for stay in view.stays(user) {
            let (room, stay) = stay?;
            if stay.membership == Membership::Join {
                rooms.insert(room);
            }
        }
        let mut size = 0;
        for room in rooms.iter().take(limits::CIRCLE_ROOMS) {
            size += u64::from(view.room(*room)?.joined);
        }
        Self::of(view, rooms, size)
    }

    /// Those who are in a room that is open to everybody.
    pub(super) fn in_the_open(view: &View<'_>) -> Result<Self, StoreError> {
        let rooms = view.open_rooms(limits::OPEN_ROOMS)?;
        let size = rooms.iter().map(|(_, joined)| u64::from(*joined)).sum();
        Self::of(view, rooms.into_iter().map(|(room, _)| room).collect(), size)
    }

    /// Whether a user is in the circle. Takes from `steps`; without any left, nobody is.
    pub(super) fn has(
        &self,
        view: &View<'_>,
        user: UserNumber,
        steps: &mut usize,
    ) -> Result<bool, StoreError> {
        if let Some(people) = &self.people {
            return Ok(people.contains(&user));
        }
        if self.rooms.len() <= limits::CIRCLE_ASKED {
            for room in &self.rooms {
                if !spend(steps) {
                    break;
                }
                if view.stay(user, *room)?.is_some_and(|stay| stay.membership == Membership::Join) {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        // To begin is a step, too: most candidates may be in no room at all.
        if !spend(steps) {
            return Ok(false);
        }
        for stay in view.stays(user) {
            let (room, stay) = stay?;
            if stay.membership == Membership::Join && self.rooms.contains(&room) {
                return Ok(true);
            }
            if !spend(steps) {
                break;
            }
        }
        Ok(false)
    }

    fn of(view: &View<'_>, rooms: HashSet<RoomNumber>, size: u64) -> Result<Self, StoreError> {
        if rooms.len() > limits::CIRCLE_ROOMS || size > limits::CIRCLE_PEOPLE as u64 {
            return Ok(Self { rooms, people: None });
        }
        let mut people = HashSet::new();
        for room in &rooms {
            for member in view.members(*room, Membership::Join) {
                people.insert(member?);
            }
        }
        Ok(Self { rooms, people: Some(people) })
    }
}

fn spend(steps: &mut usize) -> bool {
    let left = *steps > 0;
    *steps = steps.saturating_sub(1);
    left
}

#[cfg(test)]
mod tests {
    use ruma::{OwnedRoomId, UserId, server_name};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        base::{
            clock::{Clock, Timestamp},
            ids::DeviceNumber,
            rng::Rng,
        },
        config::Config,
        room::{fixture::key_pair, version::Version},
        service::{
            App,
            app::Parts,
            rooms,
            sessions::Session,
            write::{
                membership::Action,
                plan::{NewRoom, Preset},
            },
        },
        store::{Options, Store, Transaction},
    };

    fn app(dir: &TempDir) -> App {
        let (clock, rng) = (Clock::manual(Timestamp(1_000)), Rng::seeded(1));
        let options = Options { dir: dir.path().to_owned(), clock: clock.clone(), rng: rng.clone() };
        App::new(Parts {
            config: Config::of_defaults(server_name!("one.example"), dir.path()),
            store: Store::open(options).unwrap(),
            signing_key: key_pair("one.example"),
            clock,
            rng,
        })
    }

    async fn user(app: &App, name: &'static str) -> Session {
        let user_id = UserId::parse(format!("@{name}:one.example")).unwrap();
        let id = user_id.clone();
        let number = app.store.write(move |transaction: &mut Transaction<'_>| transaction.intern_user(&id));
        let number = number.await.unwrap();
        let (device, device_id) = (DeviceNumber(0), "D".into());
        Session { number, user_id, device, device_id, locked: false, suspended: false }
    }

    async fn room(app: &App, creator: &Session, preset: Preset) -> OwnedRoomId {
        rooms::create(app, creator, NewRoom::new(Version::DEFAULT, preset)).await.unwrap()
    }

    /// Few rooms are asked, many are gone through, and few people are read: with the same result.
    #[tokio::test]
    async fn a_circle_has_the_same_people_however_it_is_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(&dir);
        let [alice, bob, carol, dave] =
            [user(&app, "a").await, user(&app, "b").await, user(&app, "c").await, user(&app, "d").await];
        let mut first = None;
        for count in [1, limits::CIRCLE_ASKED, limits::CIRCLE_ASKED + 1] {
            while app
                .store
                .read({
                    let alice = alice.number;
                    move |view| Ok::<_, StoreError>(view.stays(alice).count() < count)
                })
                .await
                .unwrap()
            {
                let room = room(&app, &alice, Preset::Public).await;
                first.get_or_insert(room);
            }
            let first = first.clone().unwrap();
            for (who, actions) in [(&bob, &[Action::Join][..]), (&carol, &[Action::Join, Action::Leave])] {
                for action in actions {
                    rooms::act(&app, who, &first, action.clone(), None).await.unwrap();
                }
            }
            let users = [alice.number, bob.number, carol.number, dave.number];
            let check = move |view: &View<'_>| {
                for circle in [Circle::around(view, users[0])?, Circle::in_the_open(view)?] {
                    assert_eq!((circle.rooms.len(), circle.people.as_ref().unwrap().len()), (count, 2));
                    let asked = Circle { rooms: circle.rooms.clone(), people: None };
                    let large = Circle::of(view, circle.rooms.clone(), limits::CIRCLE_PEOPLE as u64 + 1)?;
                    for circle in [&circle, &asked, &large] {
                        let mut steps = limits::CIRCLE_STEPS;
                        for (user, is_in) in users.iter().zip([true, true, false, false]) {
                            assert_eq!(circle.has(view, *user, &mut steps)?, is_in, "{count}");
                        }
                        assert_eq!(steps < limits::CIRCLE_STEPS, circle.people.is_none());
                        assert_eq!(circle.has(view, users[1], &mut 0)?, circle.people.is_some());
                    }
                }
                Ok::<_, StoreError>(())
            };
            app.store.read(check).await.unwrap();
        }
    }
}
