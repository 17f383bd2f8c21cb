//! What was uploaded to other servers, fetched when somebody here asks for it and kept for a while.
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, Method, Response, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION},
};
use ruma::{
    api::{error::ErrorKind, federation::authenticated_media::get_content},
    http_headers::ContentDisposition,
};
use tokio::sync::Semaphore;
use url::Url;

use super::{
    MediaId,
    download::DownloadError,
    multipart::{Malformed, Multipart, Token},
    receiving::{ReceiveError, Receiving},
    upload::Description,
};
use crate::{
    base::{clock::Clock, limits},
    net::{Body, Bounds, NetError, cache::Cache, federation::Call},
    service::{
        App,
        federation::ask::{AskError, ask_streamed},
    },
    store::{NewMedia, StoredContent},
};

/// What is being fetched, and what couldn't be just before.
pub(super) struct Fetches {
    media: Cache<MediaId, Result<(), Arc<FetchError>>>,
    places: Arc<Semaphore>,
}

/// Why something can't be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("it is no file: {0}")]
    Form(&'static str),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

/// Fetches what a URI of another server names, once however many ask; `patience` is for an upload that was announced.
///
/// # Errors
/// It can't be had.
pub(super) async fn fetch(app: &App, id: &MediaId, patience: Duration) -> Result<(), DownloadError> {
    let fetches = &app.repository.fetches;
    let places = fetches.places.clone();
    let begin = async move { places.acquire_owned().await.expect("it is never closed") };
    let (shared, wanted) = (app.clone(), id.clone());
    let look_up = |place| async move {
        let fetched = fetch_once(&shared, &wanted, patience).await;
        drop(place);
        match fetched {
            // What is kept is found before anybody comes here again, until it is gone.
            Ok(()) => (Ok(()), Duration::ZERO),
            Err(error) => {
                tracing::debug!(media = %wanted.to_uri(), %error, "media can't be fetched");
                // Of what this server couldn't do nobody else is to blame.
                let pause = match error {
                    FetchError::Ask(AskError::Net(NetError::Busy)) => Duration::ZERO,
                    _ => limits::REMOTE_MEDIA_PAUSE,
                };
                (Err(Arc::new(error)), pause)
            }
        }
    };
    fetches.media.get_begun(id, begin, look_up).await.map_err(|error| match &*error {
        FetchError::Ask(AskError::Refused { error: Some(error), .. })
            if error.kind == ErrorKind::NotYetUploaded =>
        {
            DownloadError::NotYetUploaded
        }
        FetchError::Ask(
            AskError::Refused { status: StatusCode::NOT_FOUND, .. } | AskError::Net(NetError::Disabled),
        ) => DownloadError::NotFound,
        FetchError::Ask(AskError::Net(NetError::TooLarge(_)))
        | FetchError::Receive(ReceiveError::TooLarge(_)) => DownloadError::TooLarge,
        _ => DownloadError::Unreachable,
    })
}

async fn fetch_once(app: &App, id: &MediaId, patience: Duration) -> Result<(), FetchError> {
    let limit = app.media.upload_limit();
    let bounds = Bounds {
        total: limits::REMOTE_MEDIA_TIME,
        head: patience + limits::SMALL_ANSWER_TIME,
        idle: limits::ANSWER_IDLE_TIME,
        body_bytes: limit + MULTIPART,
    };
    let mut request = get_content::v1::Request::new(id.id.clone());
    request.timeout_ms = patience;
    let (receiving, description) = match ask_streamed(app, &id.origin, request, bounds).await {
        Ok(response) => parts(app, response, limit, bounds).await?,
        // <https://spec.matrix.org/v1.19/server-server-api/#content-repository>: the endpoint from before.
        Err(AskError::Refused { status: StatusCode::NOT_FOUND, error })
            if error.as_ref().is_none_or(|error| error.kind == ErrorKind::Unrecognized) =>
        {
            whole(app, frozen(app, id, patience, bounds).await?, limit).await?
        }
        Err(error) => return Err(error.into()),
    };
    keep(app, id, receiving, description).await
}

/// Asks as servers did before they proved who they are.
async fn frozen(
    app: &App,
    id: &MediaId,
    patience: Duration,
    bounds: Bounds,
) -> Result<Response<Body>, FetchError> {
    let MediaId { origin, id } = id;
    let patience = patience.as_millis();
    let uri = format!(
        "/_matrix/media/v3/download/{origin}/{id}?allow_remote=false&allow_redirect=true&timeout_ms={patience}"
    );
    let call = Call { method: Method::GET, uri, content: None };
    let response = app.federation.send(origin, call, bounds).await.map_err(AskError::from)?;
    let status = response.status();
    if status.is_redirection() {
        return elsewhere(app, response.headers().get(LOCATION).map(|value| value.as_bytes()), bounds).await;
    }
    if !status.is_success() {
        return Err(AskError::Refused { status, error: None }.into());
    }
    Ok(response)
}

/// What a server says that is to be had at another place.
async fn elsewhere(app: &App, url: Option<&[u8]>, bounds: Bounds) -> Result<Response<Body>, FetchError> {
    let url = url.and_then(|url| Url::parse(str::from_utf8(url).ok()?).ok());
    let url = url.ok_or(FetchError::Form("it is at no proper URL"))?;
    let response = app.federation.get(url, bounds).await.map_err(AskError::from)?;
    let status = response.status();
    if !status.is_success() {
        return Err(AskError::Refused { status, error: None }.into());
    }
    Ok(response)
}

/// Takes the file of an answer in parts: metadata, and the file or where it is.
async fn parts(
    app: &App,
    response: Response<Body>,
    limit: u64,
    bounds: Bounds,
) -> Result<(Receiving, Description), FetchError> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut reader = Multipart::new(kind)?;
    let mut body = response.into_body();
    let mut receiving = None;
    let mut description = Description::default();
    let mut count = 0;
    loop {
        match reader.next()? {
            None => match body.next().await.map_err(AskError::from)? {
                Some(piece) => reader.feed(&piece),
                None => return Err(FetchError::Form("it breaks off")),
            },
            Some(Token::Head(fields)) => {
                count += 1;
                let field =
                    |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..]);
                if count == FILE {
                    if let Some(url) = field("location") {
                        return whole(app, elsewhere(app, Some(url), bounds).await?, limit).await;
                    }
                    description = described(field("content-type"), field("content-disposition"));
                    receiving = Some(Receiving::begin(app.clone(), limit).await.map_err(ReceiveError::from)?);
                }
            }
            Some(Token::Content(bytes)) => {
                if let Some(receiving) = &mut receiving {
                    receiving.write(&bytes).await?;
                }
            }
            Some(Token::PartEnd) if count == FILE => {
                let receiving = receiving.ok_or(FetchError::Form("it has no file"))?;
                return Ok((receiving, description));
            }
            Some(Token::PartEnd) => {}
            Some(Token::End) => return Err(FetchError::Form("it has no file")),
        }
    }
}

