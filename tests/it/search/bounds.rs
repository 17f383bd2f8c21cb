//! The bounds of one request, made small: it gives what it has so far, and the next goes on from there.

use std::{collections::BTreeSet, time::Duration};

use http::StatusCode;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::json;
use tayberry::{
    api::Error,
    base::ids::DeviceNumber,
    service::read::{
        access::ReadError,
        reader::Onlooker,
        search::{Ask, Bounds, Found, Order, SearchError, search},
    },
    store::{Indexed, Part, StoreError},
};

use super::{bodies, ids};
use crate::{
    rig::{Member, Rig},
    rooms::{create, say},
};

/// Looks for a term within bounds, a few results a page.
async fn look(
    rig: &Rig,
    who: &Member,
    term: &str,
    from: Option<String>,
    bounds: Bounds,
) -> Result<Found, SearchError> {
    let user_id: OwnedUserId = who.user_id.as_str().try_into().unwrap();
    let known = user_id.clone();
    let read = rig.app.store.read(move |view| view.user_number(&known));
    let user = read.await.unwrap().unwrap();
    let onlooker = Onlooker { user, user_id, device: DeviceNumber(1), now: rig.app.clock.now() };
    let ask = Ask {
        term: term.to_owned(),
        parts: None,
        filter: serde_json::from_value(json!({"limit": 4})).unwrap(),
        order: Order::Rank,
        context: None,
        state: false,
        groups: Vec::new(),
        from,
    };
    search(&rig.app, onlooker, ask, bounds).await
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_one_request_may_not_look_at_the_next_does() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    for at in 0..20 {
        say(&rig, &alice, &room, &format!("tea {}", "x ".repeat(at * 7 % 5)), &at.to_string()).await;
    }
    // The most results of a page, and those of the first: where no tier is whole, one has no more than so many rows.
    for (rows, first) in [(1, 1), (3, 3), (4, 4), (7, 4), (19, 4), (20, 4), (21, 4)] {
        let (mut told, mut next, mut pages) = (Vec::new(), None, 0);
        loop {
            let found = look(&rig, &alice, "tea", next, Bounds { rows, time: LONG }).await.unwrap();
            let results = json!({"results": found.hits});
            let count = bodies(&results).len();
            assert!(if pages == 0 { count == first } else { count <= 4 }, "{rows}: {count} on page {pages}");
            told.extend(ids(&results));
            assert!(found.count >= told.len() as u64, "{rows}");
            (next, pages) = (found.next, pages + 1);
            if next.is_none() {
                assert_eq!(found.count, 20, "{rows}");
                break;
            }
            assert!(pages <= 40, "it ends");
        }
        assert_eq!((told.len(), told.iter().collect::<BTreeSet<_>>().len()), (20, 20), "{rows}");
    }
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let room = create(&rig, &alice, json!({})).await;
    let said: OwnedEventId = say(&rig, &alice, &room, "tea", "1").await.try_into().unwrap();
    rig.app.index_words().await.unwrap();
    let (room, user): (OwnedRoomId, OwnedUserId) =
        (room.try_into().unwrap(), alice.user_id.as_str().try_into().unwrap());
    let read = rig.app.store.read(move |view| {
        let room = view.room_number(&room)?.unwrap();
        let number = view.event_number(room, &said)?.unwrap();
        Ok::<_, StoreError>((room, number, view.user_number(&user)?.unwrap()))
    });
    let (room, number, sender) = read.await.unwrap();
    // Words so many that it takes a while to find out that two of them never follow each other.
    let text = "tea cup ".repeat(400_000).trim_end().to_owned();
    let mut index = rig.app.store.search_file().open().unwrap();
    let indexed = Indexed { room, sender, part: Part::Body, edit: None, text };
    index.put([(number, Some(&indexed))], rig.app.store.position()).unwrap();
    drop(index);

    let rows = 100;
    let found = look(&rig, &alice, "tea.tea", None, Bounds { rows, time: LONG }).await.unwrap();
    assert_eq!((found.count, found.next), (0, None));
    let given_up = look(&rig, &alice, "tea.tea", None, Bounds { rows, time: Duration::ZERO }).await;
    assert!(matches!(given_up, Err(SearchError::Read(ReadError::TooLong))));
    assert_eq!(Error::from(ReadError::TooLong).status(), StatusCode::SERVICE_UNAVAILABLE);
}
