//! What is told beside rooms: messages to the device, devices of others, account data, receipts, who is typing.
//!
//! The last three are of rooms that the client looks at and was told of. Whether it has them up to where it was told of the
//! room is remembered with the room: if so, and the room was looked at all along, what changed is told, else all of it.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedRoomId, RoomId};
use serde_json::Value;

use super::{
    answer::{AccountData, E2ee, Extensions, OfRooms, ToDevice},
    connection::{DATA, RECEIPTS, TYPED, TYPING, Told, ToldRoom},
    request::{Ask, Scope},
    rooms::Wish,
};
use crate::{
    base::{ids::RoomNumber, limits},
    service::{
        App, keys,
        read::token::SyncToken,
        sync::{
            beside::{ephemeral, receipt_contents, typing_of},
            damage::whole,
            data::{Data, account_data, add_push_rules},
            device_lists::{DeviceLists, device_lists, everybody},
            v3::to_device,
        },
        thread_subscriptions::Changes,
        typing::TypingNews,
    },
    store::{Receipt, StoreError, View},
};

/// A room of which the client was told, or is with this answer.
pub(super) struct Shown<'a> {
    /// Its place among the candidates.
    pub(super) place: usize,
    pub(super) room: RoomNumber,
    pub(super) wish: &'a Wish<'a>,
    /// What was told of it before, unless it is told anew.
    pub(super) told: Option<ToldRoom>,
    /// What is told of it now; of those who type, what was told last.
    pub(super) flags: u8,
}

/// What changed since the last answer.
pub(super) struct News {
    pub(super) receipts: HashMap<RoomNumber, Vec<Receipt>>,
    pub(super) typing: TypingNews,
}

