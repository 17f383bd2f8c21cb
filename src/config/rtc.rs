//! `[rtc]`: the server that carries calls of several people.

use super::{section::section, well_known::HttpUrl};

section! {
    /// The server that carries calls of several people, such as those of Element Call.
    pub struct Rtc {
        /// Where clients get a token for LiveKit, from a service such as lk-jwt-service. Without it they are told of no such
        /// server.
        livekit_service_url: Option<HttpUrl> = None => "\"https://rtc.example.org/livekit/jwt\"",
    }
}
