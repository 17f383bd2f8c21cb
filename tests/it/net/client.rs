//! Exchanges with one peer: whom it must prove to be, what it may take, how its connections are used.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use tayberry::net::{
    Blame, Body, Bounds, Client, Host, NetError, Place, Target, Transport, client::Limits, redirects,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Barrier,
};

use super::{Addresses, Authority, BOUNDS, LOOPBACK, Peer, Settings, client, dns::Zone, ok, to};

/// Whom to ask at an address, by the name in its certificate.
fn at(address: SocketAddr, certificate: Option<&str>) -> Target {
    let host = |name: &str| name.parse().map_or_else(|_| Host::name(name), Host::Address);
    Target {
        authority: certificate.unwrap_or("plain.example").to_owned(),
        certificate: certificate.map(host),
        places: vec![Place { host: Host::Address(address.ip()), port: address.port() }],
    }
}

fn request(method: &str) -> Request<Bytes> {
    Request::builder().method(method).uri("/a?b=%20c").body(Bytes::from("{}")).unwrap()
}

async fn send(client: &Client, target: &Target, bounds: Bounds) -> Result<Response<Body>, NetError> {
    client.send(target, request("PUT"), bounds).await
}

/// What a peer says to a `PUT`, as text.
async fn text(client: &Client, target: &Target) -> Result<String, NetError> {
    let body = send(client, target, BOUNDS).await?.into_body().collect().await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// A peer that speaks bytes: it reads the head of each request on a connection and writes the next of these, then closes
/// unless it is to stay.
async fn raw(answers: &'static [&'static str], stay: bool) -> SocketAddr {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                for answer in answers {
                    read_request(&mut stream).await;
                    _ = stream.write_all(answer.as_bytes()).await;
                }
                if stay {
                    read_request(&mut stream).await;
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    address
}

/// Reads to the end of the body that [`request`] has.
async fn read_request(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n{}") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn a_peer_is_asked_what_was_to_be_asked_in_either_version() {
    let authority = Authority::new();
    for (versions, expected) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let tls = authority.tls(&["hs.example"], versions);
        let peer = Peer::start((LOOPBACK, 0), Some(tls), |_| ok("yes")).await;
        let client = client(authority.settings(None));
        let target =
            Target { authority: "hs.example:8448".to_owned(), ..at(peer.address, Some("hs.example")) };
        assert_eq!(text(&client, &target).await.unwrap(), "yes");
        let seen = &peer.seen()[0];
        assert_eq!(seen.request.version(), expected);
        assert_eq!((seen.host.as_str(), seen.sni.as_deref()), ("hs.example:8448", Some("hs.example")));
        assert_eq!(seen.request.method(), "PUT");
        assert_eq!(seen.request.uri().path_and_query().unwrap(), "/a?b=%20c");
        assert_eq!(seen.request.body(), "{}");
        assert!(seen.request.headers()["user-agent"].to_str().unwrap().starts_with("Tayberry/"));
    }
    let peer = Peer::start((LOOPBACK, 0), None, |_| ok("plain")).await;
    assert_eq!(text(&client(authority.settings(None)), &at(peer.address, None)).await.unwrap(), "plain");
}

#[tokio::test]
async fn a_peer_proves_by_its_certificate_who_it_is() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (certified, by, asked, good) in [
        ("hs.example", &authority, "hs.example", true),
        ("*.hs.example", &authority, "one.hs.example", true),
        ("127.0.0.1", &authority, "127.0.0.1", true),
        ("other.example", &authority, "hs.example", false),
        ("127.0.0.2", &authority, "127.0.0.1", false),
        ("hs.example", &authority, "127.0.0.1", false),
        ("hs.example", &stranger, "hs.example", false),
    ] {
        let peer = Peer::start((LOOPBACK, 0), Some(by.tls(&[certified], &["h2"])), |_| ok("yes")).await;
        let result = text(&client(authority.settings(None)), &at(peer.address, Some(asked))).await;
        assert_eq!(result.is_ok(), good, "{certified} for {asked}: {result:?}");
        match result {
            Ok(_) => {
                // An address stands in no SNI.
                let name = (asked != "127.0.0.1").then_some(asked);
                assert_eq!(peer.seen()[0].sni.as_deref(), name);
            }
            Err(error) => {
                assert_eq!(error.blame(), Blame::Misbehaved, "{error}");
                assert!(peer.seen().is_empty());
            }
        }
    }
    let peer = Peer::start((LOOPBACK, 0), None, |_| ok("no TLS")).await;
    let error = text(&client(authority.settings(None)), &at(peer.address, Some("hs.example"))).await;
    assert_eq!(error.unwrap_err().blame(), Blame::Misbehaved);
}

