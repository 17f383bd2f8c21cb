//! How much is new to somebody in all their rooms, which is what an app's icon shows: counted as `/sync` counts
//! ([`unread`](crate::service::unread)), and pending invitations. What was counted of a user is remembered, so that only
//! those rooms are counted in which something happened.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
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
    store::{StoreError, View, events::Membership},
};

/// What was counted.
#[derive(Default)]
pub(super) struct Badges(Mutex<HashMap<UserNumber, Arc<Badge>>>);

struct Badge {
    at: Position,
    /// What is new in each room in which anything is.
    rooms: HashMap<RoomNumber, u64>,
    invitations: u64,
}

impl Badges {
    /// How much is new to a user.
    pub(super) fn count(&self, view: &View<'_>, onlooker: &Onlooker) -> Result<u64, StoreError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&onlooker.user).cloned();
        let mut allowance = Allowance::default();
        let badge = Badge::of(view, onlooker, known.as_deref(), &mut allowance)?;
        let count = badge.rooms.values().sum::<u64>() + badge.invitations;
        // What may lack something is counted anew.
        if !allowance.is_spent() {
            self.keep(onlooker.user, badge);
        }
        Ok(count)
    }

    fn keep(&self, user: UserNumber, badge: Badge) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::BADGES && !kept.contains_key(&user) {
            let oldest = kept.iter().min_by_key(|(_, badge)| badge.at).map(|(user, _)| *user);
            oldest.map(|oldest| kept.remove(&oldest));
        }
        if kept.get(&user).is_none_or(|other| other.at < badge.at) {
            kept.insert(user, Arc::new(badge));
        }
    }
}

impl Badge {
    fn of(
        view: &View<'_>,
        onlooker: &Onlooker,
        known: Option<&Self>,
        allowance: &mut Allowance,
    ) -> Result<Self, StoreError> {
        let user = onlooker.user;
        let mut badge = Self { at: view.position(), rooms: HashMap::new(), invitations: 0 };
        let is_by_other_rules = match known {
            Some(known) => {
                let changed = view.account_data_since(user, known.at)?;
                let is_rule = |kind: &str| matches!(kind, push_rules::TYPE | "m.ignored_user_list");
                changed.iter().any(|data| is_rule(&data.event_type))
                    || !view.thread_subscriptions(user, (known.at, badge.at), 1)?.is_empty()
            }
            None => true,
        };
        let known = known.filter(|_| !is_by_other_rules);
        let read: HashSet<RoomNumber> = match known {
            Some(known) => view.rooms_read(user, known.at, badge.at)?.into_iter().collect(),
            None => HashSet::new(),
        };
        let (ignored, permission) = (ignored(view, user)?, InvitePermission::of(view, user)?);
        for stay in view.stays(user) {
            let (room, stay) = stay?;
            match stay.membership {
                Membership::Join => {
                    let known = known.filter(|_| !read.contains(&room));
                    let count = match known {
                        Some(known) if view.room(room)?.newest <= known.at => {
                            known.rooms.get(&room).copied().unwrap_or_default()
                        }
                        _ => {
                            let counts = unread(view, room, onlooker, allowance)?.unread.counts;
                            counts.values().map(|counts| counts.notifications).sum()
                        }
                    };
                    if count > 0 {
                        badge.rooms.insert(room, count);
                    }
                }
                Membership::Invite => {
                    let sender = view.user_id(view.header(room, stay.event)?.sender)?;
                    badge.invitations += u64::from(!ignored.contains(&sender) && !permission.hides(&sender));
                }
                _ => {}
            }
        }
        Ok(badge)
    }
}
