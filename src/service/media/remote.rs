//! What was uploaded to other servers, fetched when somebody here asks for it and kept for a while.
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{
    HeaderMap, Method, Response, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};
use ruma::{
    api::{error::ErrorKind, federation::authenticated_media::get_content},
    http_headers::ContentDisposition,
};
use tokio::sync::watch;
use tracing::Instrument;
use url::Url;

use super::{
    MediaId,
    download::{DownloadError, Reader},
    multipart::{Malformed, Multipart, Token},
    places::Places,
    receiving::{Growing, ReceiveError, Receiving},
    upload::Description,
};
use crate::{
    base::{clock::Clock, limits},
    net::{Body, Bounds, NetError, federation::Call},
    service::{
        App,
        federation::ask::{AskError, ask_streamed},
    },
    store::{NewMedia, StoredContent, View},
};

/// What is being fetched, and what couldn't be just before.
pub(super) struct Fetches {
    known: Mutex<HashMap<MediaId, Known>>,
    clock: Clock,
    /// By server.
    places: Places,
}

struct Known {
    state: Arc<watch::Sender<State>>,
    /// When it is forgotten that it couldn't be fetched; none while it is.
    until: Option<Duration>,
}

/// How far it is. Who watches wants it.
#[derive(Clone)]
enum State {
    Asked,
    Arriving(Arriving),
    Kept,
    Failed(Arc<FetchError>),
}

/// A file that is read while it arrives.
#[derive(Clone)]
pub(super) struct Arriving {
    /// As its server says; none if it doesn't.
    pub(super) size: Option<u64>,
    pub(super) description: Description,
    pub(super) growing: Growing,
}

/// Something that is being fetched, for who wants it.
pub(super) struct Wanted(watch::Receiver<State>);

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

/// Has what a URI of another server names fetched, once however many want it; `patience` is for an upload that was
/// announced. Once it is begun it goes on, whether anybody waits for it or not: giving up and asking again gains nothing.
pub(super) fn want(app: &App, id: &MediaId, patience: Duration) -> Wanted {
    let fetches = &app.repository.fetches;
    let now = fetches.clock.monotonic();
    let mut known = fetches.known.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, known| known.until.is_none_or(|until| now < until));
    if let Some(known) = known.get(id) {
        return Wanted(known.state.subscribe());
    }
    if known.len() >= limits::REMOTE_MEDIA_FETCHES {
        let failed = known.iter().filter_map(|(id, known)| Some((known.until?, id)));
        if let Some(first) = failed.min_by_key(|(until, _)| *until).map(|(_, id)| id.clone()) {
            known.remove(&first);
        }
    }
    let (state, wanted) = watch::channel(State::Asked);
    let state = Arc::new(state);
    // Where there is no room for it nobody can join it.
    if known.len() < limits::REMOTE_MEDIA_FETCHES {
        known.insert(id.clone(), Known { state: state.clone(), until: None });
    }
    let fetch = Fetch { app: app.clone(), id: id.clone(), state };
    tokio::spawn(fetch.run(patience).in_current_span());
    Wanted(wanted)
}

impl Wanted {
    /// Waits until there is something to read of it; none: it is kept already.
    pub(super) async fn begun(&mut self) -> Result<Option<Arriving>, DownloadError> {
        match self.wait_for(|state| !matches!(state, State::Asked)).await? {
            State::Arriving(arriving) => Ok(Some(arriving)),
            _ => Ok(None),
        }
    }

    /// Waits until it is kept.
    pub(super) async fn kept(&mut self) -> Result<(), DownloadError> {
        self.wait_for(|state| matches!(state, State::Kept | State::Failed(_))).await.map(drop)
    }

    async fn wait_for(&mut self, is_it: impl FnMut(&State) -> bool) -> Result<State, DownloadError> {
        let state = self.0.wait_for(is_it).await.map(|state| state.clone());
        match state {
            Ok(State::Failed(error)) => Err(told(&error)),
            Ok(state) => Ok(state),
            Err(_) => Err(DownloadError::Unreachable),
        }
    }
}

/// What is told of it to who wanted it.
fn told(error: &FetchError) -> DownloadError {
    match error {
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
    }
}

/// A fetch under way. What becomes of it is known once this is dropped.
struct Fetch {
    app: App,
    id: MediaId,
    state: Arc<watch::Sender<State>>,
}

impl Fetch {
    async fn run(self, patience: Duration) {
        let fetches = &self.app.repository.fetches;
        let server = Reader::Peer(self.id.origin.clone());
        let _place = loop {
            tokio::select! {
                place = fetches.places.take(&server) => break place,
                () = self.state.closed() => if self.is_forgotten() { return },
            }
        };
        let outcome = match self.fetch(patience).await {
            Ok(()) => State::Kept,
            Err(error) => {
                tracing::debug!(media = %self.id.to_uri(), %error, "media can't be fetched");
                State::Failed(Arc::new(error))
            }
        };
        self.end(outcome);
    }

    /// Forgets it if nobody wants it any more.
    fn is_forgotten(&self) -> bool {
        let mut known = self.app.repository.fetches.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alone = self.state.receiver_count() == 0;
        if is_alone && self.is_it(known.get(&self.id)) {
            known.remove(&self.id);
        }
        is_alone
    }

    fn is_it(&self, known: Option<&Known>) -> bool {
        known.is_some_and(|known| Arc::ptr_eq(&known.state, &self.state))
    }

