//! `GET /_tayberry/panic`: a handler that panics, so that `tests/cross` sees on another processor what becomes of it.
//! No release has it: it is compiled under the feature `test-panic` only.

use http::Method;
use serde::Deserialize;

use super::{
    Anyone, Error,
    custom::{Json, JsonAnswer, Route},
};
use crate::service::App;

#[derive(Deserialize)]
pub(super) struct Request {}

impl Route for Request {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/_tayberry/panic";
    const RATE_LIMITED: bool = false;
    type Answer = ();
}

pub(super) async fn panic(_: App, _: Anyone, _: Json<Request>) -> Result<JsonAnswer<()>, Error> {
    panic!("asked for by a test")
}
