//! What every use case shares: one [`App`] a running server, cheap to clone.

use std::{ops::Deref, sync::Arc, time::Duration};

use ruma::{OwnedServerName, signatures::Ed25519KeyPair};
use tokio::sync::{Notify, Semaphore};

use super::{
    accounts::LogInToken,
    federation::{
        backfill, chain::Chains, gaps::Gaps, joining::Joins, policy::Consents, sending::Sending,
        transactions::Inbox,
    },
    heard::Count,
    keys::Resyncs,
    media::Repository,
    oauth,
    own_keys::Later,
    passwords::Passwords,
    presence::Presence,
    push::Pushing,
    rendezvous::Places,
    search::Searching,
    server_keys,
    shared_secret::Nonces,
    signer::Signer,
    spaces::Spaces,
    sync::sliding,
    traffic,
    typing::Typing,
    uia,
    upstream::Upstreams,
    write::lane::Lanes,
};
use crate::{
    base::{clock::Clock, expiring::Expiring, ids::UserNumber, limits, rng::Rng},
    config::Config,
    net::{Addresses, Client, Federation, NameServers, Settings, Transport, client::Limits},
    store::{Store, StoreError},
};

/// The running server, as handlers and workers see it.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What an [`App`] is made of.
pub struct Parts {
    pub config: Config,
    pub store: Store,
    /// Signs what this server sends, until another key takes its place.
    pub signing_key: Ed25519KeyPair,
    pub clock: Clock,
    pub rng: Rng,
}

/// Why a store is not for this server.
#[derive(Debug, thiserror::Error)]
pub enum ClaimStoreError {
    #[error(
        "the data folder belongs to the server {owner}, not to {own}: choose another folder, or that name"
    )]
    Owned { owner: String, own: OwnedServerName },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The parts, and what use cases keep in memory.
pub struct Shared {
    parts: Parts,
    /// On the monotonic clock.
    pub(super) started: Duration,
    pub(super) passwords: Passwords,
    /// A permit for each thread that checks one-time keys.
    pub(super) key_checks: Arc<Semaphore>,
    pub(super) uia: uia::Sessions,
    pub(super) nonces: Nonces,
    /// Whom each log-in token logs in.
    pub(super) log_in_tokens: Expiring<LogInToken>,
    pub(super) grants: oauth::Grants,
    /// Whom each OpenID token stands for.
    pub(super) openid_tokens: Expiring<UserNumber>,
    /// Where devices meet of which one is to be signed in.
    pub(super) places: Places,
    pub(super) lanes: Lanes,
    pub(super) chains: Chains,
    /// A permit for each whole state that another server tells.
    pub(super) states: Semaphore,
    pub(super) gaps: Gaps,
    pub(super) fills: backfill::Fills,
    pub(super) inbox: Inbox,
    pub(super) joins: Joins,
    pub(super) rounds: Notify,
    /// Stirred when an event is scheduled.
    pub(super) delays: Notify,
    pub(super) heard: Count,
    pub(super) typing: Typing,
    pub(super) presence: Arc<Presence>,
    pub(super) repository: Repository,
    pub traffic: traffic::Counter,
    /// The way to other servers.
    pub federation: Federation,
    pub(super) server_keys: server_keys::Fetches,
    pub(super) own_keys: Later,
    /// A permit for each server that is asked for keys of its users.
    pub(super) key_asks: Arc<Semaphore>,
    /// A permit for each that is asked for people and names.
    pub(super) lookups: Semaphore,
    pub(super) resyncs: Resyncs,
    pub(super) spaces: Spaces,
    pub(super) sliding: sliding::Connections,
    pub(super) consents: Consents,
    pub(super) sending: Sending,
    pub(super) pushing: Arc<Pushing>,
    pub(super) searching: Searching,
    /// The way to push gateways.
    pub(super) gateways: Arc<dyn Transport>,
    pub(super) upstreams: Upstreams,
}

impl App {
    pub fn new(parts: Parts) -> Self {
        let settings = Settings {
            addresses: Addresses::new(parts.config.federation.allow_private_addresses),
            name_servers: NameServers::System,
            authorities: parts.config.federation.trusted_ca_files.clone(),
            limits: Limits::default(),
        };
        let client = Client::new(settings, parts.clock.clone(), parts.rng.clone());
        let private = parts.config.push.allow_private_gateways;
        let gateways = client.apart(Addresses::new(private), limits::PUSHES + limits::PUSHES_SLOW);
        let private = parts.config.sso.allow_private_providers;
        let providers = client.apart(Addresses::new(private), limits::PROVIDER_REQUESTS);
        let private = parts.config.previews.allow_private_addresses;
        // Whoever asks is shown what is there.
        let refused = parts.config.previews.refused_hosts.clone().into();
        let pages = client.apart(Addresses { private, near: private, refused }, limits::PREVIEWS);
        Self::made(parts, Arc::new(client), Arc::new(gateways), Arc::new(providers), Arc::new(pages))
    }

