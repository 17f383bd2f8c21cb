//! `[federation]`: how this server meets others.

use std::path::PathBuf;

use super::section::section;

section! {
    /// How this server meets others. It doesn't yet but to publish its keys, and to fetch theirs.
    pub struct Federation {
        /// Whether this server speaks to others at all.
        enabled: bool = true,
        /// Whether others may have loopback and private addresses, for tests and local networks.
        allow_private_addresses: bool = false,
        /// Files with certificates of authorities to trust, besides those that the system trusts.
        trusted_ca_files: Vec<PathBuf> = Vec::new(),
    }
}
