//! Writing to rooms: what a user or another server wants to happen becomes events in the log.

pub mod lane;
pub mod member;
pub mod plan;
