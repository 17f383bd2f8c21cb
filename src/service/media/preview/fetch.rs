//! The way to a page and to its picture. Only what is elsewhere has its time: what has arrived is looked through and kept to
//! the end.

use std::future::Future;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::{
    super::receiving::Receiving,
    PreviewError, Shown,
    image::{self, Image},
    is_admitted,
    page::Page,
    text::Decoder,
    written,
};
use crate::{
    base::{blocking, ids::UserNumber, limits},
    net::{Body, Bounds, NetError, redirects::Get},
    service::App,
    store::StoreError,
};

/// Why a page or a picture can't be fetched. Only the log is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("the answer has the status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<FetchError> for PreviewError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Net(NetError::Busy) => Self::Busy,
            FetchError::Store(error) => error.into(),
            error => {
                tracing::debug!(%error, "a page can't be fetched");
                Self::Unreachable
            }
        }
    }
}

/// What has arrived.
enum Arrived {
    Page {
        url: Url,
        content_type: String,
        /// As much as is looked at.
        bytes: Vec<u8>,
    },
    Picture(Receiving),
    Nothing,
}

/// Fetches what there is to show of a page.
pub(super) async fn fetch(app: &App, user: UserNumber, url: Url) -> Result<Shown, PreviewError> {
    let (mut properties, image) = match in_time(page(app, user, url)).await? {
        Arrived::Page { url, content_type, bytes } => {
            let page = look_through(app, url, content_type, bytes).await?;
            let image = match page.image {
                Some(image) => picture_of(app, user, image).await?,
                None => None,
            };
            let properties = page.properties.into_iter().map(|(name, text)| (name, Value::from(text)));
            (properties.collect(), image)
        }
        Arrived::Picture(receiving) => (Map::new(), image::keep(app, receiving).await?),
        Arrived::Nothing => (Map::new(), None),
    };
    match &image {
        Some(image) => properties.extend(image.properties()),
        None => properties.retain(|name, _| !image::is_of_image(name)),
    }
    Ok(Shown { text: written(&properties), image: image.map(|image| image.id) })
}

/// The picture that a page names, if it can be had.
async fn picture_of(app: &App, user: UserNumber, url: Url) -> Result<Option<Image>, StoreError> {
    match in_time(picture(app, user, url)).await {
        Ok(Arrived::Picture(receiving)) => image::keep(app, receiving).await,
        Ok(_) => Ok(None),
        Err(FetchError::Store(error)) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "the picture of a page can't be fetched");
            Ok(None)
        }
    }
}

async fn look_through(app: &App, url: Url, content_type: String, bytes: Vec<u8>) -> Result<Page, StoreError> {
    let permit = app.repository.previews.reads.clone().acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    let reading = blocking::run(move || {
        let _permit = permit;
        Page::read(Decoder::of_page(&bytes, &content_type), &url)
    });
    reading.await.map_err(|_| StoreError::Panicked)
}

async fn page(app: &App, user: UserNumber, url: Url) -> Result<Arrived, FetchError> {
    let answer = Answer::get(app, url, "text/html, application/xhtml+xml, image/*;q=0.9").await?;
    match &*answer.essence() {
        "text/html" | "application/xhtml+xml" => {
            let Answer { url, content_type, body, .. } = answer;
            Ok(Arrived::Page { url, content_type, bytes: beginning(body).await? })
        }
        essence if essence.starts_with("image/") => arriving(app, user, answer).await,
        _ => Ok(Arrived::Nothing),
    }
}

async fn picture(app: &App, user: UserNumber, url: Url) -> Result<Arrived, FetchError> {
    let answer = Answer::get(app, url, "image/*").await?;
    let is_picture = answer.essence().starts_with("image/");
    if is_picture { arriving(app, user, answer).await } else { Ok(Arrived::Nothing) }
}

async fn arriving(app: &App, user: UserNumber, answer: Answer) -> Result<Arrived, FetchError> {
    let Answer { length, body, .. } = answer;
    Ok(image::receive(app, user, length, body).await?.map_or(Arrived::Nothing, Arrived::Picture))
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

    /// The type of its content, in lower case and without parameters.
    /// <https://www.rfc-editor.org/rfc/rfc9110#section-8.3.1>
    fn essence(&self) -> String {
        self.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
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

/// What is too large is read in part, or not kept.
const BOUNDS: Bounds = Bounds {
    total: limits::PREVIEW_TIME,
    head: limits::PREVIEW_TIME,
    idle: limits::PREVIEW_TIME,
    body_bytes: u64::MAX,
};
