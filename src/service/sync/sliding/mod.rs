//! Simplified sliding sync ([MSC4186]): a client says which rooms it looks at and what of them it wants, and is told what
//! changed there.
//!
//! What a connection was told is remembered as one position a room ([`connection`]); what changed since is found as for
//! `/sync`, in the differences of states. Which rooms a request means is settled anew each time ([`rooms`], [`filters`]),
//! from the user's rooms and one small record of each. A room is told whole or not at all ([`room`]): one that can't be
//! read, or for which an answer has no place left, stays where it was and comes with the next answer.
//!
//! There are two shapes of requests and answers ([`Shape`]); nothing but the names and a few fields differs.
//!
//! [MSC4186]: https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md

pub mod answer;
mod connection;
mod extensions;
pub mod filters;
mod kept;
pub mod request;
mod room;
mod rooms;
mod serve;
mod traits;

pub use self::{
    connection::{Connections, Pos},
    request::Shape,
    serve::{SlidingError, serve},
};
