//! Files of one server for people of another one.
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use image::ImageFormat;
use tayberry::{
    base::limits,
    config::Config,
    net::{
        Body, Bounds, NetError, Target, Transport,
        dns::{DnsError, Service},
        transport::{Arriving, Boxed},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::sleep,
};

use super::pair::until;
use crate::{
    media::{
        Answer, noise,
        thumbnails::{encoded, picture},
    },
    network::Network,
    rig::{Member, Rig},
};

const ONE: &str = "one.example:1";

/// Asks for something of a server's content repository, such as `download/ID`.
async fn get(rig: &Rig, who: &Member, kind: &str, origin: &str, rest: &str) -> Answer {
    let path = format!("/_matrix/client/v1/media/{kind}/{origin}/{rest}");
    rig.transfer("GET", &path, Some(who), &[], b"").await
}

#[tokio::test]
async fn a_file_of_another_server_is_fetched_once_and_kept() {
    let network = Network::default();
    let one = network.start(ONE, |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let content = noise(300_000, 1);
    let headers = [("content-type", "image/png")];
    let upload = "/_matrix/media/v3/upload?filename=pic.png";
    let id = one.transfer("POST", upload, Some(&alice), &headers, &content).await.media_id();
    for _ in 0..2 {
        let answer = get(&two, &bob, "download", ONE, &id).await.harmless();
        assert!(answer.body == content);
        assert_eq!(answer.header("content-type"), "image/png");
        assert_eq!(answer.header("content-disposition"), "inline; filename=pic.png");
    }
    let asked = network.asked("/media/");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].path.starts_with("/_matrix/federation/v1/media/download/"), "{asked:?}");

    // It is there without its server, too; another one is not, and nobody tries again at once.
    network.cut(ONE);
    get(&two, &bob, "download", ONE, &id).await.ok();
    assert_eq!(get(&two, &bob, "download", ONE, "unknown").await.status, 502);
    network.mend(ONE);
    assert_eq!(get(&two, &bob, "download", ONE, "unknown").await.status, 502);
    two.advance(Duration::from_secs(61));
    let absent = get(&two, &bob, "download", ONE, "unknown").await;
    assert_eq!(absent.error(), (404, "M_NOT_FOUND".to_owned()));

    // Who has no access token has nothing fetched.
    let before = network.asked("/media/").len();
    let frozen = format!("/_matrix/media/v3/download/{ONE}/{id}");
    assert_eq!(two.transfer("GET", &frozen, None, &[], b"").await.status, 404);
    assert_eq!(network.asked("/media/").len(), before);
}

#[tokio::test]
async fn thumbnails_are_made_of_what_was_fetched_and_for_other_servers() {
    let network = Network::default();
    let one = network.start(ONE, |_| {}).await;
    let two = network.start("two.example:1", |_| {}).await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let id = one.upload(&alice, "image/png", &encoded(&picture(900, 700), ImageFormat::Png)).await;
    let answer = get(&two, &bob, "thumbnail", ONE, &format!("{id}?width=320&height=240")).await.ok();
    let shown = image::load_from_memory(&answer.body).unwrap();
    assert!(shown.width() <= 320 && shown.height() <= 240, "{shown:?}");
}

#[tokio::test]
async fn the_oldest_files_of_others_give_way() {
    let network = Network::default();
    let one = network.start(ONE, |_| {}).await;
    let two = network.start("two.example:1", |config| config.media.remote_cache_mb = 1).await;
    let (alice, bob) = (one.register("alice").await, two.register("bob").await);
    let mut ids = Vec::new();
    for seed in 0..3 {
        ids.push(one.upload(&alice, "text/plain", &noise(400_000, seed)).await);
        get(&two, &bob, "download", ONE, &ids[seed as usize]).await.ok();
    }
    until(async || two.files("content").len() == 2).await;
    for id in ids {
        get(&two, &bob, "download", ONE, &id).await.ok();
    }
    assert_eq!(network.asked("/media/").len(), 6, "each gave way to the next but one");
}

/// Another server that has only what servers had before requests for files were signed, or keeps them elsewhere.
struct Other {
    asked: Arc<Mutex<Vec<String>>>,
    parted: bool,
}

