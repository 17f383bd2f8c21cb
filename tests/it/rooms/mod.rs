//! Rooms on a whole server, over HTTP.

mod conversation;
