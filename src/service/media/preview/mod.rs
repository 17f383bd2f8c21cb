//! Previews of web pages. <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>
//!
//! A page is fetched once however many want it, and what it says is kept in memory for a while. Its picture is kept as what
//! is fetched from other servers is: it is nobody's, and the oldest give way. Where nothing can be fetched, a client isn't
//! told why: else it would learn who listens where this server goes and it doesn't.

mod page;
mod text;

use std::{
    future::Future,
    io::{self, BufReader},
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use tokio::time::timeout;
use url::Url;

use self::page::Page;
use super::{
    MediaId,
    download::Reader,
    picture::Picture,
    places::{Place, Places},
    receiving::{ReceiveError, Receiving},
};
use crate::{
    base::{
        blocking,
        clock::{Clock, Timestamp},
        ids::UserNumber,
        limits,
    },
    net::{Body, Bounds, NetError, Transport, cache::Cache, redirects::Get},
    service::App,
    store::{NewMedia, StoreError, StoredContent, Transaction},
};

/// What is known of pages, and the way to them.
pub(super) struct Pages {
    transport: Arc<dyn Transport>,
    places: Places,
    /// By URL, without what is behind the `#`.
    known: Cache<String, Known>,
}

/// What is known of a page.
#[derive(Clone)]
struct Known {
    /// As of when.
    at: Timestamp,
    preview: Result<Arc<RawValue>, PreviewError>,
}

/// Why there is no preview.
#[derive(Clone, Copy, Debug, thiserror::Error)]
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
}

/// Why a page or a picture can't be fetched. Only the log is told.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("the answer has the status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pages {
    pub(super) fn new(transport: Arc<dyn Transport>, clock: Clock) -> Self {
        let places = Places::new(limits::PREVIEWS, limits::PREVIEWS_PER_USER);
        Self { transport, places, known: Cache::new(limits::PREVIEWS_KEPT, clock) }
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
        let outcome = fetch(&asked, url).await;
        let lifetime = match &outcome {
            Ok(_) => limits::PREVIEW_LIFETIME,
            Err(PreviewError::Busy) => Duration::ZERO,
            Err(_) => limits::PREVIEW_PAUSE,
        };
        (Known { at: now, preview: outcome }, lifetime)
    };
    let known = pages.known.get_begun_unless(&key, is_stale, || pages.places.take(&reader), look_up).await;
    Ok((*known.preview?).to_owned())
}

/// A URL that may lead to a page.
fn proper(text: &str) -> Result<Url, PreviewError> {
    if text.len() > limits::PREVIEW_URL_BYTES {
        return Err(PreviewError::Url("The URL is too long"));
    }
    let mut url = Url::parse(text).map_err(|_| PreviewError::Url("The URL is malformed"))?;
    url.set_fragment(None);
    match url.scheme() {
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

/// What there is to show of a page.
async fn fetch(app: &App, url: Url) -> Result<Arc<RawValue>, PreviewError> {
    let preview = match in_time(read(app, url)).await {
        Ok((properties, None)) => properties,
        Ok((properties, Some(image))) => {
            let image = in_time(picture(app, image)).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the picture of a page can't be fetched");
                None
            });
            shown(properties, image)
        }
        Err(FetchError::Net(NetError::Busy)) => return Err(PreviewError::Busy),
        Err(error) => {
            tracing::debug!(%error, "a page can't be fetched");
            return Err(PreviewError::Unreachable);
        }
    };
    Ok(to_raw_value(&preview).expect("JSON has a text").into())
}

/// What a page says, and where its picture is.
async fn read(app: &App, url: Url) -> Result<(Map<String, Value>, Option<Url>), FetchError> {
    let answer = Answer::get(app, url, "text/html, application/xhtml+xml, image/*;q=0.9").await?;
    match answer.essence() {
        "text/html" | "application/xhtml+xml" => {
            let Answer { url, content_type, body, .. } = answer;
            let bytes = beginning(body).await?;
            let reading = blocking::run(move || Page::read(&text::decoded(&bytes, &content_type), &url));
            let page = reading.await.map_err(|error| StoreError::Io(io::Error::other(error)))?;
            let properties = page.properties.into_iter().map(|(name, text)| (name, text.into()));
            Ok((properties.collect(), page.image))
        }
        essence if essence.starts_with("image/") => Ok((shown(Map::new(), kept(app, answer).await?), None)),
        _ => Ok((Map::new(), None)),
    }
}

async fn in_time<T>(fetching: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
    let late = NetError::Late { what: "the whole answer", time: limits::PREVIEW_TIME };
    timeout(limits::PREVIEW_TIME, fetching).await.unwrap_or(Err(late.into()))
}