impl Transport for Other {
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        let path = request.uri().path().to_owned();
        self.asked.lock().unwrap().push(format!("{}{path}", target.authority));
        let answer = |status, name: &str, value: &str, body: &str| {
            let body = Body::whole(body.to_owned().into(), bounds);
            Response::builder().status(status).header(name, value).body(body).unwrap()
        };
        let response = match &*path {
            "/file" => answer(200, "content-type", "text/plain", "the file"),
            "/_matrix/media/v3/download/one.example:1/abc" => {
                answer(307, "location", "https://files.example/file", "")
            }
            _ if self.parted => {
                let body = "--x\r\n\r\n{}\r\n--x\r\nLocation: https://files.example/file\r\n\r\n\r\n--x--";
                answer(200, "content-type", "multipart/mixed; boundary=x", body)
            }
            _ => {
                answer(404, "content-type", "application/json", r#"{"errcode":"M_UNRECOGNIZED","error":""}"#)
            }
        };
        Box::pin(async { Ok(response) })
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Err(DnsError::Absent) })
    }
}

#[tokio::test]
async fn files_are_had_from_older_servers_and_from_elsewhere() {
    let signed = "one.example:1/_matrix/federation/v1/media/download/abc";
    let frozen = "one.example:1/_matrix/media/v3/download/one.example:1/abc";
    let elsewhere = "files.example/file";
    for (parted, expected) in [(false, &[signed, frozen, elsewhere][..]), (true, &[signed, elsewhere])] {
        let asked = Arc::default();
        let other = Other { asked: Arc::clone(&asked), parted };
        let rig = Rig::through(Arc::new(other), |_| {}).await;
        let bob = rig.register("bob").await;
        let answer = get(&rig, &bob, "download", ONE, "abc").await.ok();
        assert_eq!((&answer.body[..], answer.header("content-type")), (&b"the file"[..], "text/plain"));
        assert_eq!(*asked.lock().unwrap(), expected);
    }
}

/// Another server that sends its files as a test likes.
#[derive(Clone, Default)]
struct Slow {
    asked: Arc<Mutex<Vec<String>>>,
    files: Arc<Mutex<HashMap<String, Fed>>>,
}

/// A file that a test feeds: how many bytes are promised, if they are, and what arrives. An error breaks it off.
struct Fed {
    promised: Option<usize>,
    pieces: UnboundedReceiver<Result<Vec<u8>, ()>>,
}

impl Slow {
    /// The next answer for a file. What is fed begins with what stands before the file, where its length isn't promised.
    fn feed(&self, id: &str, promised: Option<usize>) -> UnboundedSender<Result<Vec<u8>, ()>> {
        let (feeder, pieces) = unbounded_channel();
        if promised.is_none() {
            let head = "--x\r\n\r\n{}\r\n--x\r\nContent-Type: image/png\r\n\
                        Content-Disposition: inline; filename=\"pic.png\"\r\n\r\n";
            feeder.send(Ok(head.into())).unwrap();
        }
        self.files.lock().unwrap().insert(id.to_owned(), Fed { promised, pieces });
        feeder
    }

    fn asked(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.contains(part)).count()
    }

    async fn rig(&self, configure: impl FnOnce(&mut Config)) -> (Rig, Member) {
        let rig = Rig::through(Arc::new(self.clone()), configure).await;
        let bob = rig.register("bob").await;
        (rig, bob)
    }
}

impl Arriving for Fed {
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, NetError>> {
        Box::pin(async {
            match self.pieces.recv().await {
                Some(Ok(piece)) => Ok(Some(piece.into())),
                Some(Err(())) => Err(NetError::Content("it breaks off")),
                None => Ok(None),
            }
        })
    }
}

impl Transport for Slow {
    fn send<'a>(
        &'a self,
        target: &'a Target,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        let path = request.uri().path().to_owned();
        self.asked.lock().unwrap().push(format!("{}{path}", target.authority));
        let id = path.rsplit('/').next().unwrap();
        let mut files = self.files.lock().unwrap();
        let is_signed = path.starts_with("/_matrix/federation/");
        let has_it = files.get(id).is_some_and(|fed| is_signed == fed.promised.is_none());
        let response = match has_it.then(|| files.remove(id)).flatten() {
            Some(fed) => {
                let mut head = Response::builder().header("content-type", "multipart/mixed; boundary=x");
                if let Some(length) = fed.promised {
                    head = Response::builder().header("content-length", length);
                }
                head.body(Body::arriving(fed, bounds, Box::pin(sleep(bounds.total)))).unwrap()
            }
            None => {
                let body = r#"{"errcode":"M_UNRECOGNIZED","error":""}"#.into();
                Response::builder().status(404).body(Body::whole(body, bounds)).unwrap()
            }
        };
        Box::pin(async { Ok(response) })
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Err(DnsError::Absent) })
    }
}