    fn end(&self, outcome: State) {
        let fetches = &self.app.repository.fetches;
        let pause = match &outcome {
            // Of what this server couldn't do nobody else is to blame.
            State::Failed(error) if !matches!(**error, FetchError::Ask(AskError::Net(NetError::Busy))) => {
                limits::REMOTE_MEDIA_PAUSE
            }
            // What is kept is found before anybody comes here again, until it is gone.
            _ => Duration::ZERO,
        };
        let mut known = fetches.known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_it(known.get(&self.id))
            && let Some(known) = known.get_mut(&self.id)
        {
            known.until = Some(fetches.clock.monotonic() + pause);
        }
        self.state.send_replace(outcome);
    }

    async fn fetch(&self, patience: Duration) -> Result<(), FetchError> {
        let Self { app, id, .. } = self;
        let wanted = id.clone();
        let read = move |view: &View<'_>| view.media(wanted.origin.as_str(), &wanted.id);
        // It may have been kept just before this began.
        if app
            .store
            .read(read)
            .await
            .map_err(ReceiveError::from)?
            .is_some_and(|media| media.content.is_some())
        {
            return Ok(());
        }
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
            Ok(response) => self.parts(response, limit, bounds).await?,
            // <https://spec.matrix.org/v1.19/server-server-api/#content-repository>: the endpoint from before.
            Err(AskError::Refused { status: StatusCode::NOT_FOUND, error })
                if error.as_ref().is_none_or(|error| error.kind == ErrorKind::Unrecognized) =>
            {
                self.whole(frozen(app, id, patience, bounds).await?, limit).await?
            }
            Err(error) => return Err(error.into()),
        };
        keep(app, id, receiving, description).await
    }

    /// Takes the file of an answer in parts: metadata, and the file or where it is.
    async fn parts(
        &self,
        response: Response<Body>,
        limit: u64,
        bounds: Bounds,
    ) -> Result<(Receiving, Description), FetchError> {
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut reader = Multipart::new(kind)?;
        let mut left = length(response.headers());
        let mut body = response.into_body();
        let mut receiving = None;
        let mut description = Description::default();
        let mut count = 0;
        loop {
            match reader.next()? {
                None => {
                    if let Some(receiving) = &mut receiving
                        && left.is_none_or(|left| left > NEARLY_ALL)
                    {
                        self.show(receiving, None, &description).await?;
                    }
                    match body.next().await.map_err(AskError::from)? {
                        Some(piece) => {
                            left = left.map(|left| left.saturating_sub(piece.len() as u64));
                            reader.feed(&piece);
                        }
                        None => return Err(FetchError::Form("it breaks off")),
                    }
                }
                Some(Token::Head(fields)) => {
                    count += 1;
                    let field = |name: &str| {
                        fields.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
                    };
                    if count == FILE {
                        if let Some(url) = field("location") {
                            return self.whole(elsewhere(&self.app, Some(url), bounds).await?, limit).await;
                        }
                        description = described(field("content-type"), field("content-disposition"));
                        receiving = Some(self.begin(limit).await?);
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
        &self,
        response: Response<Body>,
        limit: u64,
    ) -> Result<(Receiving, Description), FetchError> {
        let (head, mut body) = response.into_parts();
        let field = |name| head.headers.get(name).map(|value| value.as_bytes());
        let description = described(field(CONTENT_TYPE), field(CONTENT_DISPOSITION));
        let size = length(&head.headers);
        if size.is_some_and(|size| size > limit) {
            return Err(ReceiveError::TooLarge(limit).into());
        }
        let mut receiving = self.begin(limit).await?;
        while let Some(piece) = body.next().await.map_err(AskError::from)? {
            receiving.write(&piece).await?;
            if size.is_none_or(|size| size > receiving.size() + NEARLY_ALL) {
                self.show(&mut receiving, size, &description).await?;
            }
        }
        if size.is_some_and(|size| receiving.size() != size) {
            return Err(FetchError::Form("it breaks off"));
        }
        Ok((receiving, description))
    }

    async fn begin(&self, limit: u64) -> Result<Receiving, FetchError> {
        Ok(Receiving::begin(self.app.clone(), limit).await.map_err(ReceiveError::from)?)
    }

    /// Lets a file be read of which a part is there and much isn't.
    async fn show(
        &self,
        receiving: &mut Receiving,
        size: Option<u64>,
        description: &Description,
    ) -> Result<(), FetchError> {
        if receiving.size() > 0 && !receiving.is_shown() {
            let growing = receiving.show().await.map_err(ReceiveError::from)?;
            let arriving = Arriving { size, description: description.clone(), growing };
            self.state.send_replace(State::Arriving(arriving));
        }
        Ok(())
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if matches!(*self.state.borrow(), State::Asked | State::Arriving(_)) && !self.is_forgotten() {
            self.end(State::Failed(Arc::new(FetchError::Form("its fetch came to no end"))));
        }
    }
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

/// How long an answer is, as its head says.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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

/// What stays to be sent of an answer is no more than what one waits for, so that a file is whole when it is told: with
/// its size, and a tag by which it isn't sent again.
const NEARLY_ALL: u64 = 64 << 10;
/// The place of the file among the parts.
const FILE: usize = 2;
/// What an answer in parts has besides the file.
const MULTIPART: u64 = 64 << 10;

impl Fetches {
    pub(super) fn new(clock: Clock) -> Self {
        let places = Places::new(limits::REMOTE_MEDIA, limits::REMOTE_MEDIA_PER_SERVER);
        Self { known: Mutex::default(), clock, places }
    }
}

impl From<Malformed> for FetchError {
    fn from(_: Malformed) -> Self {
        Self::Form("it is not in parts")
    }
}
