//! `POST /_matrix/client/v4/sync`, and the same at the path and in the shape from before the proposal was accepted.
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md>
//!
//! The shapes differ in where `pos` and `timeout` stand, and in how state is named. Ranges and filters are taken by the
//! names of either.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode};
use ruma::{
    OwnedRoomId,
    api::{
        IncomingRequest, MatrixVersion, Metadata,
        auth_scheme::AccessToken,
        error::{DeserializationError, Error as MatrixError},
        path_builder::{StablePathSelector, VersionHistory},
    },
    exports::serde_html_form,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    api::{Body, Error, Waiting, custom::JsonAnswer, written::Written},
    base::limits,
    service::{
        App,
        presence::State,
        read::token::SyncToken,
        sync::sliding::{
            Shape, SlidingError,
            filters::Filters,
            request::{Ask, Extensions, List, Pattern, RoomConfig, Scope, Selection, ToDevice},
            serve,
        },
    },
    store::Store,
};

pub(crate) async fn sync(
    app: App,
    Waiting { user, turn }: Waiting,
    request: Sync,
) -> Result<Response<Body>, Error> {
    let Sync { shape, at, body } = request;
    let state = match at.set_presence.as_deref() {
        None | Some("online") => State::Online,
        Some("unavailable") => State::Unavailable,
        Some("offline") => State::Offline,
        Some(_) if shape == Shape::Accepted => {
            return Err(Error::invalid_param("There is no such presence"));
        }
        Some(_) => State::Offline,
    };
    let pos = at.pos.map(|pos| pos.parse()).transpose().map_err(SlidingError::from)?;
    let timeout = Duration::from_millis(at.timeout.unwrap_or_default());
    let connection = body.conn_id.unwrap_or_default();
    if connection.len() > limits::SLIDING_NAME_BYTES {
        return Err(Error::invalid_param("The name of the connection is too long"));
    }
    let subscriptions = match shape {
        Shape::Experimental => limits::SLIDING_SUBSCRIPTIONS_EXPERIMENTAL,
        Shape::Accepted => limits::SLIDING_SUBSCRIPTIONS,
    };
    if body.lists.len() > limits::SLIDING_LISTS || body.room_subscriptions.len() > subscriptions {
        let text = format!("There may be {} lists and {subscriptions} subscriptions", limits::SLIDING_LISTS);
        return Err(Error::invalid_param(text));
    }
    let (mut selections, user_id) = (Selections::default(), user.user_id.as_str());
    let mut config = |timeline: u64, state| {
        let timeline = timeline.min(limits::SLIDING_TIMELINE.into()) as u16;
        Ok::<_, Error>(RoomConfig { timeline, state: selections.take(shape, user_id, state)? })
    };
    let mut lists = Vec::with_capacity(body.lists.len());
    for (name, list) in body.lists {
        let is_opaque = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_name = shape == Shape::Experimental || (!name.is_empty() && name.bytes().all(is_opaque));
        if !is_name || name.len() > limits::SLIDING_NAME_BYTES {
            return Err(Error::invalid_param("A list's name is an opaque identifier"));
        }
        let ranges = list.ranges.or(list.range.map(|range| vec![range]));
        if ranges.as_ref().is_some_and(|ranges| {
            ranges.len() > limits::SLIDING_RANGES || ranges.iter().any(|(first, last)| first > last)
        }) {
            return Err(Error::invalid_param("A range has a first and a last place"));
        }
        let filters = list.filters.unwrap_or_default();
        if filters.is_long() {
            return Err(Error::invalid_param("A list's filters name too much"));
        }
        let config = config(list.timeline_limit, list.required_state)?;
        lists.push((name, List { config, ranges, filters }));
    }
    let spaces = lists.iter().flat_map(|(_, list)| &list.filters.spaces).map(Vec::len);
    if spaces.sum::<usize>() > limits::SLIDING_SPACES {
        return Err(Error::invalid_param("These are too many spaces"));
    }
    let subscriptions = body.room_subscriptions.into_iter().map(|(room_id, subscription)| {
        Ok((room_id, config(subscription.timeline_limit, subscription.required_state)?))
    });
    let subscriptions = subscriptions.collect::<Result<_, Error>>()?;
    let transaction = body.txn_id.filter(|_| shape == Shape::Experimental);
    let extensions = body.extensions.into_wanted(&app.store)?;
    let onlooker = user.onlooker(&app);
    let ask = Ask { onlooker, shape, connection, transaction, lists, subscriptions, extensions };
    let answer = serve(&app, &turn, ask, (pos, timeout), state).await?;
    Written::default().sliding(answer).answer(app).await
}

impl From<SlidingError> for Error {
    fn from(error: SlidingError) -> Self {
        match error {
            SlidingError::UnknownPos(_) => Self::coded(
                StatusCode::BAD_REQUEST,
                "M_UNKNOWN_POS",
                "There is no such position; begin anew without one",
            ),
            SlidingError::TooManyUnions => Self::invalid_param("The lists overlap in too many ways"),
            SlidingError::Session(error) => error.into(),
        }
    }
}

/// The choices of state of a request, each once.
#[derive(Default)]
struct Selections {
    known: Vec<Arc<Selection>>,
    bytes: usize,
}

impl Selections {
    fn take(&mut self, shape: Shape, user_id: &str, state: Option<Value>) -> Result<Arc<Selection>, Error> {
        let selection = match shape {
            Shape::Experimental => of_pairs(user_id, parsed(state)?),
            Shape::Accepted => of_elements(parsed(state)?),
        };
        if let Some(known) = self.known.iter().find(|known| ***known == selection) {
            return Ok(known.clone());
        }
        self.bytes += selection.held();
        if self.bytes > limits::SLIDING_PATTERNS_BYTES {
            return Err(Error::invalid_param("The required state names too much"));
        }
        let selection = Arc::new(selection);
        self.known.push(selection.clone());
        Ok(selection)
    }
}

