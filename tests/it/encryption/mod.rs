//! What end-to-end encryption needs of a server, over HTTP.

mod key_backup;
mod to_device;
