//! Asking other servers for their users' keys: all at once, each for as long as the client waits. Whoever doesn't answer is
//! named, and what the others say is told.
//! <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use ruma::{
    OwnedServerName, OwnedUserId,
    api::federation::keys::{
        claim_keys::v1::{OneTimeKeys, Request as ClaimRequest},
        get_keys::v1::{Request, Response},
    },
};
use tokio::{task::JoinSet, time::sleep};

use super::{Known, Told, put_down, told};
use crate::{
    base::{ids::UserNumber, limits, ordered::Ordered},
    net::Bounds,
    service::{
        App,
        federation::ask::{AskError, ask},
        keys::{query::Claims, signed::Signed},
    },
    store::{KeySignature, OneTimeKey, StoreError},
};

/// A user whose keys are wanted.
#[derive(Debug)]
pub(in crate::service::keys) struct Wanted {
    pub(in crate::service::keys) user_id: OwnedUserId,
    /// Those of the devices that are wanted; none: all.
    pub(in crate::service::keys) devices: Vec<String>,
    /// As whom what is told may be kept; none: they share no room with anybody here.
    pub(in crate::service::keys) as_known: Option<(UserNumber, Known)>,
    /// What the asking user signed of theirs.
    pub(in crate::service::keys) signed: Vec<KeySignature>,
}

/// Asks for the keys of users by their servers, and keeps them where they may be; returns who didn't answer.
pub(in crate::service::keys) async fn query(
    app: &App,
    wanted: BTreeMap<OwnedServerName, Vec<Wanted>>,
    time: Duration,
) -> Result<(Vec<(Wanted, Told)>, Vec<OwnedServerName>), StoreError> {
    let asked = wanted.into_iter().map(|(server, users)| {
        let app = app.clone();
        (server.clone(), async move {
            let (mut told, mut users) = (Vec::new(), users.into_iter().peekable());
            while users.peek().is_some() {
                let some: Vec<_> = users.by_ref().take(limits::KEYS_ASKED).collect();
                let devices = some.iter().map(|wanted| {
                    // All are kept, whatever is wanted of them.
                    let named = wanted.devices.iter().filter(|_| wanted.as_known.is_none());
                    (wanted.user_id.clone(), named.map(|id| id.as_str().into()).collect())
                });
                let mut response = ask(&app, &server, Request::new(devices.into_map()), bounds(time)).await?;
                told.extend(some.into_iter().map(|wanted| {
                    let of_user = take(&wanted.user_id, &mut response);
                    (wanted, of_user)
                }));
            }
            Ok(told)
        })
    });
    let (answers, failed) = all(app, asked, time).await;
    let mut found = Vec::new();
    for answer in answers {
        let kept: Vec<_> = answer
            .iter()
            .filter_map(|(wanted, told)| Some((wanted.as_known?, told.as_ref()?.clone())))
            .collect();
        if !kept.is_empty() {
            let own = app.server_name.clone();
            let keep = app.store.write(move |transaction| {
                for ((user, known), told) in &kept {
                    put_down(transaction, &own, *user, *known, (None, told))?;
                }
                Ok::<_, StoreError>(())
            });
            keep.await?;
        }
        found.extend(answer.into_iter().map(|(wanted, told)| (wanted, told.unwrap_or_default())));
    }
    Ok((found, failed))
}

/// What an answer says of a user; none if it says nothing.
fn take(user_id: &OwnedUserId, response: &mut Response) -> Option<Told> {
    let devices = response.device_keys.remove(user_id)?;
    if devices.len() > limits::REMOTE_DEVICES {
        return None;
    }
    let devices = devices
        .into_iter()
        .filter_map(|(id, keys)| told::device(user_id, id.as_str(), keys.json().get(), None))
        .collect();
    let master = response.master_keys.remove(user_id);
    let self_signing = response.self_signing_keys.remove(user_id);
    Some(Told {
        devices,
        master: master.and_then(|key| told::master(user_id, key.json().get())),
        self_signing: self_signing.and_then(|key| told::self_signing(user_id, key.json().get())),
    })
}

/// Takes one-time keys of users of other servers; returns which servers didn't answer.
pub(in crate::service::keys) async fn claim(
    app: &App,
    wanted: BTreeMap<OwnedServerName, Claims<String>>,
    time: Duration,
) -> (Vec<Claims<OneTimeKey>>, Vec<OwnedServerName>) {
    let asked = wanted.into_iter().map(|(server, wanted)| {
        let app = app.clone();
        (server.clone(), async move {
            let of_user = |devices: &BTreeMap<String, String>| {
                let devices = devices.iter();
                devices.map(|(id, algorithm)| (id.as_str().into(), algorithm.as_str().into())).into_map()
            };
            let claims = wanted.iter().map(|(user_id, devices)| (user_id.clone(), of_user(devices)));
            let response = ask(&app, &server, ClaimRequest::new(claims.into_map()), bounds(time)).await?;
            Ok(given(&wanted, response.one_time_keys))
        })
    });
    all(app, asked, time).await
}

/// Those of the keys that an answer gives that were wanted.
fn given(wanted: &Claims<String>, mut answer: OneTimeKeys) -> Claims<OneTimeKey> {
    let mut given = Claims::new();
    for (user_id, devices) in wanted {
        let Some(mut keys) = answer.remove(user_id) else { continue };
        for (device, algorithm) in devices {
            let key = keys.remove(device.as_str()).into_iter().flatten().find_map(|(id, key)| {
                let (of, id) = id.as_str().split_once(':')?;
                if of != algorithm || of.len() + id.len() > limits::KEY_ID_BYTES {
                    return None;
                }
                let text = key.json().get();
                let key = match text.starts_with('"') {
                    true if text.len() <= limits::PUBLISHED_KEY_BYTES => text.to_owned(),
                    true => return None,
                    false => Signed::read(text).ok().filter(|key| key.field("key").is_some())?.text(),
                };
                Some(OneTimeKey { algorithm: of.to_owned(), id: id.to_owned(), key })
            });
            if let Some(key) = key {
                given.entry(user_id.clone()).or_insert_with(BTreeMap::new).insert(device.clone(), key);
            }
        }
    }
    given
}

