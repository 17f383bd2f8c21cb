//! Push notifications: pushers over HTTP, and what gateways are told on real sockets.
//! <https://spec.matrix.org/v1.19/push-gateway-api/>

mod across;
mod gateway;
mod notices;
mod pushers;
mod trouble;

use std::{
    sync::{Arc, Barrier},
    time::Duration,
};

use serde_json::{Value, json};
use tayberry::{
    base::limits,
    config::{Config, RegistrationMode},
    store::{StoreError, Topic, View},
};
use tokio::task::JoinSet;

use self::gateway::Gateway;
use crate::{
    net::{Authority, HOUR},
    rig::{Member, Reply, Rig},
    rooms::{act, create},
};

/// A server that may notify gateways on loopback, and their authority.
struct Scene {
    rig: Rig,
    authority: Authority,
}

impl Scene {
    async fn start() -> Self {
        let authority = Authority::new();
        let rig = Rig::with(|config| configure(config, &authority)).await;
        Self { rig, authority }
    }

    /// Stops the server in order, and starts it again.
    async fn again(self) -> Self {
        let Self { rig, authority } = self.at_rest().await;
        let rig = rig.again(|config| configure(config, &authority)).await;
        Self { rig, authority }
    }

    /// Starts the server again that ended without a word.
    async fn after_crash(self) -> Self {
        let Self { rig, authority } = self.at_rest().await;
        let rig = rig.after_crash(|config| configure(config, &authority)).await;
        Self { rig, authority }
    }

    /// Ends the workers. What one was about to read is read to its end, and holds the store for as long: all readers are
    /// free once each has one of these.
    async fn at_rest(mut self) -> Self {
        self.rig.stop_workers().await;
        let all = Arc::new(Barrier::new(limits::READERS));
        let reads = (0..limits::READERS).map(|_| {
            let (store, all) = (self.rig.app.store.clone(), all.clone());
            async move {
                let read = move |_: &View<'_>| {
                    all.wait();
                    Ok::<_, StoreError>(())
                };
                store.read(read).await
            }
        });
        let mut reads: JoinSet<_> = reads.collect();
        while let Some(read) = reads.join_next().await {
            read.unwrap().unwrap();
        }
        self
    }

    async fn gateway(&self) -> Gateway {
        Gateway::start(&self.authority, "h2").await
    }

    /// A room of the first of some people with the others.
    async fn room(&self, people: &[&Member]) -> String {
        let room = create(&self.rig, people[0], json!({"preset": "public_chat"})).await;
        for person in &people[1..] {
            act(&self.rig, person, &room, "join", json!({})).await;
        }
        room
    }

    /// Has somebody notified by a gateway, under this push key.
    async fn notify(&self, who: &Member, gateway: &Gateway, pushkey: &str, data: Value) {
        let mut pusher = pusher(pushkey, &gateway.url());
        for (name, value) in data.as_object().into_iter().flatten() {
            pusher["data"][name] = value.clone();
        }
        set(&self.rig, who, pusher).await.ok();
    }

    /// Waits until something is so, while hours pass in which what failed is tried again.
    async fn eventually(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if is_so() {
                return;
            }
            self.hours_pass().await;
        }
        panic!("{what}");
    }

    /// Moves the time on to where everything that failed is tried again.
    async fn hours_pass(&self) {
        self.rig.advance(HOUR * 2);
        self.rig.app.store.wake(&[Topic::Push]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn configure(config: &mut Config, authority: &Authority) {
    config.registration.mode = RegistrationMode::Open;
    config.push.allow_private_gateways = true;
    config.federation.trusted_ca_files = vec![authority.file()];
}

/// A pusher as a client sets it.
fn pusher(pushkey: &str, url: &str) -> Value {
    json!({
        "kind": "http", "app_id": "org.example.app", "pushkey": pushkey, "app_display_name": "An app",
        "device_display_name": "A phone", "lang": "en", "data": {"url": url}, "append": true,
    })
}

async fn set(rig: &Rig, who: &Member, pusher: Value) -> Reply {
    rig.send_as(who, "POST", "/_matrix/client/v3/pushers/set", pusher).await
}

/// The push keys of somebody's pushers.
async fn keys(rig: &Rig, who: &Member) -> Vec<String> {
    let pushers = rig.send_as(who, "GET", "/_matrix/client/v3/pushers", Value::Null).await.ok();
    let pushers = pushers["pushers"].as_array().unwrap();
    pushers.iter().map(|pusher| pusher["pushkey"].as_str().unwrap().to_owned()).collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}
