//! From a name to the server behind it, over real sockets: names, delegation, certificates, the `Host` header.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use ruma::{ServerName, server_name};
use tayberry::{
    base::{
        clock::{Clock, Timestamp},
        limits,
        rng::Rng,
        secret::Secret,
    },
    net::{
        Blame, Body, Bounds, Client, Federation, NetError, Place, Target, Transport,
        dns::{DnsError, Service},
        federation::{Call, Origin},
        transport::Boxed,
        x_matrix::{Signable, Unproven, XMatrix},
    },
    service::signer::signing_key,
};

use super::{Authority, BOUNDS, LOOPBACK, Peer, client, dns::Zone, ok, to};

/// The real client, but ports that only the system may listen at are elsewhere.
struct Moved {
    client: Client,
    https: u16,
}

impl Transport for Moved {
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        Box::pin(async move {
            let moved = |place: &Place| {
                let port = if place.port == 443 { self.https } else { place.port };
                Place { host: place.host.clone(), port }
            };
            let places = target.places.iter().map(moved).collect();
            self.client.send(&Target { places, ..target.clone() }, request, bounds).await
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        self.client.services(name)
    }
}

/// A federation that trusts an authority, asks a name server and finds well-known documents at a port.
fn federation(authority: &Authority, zone: &Zone, https: u16, clock: &Clock) -> Federation {
    let client = client(authority.settings(Some(zone.address)));
    Federation::new(Arc::new(Moved { client, https }), true, clock.clone(), Rng::seeded(1))
}

fn call() -> Call {
    Call { method: Method::GET, uri: "/_matrix/federation/v1/version?a=b".to_owned(), content: None }
}

async fn send(federation: &Federation, server: &str) -> Result<u16, NetError> {
    let server = ServerName::parse(server).unwrap();
    Ok(federation.send(&server, call(), BOUNDS).await?.status().as_u16())
}

fn clock() -> Clock {
    Clock::manual(Timestamp(1_800_000_000_000))
}

/// A server at an address of its own, at the port of federation.
async fn homeserver(authority: &Authority, address: [u8; 4], names: &[&str]) -> Peer {
    Peer::start((address, 8448), Some(authority.tls(names, &["h2", "http/1.1"])), |_| ok("{}")).await
}

#[tokio::test]
async fn a_server_is_found_behind_every_kind_of_name() {
    let authority = Authority::new();
    let https = authority.tls(&["delegating.example", "www.example", "bare.example", "srv.example"], &["h2"]);
    let https = Peer::start((LOOPBACK, 0), Some(https), |seen| {
        match (seen.host.as_str(), seen.request.uri().path()) {
            ("delegating.example", "/.well-known/matrix/server") => to("https://www.example/there"),
            ("www.example", "/there") => ok(r#"{"m.server": "hs.example"}"#),
            ("srv.example", _) => ok("no JSON"),
            _ => Response::builder().status(404).body(Bytes::new()).unwrap(),
        }
    })
    .await;
    let a = homeserver(&authority, [127, 0, 41, 1], &["hs.example", "127.0.41.1"]).await;
    let b = homeserver(&authority, [127, 0, 41, 2], &["bare.example", "srv.example"]).await;
    let elsewhere =
        Peer::start((LOOPBACK, 0), Some(authority.tls(&["srv.example"], &["h2"])), |_| ok("{}")).await;
    let zone = Zone::start(|zone| {
        for name in ["delegating.example", "www.example", "srv.example"] {
            zone.add(name, "127.0.0.1");
        }
        zone.add("target.example", "127.0.0.1");
        zone.add_service("_matrix-fed._tcp.srv.example", 1, elsewhere.address.port(), "target.example");
        zone.add("hs.example", "127.0.41.1");
        zone.add("bare.example", "127.0.41.2");
        zone.add("false.example", "127.0.41.1");
    })
    .await;
    let federation = federation(&authority, &zone, https.address.port(), &clock());
    for (server, peer, host, sni) in [
        ("127.0.41.1", &a, "127.0.41.1", None),
        ("127.0.41.1:8448", &a, "127.0.41.1:8448", None),
        ("hs.example:8448", &a, "hs.example:8448", Some("hs.example")),
        ("delegating.example", &a, "hs.example", Some("hs.example")),
        ("srv.example", &elsewhere, "srv.example", Some("srv.example")),
        ("bare.example", &b, "bare.example", Some("bare.example")),
    ] {
        assert_eq!(send(&federation, server).await.unwrap(), 200, "{server}");
        let seen = peer.seen().pop().unwrap();
        assert_eq!((seen.host.as_str(), seen.sni.as_deref()), (host, sni), "{server}");
        assert_eq!(seen.request.uri().path_and_query().unwrap(), "/_matrix/federation/v1/version?a=b");
    }
    // Whoever the DNS leads to has to prove the name.
    let error = send(&federation, "false.example:8448").await.unwrap_err();
    assert_eq!(error.blame(), Blame::Misbehaved, "{error}");
    let disabled =
        Federation::new(Arc::new(client(authority.settings(None))), false, clock(), Rng::seeded(1));
    assert_eq!(send(&disabled, "127.0.41.1").await.unwrap_err().blame(), Blame::Ours);
}

/// A host whose document is this at the first, second and every further request.
async fn documents(
    answer: impl Fn(u32) -> Response<Bytes> + Send + Sync + 'static,
) -> (Authority, Peer, Zone) {
    let authority = Authority::new();
    let count = AtomicU32::new(0);
    let tls = authority.tls(&["example.org"], &["h2"]);
    let peer =
        Peer::start((LOOPBACK, 0), Some(tls), move |_| answer(count.fetch_add(1, Ordering::SeqCst))).await;
    let zone = Zone::start(|zone| zone.add("example.org", "127.0.0.1")).await;
    (authority, peer, zone)
}

async fn authority_of(federation: &Federation) -> String {
    federation.target(server_name!("example.org")).await.unwrap().authority
}

#[tokio::test]
async fn a_delegation_is_kept_for_as_long_as_it_says_within_bounds() {
    let document = |caching: &'static str| {
        move |_| {
            let mut response = ok(r#"{"m.server": "hs.example:1"}"#);
            if !caching.is_empty() {
                response.headers_mut().insert("cache-control", caching.parse().unwrap());
            }
            response
        }
    };
    for (caching, time) in [
        ("", Duration::from_secs(24 * 60 * 60)),
        ("max-age=7200", Duration::from_secs(7_200)),
        ("max-age=999999999", Duration::from_secs(48 * 60 * 60)),
        ("no-store", limits::WELL_KNOWN_TIME_MIN),
    ] {
        let (authority, peer, zone) = documents(document(caching)).await;
        let clock = clock();
        let federation = federation(&authority, &zone, peer.address.port(), &clock);
        let both = tokio::join!(authority_of(&federation), authority_of(&federation));
        assert_eq!((both.0.as_str(), both.1.as_str()), ("hs.example:1", "hs.example:1"));
        clock.advance(time - Duration::from_millis(1));
        authority_of(&federation).await;
        assert_eq!(peer.seen().len(), 1, "{caching}");
        clock.advance(Duration::from_millis(1));
        authority_of(&federation).await;
        assert_eq!(peer.seen().len(), 2, "{caching}");
    }
}

#[tokio::test]
async fn a_host_that_tells_nothing_valid_is_asked_again_ever_more_rarely() {
    let (authority, peer, zone) = documents(|count| match count {
        0 => Response::builder().status(500).body(r#"{"m.server": "wrong.example:1"}"#.into()).unwrap(),
        1 => ok("{"),
        2 => ok(r#"{"m.servers": "wrong.example:1"}"#),
        3 => ok(r#"{"m.server": "wrong example"}"#),
        4 => ok(&format!(r#"{{"m.server": "wrong.example:1", "x": "{}"}}"#, "x".repeat(100_000))),
        5 => to("/"),
        6 => to("https://example.org/.well-known/matrix/server"),
        _ => ok(r#"{"m.server": "hs.example:1"}"#),
    })
    .await;
    let clock = clock();
    let federation = federation(&authority, &zone, peer.address.port(), &clock);
    let mut asked = 0;
    for minutes in [2, 4, 8, 16, 32, 60] {
        assert_eq!(authority_of(&federation).await, "example.org");
        let now = peer.seen().len();
        assert!(now > asked, "{minutes}");
        asked = now;
        clock.advance(Duration::from_secs(minutes * 60) - Duration::from_millis(1));
        assert_eq!(authority_of(&federation).await, "example.org");
        assert_eq!(peer.seen().len(), asked, "{minutes}");
        clock.advance(Duration::from_millis(1));
    }
    assert_eq!(authority_of(&federation).await, "hs.example:1");
}

#[tokio::test]
async fn a_signed_request_proves_itself() {
    let authority = Authority::new();
    let tls = authority.tls(&["hs.example"], &["h2"]);
    let peer = Peer::start((LOOPBACK, 0), Some(tls), |_| ok("{}")).await;
    let zone = Zone::start(|zone| zone.add("hs.example", "127.0.0.1")).await;
    let federation = federation(&authority, &zone, 1, &clock());
    let key = signing_key("k1", &Secret::new([7; 32])).unwrap();
    let origin = Origin { server: server_name!("own.example"), key: &key };
    let destination = ServerName::parse(format!("hs.example:{}", peer.address.port())).unwrap();
    let content = Some(r#"{"b": 1.50, "a": "\u00e9"}"#.to_owned());
    let call = Call { method: Method::PUT, content, ..call() };
    federation.send_signed(origin, &destination, call, BOUNDS).await.unwrap();

    let request = peer.seen().pop().unwrap().request;
    assert_eq!(request.headers()["content-type"], "application/json");
    let proof = XMatrix::parse(&request.headers()["authorization"]).unwrap();
    assert_eq!((proof.origin.as_str(), proof.key.as_str()), ("own.example", "ed25519:k1"));
    let signed = Signable {
        method: request.method().as_str(),
        uri: request.uri().path_and_query().unwrap().as_str(),
        content: Some(str::from_utf8(request.body()).unwrap()),
    };
    assert_eq!(proof.verify(signed, &destination, &key.public_key()), Ok(()));
}

/// What is signed names the server that is asked, wherever it is.
/// <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>
// RULES R24
#[tokio::test]
async fn a_request_is_signed_for_the_name_that_delegates() {
    let authority = Authority::new();
    let tls = authority.tls(&["there.example"], &["h2"]);
    let there = Peer::start((LOOPBACK, 0), Some(tls), |_| ok("{}")).await;
    let delegated = format!("there.example:{}", there.address.port());
    let document = format!(r#"{{"m.server": "{delegated}"}}"#);
    let tls = authority.tls(&["delegating.example"], &["h2"]);
    let https = Peer::start((LOOPBACK, 0), Some(tls), move |_| ok(&document)).await;
    let zone = Zone::start(|zone| {
        zone.add("delegating.example", "127.0.0.1");
        zone.add("there.example", "127.0.0.1");
    })
    .await;
    let federation = federation(&authority, &zone, https.address.port(), &clock());
    let key = signing_key("k1", &Secret::new([7; 32])).unwrap();
    let origin = Origin { server: server_name!("own.example"), key: &key };
    let destination = server_name!("delegating.example");
    federation.send_signed(origin, destination, call(), BOUNDS).await.unwrap();

    let seen = there.seen().pop().unwrap();
    assert_eq!((&seen.host, seen.sni.as_deref()), (&delegated, Some("there.example")));
    let proof = XMatrix::parse(&seen.request.headers()["authorization"]).unwrap();
    assert_eq!(proof.destination.as_deref(), Some(destination));
    let signed = Signable { method: "GET", uri: &call().uri, content: None };
    assert_eq!(proof.verify(signed, destination, &key.public_key()), Ok(()));
    // Nor is the other name what is signed where the header only says otherwise.
    let delegated = ServerName::parse(delegated).unwrap();
    let renamed = XMatrix { destination: Some(delegated.clone()), ..proof };
    assert_eq!(renamed.verify(signed, &delegated, &key.public_key()), Err(Unproven::Signature));
}
