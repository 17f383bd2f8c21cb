//! What other servers ask of rooms, and what they bring into them.
//!
//! Who asks has proved to be that server. It is told of rooms that users of it are in, and what these could see of them; of
//! whatever else it hears nothing, not even whether it is there.

pub mod access;
pub mod ask;
pub mod backfill;
pub mod chain;
pub mod edus;
mod fetch;
pub mod gaps;
pub mod handshake;
pub mod history;
pub mod inviting;
pub mod joining;
mod keyring;
mod merge;
mod notary;
pub mod pdus;
pub mod policy;
pub mod queries;
mod receive;
pub mod sending;
pub mod state;
mod told;
pub mod transactions;
pub mod withdrawing;
