//! The keys of the many servers that signed the events of a room, each asked for once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ruma::{OwnedServerName, OwnedServerSigningKeyId, signatures::PublicKeyMap};
use tokio::{task::JoinSet, time::timeout};

use super::{
    notary::{self, Wanted},
    receive::{self, key_ids, sent},
};
use crate::{
    base::{clock::Timestamp, json::Object, limits},
    room::{sign::signers, version::Version},
    service::{
        App,
        server_keys::{self, Asker},
    },
    store::StoredServerKey,
};

/// Keys as they were found.
#[derive(Debug)]
pub(super) struct Keyring {
    found: HashMap<Name, Found>,
    /// Servers that are asked at once.
    at_once: usize,
    /// Who tells of the events, and is asked for the keys of servers that don't tell theirs.
    notary: Option<OwnedServerName>,
}

type Name = (OwnedServerName, OwnedServerSigningKeyId);

#[derive(Clone, Debug)]
struct Found {
    key: Option<StoredServerKey>,
    /// Whether the server told nothing.
    is_silent: bool,
    /// The latest time for which it was looked for.
    at: Timestamp,
}

impl Keyring {
    /// One that has no keys yet.
    pub(super) fn new(at_once: usize, notary: Option<OwnedServerName>) -> Self {
        Self { found: HashMap::new(), at_once, notary }
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
        let mut wanted = wanted.into_iter();
        let (mut asking, mut silent) = (JoinSet::new(), Wanted::new());
        loop {
            while asking.len() < self.at_once
                && let Some((server, ids)) = wanted.next()
            {
                asking.spawn(look(app.clone(), server, ids));
            }
            match asking.join_next().await {
                Some(Ok((found, unheard))) => {
                    self.found.extend(found);
                    silent.extend(unheard);
                }
                Some(Err(_)) => {}
                None => break,
            }
        }
        self.ask_notary(app, silent).await;
    }

    /// Looks for the keys of servers that told none.
    async fn ask_notary(&mut self, app: &App, mut silent: Wanted) {
        let Some(notary) = self.notary.clone() else { return };
        silent.remove(&notary);
        let mut silent = silent.into_iter().peekable();
        while silent.peek().is_some() {
            let some = silent.by_ref().take(limits::NOTARY_SERVERS).collect();
            match notary::told(app, &notary, &some).await {
                Ok(told) => {
                    for (server, id, key) in told {
                        if let Some(found) = self.found.get_mut(&(server, id)) {
                            (found.key, found.is_silent) = (Some(key), false);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%notary, %error, "a server tells no keys of others");
                    return;
                }
            }
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

/// Looks for keys of one server; gives those apart that it didn't tell because it told nothing.
async fn look(
    app: App,
    server: OwnedServerName,
    ids: BTreeMap<OwnedServerSigningKeyId, Timestamp>,
) -> (Vec<(Name, Found)>, Wanted) {
    let (mut found, mut silent) = (Vec::new(), Wanted::new());
    for (id, at) in ids {
        let looking = server_keys::key(&app, &server, &id, at, Asker::Peer);
        let told = timeout(limits::CONNECT_TIME, looking).await;
        let is_silent = !matches!(told, Ok(Ok(_)));
        if is_silent {
            silent.entry(server.clone()).or_default().insert(id.clone(), at);
        }
        let key = match told {
            Ok(Ok(key)) => key,
            Ok(Err(error)) => {
                tracing::debug!(%server, %error, "a server tells no keys");
                None
            }
            Err(_) => None,
        };
        found.push(((server.clone(), id), Found { key, is_silent, at }));
    }
    (found, silent)
}

/// The servers that must have signed an event, with the keys by which they say they did.
fn names(event: &Object, version: Version) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    for server in signers(event, version).unwrap_or_default() {
        names.extend(key_ids(event, server.as_str()).map(|id| (server.clone(), id.to_owned())));
    }
    names
}
