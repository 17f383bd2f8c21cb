//! The record store: people and peers, in SQLite. One file a subject.

pub(in crate::store) mod connection;
pub(in crate::store) mod migrations;