fn parsed<T: Default + DeserializeOwned>(state: Option<Value>) -> Result<T, Error> {
    let parsed = state.map(serde_json::from_value).transpose();
    Ok(parsed.map_err(|_| Error::bad_json("The required state has another form"))?.unwrap_or_default())
}

/// Types with state keys, in which a star is any; `$ME` is the user, and `$LAZY` whoever becomes of interest.
fn of_pairs(user_id: &str, pairs: Vec<(String, String)>) -> Selection {
    let is_lazy = |(kind, key): &(String, String)| kind == "m.room.member" && key == "$LAZY";
    let lazy = pairs.iter().any(is_lazy);
    let any = |text: String| Some(text).filter(|text| text != "*");
    let include = pairs.into_iter().filter(|pair| !is_lazy(pair)).map(|(kind, key)| {
        let key = if key == "$ME" { user_id.to_owned() } else { key };
        (any(kind), any(key))
    });
    Selection::new(include.collect(), Vec::new(), lazy)
}

fn of_elements(elements: RequiredState) -> Selection {
    let patterns = |elements: Vec<Element>| {
        elements.into_iter().map(|Element { kind, state_key }| (kind, state_key)).collect::<Vec<Pattern>>()
    };
    Selection::new(patterns(elements.include), patterns(elements.exclude), elements.lazy_members)
}

/// A request of either shape.
pub(crate) struct Sync {
    shape: Shape,
    at: At,
    body: Wanted,
}

/// From where on a client asks, and how.
#[derive(Default, Deserialize)]
struct At {
    pos: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
}

#[derive(Deserialize)]
struct Wanted {
    conn_id: Option<String>,
    txn_id: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, ListOfRooms>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, Subscription>,
    #[serde(default)]
    extensions: WantedExtensions,
}

#[derive(Deserialize)]
struct ListOfRooms {
    range: Option<(u64, u64)>,
    ranges: Option<Vec<(u64, u64)>>,
    filters: Option<Filters>,
    timeline_limit: u64,
    required_state: Option<Value>,
}

#[derive(Deserialize)]
struct Subscription {
    timeline_limit: u64,
    required_state: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RequiredState {
    include: Vec<Element>,
    exclude: Vec<Element>,
    lazy_members: bool,
}

#[derive(Deserialize)]
struct Element {
    #[serde(rename = "type")]
    kind: Option<String>,
    state_key: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WantedExtensions {
    to_device: WantedToDevice,
    e2ee: Scope,
    account_data: Scope,
    receipts: Scope,
    typing: Scope,
    #[serde(rename = "io.element.msc4308.thread_subscriptions")]
    threads: WantedThreads,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WantedThreads {
    enabled: bool,
    limit: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WantedToDevice {
    enabled: bool,
    limit: Option<u64>,
    since: Option<String>,
}

impl WantedExtensions {
    fn into_wanted(self, store: &Store) -> Result<Extensions, Error> {
        let WantedToDevice { enabled, limit, since } = self.to_device;
        let given = since.filter(|_| enabled).map(|since| since.parse::<SyncToken>()).transpose()?;
        // Any other was given out by a server that knew something else than this one does now.
        let since = given.filter(|since| store.knows(since.told));
        let is_lost = since.is_none() && given.is_some();
        let since = since.map(|since| since.to_device).unwrap_or_default();
        let limit = limit.map_or(usize::MAX, |limit| limit.max(1) as usize);
        if [&self.account_data, &self.receipts, &self.typing].into_iter().any(Scope::is_long) {
            return Err(Error::invalid_param("An extension names too many lists or rooms"));
        }
        let threads =
            self.threads.limit.map_or(limits::THREAD_SUBSCRIPTIONS_PAGE, |most| most.max(1) as usize);
        let wanted = |scope: Scope| Some(scope).filter(|scope| scope.enabled);
        Ok(Extensions {
            to_device: enabled.then_some(ToDevice { limit, since, is_lost }),
            e2ee: self.e2ee.enabled,
            account_data: wanted(self.account_data),
            receipts: wanted(self.receipts),
            typing: wanted(self.typing),
            threads: self.threads.enabled.then_some(threads),
        })
    }
}

impl Metadata for Sync {
    const METHOD: Method = Method::POST;
    const RATE_LIMITED: bool = false;
    type Authentication = AccessToken;
    type PathBuilder = VersionHistory;
    const PATH_BUILDER: VersionHistory = VersionHistory::new(
        &[(None, EXPERIMENTAL_PATH)],
        &[(StablePathSelector::Version(MatrixVersion::V1_19), "/_matrix/client/v4/sync")],
        None,
        None,
    );
}

impl IncomingRequest for Sync {
    type EndpointError = MatrixError;
    type OutgoingResponse = JsonAnswer<Map<String, Value>>;

    fn try_from_http_request_inner(
        request: Request<&[u8]>,
        _arguments: &[&str],
    ) -> Result<Self, DeserializationError> {
        let uri = request.uri();
        let body = if request.body().is_empty() { b"{}" } else { *request.body() };
        let (shape, at) = match uri.path() {
            EXPERIMENTAL_PATH => {
                (Shape::Experimental, serde_html_form::from_str(uri.query().unwrap_or_default())?)
            }
            _ => (Shape::Accepted, serde_json::from_slice(body)?),
        };
        Ok(Self { shape, at, body: serde_json::from_slice(body)? })
    }
}

const EXPERIMENTAL_PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