/// Tells what the client wants beside rooms, and notes it in `next` and in the rooms.
pub(super) fn extensions(
    app: &App,
    view: &View<'_>,
    ask: &Ask,
    (had, next): (&Told, &mut Told),
    (shown, mut news): (&mut [Shown<'_>], News),
) -> Result<Extensions, StoreError> {
    let (wanted, onlooker) = (&ask.extensions, &ask.onlooker);
    let mut told = Extensions::default();
    if let Some(wanted) = &wanted.to_device {
        let (events, until) = to_device(view, onlooker.device, wanted.since, wanted.limit)?;
        told.to_device = Some(ToDevice { next_batch: SyncToken::at(until).to_string(), events });
    }
    if wanted.e2ee {
        let lists = match had.e2ee {
            Some(since) => device_lists(view, onlooker.user, since)?,
            None if wanted.to_device.as_ref().is_some_and(|wanted| wanted.is_lost) => {
                everybody(view, onlooker.user)?
            }
            None => DeviceLists::default(),
        };
        next.e2ee = Some(view.position());
        told.e2ee = Some(E2ee {
            device_lists: lists,
            device_one_time_keys_count: keys::counts(view, onlooker.device)?,
            device_unused_fallback_key_types: keys::unused_fallback_keys(view, onlooker.device)?,
        });
    }
    if let Some(scope) = &wanted.account_data {
        let data = self::data(view, ask, had, (scope, &mut *shown))?;
        next.account_data = Some(view.position());
        told.account_data = Some(data).filter(|data| !data.is_empty());
    }
    if let Some(scope) = &wanted.receipts {
        let receipts = self::receipts(view, ask, had, (scope, &mut *shown), &mut news.receipts)?;
        told.receipts = Some(receipts).filter(|told| !told.rooms.is_empty());
    }
    if let Some(scope) = &wanted.typing {
        let typing = self::typing(app, view, (scope, &mut *shown), &news.typing)?;
        told.typing = Some(typing).filter(|told| !told.rooms.is_empty());
    }
    if let Some(limit) = wanted.threads {
        let span = (had.threads.unwrap_or_default(), view.position());
        // What is damaged of one thread keeps back the others.
        if let Some(changes) = whole(Changes::read(view, onlooker.user, span, limit), "of a thread")? {
            next.threads = Some(view.position());
            told.threads =
                Some(changes).filter(|changes| !changes.is_empty()).map(|changes| changes.told("prev_batch"));
        }
    }
    Ok(told)
}

impl Shown<'_> {
    /// Whether the room is in a scope.
    fn is_in(&self, view: &View<'_>, scope: &Scope) -> Result<bool, StoreError> {
        scope.has(&self.wish.lists, self.wish.subscribed, || view.room_id(self.room))
    }

    /// Whether the client has something of the room up to the last answer. It has it from now on.
    fn has_had(&mut self, had: &Told, what: u8) -> bool {
        self.flags |= what;
        self.told.is_some_and(|told| told.until >= had.pos.seen && told.flags & what != 0)
    }
}

fn data(
    view: &View<'_>,
    ask: &Ask,
    had: &Told,
    (scope, shown): (&Scope, &mut [Shown<'_>]),
) -> Result<AccountData, StoreError> {
    let user = ask.onlooker.user;
    let of_room = |room_id: &RoomId| {
        let data = view.account_data_of_room(user, room_id.as_str())?;
        data.into_iter().map(Data::of).collect::<Result<Vec<_>, _>>()
    };
    let mut changed = BTreeMap::new();
    let global = if let Some(since) = had.account_data {
        changed = account_data(view, user, since)?;
        changed.remove(&None).unwrap_or_default()
    } else {
        let global = view.account_data_of_room(user, "")?;
        let mut global = global.into_iter().map(Data::of).collect::<Result<_, _>>()?;
        add_push_rules(view, &ask.onlooker, &mut global)?;
        global
    };
    let rooms = of_rooms(view, (scope, DATA), shown, |room| {
        let data = match room.has_had(had, DATA) {
            true if changed.is_empty() => return Ok(None),
            true => changed.remove(&Some(view.room_id(room.room)?)).unwrap_or_default(),
            false => of_room(&view.room_id(room.room)?)?,
        };
        let data: Vec<_> = data.into_iter().map(Data::write).collect();
        let bytes = data.iter().map(|data| data.get().len()).sum();
        Ok(Some((data, bytes)).filter(|(data, _)| !data.is_empty()))
    })?;
    Ok(AccountData { global: global.into_iter().map(Data::write).collect(), rooms })
}

/// What is told of the rooms in a scope, each with about how many bytes it takes. What has no place, or is of a room that
/// can't be read, comes with the next answer, whole.
fn of_rooms<T>(
    view: &View<'_>,
    (scope, what): (&Scope, u8),
    shown: &mut [Shown<'_>],
    mut tell: impl FnMut(&mut Shown<'_>) -> Result<Option<(T, usize)>, StoreError>,
) -> Result<BTreeMap<OwnedRoomId, T>, StoreError> {
    let (mut rooms, mut bytes) = (BTreeMap::new(), 0);
    for room in shown {
        if bytes > limits::SYNC_BYTES {
            break;
        }
        let mut of_room = || -> Result<_, StoreError> {
            let told = if room.is_in(view, scope)? { tell(room)? } else { None };
            told.map(|told| Ok::<_, StoreError>((view.room_id(room.room)?, told))).transpose()
        };
        match whole(of_room(), room.room.0)? {
            None => room.flags &= !what,
            Some(None) => {}
            Some(Some((room_id, (told, took)))) => {
                bytes += took;
                rooms.insert(room_id, told);
            }
        }
    }
    Ok(rooms)
}

fn receipts(
    view: &View<'_>,
    ask: &Ask,
    had: &Told,
    (scope, shown): (&Scope, &mut [Shown<'_>]),
    changed: &mut HashMap<RoomNumber, Vec<Receipt>>,
) -> Result<OfRooms, StoreError> {
    let rooms = of_rooms(view, (scope, RECEIPTS), shown, |room| {
        let receipts = match room.has_had(had, RECEIPTS) {
            true if changed.is_empty() => return Ok(None),
            true => changed.remove(&room.room).unwrap_or_default(),
            false => view.receipts_of_room(room.room, limits::RECEIPTS)?,
        };
        let content = merged(receipt_contents(view, ask.onlooker.user, receipts)?);
        Ok(content.map(|content| {
            let content = ephemeral("m.receipt", content);
            let bytes = content.get().len();
            (content, bytes)
        }))
    })?;
    Ok(OfRooms { rooms })
}

/// The receipts of all threads as one content, as there is one event a room. Where somebody has two on one event, the one
/// of no thread is told: it is for all of them.
fn merged(by_thread: BTreeMap<String, Value>) -> Option<Value> {
    let mut contents = by_thread.into_values();
    let mut all = contents.next()?;
    for content in contents {
        let Value::Object(events) = content else { continue };
        for (event, kinds) in events {
            let Value::Object(kinds) = kinds else { continue };
            for (kind, users) in kinds {
                let Value::Object(users) = users else { continue };
                for (user, receipt) in users {
                    let known = &mut all[&event][&kind][&user];
                    if known.is_null() {
                        *known = receipt;
                    }
                }
            }
        }
    }
    Some(all)
}

fn typing(
    app: &App,
    view: &View<'_>,
    (scope, shown): (&Scope, &mut [Shown<'_>]),
    news: &TypingNews,
) -> Result<OfRooms, StoreError> {
    let rooms = of_rooms(view, (scope, TYPING), shown, |room| {
        room.flags |= TYPING;
        let has_had = room.told.is_some_and(|told| told.flags & TYPING != 0);
        let users = match news.rooms.get(&room.room) {
            Some(users) => users.clone(),
            None if has_had && !news.restarted => return Ok(None),
            None => app.typing.of(room.room).unwrap_or_default(),
        };
        // Who was told of nobody need not hear that nobody types.
        if users.is_empty() && room.flags & TYPED == 0 {
            return Ok(None);
        }
        let content = typing_of(view, &users)?;
        room.flags = if users.is_empty() { room.flags & !TYPED } else { room.flags | TYPED };
        let bytes = content.get().len();
        Ok(Some((content, bytes)))
    })?;
    Ok(OfRooms { rooms })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn receipts_of_threads_come_together() {
        let of = |event: &str, user: &str, told: Value| json!({event: {"m.read": {user: told}}});
        assert_eq!(merged(BTreeMap::new()), None);
        let by_thread = [
            ("", of("$a", "@x:x", json!({"ts": 1}))),
            ("$t", of("$a", "@x:x", json!({"ts": 2, "thread_id": "$t"}))),
            ("main", of("$a", "@y:x", json!({"ts": 3, "thread_id": "main"}))),
        ];
        let by_thread = by_thread.map(|(thread, content)| (thread.to_owned(), content)).into();
        let both = json!({"@x:x": {"ts": 1}, "@y:x": {"ts": 3, "thread_id": "main"}});
        assert_eq!(merged(by_thread), Some(json!({"$a": {"m.read": both}})));
    }
}
