//! Previews of web pages. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>
//!
//! A page is fetched once however many want it, and what it says is kept in memory for a while. Its picture is kept as what
//! is fetched from other servers is: it is nobody's, and the oldest give way. Where nothing can be fetched, a client isn't
//! told why: else it would learn who listens where this server goes and it doesn't.

mod fetch;
mod image;
mod page;
mod tags;
mod text;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, value::RawValue};
use tokio::sync::Semaphore;
use url::Url;

use super::{
    MediaId,
    download::Reader,
    places::{Place, Places},
};
use crate::{
    base::{
        clock::{Clock, Timestamp},
        ids::UserNumber,
        limits,
    },
    net::{Transport, cache::Cache},
    service::App,
    store::{StoreError, View},
};

/// What is known of pages, and the way to them.
pub(super) struct Pages {
    transport: Arc<dyn Transport>,
    places: Places,
    /// A permit for each page that is looked through.
    reads: Arc<Semaphore>,
    /// By URL, without what is behind the `#`.
    known: Cache<String, Known>,
    received: Received,
}

/// What is known of a page.
#[derive(Clone)]
struct Known {
    /// As of when.
    at: Timestamp,
    preview: Result<Arc<Shown>, PreviewError>,
}

/// What there is to show of a page.
struct Shown {
    /// A JSON object.
    text: Box<RawValue>,
    /// The picture in it.
    image: Option<MediaId>,
}

