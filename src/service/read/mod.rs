//! Reading rooms: what a user may see of them, in the shapes that endpoints ask for.
//!
//! Everything here runs on one [`View`](crate::store::View). An event leaves only as what room core found visible.

pub mod access;
mod aggregations;
pub mod history;
pub mod listing;
pub mod look;
pub mod page;
pub mod reader;
pub mod relations;
pub mod search;
pub mod state;
pub mod threads;
pub mod time;
pub mod token;
