//! The network between the servers: what is sent takes its time, gets lost on its way there or back, comes twice, or
//! doesn't come through at all. Nothing keeps its order.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tayberry::{
    base::rng::Rng,
    net::{
        Body, Bounds, NetError, Target, Transport,
        dns::{DnsError, Service},
        transport::Boxed,
    },
};
use tokio::time::{sleep, timeout};

use crate::{host, world::World};

/// What lies between all servers.
pub(crate) struct Network {
    dice: Rng,
    weather: Mutex<Weather>,
}

#[derive(Default)]
struct Weather {
    /// Whether anything gets lost.
    is_rough: bool,
    /// Who can't reach whom, either way.
    cuts: BTreeSet<(&'static str, &'static str)>,
}

/// What is to become of one exchange.
struct Fate {
    there: Duration,
    back: Duration,
    /// Whether the request gets lost, and whether the answer does.
    lost: [bool; 2],
    /// How much later it comes a second time.
    again: Option<Duration>,
}

/// A server's way out, for as long as it lives.
pub(crate) struct Way {
    pub(crate) world: Arc<World>,
    pub(crate) own: &'static str,
    pub(crate) life: u32,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Rng::seeded(seed ^ 0x6e65_7477_6f72_6b00), weather: Mutex::default() }
    }

    /// Lets things get lost, or no more.
    pub(crate) fn set_rough(&self, is_rough: bool) {
        self.weather.lock().unwrap().is_rough = is_rough;
    }

    /// Parts two servers.
    pub(crate) fn cut(&self, one: &'static str, other: &'static str) {
        self.weather.lock().unwrap().cuts.insert((one.min(other), one.max(other)));
    }

    /// Lets all reach each other.
    pub(crate) fn mend(&self) {
        self.weather.lock().unwrap().cuts.clear();
    }

    fn is_cut(&self, one: &str, other: &str) -> bool {
        let weather = self.weather.lock().unwrap();
        weather.cuts.iter().any(|&(a, b)| (a, b) == (one, other) || (b, a) == (one, other))
    }

    fn fate(&self) -> Fate {
        let is_rough = self.weather.lock().unwrap().is_rough;
        let chance = |percent: u64| is_rough && self.dice.below(100) < percent;
        let time = |most: u64| Duration::from_millis(1 + self.dice.below(most));
        let way = || if chance(10) { time(8_000) } else { time(150) };
        Fate {
            there: way(),
            back: way(),
            lost: [chance(6), chance(6)],
            again: chance(8).then(|| time(20_000)),
        }
    }
}

impl Way {
    async fn exchange(
        &self,
        target: &Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Response<Body>, NetError> {
        let (world, to) = (&self.world, target.authority.clone());
        let what = format!("{} {}", request.method(), request.uri());
        if !host::lives(world, self.own, self.life) {
            // What is left of a server that is no more.
            sleep(GONE).await;
            return Err(refused(io::ErrorKind::NotConnected));
        }
        let number = world.next();
        world.log(self.own, format_args!("#{number} to {to}: {what} {}", digest(request.body())));
        let answer = timeout(bounds.head, self.carry(number, &to, request)).await;
        let answer = answer.unwrap_or(Err(NetError::Late { what: "the answer", time: bounds.head }));
        if !host::lives(world, self.own, self.life) {
            sleep(GONE).await;
            return Err(refused(io::ErrorKind::NotConnected));
        }
        match answer {
            Ok(answer) => {
                world.log(self.own, format_args!("#{number}: {} {}", answer.status(), digest(answer.body())));
                Ok(answer.map(|body| Body::whole(body, bounds)))
            }
            Err(error) => {
                world.log(self.own, format_args!("#{number}: {error}"));
                Err(error)
            }
        }
    }

    async fn carry(
        &self,
        number: u64,
        to: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, NetError> {
        let (world, own) = (self.world.clone(), self.own);
        let network = &world.network;
        let Fate { there, back, lost, again } = network.fate();
        if let Some(later) = again {
            let (world, to, request) = (world.clone(), to.to_owned(), request.clone());
            tokio::spawn(async move {
                sleep(there + later).await;
                if !world.network.is_cut(own, &to) {
                    world.log(&to, format_args!("#{number} comes again"));
                    _ = host::answer(&world, &to, own, request).await;
                }
            });
        }
        sleep(there).await;
        if lost[0] || network.is_cut(own, to) {
            sleep(PATIENCE).await;
            return Err(refused(io::ErrorKind::TimedOut));
        }
        let answer = host::answer(&world, to, own, request).await;
        sleep(back).await;
        if lost[1] || network.is_cut(own, to) {
            sleep(PATIENCE).await;
            return Err(refused(io::ErrorKind::ConnectionReset));
        }
        answer.ok_or_else(|| refused(io::ErrorKind::ConnectionRefused))
    }
}

impl Transport for Way {
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        Box::pin(self.exchange(target, request, bounds))
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Err(DnsError::Absent) })
    }
}

fn refused(kind: io::ErrorKind) -> NetError {
    NetError::Connect(Arc::new(kind.into()))
}

/// What a text is known by in the log.
pub(crate) fn digest(text: &[u8]) -> String {
    blake3::hash(text).to_hex()[..8].to_owned()
}

/// How long somebody waits for what got lost.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long nothing comes of what is left of a server.
const GONE: Duration = Duration::from_secs(600);