/// Why there is no preview.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PreviewError {
    #[error("this server makes no previews")]
    Off,
    #[error("{0}")]
    Url(&'static str),
    #[error("nothing is fetched from this host")]
    Refused,
    #[error("the page can't be fetched")]
    Unreachable,
    #[error("too much is under way")]
    Busy,
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for PreviewError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl Pages {
    pub(super) fn new(transport: Arc<dyn Transport>, clock: Clock) -> Self {
        Self {
            transport,
            places: Places::new(limits::PREVIEWS, limits::PREVIEWS_PER_USER),
            reads: Arc::new(Semaphore::new(limits::PREVIEW_READS)),
            known: Cache::new(limits::PREVIEWS_KEPT, clock.clone()),
            received: Received::new(clock),
        }
    }
}

/// Bytes of pictures that were received, for each user and in all. They count anew after
/// [`limits::PREVIEW_IMAGES_TIME`].
struct Received {
    clock: Clock,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    since: Duration,
    users: HashMap<UserNumber, u64>,
    all: u64,
}

impl Received {
    fn new(clock: Clock) -> Self {
        Self { clock, counts: Mutex::default() }
    }

    /// How much more may be received for a user, in bytes.
    fn left(&self, user: UserNumber) -> u64 {
        let counts = self.counts();
        let of_user = counts.users.get(&user).copied().unwrap_or(0);
        let left = limits::PREVIEW_IMAGES_BYTES_PER_USER.saturating_sub(of_user);
        left.min(limits::PREVIEW_IMAGES_BYTES.saturating_sub(counts.all))
    }

    fn add(&self, user: UserNumber, bytes: u64) {
        let mut counts = self.counts();
        *counts.users.entry(user).or_default() += bytes;
        counts.all += bytes;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        let now = self.clock.monotonic();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= counts.since + limits::PREVIEW_IMAGES_TIME {
            *counts = Counts { since: now, ..Counts::default() };
        }
        counts
    }
}

/// What there is to show of a page, as a JSON object; an empty one if the page says nothing. `as_of` is when the page was
/// named: it may be newer than that, and not much older.
pub async fn preview(
    app: &App,
    user: UserNumber,
    url: &str,
    as_of: Option<Timestamp>,
) -> Result<Box<RawValue>, PreviewError> {
    if !app.previews.enabled {
        return Err(PreviewError::Off);
    }
    let url = proper(url)?;
    if !is_admitted(app, &url) {
        return Err(PreviewError::Refused);
    }
    let now = app.clock.now();
    let is_stale =
        |known: &Known| as_of.is_some_and(|as_of| as_of.min(now) > known.at.plus(limits::PREVIEW_AGE));
    let pages = &app.repository.previews;
    let (key, reader, asked) = (String::from(url.clone()), Reader::User(user), app.clone());
    let look_up = move |place: Place| async move {
        let _place = place;
        let outcome = fetch::fetch(&asked, user, url).await;
        let left = asked.repository.previews.received.left(user);
        let lifetime = match &outcome {
            // Another may have got a picture.
            Ok(shown) if shown.image.is_none() && left < limits::PREVIEW_IMAGE_BYTES => limits::PREVIEW_PAUSE,
            Ok(_) => limits::PREVIEW_LIFETIME,
            Err(PreviewError::Busy | PreviewError::Store(_)) => Duration::ZERO,
            Err(_) => limits::PREVIEW_PAUSE,
        };
        (Known { at: now, preview: outcome.map(Arc::new) }, lifetime)
    };
    let begin = || pages.places.take(&reader);
    let known = pages.known.get_begun_unless(&key, is_stale, begin, look_up).await;
    let shown = known.preview?;
    match &shown.image {
        // What is kept longest is first to give way, known or not.
        Some(image) if !is_kept(app, image.clone()).await? => Ok(shown.without_image()),
        _ => Ok(shown.text.clone()),
    }
}

async fn is_kept(app: &App, image: MediaId) -> Result<bool, StoreError> {
    let read = move |view: &View<'_>| Ok(view.media(image.origin.as_str(), &image.id)?.is_some());
    app.store.read(read).await
}

impl Shown {
    fn without_image(&self) -> Box<RawValue> {
        let mut properties: Map<String, Value> =
            serde_json::from_str(self.text.get()).expect("it was written as an object");
        properties.retain(|name, _| !image::is_of_image(name));
        written(&properties)
    }
}

fn written(properties: &Map<String, Value>) -> Box<RawValue> {
    serde_json::value::to_raw_value(properties).expect("JSON has a text")
}

/// A URL that may lead to a page.
fn proper(text: &str) -> Result<Url, PreviewError> {
    if text.len() > limits::PREVIEW_URL_BYTES {
        return Err(PreviewError::Url("The URL is too long"));
    }
    let mut url = Url::parse(text).map_err(|_| PreviewError::Url("The URL is malformed"))?;
    url.set_fragment(None);
    match url.scheme() {
        // Escapes make it longer.
        _ if url.as_str().len() > limits::PREVIEW_URL_BYTES => Err(PreviewError::Url("The URL is too long")),
        "http" | "https" if is_public(&url) => Ok(url),
        "http" | "https" => {
            Err(PreviewError::Url("The URL has a name in it, or the port of another service"))
        }
        _ => Err(PreviewError::Url("Only what is at http or https has a preview")),
    }
}

/// Whether a URL leads to what anybody may see, on a port where web servers are: other services below 1024 don't take
/// requests of HTTP for nothing.
fn is_public(url: &Url) -> bool {
    url.username().is_empty()
        && url.password().is_none()
        && url.port().is_none_or(|port| matches!(port, 80 | 443 | 1_024..))
}

fn is_admitted(app: &App, url: &Url) -> bool {
    is_public(url) && url.host().is_some_and(|host| app.previews.admits(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_anybody_may_see_has_a_preview() {
        for (url, expected) in [
            ("http://example.org", Some("http://example.org/")),
            ("https://EXAMPLE.org:443/a?b#c", Some("https://example.org/a?b")),
            ("https://example.org:8443/", Some("https://example.org:8443/")),
            ("http://example.org:443/", Some("http://example.org:443/")),
            // As the address that it is, it is judged when it is gone to.
            ("http://2130706433/", Some("http://127.0.0.1/")),
            ("http://0x7f.1/", Some("http://127.0.0.1/")),
            ("http://[::ffff:127.0.0.1]/", Some("http://[::ffff:7f00:1]/")),
            ("", None),
            ("example.org", None),
            ("/a", None),
            ("ftp://example.org/", None),
            ("file:///etc/passwd", None),
            ("data:text/html,a", None),
            ("http://", None),
            ("http://alice@example.org/", None),
            ("http://alice:secret@example.org/", None),
            ("http://:secret@example.org/", None),
            ("http://example.org:25/", None),
            ("http://example.org:0/", None),
            ("http://example.org:65536/", None),
        ] {
            let url_of = proper(url).ok().map(String::from);
            assert_eq!(url_of.as_deref(), expected, "{url}");
        }
        for long in ["a".repeat(limits::PREVIEW_URL_BYTES), "é".repeat(limits::PREVIEW_URL_BYTES / 3)] {
            assert!(proper(&format!("http://example.org/{long}")).is_err());
        }
    }

    #[test]
    fn nobody_receives_more_than_their_part() {
        let clock = Clock::manual(Timestamp(0));
        let received = Received::new(clock.clone());
        let (alice, bob) = (UserNumber(1), UserNumber(2));
        received.add(alice, 1);
        let each = limits::PREVIEW_IMAGES_BYTES_PER_USER;
        assert_eq!((received.left(alice), received.left(bob)), (each - 1, each));
        received.add(alice, each);
        assert_eq!((received.left(alice), received.left(bob)), (0, each));
        received.add(UserNumber(3), limits::PREVIEW_IMAGES_BYTES - each - 3);
        assert_eq!(received.left(bob), 2);
        clock.advance(limits::PREVIEW_IMAGES_TIME - Duration::from_millis(1));
        assert_eq!(received.left(bob), 2);
        clock.advance(Duration::from_millis(1));
        assert_eq!((received.left(alice), received.left(bob)), (each, each));
    }
}