/// Takes an answer that is the file.
async fn whole(
    app: &App,
    response: Response<Body>,
    limit: u64,
) -> Result<(Receiving, Description), FetchError> {
    let field = |headers: &HeaderMap, name| headers.get(name).map(|value| value.as_bytes().to_vec());
    let kind = field(response.headers(), CONTENT_TYPE);
    let disposition = field(response.headers(), CONTENT_DISPOSITION);
    let mut receiving = Receiving::begin(app.clone(), limit).await.map_err(ReceiveError::from)?;
    let mut body = response.into_body();
    while let Some(piece) = body.next().await.map_err(AskError::from)? {
        receiving.write(&piece).await?;
    }
    Ok((receiving, described(kind.as_deref(), disposition.as_deref())))
}

/// What a server says of a file, as far as it can be said on.
fn described(kind: Option<&[u8]>, disposition: Option<&[u8]>) -> Description {
    let content_type =
        kind.and_then(|kind| http::HeaderValue::from_bytes(kind).ok()?.to_str().ok()?.to_owned().into());
    let disposition = disposition.and_then(|value| ContentDisposition::try_from(value).ok());
    let said = Description { content_type, file_name: disposition.and_then(|value| value.filename) };
    if said.is_short() { said } else { Description::default() }
}

/// Keeps a file, in the place of the oldest ones of other servers if there are too many.
async fn keep(
    app: &App,
    id: &MediaId,
    receiving: Receiving,
    description: Description,
) -> Result<(), FetchError> {
    let received = receiving.finish().await.map_err(ReceiveError::from)?;
    let content = StoredContent {
        hash: received.hash,
        size: received.size,
        content_type: description.content_type,
        file_name: description.file_name,
        unguarded: false,
    };
    let (id, room) = (id.clone(), app.media.remote_limit());
    let row = move |transaction: &mut crate::store::Transaction<'_>| {
        if transaction.media(id.origin.as_str(), &id.id)?.is_none() {
            let new = NewMedia { origin: id.origin.as_str(), id: &id.id, uploader: None };
            transaction.add_media(new, &content)?;
        }
        transaction.trim_remote_media(room, limits::MEDIA_STEP)
    };
    let gone = received.keep(row).await.map_err(ReceiveError::from)?;
    app.remove_unused(gone).await.map_err(ReceiveError::from)?;
    Ok(())
}

/// The place of the file among the parts.
const FILE: usize = 2;
/// What an answer in parts has besides the file.
const MULTIPART: u64 = 64 << 10;

impl Fetches {
    pub(super) fn new(clock: Clock) -> Self {
        let places = Arc::new(Semaphore::new(limits::REMOTE_MEDIA));
        Self { media: Cache::new(limits::REMOTE_MEDIA_FETCHES, clock), places }
    }
}

impl From<Malformed> for FetchError {
    fn from(_: Malformed) -> Self {
        Self::Form("it is not in parts")
    }
}