#[tokio::test]
async fn a_private_address_is_refused_wherever_it_comes_from() {
    let peer = Peer::start((LOOPBACK, 0), None, |seen| match seen.request.uri().path() {
        "/away" => to("http://127.0.0.1:1/"),
        _ => ok("secret"),
    })
    .await;
    let port = peer.address.port();
    let zone = Zone::start(|zone| {
        zone.add("inside.example", "127.0.0.1");
        zone.add("metadata.example", "169.254.169.254");
    })
    .await;
    let authority = Authority::new();
    let strict = || Settings { addresses: Addresses::new(false), ..authority.settings(Some(zone.address)) };
    for url in [
        "http://127.0.0.1",
        "http://localhost",
        "http://inside.example",
        "http://metadata.example",
        "http://[::ffff:127.0.0.1]",
        "http://0.0.0.0",
        "http://0x7f.1",
        "http://2130706433",
        "https://inside.example",
    ] {
        let url = format!("{url}:{port}/").parse().unwrap();
        let error = redirects::get(&client(strict()), url, BOUNDS).await.err().unwrap();
        assert_eq!(error.blame(), Blame::Refused, "{error}");
    }
    assert_eq!(peer.connections(), 0);

    // What only the configuration allows is refused behind a redirect all the same, if it is nobody's.
    let local = client(authority.settings(Some(zone.address)));
    let metadata = Peer::start((LOOPBACK, 0), None, |_| to("http://metadata.example/")).await;
    let url = format!("http://inside.example:{}/", metadata.address.port()).parse().unwrap();
    let error = redirects::get(&local, url, BOUNDS).await.err().unwrap();
    assert!(
        matches!(error, NetError::Address(address) if address.to_string() == "169.254.169.254"),
        "{error}"
    );
}

#[tokio::test]
async fn who_goes_apart_goes_by_rules_and_places_of_its_own() {
    let peer = Peer::start((LOOPBACK, 0), None, |_| ok("secret")).await;
    let (authority, target) = (Authority::new(), at(peer.address, None));
    let all = client(authority.settings(None));
    assert_eq!(text(&all, &target).await.unwrap(), "secret");
    // Where others have a connection, too.
    let strict = all.apart(Addresses::new(false), 1);
    assert_eq!(text(&strict, &target).await.unwrap_err().blame(), Blame::Refused);
    let few = all.apart(Addresses::new(true), 1);
    let held = send(&few, &target, BOUNDS).await.unwrap();
    let soon = Bounds { total: Duration::from_millis(50), ..BOUNDS };
    assert!(matches!(send(&few, &target, soon).await, Err(NetError::Busy)));
    assert_eq!(text(&all, &target).await.unwrap(), "secret");
    drop(held);
    assert_eq!(text(&few, &target).await.unwrap(), "secret");
}

#[tokio::test]
async fn who_may_not_go_near_speaks_with_no_machine_of_its_own_address() {
    let near = Peer::start((LOOPBACK, 0), None, |_| ok("secret")).await;
    let port = near.address.port();
    let far = Peer::start((Ipv4Addr::new(127, 0, 0, 2), port), None, |_| ok("page")).await;
    let zone = Zone::start(|zone| {
        zone.add("near.example", "127.0.0.1");
        zone.add("both.example", "127.0.0.1");
        zone.add("both.example", "127.0.0.2");
    })
    .await;
    let settings = Authority::new().settings(Some(zone.address));
    let addresses = Addresses { near: false, ..settings.addresses.clone() };
    let client = client(Settings { addresses, ..settings });
    for host in ["127.0.0.1", "near.example"] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        let error = redirects::get(&client, url, BOUNDS).await.err().unwrap();
        assert!(matches!(error, NetError::Address(address) if address == LOOPBACK), "{error}");
    }
    for host in ["127.0.0.2", "both.example"] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        redirects::get(&client, url, BOUNDS).await.unwrap();
    }
    assert_eq!((near.seen().len(), far.seen().len()), (0, 2));
}

