//! How much is new to somebody in all their rooms, which is what an app's icon shows: counted as `/sync` counts
//! ([`unread`](crate::service::unread)), and pending invitations. What was counted of a user is remembered, so that only
//! those rooms are counted in which something happened. Many are counted in parts, between which others have their turn.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    base::{
        ids::{Position, RoomNumber, UserNumber},
        limits,
    },
    service::{
        ignored::ignored, invite_permission::InvitePermission, notifying::Allowance, push_rules,
        read::reader::Onlooker, unread::unread,
    },
    store::{AccountData, StoreError, View, events::Membership},
};

/// What was counted.
#[derive(Default)]
pub(super) struct Badges(Mutex<HashMap<UserNumber, Kept>>);

struct Kept {
    /// When it was asked for last.
    used: Position,
    progress: Arc<Mutex<Progress>>,
}

/// What was counted of a user, and the count that is under way.
#[derive(Default)]
struct Progress {
    badge: Option<Badge>,
    pass: Option<Pass>,
}

/// Everything that was new to a user at a position.
struct Badge {
    at: Position,
    /// What is new in each room in which anything is.
    rooms: HashMap<RoomNumber, u64>,
    invitations: u64,
}

/// A count of all rooms.
struct Pass {
    /// What is counted.
    badge: Badge,
    /// Of which room it was counted last.
    room: RoomNumber,
    /// What was counted before, unless all rooms are to be counted anew, and the rooms that the user has read since.
    known: Option<Badge>,
    read: HashSet<RoomNumber>,
}

impl Badges {
    /// How much is new to a user; none: a part is counted, and the next call counts on.
    pub(super) fn count(&self, view: &View<'_>, onlooker: &Onlooker) -> Result<Option<u64>, StoreError> {
        let progress = self.of(onlooker.user, view.position());
        let mut progress = lock(&progress);
        let Progress { badge, pass } = &mut *progress;
        let (mut under_way, is_of_now) = match pass.take() {
            Some(pass) => (pass, false),
            None => (Pass::begin(view, onlooker, badge.take())?, true),
        };
        if !under_way.go_on(view, onlooker)? {
            *pass = Some(under_way);
            return Ok(None);
        }
        // What happened while parts were counted is counted next.
        let total = badge.insert(under_way.badge).total();
        Ok(is_of_now.then_some(total))
    }

    fn of(&self, user: UserNumber, now: Position) -> Arc<Mutex<Progress>> {
        let mut kept = lock(&self.0);
        if kept.len() >= limits::BADGES && !kept.contains_key(&user) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.used).map(|(user, _)| *user);
            oldest.map(|oldest| kept.remove(&oldest));
        }
        let kept = kept.entry(user).or_insert_with(|| Kept { used: now, progress: Arc::default() });
        kept.used = kept.used.max(now);
        kept.progress.clone()
    }
}

impl Badge {
    fn total(&self) -> u64 {
        self.rooms.values().sum::<u64>() + self.invitations
    }
}

impl Pass {
    fn begin(view: &View<'_>, onlooker: &Onlooker, known: Option<Badge>) -> Result<Self, StoreError> {
        let (user, at) = (onlooker.user, view.position());
        let mut pass = Self {
            badge: Badge { at, rooms: HashMap::new(), invitations: 0 },
            room: RoomNumber::default(),
            known: None,
            read: HashSet::new(),
        };
        let Some(known) = known else { return Ok(pass) };
        let is_rule =
            |data: &AccountData| matches!(&*data.event_type, push_rules::TYPE | "m.ignored_user_list");
        let is_by_other_rules = view.account_data_since(user, known.at)?.iter().any(is_rule)
            || !view.thread_subscriptions(user, (known.at, at), 1)?.is_empty();
        if !is_by_other_rules {
            pass.read = view.rooms_read(user, known.at, at)?.into_iter().collect();
            pass.known = Some(known);
        }
        Ok(pass)
    }

    /// Counts a part; whether it is the last.
    fn go_on(&mut self, view: &View<'_>, onlooker: &Onlooker) -> Result<bool, StoreError> {
        let user = onlooker.user;
        let (ignored, permission) = (ignored(view, user)?, InvitePermission::of(view, user)?);
        let (mut counted, mut allowance) = (0, Allowance::default());
        for stay in view.stays_after(user, self.room) {
            let (room, stay) = stay?;
            match stay.membership {
                Membership::Join => {
                    let known = self.known.as_ref().filter(|_| !self.read.contains(&room));
                    let count = match known {
                        Some(known) if view.room(room)?.newest <= known.at => {
                            known.rooms.get(&room).copied().unwrap_or_default()
                        }
                        _ if counted == limits::BADGE_ROOMS || allowance.has_used(limits::BADGE_STEPS) => {
                            return Ok(false);
                        }
                        _ => {
                            counted += 1;
                            let counts = unread(view, room, onlooker, &mut allowance)?.unread.counts;
                            counts.values().map(|counts| counts.notifications).sum()
                        }
                    };
                    if count > 0 {
                        self.badge.rooms.insert(room, count);
                    }
                }
                Membership::Invite => {
                    let sender = view.user_id(view.header(room, stay.event)?.sender)?;
                    self.badge.invitations +=
                        u64::from(!ignored.contains(&sender) && !permission.hides(&sender));
                }
                _ => {}
            }
            self.room = room;
        }
        Ok(true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Timestamp, ids::DeviceNumber},
        service::write::{
            fixture::{ALICE, BOB, Server, new_room, owned},
            membership::Action,
            plan::Preset,
        },
    };

    #[test]
    fn many_rooms_are_counted_in_parts() {
        let mut server = Server::new();
        let many = limits::BADGE_ROOMS + 1;
        let mut rooms = Vec::new();
        for _ in 0..many {
            let room = server.create(new_room("12", Preset::Public)).unwrap();
            server.act(room, BOB, &Action::Join).unwrap();
            server.say(room, ALICE, "hello");
            rooms.push(room);
        }
        let badges = Arc::new(Badges::default());
        let count = || {
            let badges = badges.clone();
            server.read(move |view| {
                let user_id = owned(BOB);
                let user = view.user_number(&user_id)?.unwrap();
                let onlooker = Onlooker { user, user_id, device: DeviceNumber(1), now: Timestamp(1) };
                badges.count(view, &onlooker)
            })
        };
        let all = many as u64;
        assert_eq!(count(), None);
        // What happens meanwhile where it was counted already is not forgotten.
        server.say(rooms[0], ALICE, "hello again");
        assert_eq!([count(), count()], [None, Some(all + 1)]);
        assert_eq!(count(), Some(all + 1));
        // Only what changed is counted then, in parts as well.
        server.say(rooms[0], ALICE, "and again");
        assert_eq!(count(), Some(all + 2));
        for room in rooms {
            server.say(room, ALICE, "and again");
        }
        assert_eq!([count(), count(), count()], [None, None, Some(all * 2 + 2)]);
    }
}
