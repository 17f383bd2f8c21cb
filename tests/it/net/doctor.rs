//! What is told about servers that can't be reached, or not as they should.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use tayberry::{
    base::{
        clock::{Clock, Timestamp},
        rng::Rng,
    },
    net::{
        Body, Bounds, Federation, NetError, Target, Transport,
        client::Limits,
        dns::{DnsError, Service},
        doctor::{Finding, examine},
        transport::Boxed,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{Addresses, Authority, HOUR, LOOPBACK, Settings, client, dns::Zone, document};

/// 2027-01-15 08:00:00, in milliseconds.
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const DATE: &str = "Fri, 15 Jan 2027 08:00:00 GMT";

/// A server of which each part can be broken.
#[derive(Clone, Copy, Default)]
struct Patient {
    well_known: Option<&'static str>,
    down: bool,
    version: Option<(u16, &'static str)>,
    date: Option<&'static str>,
    no_keys: bool,
    no_service: bool,
}

impl Transport for Patient {
    fn send<'a>(
        &'a self,
        _: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        let answer = |status: u16, body: &str| {
            let response = Response::builder().status(status).header("date", self.date.unwrap_or(DATE));
            Ok(response.body(Body::whole(body.to_owned().into(), bounds)).unwrap())
        };
        let response = match request.uri().path() {
            "/.well-known/matrix/server" => match self.well_known {
                Some(text) => answer(200, text),
                None => answer(404, ""),
            },
            _ if self.down => Err(NetError::Connect(Arc::new(io::ErrorKind::ConnectionRefused.into()))),
            "/_matrix/federation/v1/version" => {
                let (status, body) =
                    self.version.unwrap_or((200, r#"{"server": {"name": "Other", "version": "1"}}"#));
                answer(status, body)
            }
            "/_matrix/key/v2/server" if !self.no_keys => {
                answer(200, &document("a", 1, NOW.plus(HOUR), json!({})).to_string())
            }
            _ => answer(404, ""),
        };
        Box::pin(async { response })
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        let none = Service { priority: 0, weight: 0, port: 0, target: String::new() };
        let found = if self.no_service { Ok(vec![none]) } else { Err(DnsError::Absent) };
        Box::pin(async { found })
    }
}

async fn findings(name: &str, patient: impl Transport + 'static) -> Vec<Finding> {
    let clock = Clock::manual(NOW);
    let federation = Federation::new(Arc::new(patient), true, clock.clone(), Rng::seeded(1));
    let mut findings = Vec::new();
    examine(&federation, &ruma::ServerName::parse(name).unwrap(), &clock, |finding| findings.push(finding))
        .await;
    findings
}

#[tokio::test]
async fn a_server_in_order_needs_nothing() {
    let found = findings("hs.example:1", Patient::default()).await;
    assert!(found.iter().all(|finding| finding.remedy.is_none()), "{found:#?}");
    let subjects: Vec<_> = found.iter().map(|finding| finding.subject).collect();
    assert_eq!(subjects, ["name", "place", "reached", "clock", "keys"]);
    assert!(found[2].text.contains("Other 1") && found[4].text.contains("ed25519:a"), "{found:#?}");
    let delegated = Patient { well_known: Some(r#"{"m.server": "hs.example:1"}"#), ..Patient::default() };
    let found = findings("example", delegated).await;
    assert_eq!(found[0].text, "the server is found as hs.example:1");
    assert!(found[1].text.contains("hs.example port 1"), "{found:#?}");
}

#[tokio::test]
async fn what_a_server_says_of_itself_moves_no_terminal() {
    let version = Some((200, r#"{"server": {"name": "O\u001b[2Jther", "version": "1\r\n"}}"#));
    let found = findings("hs.example:1", Patient { version, ..Patient::default() }).await;
    assert_eq!(found[2].text, "yes, it is O[2Jther 1");
}

#[tokio::test]
async fn what_is_wrong_is_told_with_what_to_do() {
    let well = Patient::default();
    for (name, patient, subject, remedy) in [
        ("hs.example", Patient { well_known: Some("no JSON"), ..well }, "well-known", "m.server"),
        ("hs.example", Patient { no_service: true, ..well }, "place", "_matrix-fed._tcp.hs.example"),
        ("hs.example:1", Patient { down: true, ..well }, "reached", "port 1 of hs.example"),
        ("hs.example:1", Patient { version: Some((404, "<html>")), ..well }, "reached", "/_matrix/"),
        ("hs.example:1", Patient { date: Some("Fri, 15 Jan 2027 08:01:00 GMT"), ..well }, "clock", "clock"),
        ("hs.example:1", Patient { no_keys: true, ..well }, "keys", "exactly hs.example:1"),
    ] {
        let found = findings(name, patient).await;
        let ills: Vec<_> = found.iter().filter(|finding| finding.remedy.is_some()).collect();
        // Whatever can't be looked at by another name has other keys.
        assert!(ills[0].subject == subject, "{found:#?}");
        assert!(ills[0].remedy.as_ref().unwrap().contains(remedy), "{found:#?}");
    }
}

/// Something that listens, with TLS or without, and once it was told something says this and no more.
async fn says(tls: Option<TlsAcceptor>, text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream: Box<dyn super::Stream> = match &tls {
                None => Box::new(stream),
                Some(tls) => Box::new(tls.accept(stream).await.unwrap()),
            };
            _ = stream.read(&mut [0; 1_000]).await;
            _ = stream.write_all(text.as_bytes()).await;
            _ = stream.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn why_nobody_is_reached_is_told_by_what_to_do() {
    let authority = Authority::new();
    let tls = |name: &str| Some(authority.tls(&[name], &["http/1.1"]));
    let zone = Zone::start(|_| {}).await;
    // Whoever connects waits for ever.
    let silent = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let closed = crate::process::free_port();
    let at = |port: u16| format!("127.0.0.1:{port}");
    let well = || authority.settings(None);
    let brief = Settings {
        limits: Limits { connect_time: Duration::from_millis(300), ..Limits::default() },
        ..well()
    };
    let public = Settings { addresses: Addresses::new(false), ..well() };
    let unread = Settings { authorities: vec![PathBuf::from("/nowhere.pem")], ..well() };
    let certified = says(tls("127.0.0.1"), "").await.port();
    for (name, settings, text, remedy) in [
        (
            "hs.test:1".to_owned(),
            authority.settings(Some(zone.address)),
            "no such record",
            "give hs.test an A or AAAA record",
        ),
        ("hs.test:1".to_owned(), well(), "the look-up failed", "let the name servers of hs.test,"),
        (at(closed), well(), "no connection", "listen at port"),
        (at(certified), well(), "broke off", "listen at port"),
        (
            at(silent.local_addr().unwrap().port()),
            brief,
            "more than 0 s",
            "let router and firewall pass port",
        ),
        (at(says(tls("127.0.0.2"), "").await.port()), well(), "certificate", "must be valid, for 127.0.0.1,"),
        (at(says(None, "HTTP/1.1 400 Bad Request\r\n\r\n").await.port()), well(), "TLS failed", "speak TLS"),
        (
            at(says(tls("127.0.0.1"), "220 ESMTP\r\n").await.port()),
            well(),
            "no proper HTTP",
            "is no web server",
        ),
        (at(closed), public, "not to be gone to", "allow_private_addresses"),
        (at(certified), unread, "/nowhere.pem", "trusted_ca_files"),
    ] {
        let port = name.rsplit_once(':').unwrap().1.to_owned();
        let found = findings(&name, client(settings)).await;
        let Finding { subject, text: told, remedy: advice } = found.last().unwrap();
        let advice = advice.as_ref().unwrap();
        assert!(*subject == "reached" && told.starts_with("no: ") && told.contains(text), "{name}: {told}");
        assert!(advice.contains(remedy), "{text}: {advice}");
        assert!(!remedy.contains("port") || advice.contains(&format!("port {port}")), "{text}: {advice}");
    }
}