#[tokio::test]
async fn redirects_are_followed_but_not_around() {
    let authority = Authority::new();
    let peer = Peer::start((LOOPBACK, 0), None, |seen| {
        let path = seen.request.uri().path_and_query().unwrap().as_str();
        match path {
            "/start" => to("next/../second?a=b#c"),
            "/second?a=b" => {
                to("//127.0.0.1:PORT/end".replace("PORT", seen.host.rsplit(':').next().unwrap()).as_str())
            }
            "/loop" => to("/pool"),
            "/pool" => to("/loop#again"),
            "/far" => to("ftp://x/"),
            path if path.starts_with("/more/") => to(&format!("{path}x")),
            _ => ok("end"),
        }
    })
    .await;
    let client = client(authority.settings(None));
    let get = async |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", peer.address.port()).parse().unwrap();
        redirects::get(&client, url, BOUNDS).await
    };
    assert_eq!(get("/start").await.unwrap().into_body().collect().await.unwrap(), "end");
    for path in ["/loop", "/more/"] {
        let error = get(path).await.err().unwrap();
        assert!(matches!(error, NetError::Redirects), "{path}: {error}");
    }
    assert!(matches!(get("/far").await.err().unwrap(), NetError::Request(_)));

    let tls = authority.tls(&["127.0.0.1"], &["h2"]);
    let plain = format!("http://127.0.0.1:{}/", peer.address.port());
    let secure = Peer::start((LOOPBACK, 0), Some(tls), move |_| to(&plain)).await;
    let url = format!("https://127.0.0.1:{}/", secure.address.port()).parse().unwrap();
    assert!(matches!(redirects::get(&client, url, BOUNDS).await, Err(NetError::Redirects)));
}

#[tokio::test]
async fn connections_are_used_again() {
    let authority = Authority::new();
    for versions in [&["h2"][..], &["http/1.1"]] {
        let tls = authority.tls(&["hs.example"], versions);
        let peer = Peer::start((LOOPBACK, 0), Some(tls), |_| ok("yes")).await;
        let client = client(authority.settings(None));
        let target = at(peer.address, Some("hs.example"));
        for _ in 0..3 {
            text(&client, &target).await.unwrap();
        }
        assert_eq!(peer.connections(), 1, "{versions:?}");
        // Under another name it is another peer, whatever its address.
        assert!(text(&client, &at(peer.address, Some("other.example"))).await.is_err());
        assert_eq!(peer.connections(), 2);
    }
}

