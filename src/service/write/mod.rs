//! Writing to rooms: what a user or another server wants to happen becomes events in the log.
//!
//! What a local user does runs wholly inside the writer. What other servers send is judged outside it, one event a
//! room at a time, and only appended there.

pub mod append;
pub mod create;
pub mod ingest;
pub mod lane;
pub mod member;
pub mod membership;
pub mod outliers;
pub mod plan;
pub(super) mod redactions;
pub mod rehearsal;
mod relations;
pub(super) mod restricted;
pub mod send;
pub mod upgrade;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
