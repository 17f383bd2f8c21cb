//! What end-to-end encryption needs of a server, over HTTP.

mod to_device;