/// A download under way.
struct Client {
    stream: TcpStream,
    told: Vec<u8>,
    is_over: bool,
}

impl Client {
    async fn ask(rig: &Rig, who: &Member, origin: &str, id: &str, more: &str) -> Self {
        let mut stream = rig.connect().await;
        let (version, fields) =
            more.strip_prefix("HTTP/1.0").map_or(("HTTP/1.1", more), |rest| ("HTTP/1.0", rest));
        let head = format!(
            "GET /_matrix/client/v1/media/download/{origin}/{id} {version}\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {}\r\n{fields}\r\n",
            who.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, told: Vec::new(), is_over: false }
    }

    /// Waits until so much of the file has arrived, or nothing more does.
    async fn read(&mut self, length: usize) -> Option<Answer> {
        loop {
            let has_head = self.told.windows(4).any(|four| four == b"\r\n\r\n");
            let answer = has_head.then(|| Answer::parse(&self.told));
            match answer {
                Some(answer) if self.is_over || answer.body.len() >= length => return Some(answer),
                _ if self.is_over => return None,
                _ => {}
            }
            let mut piece = vec![0; 1 << 20];
            match self.stream.read(&mut piece).await {
                Ok(read) if read > 0 => self.told.extend_from_slice(&piece[..read]),
                _ => self.is_over = true,
            }
        }
    }

    /// All of it.
    async fn rest(mut self) -> Answer {
        self.read(usize::MAX).await.unwrap()
    }
}

#[tokio::test]
async fn a_file_is_sent_on_while_it_arrives() {
    let (slow, content) = (Slow::default(), noise(300_000, 7));
    let (rig, bob) = slow.rig(|_| {}).await;
    let feeder = slow.feed("abc", None);
    let mut first = Client::ask(&rig, &bob, ONE, "abc", "").await;
    feeder.send(Ok(content[..100_000].to_vec())).unwrap();
    // What may be the beginning of the end of the part waits for more.
    let begun = first.read(99_900).await.unwrap().harmless();
    assert_eq!((begun.header("content-type"), begun.header("etag")), ("image/png", ""));
    assert_eq!(begun.header("content-disposition"), "inline; filename=pic.png");
    assert!(content.starts_with(&begun.body) && !begun.is_whole);
    let mut second = Client::ask(&rig, &bob, ONE, "abc", "range: bytes=0-\r\n").await;
    assert!(content.starts_with(&second.read(99_900).await.unwrap().ok().body));
    // Who wants a part, or couldn't tell that it breaks off, waits.
    let part = Client::ask(&rig, &bob, ONE, "abc", "range: bytes=10-19\r\n").await;
    let old = Client::ask(&rig, &bob, ONE, "abc", "HTTP/1.0").await;
    feeder.send(Ok(content[100_000..].to_vec())).unwrap();
    feeder.send(Ok(b"\r\n--x--".to_vec())).unwrap();
    for client in [first, second, old] {
        let answer = client.rest().await.ok();
        assert!(answer.is_whole && answer.body == content);
    }
    let part = part.rest().await;
    assert_eq!((part.status, &part.body[..]), (206, &content[10..20]));
    let kept = get(&rig, &bob, "download", ONE, "abc").await.ok();
    assert!(kept.body == content && !kept.header("etag").is_empty());
    assert_eq!(kept.header("content-length"), "300000");
    assert_eq!(slow.asked("abc"), 1);
}