#[tokio::test]
async fn requests_at_once_share_what_can_be_shared_and_wait_for_their_turn() {
    let authority = Authority::new();
    for (versions, connections) in [(&["h2"][..], 1), (&["http/1.1"], 3)] {
        let tls = authority.tls(&["hs.example"], versions);
        let peer = Peer::start((LOOPBACK, 0), Some(tls), |_| ok("yes")).await;
        let limits = Limits { requests_per_peer: 3, ..Limits::default() };
        let client = client(Settings { limits, ..authority.settings(None) });
        let target = at(peer.address, Some("hs.example"));
        // Bodies that were not read hold their places.
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(send(&client, &target, BOUNDS).await.unwrap());
        }
        assert_eq!(peer.connections(), connections, "{versions:?}");
        let short = Bounds { total: Duration::from_millis(50), ..BOUNDS };
        let late = send(&client, &target, short).await.err().unwrap();
        assert!(matches!(late, NetError::Busy), "{late}");
        drop(held.pop());
        text(&client, &target).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_keeps_no_other_waiting() {
    let authority = Authority::new();
    let answers = Mutex::new(vec![ok("yes"), ok(&"a".repeat(1 << 20))]);
    let tls = authority.tls(&["hs.example"], &["h2"]);
    let peer = Peer::start((LOOPBACK, 0), Some(tls), move |_| answers.lock().unwrap().pop().unwrap()).await;
    let client = client(authority.settings(None));
    let target = at(peer.address, Some("hs.example"));
    let bounds = Bounds { body_bytes: 1 << 20, ..BOUNDS };
    let large = send(&client, &target, bounds).await.unwrap().into_body();
    // Until the peer has sent what it may.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let small = tokio::time::timeout(Duration::from_secs(5), text(&client, &target)).await;
    assert_eq!(small.expect("it comes by itself").unwrap(), "yes");
    assert_eq!(large.collect().await.unwrap().len(), 1 << 20);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn there_is_a_bound_on_all_requests() {
    let authority = Authority::new();
    let limits = Limits { requests: 2, ..Limits::default() };
    let client = client(Settings { limits, ..authority.settings(None) });
    let mut held = Vec::new();
    for _ in 0..2 {
        let peer = Peer::start((LOOPBACK, 0), None, |_| ok("yes")).await;
        held.push(send(&client, &at(peer.address, None), BOUNDS).await.unwrap());
    }
    let peer = Peer::start((LOOPBACK, 0), None, |_| ok("yes")).await;
    let short = Bounds { total: Duration::from_millis(50), ..BOUNDS };
    assert!(matches!(send(&client, &at(peer.address, None), short).await, Err(NetError::Busy)));
    assert_eq!(peer.connections(), 0);
    held.clear();
    text(&client, &at(peer.address, None)).await.unwrap();
}

#[tokio::test]
async fn idle_connections_are_few_and_end() {
    let authority = Authority::new();
    let limits = Limits { idle_connections: 2, ..Limits::default() };
    let client = client(Settings { limits, ..authority.settings(None) });
    let mut peers = Vec::new();
    for _ in 0..3 {
        let peer = Peer::start((LOOPBACK, 0), None, |_| ok("yes")).await;
        text(&client, &at(peer.address, None)).await.unwrap();
        peers.push(peer);
    }
    // The one that was not used for longest gave way.
    for (index, connections) in [(2, 1), (1, 1), (0, 2)] {
        text(&client, &at(peers[index].address, None)).await.unwrap();
        assert_eq!(peers[index].connections(), connections, "{index}");
    }

    let limits = Limits { idle_time: Duration::from_millis(1), ..Limits::default() };
    let client = super::client(Settings { limits, ..authority.settings(None) });
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        // Ends when the client closes, without being asked.
        stream.read_to_end(&mut Vec::new()).await.unwrap()
    });
    text(&client, &at(address, None)).await.unwrap();
    assert_eq!(peer.await.unwrap(), 0);
}

#[tokio::test]
async fn a_kept_connection_that_ended_is_no_failure() {
    // It closes after each answer without having said so.
    let address = raw(&["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes"], false).await;
    let client = client(Authority::new().settings(None));
    for _ in 0..5 {
        assert_eq!(text(&client, &at(address, None)).await.unwrap(), "yes");
    }
    // A request that may have been acted on is not sent again unless that changes nothing.
    let address = raw(&["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes", ""], false).await;
    assert_eq!(text(&client, &at(address, None)).await.unwrap(), "yes");
    let post = client.send(&at(address, None), request("POST"), BOUNDS).await;
    assert_eq!(post.err().unwrap().blame(), Blame::Unreachable);
    assert_eq!(text(&client, &at(address, None)).await.unwrap(), "yes");
    assert_eq!(text(&client, &at(address, None)).await.unwrap(), "yes");
}

