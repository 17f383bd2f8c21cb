//! The keys of the many servers that signed the events of a room, each asked for once.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use ruma::{OwnedServerName, OwnedServerSigningKeyId, signatures::PublicKeyMap};
use tokio::task::JoinSet;

use super::{
    notary::{self, Wanted},
    receive::{self, key_ids, sent},
};
use crate::{
    base::{clock::Timestamp, json::Object, limits, ordered::Ordered},
    net::NetError,
    room::{sign::signers, version::Version},
    service::{
        App,
        server_keys::{self, Several},
    },
    store::{StoreError, StoredServerKey},
};

/// Keys as they were found.
#[derive(Debug)]
pub(super) struct Keyring {
    found: HashMap<Name, Found>,
    /// Servers that are asked at once.
    at_once: usize,
    /// Who tells of the events, and is asked for the keys of servers that don't tell theirs; none: that was in vain.
    notary: Option<OwnedServerName>,
    /// For how long servers may still be waited for.
    left: Duration,
}

type Name = (OwnedServerName, OwnedServerSigningKeyId);

#[derive(Clone, Debug)]
struct Found {
    key: Option<StoredServerKey>,
    /// Whether nothing is known, because the server told nothing.
    is_silent: bool,
    /// The latest time for which it was looked for.
    at: Timestamp,
}

impl Keyring {
    /// One that has no keys yet.
    pub(super) fn new(at_once: usize, notary: Option<OwnedServerName>) -> Self {
        Self { found: HashMap::new(), at_once, notary, left: limits::KEYS_LEARNT_TIME }
    }

    /// Looks for the keys by which events are checked: those of many servers at once.
    pub(super) async fn learn(&mut self, app: &App, events: &[&Object], version: Version) {
        let mut wanted = Wanted::new();
        for event in events {
            let sent = sent(event);
            for (server, id) in names(event, version) {
                if self.has(&(server.clone(), id.clone()), sent) {
                    continue;
                }
                let at = wanted.entry(server).or_default().entry(id).or_default();
                *at = sent.max(*at);
            }
        }
        let silent = self.ask_servers(app, wanted).await;
        self.ask_notary(app, silent).await;
    }

    /// Asks servers for their keys; gives those that are not to be had from them.
    async fn ask_servers(&mut self, app: &App, wanted: Wanted) -> Wanted {
        let begun_at = app.clock.monotonic();
        let left = || self.left.saturating_sub(app.clock.monotonic().saturating_sub(begun_at));
        let mut wanted = wanted.into_iter();
        let (mut asking, mut silent, mut any_asked) = (JoinSet::new(), Wanted::new(), false);
        loop {
            while asking.len() < self.at_once
                && let Some((server, ids)) = wanted.next()
            {
                let (app, time) = (app.clone(), left().min(limits::CONNECT_TIME));
                asking.spawn(async move {
                    let several = server_keys::keys(&app, &server, &ids, time).await;
                    (server, ids, several)
                });
            }
            let Some(looked) = asking.join_next().await else { break };
            let Ok((server, mut ids, several)) = looked else { continue };
            let Several { told, untold, asked } = several.unwrap_or_else(|error: StoreError| {
                tracing::warn!(%server, %error, "keys can't be read");
                let untold = ids.keys().map(|id| (id.clone(), None)).collect();
                Several { untold, ..Several::default() }
            });
            any_asked |= asked;
            for (is_told, (id, key)) in
                told.into_iter().map(|key| (true, key)).chain(untold.into_iter().map(|key| (false, key)))
            {
                let Some(at) = ids.remove(&id) else { continue };
                if !is_told {
                    silent.entry(server.clone()).or_default().insert(id.clone(), at);
                }
                let is_silent = !is_told && key.is_none();
                self.found.insert((server.clone(), id), Found { key, is_silent, at });
            }
        }
        if any_asked {
            self.left = left();
        }
        silent
    }

    /// Looks for the keys of servers that told none.
    async fn ask_notary(&mut self, app: &App, mut silent: Wanted) {
        let Some(notary) = self.notary.clone() else { return };
        silent.remove(&notary);
        let (mut silent, mut asking) = (silent.into_iter().peekable(), JoinSet::new());
        loop {
            while asking.len() < limits::NOTARY_ASKS && self.notary.is_some() && silent.peek().is_some() {
                let some: Wanted = silent.by_ref().take(limits::NOTARY_SERVERS).into_map();
                let (app, notary) = (app.clone(), notary.clone());
                asking.spawn(async move { notary::told(&app, &notary, &some).await });
            }
            match asking.join_next().await {
                Some(Ok(Ok(told))) => {
                    told.into_iter().for_each(|(server, id, key)| self.believe((server, id), key));
                }
                Some(Ok(Err(error))) => {
                    tracing::debug!(%notary, %error, "a server tells no keys of others");
                    // Of what this server couldn't do it is not to blame.
                    if !matches!(error, NetError::Busy) {
                        self.notary = None;
                    }
                }
                Some(Err(_)) => {}
                None => return,
            }
        }
    }

    /// Takes another server's word for a key, but against none that the key's own server told once.
    fn believe(&mut self, name: Name, key: StoredServerKey) {
        let Some(found) = self.found.get_mut(&name) else { return };
        let adds = |kept: &StoredServerKey| kept.key == key.key && kept.valid_until < key.valid_until;
        if found.key.as_ref().is_none_or(adds) {
            (found.key, found.is_silent) = (Some(key), false);
        }
    }

    /// The keys by which an event is checked, as far as they are known and were good when it was sent.
    pub(super) fn of(&self, event: &Object, version: Version) -> PublicKeyMap {
        let (mut keys, sent) = (PublicKeyMap::new(), sent(event));
        for (server, id) in names(event, version) {
            let found = self.found.get(&(server.clone(), id.clone()));
            if let Some(found) = found.filter(|found| !found.is_silent) {
                receive::add(&mut keys, &server, &id, found.key.clone(), (sent, version));
            }
        }
        keys
    }

    fn has(&self, name: &Name, sent: Timestamp) -> bool {
        self.found.get(name).is_some_and(|found| {
            found.at >= sent || found.key.as_ref().is_some_and(|key| key.is_valid_at(sent))
        })
    }
}

/// The servers that must have signed an event, with the keys by which they say they did.
fn names(event: &Object, version: Version) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    for server in signers(event, version).unwrap_or_default() {
        names.extend(key_ids(event, server.as_str()).map(|id| (server.clone(), id.to_owned())));
    }
    names
}