#[tokio::test]
async fn what_breaks_off_is_never_answered_as_if_it_were_whole() {
    let (slow, content) = (Slow::default(), noise(1_200_000, 7));
    let (rig, bob) = slow.rig(|config| config.media.max_upload_mb = 1).await;
    for (id, promised, rest) in [
        ("error", None, Err(())),
        ("end", None, Ok(vec![])),
        ("error-of-length", Some(300_000), Err(())),
        ("end-of-length", Some(300_000), Ok(vec![])),
        ("more", None, Ok(content[100_000..].to_vec())),
    ] {
        let feeder = slow.feed(id, promised);
        let mut client = Client::ask(&rig, &bob, ONE, id, "").await;
        feeder.send(Ok(content[..100_000].to_vec())).unwrap();
        client.read(99_900).await.unwrap().ok();
        feeder.send(rest).unwrap();
        drop(feeder);
        let answer = client.rest().await;
        assert!(!answer.is_whole && content.starts_with(&answer.body), "{id}");
        assert_eq!(answer.header("content-length"), if promised.is_some() { "300000" } else { "" });
        let again = get(&rig, &bob, "download", ONE, id).await;
        let refused = if id == "more" { 413 } else { 502 };
        assert_eq!(again.status, refused, "{id} isn't fetched at once again");
    }
    let _feeder = slow.feed("large", Some(1_000_001));
    let refused = get(&rig, &bob, "download", ONE, "large").await;
    assert_eq!(refused.error(), (413, "M_TOO_LARGE".to_owned()));
    assert_eq!(rig.files("content"), [""; 0]);
    until(async || rig.files("incoming").is_empty()).await;
    rig.advance(Duration::from_secs(61));
    let feeder = slow.feed("error", None);
    feeder.send(Ok(b"whole\r\n--x--".to_vec())).unwrap();
    assert_eq!(get(&rig, &bob, "download", ONE, "error").await.ok().body, b"whole");
}

#[tokio::test]
async fn a_slow_client_slows_nobody_and_one_that_leaves_stops_nothing() {
    let (slow, content) = (Slow::default(), noise(20_000_000, 7));
    let (rig, bob) = slow.rig(|_| {}).await;
    let feeder = slow.feed("abc", Some(content.len()));
    feeder.send(Ok(content[..1_000].to_vec())).unwrap();
    let mut idle = Client::ask(&rig, &bob, ONE, "abc", "").await;
    let mut gone = Client::ask(&rig, &bob, ONE, "abc", "").await;
    for client in [&mut idle, &mut gone] {
        assert_eq!(client.read(1_000).await.unwrap().ok().header("content-length"), "20000000");
    }
    drop(gone);
    let quick = Client::ask(&rig, &bob, ONE, "abc", "").await;
    content[1_000..].chunks(50_000).for_each(|piece| feeder.send(Ok(piece.to_vec())).unwrap());
    drop(feeder);
    assert!(quick.rest().await.ok().body == content);
    until(async || rig.files("content").len() == 1).await;
    assert!(idle.rest().await.ok().body == content);

    // Nobody is there to see the end of this one.
    let feeder = slow.feed("left", Some(200_000));
    let mut client = Client::ask(&rig, &bob, ONE, "left", "").await;
    feeder.send(Ok(content[..100_000].to_vec())).unwrap();
    client.read(100_000).await.unwrap().ok();
    drop(client);
    feeder.send(Ok(content[100_000..200_000].to_vec())).unwrap();
    drop(feeder);
    until(async || rig.files("content").len() == 2).await;
    assert_eq!(slow.asked("/federation/v1/media/download/"), 2);

    // What is nearly there is told with its size.
    let feeder = slow.feed("small", Some(2_000));
    let client = Client::ask(&rig, &bob, ONE, "small", "").await;
    feeder.send(Ok(content[..1_000].to_vec())).unwrap();
    feeder.send(Ok(content[1_000..2_000].to_vec())).unwrap();
    drop(feeder);
    let small = client.rest().await.ok();
    assert!(small.body == content[..2_000] && !small.header("etag").is_empty());
}

#[tokio::test]
async fn a_server_that_is_slow_takes_no_others_place() {
    let slow = Slow::default();
    let (rig, bob) = slow.rig(|_| {}).await;
    let mut slow_ones = Vec::new();
    for number in 0..limits::REMOTE_MEDIA_PER_SERVER {
        let id = format!("slow{number}");
        let feeder = slow.feed(&id, None);
        slow_ones.push((Client::ask(&rig, &bob, ONE, &id, "").await, feeder));
        until(async || slow.asked(&id) == 1).await;
    }
    let next = slow.feed("next", None);
    next.send(Ok(b"next\r\n--x--".to_vec())).unwrap();
    let waiting = Client::ask(&rig, &bob, ONE, "next", "").await;
    let other = slow.feed("other", None);
    other.send(Ok(b"other\r\n--x--".to_vec())).unwrap();
    assert_eq!(get(&rig, &bob, "download", "two.example:1", "other").await.ok().body, b"other");
    assert_eq!(slow.asked("next"), 0);
    let (_, feeder) = slow_ones.pop().unwrap();
    feeder.send(Ok(b"slow\r\n--x--".to_vec())).unwrap();
    assert_eq!(waiting.rest().await.ok().body, b"next");
}
