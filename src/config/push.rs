//! `[push]`: how apps are notified while they sleep.

use super::section::section;

section! {
    /// How apps are notified while they sleep: by requests to push gateways, which are their makers' or those that a user
    /// of UnifiedPush chose.
    pub struct Push {
        /// Whether a gateway may have a loopback or private address, as one in the local network has. Whoever has an
        /// account can then have this server send notifications to whatever listens there with TLS.
        allow_private_gateways: bool = false,
    }
}
