//! What every use case shares: one [`App`] a running server, cheap to clone.

use std::{ops::Deref, sync::Arc};

use ruma::OwnedServerName;

use crate::base::{clock::Clock, rng::Rng};

/// The running server, as handlers and workers see it.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    /// The name in this server's user and room ids.
    pub server_name: OwnedServerName,
    /// What `/.well-known/matrix/client` tells, if this server answers for its name there: the base URL for clients.
    pub client_url: Option<String>,
    pub clock: Clock,
    pub rng: Rng,
}

impl App {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