/// Does what is asked of each server, some at once, and names those that it fails with, as it does with all that are late.
async fn all<T: Send + 'static>(
    app: &App,
    asked: impl Iterator<Item = (OwnedServerName, impl Future<Output = Result<T, AskError>> + Send + 'static)>,
    time: Duration,
) -> (Vec<T>, Vec<OwnedServerName>) {
    let now = app.clock.monotonic();
    let mut asked: Vec<_> = asked.collect();
    // Nobody waits for a place because of servers that will hardly answer.
    asked.sort_by_key(|(server, _)| app.resyncs.is_absent(server, now));
    let mut failed: BTreeSet<_> = asked.iter().map(|(server, _)| server.clone()).into_set();
    let (mut answers, mut tasks, mut asked) = (Vec::new(), JoinSet::new(), asked.into_iter());
    let mut running = BTreeSet::new();
    let late = sleep(time);
    tokio::pin!(late);
    loop {
        while tasks.len() < limits::KEY_ASKS
            && let Some((server, asked)) = asked.next()
        {
            running.insert(server.clone());
            let permits = app.key_asks.clone();
            tasks.spawn(async move {
                let _permit = permits.acquire_owned().await;
                (server, asked.await)
            });
        }
        let done = tokio::select! {
            biased;
            done = tasks.join_next() => done,
            () = &mut late => {
                running.iter().for_each(|server| app.resyncs.missed(server, now));
                None
            }
        };
        if let Some(Ok((server, _))) = &done {
            running.remove(server);
        }
        match done {
            None => break,
            Some(Ok((server, Ok(answer)))) => {
                app.resyncs.came_back(&server);
                failed.remove(&server);
                answers.push(answer);
            }
            Some(Ok((server, Err(error)))) => {
                tracing::debug!(%server, %error, "a server doesn't tell or give keys");
                app.resyncs.missed(&server, now);
            }
            // It panicked, which the log tells.
            Some(Err(_)) => {}
        }
    }
    (answers, failed.into_iter().collect())
}

fn bounds(time: Duration) -> Bounds {
    Bounds { total: time, head: time, idle: time, body_bytes: limits::KEYS_ANSWER_BYTES }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::{Value, json};

    use super::*;

    fn device(user: &str, id: &str) -> Value {
        json!({"user_id": user, "device_id": id, "algorithms": [], "keys": {}})
    }

    #[test]
    fn a_server_is_believed_of_those_only_whom_it_was_asked_for() {
        let (carol, dan) =
            (user_id!("@carol:two.example").to_owned(), user_id!("@dan:two.example").to_owned());
        let mut response = Response::new(BTreeMap::new());
        response.device_keys = serde_json::from_value(json!({
            &carol: {
                "PHONE": device(carol.as_str(), "PHONE"),
                "DESK": device(dan.as_str(), "DESK"),
                "OTHER": device(carol.as_str(), "ANOTHER"),
                "NOTHING": 1,
            },
            "@anna:one.example": {"PHONE": device("@anna:one.example", "PHONE")},
        }))
        .unwrap();
        let id = "lEuiRJBit0IG6nUf5pUzWTUEsRVVe/HJkoKuEww9ULI";
        let key = |user: &str, usage: &str| json!({"user_id": user, "usage": [usage], "keys": {format!("ed25519:{id}"): id}});
        let master = json!({&carol: key(carol.as_str(), "master"), &dan: key(dan.as_str(), "master")});
        response.master_keys = serde_json::from_value(master).unwrap();
        response.self_signing_keys =
            serde_json::from_value(json!({&carol: key(dan.as_str(), "self_signing")})).unwrap();
        assert!(take(&dan, &mut response).is_none());
        let told = take(&carol, &mut response).unwrap();
        let ids: Vec<_> = told.devices.iter().map(|device| &*device.device_id).collect();
        assert_eq!((ids, told.self_signing), (vec!["PHONE"], None));
        assert!(told.master.is_some());
    }

    #[test]
    fn keys_are_taken_that_were_wanted() {
        let carol = user_id!("@carol:two.example").to_owned();
        let devices = ["A", "B", "C", "D", "E"].map(|id| (id.to_owned(), "signed_curve25519".to_owned()));
        let wanted = Claims::from([(carol.clone(), devices.into())]);
        let key = json!({"key": "abc", "signatures": {}});
        let large = "x".repeat(limits::PUBLISHED_KEY_BYTES);
        let answer = json!({
            &carol: {
                "A": {"signed_curve25519:AAAA": key},
                "B": {"curve25519:AAAA": "abc"},
                "C": {"signed_curve25519:AAAA": {"signatures": {}}},
                "D": {"signed_curve25519:AAAA": {"key": large}},
                "E": {format!("signed_curve25519:{}", "a".repeat(limits::KEY_ID_BYTES)): key},
                "F": {"signed_curve25519:AAAA": key},
            },
            "@anna:one.example": {"A": {"signed_curve25519:AAAA": key}},
        });
        let given = given(&wanted, serde_json::from_value(answer).unwrap());
        let ids: Vec<_> = given.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
        assert_eq!((given.len(), ids), (1, vec!["A"]));
    }
}
