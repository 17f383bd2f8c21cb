//! A [`Transaction`]: what a job of the writer reads and puts.

use std::{ops::Deref, sync::Arc};

use super::{StoreError, Topic, View, journal::Puts, tables::Table};
use crate::base::{clock::Timestamp, ids::Position, limits};

/// A job's hands. It reads as a [`View`] does, earlier jobs of the group and its own puts included, and puts.
pub struct Transaction<'a> {
    pub(in crate::store) view: View<'a>,
    pub(in crate::store) puts: &'a mut Puts,
    pub(in crate::store) topics: Vec<Topic>,
    pub(in crate::store) now: Timestamp,
    pub(in crate::store) put_bytes: usize,
}

impl Transaction<'_> {
    /// Takes the next position. A job that fails gives its positions back.
    pub fn next_position(&mut self) -> Position {
        self.view.pointer.position.0 += 1;
        self.view.pointer.position
    }

    /// Wakes those who watch a topic, once the job is committed.
    pub fn touch(&mut self, topic: Topic) {
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
    }

    /// The time at which the group began.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Puts a value.
    pub(in crate::store) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.record(table, key, Some(Arc::from(value)));
    }

    /// Removes a key.
    pub(in crate::store) fn delete(&mut self, table: Table, key: &[u8]) {
        self.record(table, key, None);
    }

    /// Puts the number that a hash leads to.
    pub(in crate::store) fn put_id(&mut self, hash: [u8; 16], number: u64) {
        self.put(Table::Ids, &hash, &number.to_be_bytes());
    }

    /// Fails if the job put more than one may.
    pub(in crate::store) fn check_size(&self) -> Result<(), StoreError> {
        if self.put_bytes > limits::JOB_BYTES { Err(StoreError::TooLarge(self.put_bytes)) } else { Ok(()) }
    }

    fn record(&mut self, table: Table, key: &[u8], value: super::tail::Value) {
        assert!(
            (1..=limits::KEY_BYTES).contains(&key.len()),
            "what LMDB can't hold would stop all checkpoints"
        );
        self.put_bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        self.puts.push(table, key, &value);
        self.view.pointer.tail.put(table, key, value);
    }
}

impl<'a> Deref for Transaction<'a> {
    type Target = View<'a>;

    fn deref(&self) -> &View<'a> {
        &self.view
    }
}
