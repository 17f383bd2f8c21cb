//! A server: its start, what it is asked, its end, which may come at any moment.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use ruma::{ServerName, signatures::Ed25519KeyPair};
use tayberry::{
    api::{self, Inbound},
    base::{clock::Clock, rng::Rng, secret::Secret},
    config::Config,
    service::{App, app::Parts, signer::signing_key, turn::Turns},
    store::{Options, Store},
    worker,
};
use tokio::task::JoinSet;

use crate::{hostile, network::Way, power, world::World};

/// A server that is up.
pub(crate) struct Host {
    pub(crate) app: App,
    workers: JoinSet<()>,
    life: u32,
    folder: PathBuf,
    /// How wrong its clock is, in milliseconds.
    wrong_by: i64,
}

/// What is left of one that is down.
pub(crate) struct Remains {
    name: &'static str,
    folder: PathBuf,
    life: u32,
    wrong_by: i64,
}

impl Host {
    /// Starts a server that never was.
    pub(crate) async fn create(world: &Arc<World>, name: &'static str) {
        let folder = power::root().join(name.replace(':', "-"));
        let wrong_by = world.dice.below(2 * MOST_WRONG) as i64 - MOST_WRONG as i64;
        Remains { name, folder, life: 0, wrong_by }.start(world).await;
    }

    /// Ends a server: as it should, or at once, with what is on its disk.
    pub(crate) async fn end(world: &Arc<World>, name: &'static str, in_order: bool) -> Option<Remains> {
        let mut host = world.state().hosts.remove(name)?;
        world.log(name, if in_order { "stops" } else { "is gone" });
        while let Some(ended) = host.workers.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                world.fail(format_args!("a worker of {name} panicked"));
            }
        }
        if in_order {
            host.workers.shutdown().await;
            host.app.end_sending().await;
            host.app.end_pushing().await;
            host.app.keep_connections().await;
            host.app.store.close();
        }
        // What of it still runs goes on with a disk of its own, and reaches nobody.
        let life = host.life + 1;
        let folder = power::root().join(format!("{}-{life}", name.replace(':', "-")));
        power::recover(&host.folder, &folder, in_order, &own_rng(world, name, life));
        Some(Remains { name, folder, life, wrong_by: host.wrong_by })
    }
}

impl Remains {
    /// Starts it again.
    pub(crate) async fn start(self, world: &Arc<World>) {
        let Self { name, folder, life, wrong_by } = self;
        let told = Arc::downgrade(world);
        let clock = Clock::told(move || told.upgrade().map(|world| world.now(wrong_by)).unwrap_or_default());
        let rng = own_rng(world, name, life);
        let options = Options { dir: folder.clone(), clock: clock.clone(), rng: rng.clone() };
        let mut config = Config::of_defaults(<&ServerName>::try_from(name).unwrap(), &folder);
        config.presence.enabled = false;
        let parts =
            Parts { config, store: Store::open(options).unwrap(), signing_key: key(name), clock, rng };
        let way = Way { world: world.clone(), own: name, life };
        let app = App::through(parts, Arc::new(way));
        app.claim_store().await.unwrap();
        let workers = worker::start(&app);
        world.state().hosts.insert(name, Host { app, workers, life, folder, wrong_by });
        world.log(name, "is up");
    }
}

/// Whether a server is up, and still the same.
pub(crate) fn lives(world: &World, name: &str, life: u32) -> bool {
    world.state().hosts.get(name).is_some_and(|host| host.life == life)
}

/// What a server says to a request; none if it is down, or ends before that.
pub(crate) async fn answer(
    world: &Arc<World>,
    name: &str,
    by: &str,
    request: Request<Bytes>,
) -> Option<Response<Bytes>> {
    if name == hostile::NAME {
        return Some(world.hostile.answer(world, by, request).await);
    }
    let (app, life) = {
        let state = world.state();
        let host = state.hosts.get(name)?;
        (host.app.clone(), host.life)
    };
    let what = format!("{} {}", request.method(), request.uri());
    let answer = handled(world, &app, request).await;
    if !lives(world, name, life) {
        return None;
    }
    let answer = answer.unwrap_or_else(api::Error::into_response);
    if answer.status() == StatusCode::INTERNAL_SERVER_ERROR {
        world.fail(format_args!("{name} says to {what}: {:?}", answer.body()));
    }
    Some(answer)
}

async fn handled(world: &World, app: &App, request: Request<Bytes>) -> Result<Response<Bytes>, api::Error> {
    let route = world.router.find(request.method(), request.uri().path())?;
    let (head, body) = request.into_parts();
    let mut head = Request::from_parts(head, ());
    head.extensions_mut().insert(Turns::default().begin().await);
    let admitted = route.endpoint.admit(app, &head).await?;
    let answer = admitted.answer(app.clone(), head.map(|()| Inbound::Whole(body)), route.arguments);
    // As over HTTP it goes on, whether or not somebody waits for it.
    let answer = tokio::spawn(answer).await.map_err(api::Error::internal)??;
    let (head, body) = answer.into_parts();
    let mut whole = Vec::new();
    match body {
        api::Body::Whole(bytes) => whole.extend(bytes),
        api::Body::Stream(stream) => {
            whole.extend(stream.collect().await.map_err(api::Error::internal)?.to_bytes());
        }
        api::Body::Written(mut writing) => {
            while let Some(piece) = writing.next().await.map_err(api::Error::internal)? {
                whole.extend(piece);
            }
        }
    }
    Ok(Response::from_parts(head, whole.into()))
}

/// What is random in a life of a server.
fn own_rng(world: &World, name: &str, life: u32) -> Rng {
    Rng::seeded(world.seed ^ u64::from(life) << 48 ^ u64::from(key_byte(name)) << 56)
}

/// A server's key.
pub(crate) fn key(name: &str) -> Ed25519KeyPair {
    signing_key("1", &Secret::new([key_byte(name); 32])).unwrap()
}

fn key_byte(name: &str) -> u8 {
    name.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte))
}

/// How wrong a clock is at most, in milliseconds.
const MOST_WRONG: u64 = 5 * 60 * 1_000;
