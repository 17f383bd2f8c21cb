//! One event whose parents are missing: they are asked for from whoever brought it, and where nobody has them any more
//! the state stands for them.
//! <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use ruma::{OwnedEventId, OwnedServerName, ServerName};
use tokio::time::timeout;

use crate::{
    base::{
        clock::Clock,
        ids::{RoomNumber, ServerNumber},
        json::Object,
        limits,
        ordered::Ordered,
    },
    room::{
        graph::State,
        pdu::Pdu,
        receive::{Missing, Told, soft_failure},
    },
    service::{
        App,
        federation::{
            backfill::{Judged, judge},
            fetch::{Room, Source},
            policy,
            receive::lacks_keys,
            told::{self, Witnesses},
        },
        write::{
            ingest::{IngestError, Ingested, ingest},
            outliers,
        },
    },
    store::{
        StoreError, View, WaitingEvent,
        events::{Item, Membership, Place},
    },
};

/// What came of an event that lacked parents.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closed {
    /// Whether it needs no more tries, taken or not.
    pub is_settled: bool,
    /// Whether something is missing still before it.
    pub is_torn: bool,
}

/// What a visit of a room may take.
#[derive(Debug)]
pub(super) struct Budget {
    clock: Clock,
    ends_at: Duration,
    /// The servers that took up their time.
    slow: BTreeSet<OwnedServerName>,
}

impl Budget {
    pub(super) fn new(clock: &Clock) -> Self {
        let ends_at = clock.monotonic() + limits::FETCH_TIME;
        Self { clock: clock.clone(), ends_at, slow: BTreeSet::new() }
    }

    /// Whether it is not enough for one more server.
    pub(super) fn is_spent(&self) -> bool {
        self.left() < limits::FETCH_TIME_PER_SERVER
    }

    fn left(&self) -> Duration {
        self.ends_at.saturating_sub(self.clock.monotonic())
    }
}

/// Takes an event with those of its past that it lacks.
///
/// # Errors
/// The store failed.
pub(super) async fn close(
    app: &App,
    room: &Room,
    event: &WaitingEvent,
    budget: &mut Budget,
) -> Result<Closed, StoreError> {
    let pdu = Object::parse(&event.json).ok().and_then(|object| Pdu::parse(&object, room.version).ok());
    let Some(pdu) = pdu else { return Ok(Closed { is_settled: true, is_torn: false }) };
    let closed = Box::pin(timeout(budget.left(), close_by_any(app, room, (event, &pdu), budget))).await;
    match closed {
        Err(_) => Ok(Closed::default()),
        // Something of its past is more than a job may write, and nothing is wrong with the store.
        Ok(Err(error @ StoreError::TooLarge(_))) => {
            tracing::warn!(event_id = %event.event_id, %error, "an event waits longer");
            Ok(Closed::default())
        }
        Ok(closed) => closed,
    }
}

async fn close_by_any(
    app: &App,
    room: &Room,
    (event, pdu): (&WaitingEvent, &Pdu),
    budget: &mut Budget,
) -> Result<Closed, StoreError> {
    let mut closed = Closed::default();
    let mut servers = servers(app, room, event, pdu).await?;
    let may_be_silent = event.tries >= limits::FETCH_TRIES_WITNESSED;
    let may_lack = event.tries >= limits::FETCH_TRIES_WHOLE;
    let is_last = event.tries + 1 >= limits::FETCH_TRIES;
    let believed = is_last.then(|| pdu.sender().server_name().to_owned());
    let witnesses = Witnesses { servers: servers.clone(), may_be_silent, believed, may_lack };
    servers.retain(|server| !budget.slow.contains(server));
    let mut left = servers.len() as u32;
    for server in servers {
        // The last one may take what the others left.
        let share = (budget.left() / left).max(limits::FETCH_TIME_PER_SERVER);
        left -= 1;
        let source = Source::new(app, server.clone(), room);
        match timeout(share, Closing::new(source, pdu, &witnesses).run()).await {
            Ok(result) => closed = result?,
            Err(_) => _ = budget.slow.insert(server),
        }
        if closed.is_settled {
            break;
        }
    }
    Ok(closed)
}

/// Who may know the parents: whoever brought the event, whoever sent it, and others that are in the room. Whoever brought
/// it is asked last, and others each time, after that was in vain; and last of these, whoever is hard to reach.
async fn servers(
    app: &App,
    room: &Room,
    event: &WaitingEvent,
    pdu: &Pdu,
) -> Result<Vec<OwnedServerName>, StoreError> {
    let number = room.number;
    let read =
        move |view: &View<'_>| view.servers_joined(number, ServerNumber::default(), limits::SERVERS_STEP);
    let mut servers = vec![event.origin.clone()];
    let joined = app.store.read(read).await?.0;
    for server in std::iter::once(pdu.sender().server_name().to_owned()).chain(joined) {
        if server != app.server_name && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers[1..].sort_by_key(|server| app.is_failing(server));
    if event.tries > 0 && servers.len() > 1 {
        let origin = servers.remove(0);
        let at = (event.tries as usize - 1) % servers.len();
        servers.rotate_left(at);
        servers.truncate(limits::FETCH_SERVERS - 1);
        servers.push(origin);
    }
    servers.truncate(limits::FETCH_SERVERS);
    Ok(servers)
}

/// A try by one server.
struct Closing<'p> {
    source: Source,
    pdu: &'p Pdu,
    witnesses: &'p Witnesses,
    /// What is known of its past, and itself.
    events: BTreeMap<OwnedEventId, Pdu>,
    /// Those of them that a state or a chain of permissions brought before. What is past of them gets no place in the
    /// timeline, where it would come last.
    outliers: BTreeSet<OwnedEventId>,
    bytes: usize,
    /// How often the state may still be asked for.
    edges: usize,
    /// The depth at which this server has come into the room.
    begin: u64,
}