    /// The same with another way out than the network, for tests and simulation.
    pub fn through(parts: Parts, transport: Arc<dyn Transport>) -> Self {
        Self::made(parts, transport.clone(), transport.clone(), transport.clone(), transport)
    }

    fn made(
        parts: Parts,
        transport: Arc<dyn Transport>,
        gateways: Arc<dyn Transport>,
        providers: Arc<dyn Transport>,
        pages: Arc<dyn Transport>,
    ) -> Self {
        let (enabled, clock, rng) = (parts.config.federation.enabled, parts.clock.clone(), parts.rng.clone());
        Self(Arc::new(Shared {
            started: parts.clock.monotonic(),
            passwords: Passwords::new(parts.rng.clone()),
            key_checks: Arc::new(Semaphore::new(limits::KEY_CHECKS)),
            uia: uia::Sessions::new(limits::UIA_SESSIONS, limits::UIA_LIFETIME),
            nonces: Nonces::new(limits::NONCES, limits::NONCE_LIFETIME),
            log_in_tokens: Expiring::new(limits::LOG_IN_TOKENS, limits::LOG_IN_TOKEN_LIFETIME),
            grants: oauth::Grants::default(),
            openid_tokens: Expiring::new(limits::OPENID_TOKENS, limits::OPENID_TOKEN_LIFETIME),
            places: Places::new(limits::RENDEZVOUS, limits::RENDEZVOUS_LIFETIME),
            lanes: Lanes::default(),
            chains: Chains::default(),
            states: Semaphore::new(limits::STATES),
            gaps: Gaps::default(),
            fills: backfill::Fills::new(clock.clone()),
            inbox: Inbox::new(clock.clone()),
            joins: Joins::default(),
            rounds: Notify::new(),
            delays: Notify::new(),
            heard: Count::new(parts.clock.now()),
            typing: Typing::default(),
            presence: Arc::default(),
            repository: Repository::new(&parts.config.data_dir, pages, clock.clone(), &parts.rng),
            traffic: traffic::Counter::default(),
            server_keys: server_keys::Fetches::new(clock.clone()),
            own_keys: Later::default(),
            key_asks: Arc::new(Semaphore::new(limits::KEY_ASKS)),
            lookups: Semaphore::new(limits::LOOKUPS),
            resyncs: Resyncs::default(),
            spaces: Spaces::new(clock.clone()),
            sliding: sliding::Connections::new(parts.clock.now()),
            consents: Consents::default(),
            sending: Sending::new(&rng),
            pushing: Arc::new(Pushing::new(rng.clone())),
            searching: Searching::default(),
            gateways,
            upstreams: Upstreams::new(&parts.config, providers),
            federation: Federation::new(transport, enabled, clock, rng),
            parts,
        }))
    }

    /// Takes a new store for this server, or checks that an old one is this server's.
    ///
    /// # Errors
    /// The store is another server's: its accounts would get other ids, and its rooms strangers as members.
    pub async fn claim_store(&self) -> Result<(), ClaimStoreError> {
        let own = self.server_name.clone();
        match self.store.read(|view| view.server_name()).await? {
            None => {
                Ok(self.store.write(move |transaction| transaction.set_server_name(own.as_str())).await?)
            }
            Some(owner) if own == owner => Ok(()),
            Some(owner) => Err(ClaimStoreError::Owned { owner, own }),
        }
    }

    /// For how long the server has been there.
    pub fn uptime(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    /// The server for a task that may outlive it: the task doesn't keep its store open.
    pub(super) fn weak(&self) -> impl Fn() -> Option<Self> + Send + 'static {
        let shared = Arc::downgrade(&self.0);
        move || shared.upgrade().map(Self)
    }

    /// This server, as it signs.
    pub fn signer(&self) -> Signer<'_> {
        Signer {
            server_name: &self.server_name,
            key: self.own_keys.last().unwrap_or(&self.signing_key),
            consents: &self.consents,
        }
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Deref for Parts {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}