/// An answer that is there.
struct Answer {
    /// Where it came from.
    url: Url,
    content_type: String,
    /// In bytes, as its head says.
    length: Option<u64>,
    body: Body,
}

impl Answer {
    async fn get(app: &App, url: Url, accept: &'static str) -> Result<Self, FetchError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let admits = |url: &Url| is_admitted(app, url);
        let get = Get { url, headers, admits: &admits, leaves_tls: true };
        let (url, response) = get.send(&*app.repository.previews.transport, BOUNDS).await?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status()));
        }
        // Nobody asked for that.
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(NetError::Content("it is encoded").into());
        }
        let field = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let content_type = field(CONTENT_TYPE).unwrap_or_default().to_owned();
        let length = field(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        Ok(Self { url, content_type, length, body: response.into_body() })
    }

    /// The type of its content, without parameters.
    fn essence(&self) -> &str {
        self.content_type.split(';').next().unwrap_or_default().trim()
    }
}

/// As much of a body as is looked at.
async fn beginning(mut body: Body) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        let room = limits::PREVIEW_PAGE_BYTES - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() >= room {
            break;
        }
    }
    Ok(bytes)
}

/// A picture that is kept.
struct Image {
    id: MediaId,
    content_type: &'static str,
    /// In pixels.
    width: u32,
    height: u32,
    /// In bytes.
    size: u64,
}

async fn picture(app: &App, url: Url) -> Result<Option<Image>, FetchError> {
    let answer = Answer::get(app, url, "image/*").await?;
    if answer.essence().starts_with("image/") { kept(app, answer).await } else { Ok(None) }
}

/// Keeps a picture; none if it is none of a known format, or too large.
async fn kept(app: &App, Answer { length, mut body, .. }: Answer) -> Result<Option<Image>, FetchError> {
    let limit = app.media.upload_limit().min(limits::PREVIEW_IMAGE_BYTES);
    if length.is_some_and(|length| length > limit) {
        return Ok(None);
    }
    let mut receiving = Receiving::begin(app.clone(), limit).await?;
    while let Some(piece) = body.next().await? {
        match receiving.write(&piece).await {
            Ok(()) => {}
            Err(ReceiveError::TooLarge(_)) => return Ok(None),
            Err(ReceiveError::Store(error)) => return Err(error.into()),
        }
    }
    let received = receiving.finish().await?;
    let (hash, size) = (received.hash, received.size);
    let (received, head) = received
        .read(move |file| {
            let picture = Picture::read(BufReader::new(file), size).ok()?;
            Some((picture.content_type(), picture.dimensions()))
        })
        .await?;
    let Some((content_type, (width, height))) = head else { return Ok(None) };
    let content = StoredContent {
        hash,
        size,
        content_type: Some(content_type.to_owned()),
        file_name: None,
        unguarded: false,
    };
    let (new, room) = (MediaId::random(&app.server_name, &app.rng), app.media.remote_limit());
    let row = move |transaction: &mut Transaction<'_>| {
        let origin = new.origin.as_str();
        let id = match transaction.media_of_nobody(origin, hash)? {
            Some(id) => MediaId { id, ..new.clone() },
            None => {
                transaction.add_media(NewMedia { origin, id: &new.id, uploader: None }, &content)?;
                new.clone()
            }
        };
        let gone = transaction.trim_remote_media(room, limits::MEDIA_STEP)?;
        // There may be no room for it at all.
        let is_kept = transaction.media(origin, &id.id)?.is_some();
        Ok::<_, StoreError>((is_kept.then_some(id), gone))
    };
    let (id, gone) = received.keep(row).await?;
    app.remove_unused(gone).await?;
    Ok(id.map(|id| Image { id, content_type, width, height, size }))
}

/// What is shown of a page with its picture, if it has one.
fn shown(mut properties: Map<String, Value>, image: Option<Image>) -> Map<String, Value> {
    let Some(Image { id, content_type, width, height, size }) = image else {
        properties.remove("og:image:alt");
        return properties;
    };
    let measured = [
        ("og:image", json!(id.to_uri())),
        ("og:image:type", json!(content_type)),
        ("og:image:width", json!(width)),
        ("og:image:height", json!(height)),
        ("matrix:image:size", json!(size)),
    ];
    properties.extend(measured.map(|(name, value)| (name.to_owned(), value)));
    properties
}

/// What is too large is read in part, or not kept.
const BOUNDS: Bounds = Bounds {
    total: limits::PREVIEW_TIME,
    head: limits::PREVIEW_TIME,
    idle: limits::PREVIEW_TIME,
    body_bytes: u64::MAX,
};

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
        assert!(proper(&format!("http://example.org/{}", "a".repeat(limits::PREVIEW_URL_BYTES))).is_err());
    }
}