impl<'p> Closing<'p> {
    fn new(source: Source, pdu: &'p Pdu, witnesses: &'p Witnesses) -> Self {
        let events = BTreeMap::from([(pdu.event_id().to_owned(), pdu.clone())]);
        Self {
            source,
            pdu,
            witnesses,
            events,
            outliers: BTreeSet::new(),
            bytes: 0,
            edges: limits::PARENTS_EDGES,
            begin: 0,
        }
    }

    async fn run(mut self) -> Result<Closed, StoreError> {
        for _ in 0..limits::PARENTS_ROUNDS {
            if !self.fetch_parents().await? {
                break;
            }
        }
        let mut is_settled = false;
        let mut order = self.in_order();
        let is_past = |pdu: &Pdu| pdu.depth() < self.begin;
        let mut past = match order.iter().any(is_past) {
            true => self.past(&order).await?,
            false => Past::default(),
        };
        order.retain(|pdu| !(is_past(pdu) && self.outliers.contains(pdu.event_id())));
        if order.iter().any(is_past) && !past.leads_on {
            order.drain(..order.len() - 1);
        }
        for pdu in order {
            let before = past.before.remove(pdu.event_id());
            is_settled = self.take(&pdu, before.map(Told::MadeOut)).await?;
        }
        Ok(Closed { is_settled, is_torn: self.edges < limits::PARENTS_EDGES })
    }

