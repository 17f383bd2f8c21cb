//! `[federation]`: how this server meets others.

use std::path::PathBuf;

use super::section::section;

section! {
    /// How this server meets others. `tayberry doctor SERVER_NAME` looks whether they find and reach it.
    pub struct Federation {
        /// Whether this server speaks to others at all.
        enabled: bool = true,
        /// Whether others are told who of this server types in rooms that are shared with them.
        send_typing: bool = true,
        /// Whether others are told how far people of this server have read there, unless they keep it to themselves.
        send_receipts: bool = true,
        /// Whether others are told who of this server is there. It costs a message to every server whenever somebody comes
        /// or goes.
        send_presence: bool = false,
        /// Whether others may have loopback and private addresses, for tests and local networks.
        allow_private_addresses: bool = false,
        /// Files with certificates of authorities to trust, besides those that the system trusts.
        trusted_ca_files: Vec<PathBuf> = Vec::new(),
    }
}