#[tokio::test]
async fn what_a_peer_sends_is_bounded_in_size() {
    let client = client(Authority::new().settings(None));
    let bounds = Bounds { body_bytes: 4, ..BOUNDS };
    for (answer, expected) in [
        (&["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"][..], Some("body")),
        (
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"],
            Some("body"),
        ),
        (&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"], None),
        (&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbod\r\n2\r\ny!\r\n"], None),
        (&["HTTP/1.1 200 OK\r\n\r\nbody!"], None),
    ] {
        let body = async {
            send(&client, &at(raw(answer, expected.is_none()).await, None), bounds)
                .await?
                .into_body()
                .collect()
                .await
        };
        match (body.await, expected) {
            (Ok(body), Some(expected)) => assert_eq!(body, expected),
            (Err(NetError::TooLarge(4)), None) => {}
            (other, _) => panic!("{answer:?}: {other:?}"),
        }
    }
    for (fields, long) in [(1, 40_000), (100, 1)] {
        let head = format!("x: {}\r\n", "a".repeat(long)).repeat(fields);
        let peer = raw(
            vec![format!("HTTP/1.1 200 OK\r\n{head}content-length: 0\r\n\r\n").leak() as &str].leak(),
            true,
        );
        let error = send(&client, &at(peer.await, None), BOUNDS).await.err().unwrap();
        assert_eq!(error.blame(), Blame::Misbehaved, "{error}");
    }
}

#[tokio::test]
async fn what_a_peer_takes_is_bounded_in_time() {
    let client = client(Authority::new().settings(None));
    let short = Duration::from_millis(50);
    let collected = async |answer, bounds| {
        send(&client, &at(raw(answer, true).await, None), bounds).await?.into_body().collect().await
    };
    for (answer, bounds, expected) in [
        (&[][..], Bounds { head: short, ..BOUNDS }, "the head of the answer"),
        (&["HTTP/1.1 200 OK\r\n"], Bounds { head: short, ..BOUNDS }, "the head of the answer"),
        (&[], Bounds { total: short, ..BOUNDS }, "the whole answer"),
        (
            &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1234"],
            Bounds { idle: short, ..BOUNDS },
            "the next piece of the answer",
        ),
        (
            &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1234"],
            Bounds { total: short, ..BOUNDS },
            "the whole answer",
        ),
    ] {
        let error = collected(answer, bounds).await.unwrap_err();
        assert!(matches!(error, NetError::Late { what, .. } if what == expected), "{expected}: {error}");
        assert_eq!(error.blame(), Blame::Unreachable);
    }
    // A peer that accepts and says nothing holds up a handshake for so long and no longer.
    let limits = Limits { connect_time: short, ..Limits::default() };
    let authority = Authority::new();
    let hasty = super::client(Settings { limits, ..authority.settings(None) });
    let error = send(&hasty, &at(raw(&[], true).await, Some("hs.example")), BOUNDS).await.err().unwrap();
    assert!(matches!(error, NetError::Late { what: "the connection", .. }), "{error}");
}

#[tokio::test]
async fn it_is_said_whose_fault_a_failure_is() {
    let client = client(Authority::new().settings(None));
    let closed = TcpListener::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap();
    let fault = async |address| text(&client, &at(address, None)).await.unwrap_err().blame();
    assert_eq!(fault(closed).await, Blame::Unreachable);
    assert_eq!(fault(raw(&[], false).await).await, Blame::Unreachable);
    assert_eq!(fault(raw(&["SSH-2.0-x\r\n\r\n"], false).await).await, Blame::Misbehaved);
    assert_eq!(
        fault(raw(&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1"], false).await).await,
        Blame::Unreachable
    );
}

#[tokio::test]
async fn the_next_address_and_the_next_place_are_tried() {
    let authority = Authority::new();
    let peer = Peer::start((LOOPBACK, 0), None, |_| ok("yes")).await;
    let zone = Zone::start(|zone| {
        // Nobody listens at the first two.
        for address in ["::1", "127.0.0.9", "127.0.0.1"] {
            zone.add("hs.example", address);
        }
    })
    .await;
    let client = client(authority.settings(Some(zone.address)));
    let place = |host, port| Place { host: Host::name(host), port };
    let mut target = at(peer.address, None);
    target.places = vec![place("absent.example", 1), place("hs.example", peer.address.port())];
    assert_eq!(text(&client, &target).await.unwrap(), "yes");
    target.places.remove(1);
    let error = text(&client, &target).await.unwrap_err();
    assert!(matches!(error, NetError::Name(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_do_not_wait_for_each_other() {
    let authority = Authority::new();
    let client = client(authority.settings(None));
    let both = Arc::new(Barrier::new(2));
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (both, client) = (both.clone(), client.clone());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            both.wait().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await.unwrap();
            std::future::pending::<()>().await;
        });
        tasks.push(tokio::spawn(async move { text(&client, &at(address, None)).await.unwrap() }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), "yes");
    }
}