    /// Fetches some of what is missing; tells whether some more may be.
    async fn fetch_parents(&mut self) -> Result<bool, StoreError> {
        let room = self.source.room.number;
        let mut ahead: Vec<_> =
            self.events.iter().map(|(id, pdu)| (id.clone(), pdu.prev_events().to_vec())).collect();
        let mut own: BTreeSet<_> = self.events.keys().cloned().into_set();
        let (server, mut bytes) = (self.source.app.server_name.clone(), self.bytes);
        let read = move |view: &View<'_>| {
            let (mut latest, mut missing, mut outliers) = (Vec::new(), BTreeSet::new(), Vec::new());
            while let Some((id, parents)) = ahead.pop() {
                let before = missing.len();
                for parent in parents {
                    if own.contains(&parent) {
                        continue;
                    }
                    match view.event_number(room, &parent)? {
                        Some(number) if view.header(room, number)?.state_before.is_some() => {}
                        Some(number) if own.len() < MOST_PARENTS && bytes < limits::PARENTS_BYTES => {
                            let pdu = Arc::unwrap_or_clone(view.event(room, number)?.pdu);
                            bytes += pdu.json().len();
                            ahead.push((parent.clone(), pdu.prev_events().to_vec()));
                            own.insert(parent);
                            outliers.push(pdu);
                        }
                        _ => _ = missing.insert(parent),
                    }
                }
                if missing.len() > before {
                    latest.push(id);
                }
            }
            let mut earliest = Vec::new();
            for number in view.room(room)?.extremities {
                earliest.push(view.event_id(room, number)?);
            }
            Ok::<_, StoreError>((earliest, latest, missing, outliers, bytes, begin(view, room, &server)?))
        };
        let (earliest, latest, missing, outliers, bytes, begin) = self.source.app.store.read(read).await?;
        (self.begin, self.bytes) = (begin, bytes);
        for pdu in outliers {
            self.outliers.insert(pdu.event_id().to_owned());
            self.events.insert(pdu.event_id().to_owned(), pdu);
        }
        if missing.is_empty() {
            return Ok(false);
        }
        let told = match self.source.parents(earliest, latest).await {
            Ok(told) => told,
            Err(error) => {
                tracing::debug!(server = %self.source.server, %error, "a server does not tell an event's parents");
                return Ok(false);
            }
        };
        let mut told = self.source.verified(told).await;
        // Whatever else it tells is not what was asked for.
        let (mut wanted, mut any) = (missing, false);
        while let Some(at) = told.iter().position(|pdu| wanted.contains(pdu.event_id())) {
            let pdu = told.swap_remove(at);
            self.bytes += pdu.json().len();
            if self.bytes > limits::PARENTS_BYTES || self.events.len() > MOST_PARENTS {
                return Ok(false);
            }
            wanted.extend(pdu.prev_events().iter().cloned());
            any |= self.events.insert(pdu.event_id().to_owned(), pdu).is_none();
        }
        Ok(any)
    }

    /// The events, each behind its parents.
    fn in_order(&mut self) -> Vec<Pdu> {
        let mut order = Vec::with_capacity(self.events.len());
        let mut path = vec![self.pdu.clone()];
        self.events.remove(self.pdu.event_id());
        while let Some(last) = path.last() {
            let parent = last.prev_events().iter().find_map(|id| self.events.remove(id));
            match parent {
                Some(parent) => path.push(parent),
                None => order.extend(path.pop()),
            }
        }
        order
    }

    /// What comes of these events, some of which are the past of all that this server knows.
    async fn past(&self, order: &[Pdu]) -> Result<Past, StoreError> {
        let (app, room) = (&self.source.app, self.source.room.number);
        let (_, parents) = order.split_last().expect("the event is among them");
        // It waited as it came.
        let Some(pdu) = self.source.verified(vec![self.pdu.object()]).await.pop() else {
            return Ok(Past::default());
        };
        let events: Vec<_> = parents.iter().cloned().chain([pdu]).collect();
        outliers::keep(&app.store, room, events.clone()).await?;
        let event_id = self.pdu.event_id().to_owned();
        let _place = app.lanes.judge().await;
        let read = move |view: &View<'_>| {
            let mut past = Past::default();
            let judged = judge(view, room, events)?;
            let last = judged.last().filter(|last| *last.pdu.event_id() == event_id && !last.pdu.rejected());
            if let Some(Judged { pdu, .. }) = last {
                let record = view.room(room)?;
                let (graph, state) = (view.graph(room), State::stored(record.state));
                past.leads_on = soft_failure(pdu, &state, &graph, record.version)?.is_none();
            }
            past.before =
                judged.into_iter().map(|judged| (judged.pdu.event_id().to_owned(), judged.before)).collect();
            Ok::<_, StoreError>(past)
        };
        app.store.read(read).await
    }

    /// Takes an event whose parents were taken as far as they were told; tells whether it is settled.
    async fn take(&mut self, pdu: &Pdu, mut told: Option<Told>) -> Result<bool, StoreError> {
        let Source { app, room, .. } = &self.source;
        let mut object = pdu.object();
        let keys = Arc::new(self.source.keys(&[&object]).await.pop().unwrap_or_default());
        policy::ask_about(app, &room.id, &mut object).await?;
        let mut asked = false;
        loop {
            let event = (object.clone(), told.clone());
            let ingested = ingest(&app.store, &app.lanes, room.id.clone(), event, keys.clone()).await;
            let Missing { auth_events, .. } = match ingested {
                Ok(Ingested::Needs(missing)) => missing,
                Ok(Ingested::Dropped(dropped)) if lacks_keys(&dropped, &object, &keys, room.version) => {
                    return Ok(false);
                }
                Ok(Ingested::As(_) | Ingested::Dropped(_) | Ingested::Refused(_)) => return Ok(true),
                Err(IngestError::UnknownRoom | IngestError::Withdrawn) => return Ok(true),
                // It is as if it had never come; for what follows it, the state stands.
                Err(IngestError::Store(error @ StoreError::TooLarge(_))) => {
                    tracing::warn!(event_id = %pdu.event_id(), %error, "an event is not taken");
                    return Ok(true);
                }
                Err(IngestError::Store(error)) => return Err(error),
                Err(IngestError::Unresolvable(reason)) => {
                    tracing::warn!(event_id = %pdu.event_id(), reason, "the state before an event is not to be found out");
                    return Ok(true);
                }
            };
            if !auth_events.is_empty() {
                if std::mem::replace(&mut asked, true) {
                    return Ok(false);
                }
                told::permissions(&self.source, pdu.event_id(), auth_events).await?;
                continue;
            }
            if told.is_some() || self.edges == 0 {
                return Ok(false);
            }
            self.edges -= 1;
            told = told::before(&self.source, pdu, self.witnesses).await?.map(Told::Word);
            if told.is_none() {
                return Ok(false);
            }
        }
    }
}

/// What comes of an event and of what is known of its past.
#[derive(Default)]
struct Past {
    /// The states before those of them whose whole past is known.
    before: HashMap<OwnedEventId, State>,
    /// Whether the room goes on from the event if all are taken. If it doesn't, it would go on from that past.
    leads_on: bool,
}

/// The depth at which a server has come into a room.
fn begin(view: &View<'_>, room: RoomNumber, server: &ServerName) -> Result<u64, StoreError> {
    let Some(server) = view.server_number(server)? else { return Ok(0) };
    let mut since = None;
    for user in view.members_of_server(room, server, Membership::Join).take(limits::SERVER_USERS) {
        let stay = view.stay(user?, room)?;
        since = stay.map(|stay| stay.since).into_iter().chain(since).min();
    }
    let Some(since) = since else { return Ok(0) };
    match view.timeline(room, Place::live(since)..).next().transpose()? {
        Some((_, Item::Event(number))) => Ok(view.header(room, number)?.depth),
        _ => Ok(0),
    }
}

/// Events that are fetched before one.
const MOST_PARENTS: usize = limits::PARENTS_ROUNDS * limits::PARENTS_ASKED as usize;
