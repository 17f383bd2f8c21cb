//! Files of one server for people of another one.
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use image::ImageFormat;
use tayberry::net::{
    Body, Bounds, NetError, Target, Transport,
    dns::{DnsError, Service},
    transport::Boxed,
};

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
    assert_eq!(two.files("content").len(), 2);
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
