//! Previews of web pages, which a server on loopback has.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url>

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use image::ImageFormat;
use serde_json::{Value, json};
use tayberry::{
    base::{ids::UserNumber, limits},
    config::{Config, RegistrationMode},
    net::{
        Body, Bounds, NetError, Target, Transport,
        dns::{DnsError, Service},
        transport::Boxed,
    },
    service::{App, media::preview},
    store::Transaction,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};
use url::form_urlencoded::byte_serialize;

use super::{
    noise,
    thumbnails::{encoded, picture},
};
use crate::{
    log::Log,
    net::{LOOPBACK, Peer, to},
    rig::{Member, Reply, Rig, parts},
};

fn of_type(content_type: &str, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().header("content-type", content_type).body(body.into()).unwrap()
}

fn html(body: &str) -> Response<Bytes> {
    of_type("text/html; charset=utf-8", body.to_owned())
}

fn status(status: u16) -> Response<Bytes> {
    Response::builder().status(status).header("content-type", "text/html").body("<title>no".into()).unwrap()
}

fn open(config: &mut Config) {
    config.registration.mode = RegistrationMode::Open;
    config.previews.allow_private_addresses = true;
}

/// A server that goes to pages on loopback, and somebody there.
async fn scene() -> (Rig, Member) {
    let rig = Rig::with(open).await;
    let alice = rig.register("alice").await;
    (rig, alice)
}

/// A site whose pages a function has.
async fn site(page: impl Fn(&str) -> Response<Bytes> + Send + Sync + 'static) -> Peer {
    Peer::start((LOOPBACK, 0), None, move |seen| page(seen.request.uri().path())).await
}

fn path(url: &str) -> String {
    let url: String = byte_serialize(url.as_bytes()).collect();
    format!("/_matrix/client/v1/media/preview_url?url={url}")
}

async fn preview(rig: &Rig, who: &Member, url: &str) -> Reply {
    rig.send_as(who, "GET", &path(url), Value::Null).await
}

/// Waits until nothing is left of what isn't kept.
async fn gone(rig: &Rig) {
    while !rig.files("incoming").is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_page_is_shown_with_its_picture() {
    let png = encoded(&picture(40, 30), ImageFormat::Png);
    let image = png.clone();
    let site = site(move |path| match path {
        "/a/page" => html(
            "<title>no</title><meta property=og:title content='Tea &amp; cake'>
             <meta property=og:image content='../p.png'><meta property=og:image:width content=4000>",
        ),
        "/p.png" => of_type("image/jpeg", image.clone()),
        _ => status(404),
    })
    .await;
    let (rig, alice) = scene().await;
    let shown = preview(&rig, &alice, &format!("http://{}/a/page#part", site.address)).await.ok();
    let uri = shown["og:image"].as_str().unwrap();
    let id = uri.strip_prefix("mxc://example.org/").unwrap();
    let expected = json!({
        "og:title": "Tea & cake",
        "og:image": uri,
        // As it is, not as it is said to be.
        "og:image:type": "image/png",
        "og:image:width": 40,
        "og:image:height": 30,
        "matrix:image:size": png.len(),
    });
    assert_eq!(shown, expected);
    let file = rig.media(&alice, &format!("download/{id}")).await.harmless();
    assert_eq!((file.header("content-type"), &file.body), ("image/png", &png));
    rig.media(&alice, &format!("thumbnail/{id}?width=32&height=32&method=crop")).await.ok();
    // The older endpoint.
    let old = path(&format!("http://{}/a/page", site.address)).replace("client/v1/media", "media/v3");
    assert_eq!(rig.send_as(&alice, "GET", &old, Value::Null).await.ok(), shown);
    for path in [&old, &path("http://example.org/")] {
        assert_eq!(rig.get(path).await.error(), (401, "M_MISSING_TOKEN"));
    }
    let seen = site.seen();
    assert_eq!(seen.len(), 2, "what is behind the # is the same page");
    assert!(seen[0].request.headers()["accept"].to_str().unwrap().contains("text/html"));
}

#[tokio::test]
async fn a_picture_is_its_own_preview_and_other_files_have_none() {
    let gif = encoded(&picture(3, 2), ImageFormat::Gif);
    let image = gif.clone();
    let site = site(move |path| match path {
        "/p" => of_type("image/gif", image.clone()),
        "/shouted" => of_type("IMAGE/GIF", image.clone()),
        "/large" => of_type(" Text/HTML ;Charset=\"ISO-8859-1\"", &b"<title>\xe9</title>"[..]),
        "/svg" => of_type("image/svg+xml", "<svg><title>a</title></svg>"),
        "/empty" => of_type("image/png", ""),
        "/pdf" => of_type("application/pdf", "<title>a</title>"),
        "/untyped" => Response::new("<title>a</title>".into()),
        "/bare" => html("<p>Hello"),
        _ => html("<title>t</title><meta property=og:image content=/missing/>"),
    })
    .await;
    let (rig, alice) = scene().await;
    let shown =
        async |path: &str| preview(&rig, &alice, &format!("http://{}{path}", site.address)).await.ok();
    let image = shown("/p").await;
    assert_eq!((&image["og:image:width"], &image["og:image:height"]), (&json!(3), &json!(2)));
    assert_eq!(
        (&image["matrix:image:size"], &image["og:image:type"]),
        (&json!(gif.len()), &json!("image/gif"))
    );
    // Types are the same in any case.
    assert_eq!(shown("/shouted").await, image);
    assert_eq!(shown("/large").await, json!({"og:title": "é"}));
    for path in ["/svg", "/empty", "/pdf", "/untyped", "/bare"] {
        assert_eq!(shown(path).await, json!({}), "{path}");
    }
    // What it says of its picture is a page.
    assert_eq!(shown("/page").await, json!({"og:title": "t"}));
    assert_eq!(rig.files("content").len(), 1);
    gone(&rig).await;
}

#[tokio::test]
async fn a_page_in_latin_1_is_read() {
    let site =
        site(|_| of_type("text/html; charset=iso-8859-1", &b"<title>Caf\xe9 &eacute; \x80</title>"[..]))
            .await;
    let (rig, alice) = scene().await;
    let shown = preview(&rig, &alice, &format!("http://{}/", site.address)).await.ok();
    assert_eq!(shown, json!({"og:title": "Café é €"}));
}

#[tokio::test]
async fn what_is_too_much_is_left_out() {
    let (large, small) = (noise(limits::PREVIEW_IMAGE_BYTES as usize + 1, 1), noise(3_000, 2));
    let site = site(move |path| match path {
        "/large" => of_type("image/png", large.clone()),
        "/noise" => of_type("image/png", small.clone()),
        "/long" => html(&format!(
            "<title>t</title>{}<meta name=description content=d>",
            " ".repeat(limits::PREVIEW_PAGE_BYTES)
        )),
        _ => html("<title>t</title><meta property=og:image content=/large>"),
    })
    .await;
    let (rig, alice) = scene().await;
    let shown =
        async |path: &str| preview(&rig, &alice, &format!("http://{}{path}", site.address)).await.ok();
    assert_eq!(shown("/large").await, json!({}));
    assert_eq!(shown("/noise").await, json!({}), "it is no picture");
    assert_eq!(shown("/long").await, json!({"og:title": "t"}));
    assert_eq!(shown("/page").await, json!({"og:title": "t"}));
    assert_eq!(rig.files("content").len(), 0);
    gone(&rig).await;
}

/// The picture of a page counts to what is kept of other servers' files, and gives way like these.
#[tokio::test]
async fn pictures_belong_to_nobody_and_give_way() {
    let site = site(|path| {
        let side = path.trim_start_matches('/').parse().unwrap();
        of_type("image/png", encoded(&picture(side, side), ImageFormat::Png))
    })
    .await;
    let rig = Rig::with(|config| {
        open(config);
        config.media.user_quota_mb = 0;
        config.media.remote_cache_mb = 1;
    })
    .await;
    let alice = rig.register("alice").await;
    let id = async |side: u32| {
        let shown = preview(&rig, &alice, &format!("http://{}/{side}", site.address)).await.ok();
        shown["og:image"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned()
    };
    let first = id(10).await;
    assert_eq!(rig.app.store.read(|view| view.media_users("", 10)).await.unwrap(), vec![]);
    // Once it is fetched again, it is the same picture.
    rig.advance(limits::PREVIEW_LIFETIME);
    assert_eq!(id(10).await, first);
    assert_eq!((site.seen().len(), rig.files("content").len()), (2, 1));
    // It is then the newest again.
    let other = id(20).await;
    rig.advance(limits::PREVIEW_LIFETIME);
    assert_eq!(id(10).await, first);
    let trim = async |limit| {
        let trim = move |transaction: &mut Transaction<'_>| transaction.trim_remote_media(0, limit);
        rig.app.store.write(trim).await.unwrap().len()
    };
    assert_eq!(trim(1).await, 1);
    rig.media(&alice, &format!("download/{first}")).await.ok();
    assert_eq!(rig.media(&alice, &format!("download/{other}")).await.status, 404);
    assert_eq!(trim(10).await, 1);
    assert_eq!(rig.media(&alice, &format!("download/{first}")).await.status, 404);
    rig.advance(limits::PREVIEW_LIFETIME);
    assert_ne!(id(10).await, first);
}

#[tokio::test]
async fn a_picture_that_is_gone_is_shown_no_more() {
    let png = encoded(&picture(2, 2), ImageFormat::Png);
    let site = site(move |path| match path {
        "/p" => of_type("image/png", png.clone()),
        _ => {
            html("<title>t</title><meta property=og:image content=/p><meta property=og:image:alt content=a>")
        }
    })
    .await;
    let (rig, alice) = scene().await;
    let url = format!("http://{}/", site.address);
    let shown = preview(&rig, &alice, &url).await.ok();
    assert_eq!((shown.as_object().unwrap().len(), &shown["og:image:alt"]), (7, &json!("a")));
    assert_eq!(preview(&rig, &alice, &url).await.ok(), shown);
    let trim = |transaction: &mut Transaction<'_>| transaction.trim_remote_media(0, 10);
    rig.app.store.write(trim).await.unwrap();
    assert_eq!(preview(&rig, &alice, &url).await.ok(), json!({"og:title": "t"}));
    assert_eq!(site.seen().len(), 2);
}

/// Whoever names large pictures fills no device with them.
#[tokio::test]
async fn a_user_has_so_many_bytes_of_pictures_an_hour() {
    let small = encoded(&picture(2, 2), ImageFormat::Png);
    let site = site(move |path| {
        let number = path.trim_start_matches('/').parse().unwrap();
        let rest = noise(limits::PREVIEW_IMAGE_BYTES as usize - small.len(), number);
        of_type("image/png", [&small[..], &rest].concat())
    })
    .await;
    let (rig, alice) = scene().await;
    let bob = rig.register("bob").await;
    let has_picture = async |who: &Member, number: u64| {
        let shown = preview(&rig, who, &format!("http://{}/{number}", site.address)).await.ok();
        shown.get("og:image").is_some()
    };
    let count = limits::PREVIEW_IMAGES_BYTES_PER_USER / limits::PREVIEW_IMAGE_BYTES;
    for number in 0..count {
        assert!(has_picture(&alice, number).await);
    }
    assert!(!has_picture(&alice, count).await);
    assert!(has_picture(&bob, count + 1).await);
    rig.advance(limits::PREVIEW_IMAGES_TIME);
    assert!(has_picture(&alice, count + 2).await);
    gone(&rig).await;
}

/// A web where every URL is a picture.
struct Pictures(Bytes);

impl Transport for Pictures {
    fn send<'a>(
        &'a self,
        _: &'a Target,
        _: Request<Bytes>,
        bounds: Bounds,
    ) -> Boxed<'a, Result<Response<Body>, NetError>> {
        let picture = of_type("image/png", self.0.clone());
        Box::pin(async move { Ok(picture.map(|picture| Body::whole(picture, bounds))) })
    }

    fn services<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<Vec<Service>, DnsError>> {
        Box::pin(async { Err(DnsError::Absent) })
    }
}

/// Time runs away here whenever the store is waited for.
#[tokio::test(start_paused = true)]
async fn what_has_arrived_is_kept_however_long_that_takes() {
    let folder = TempDir::new().unwrap();
    let pictures = Pictures(encoded(&picture(2, 2), ImageFormat::Png).into());
    let app = App::through(parts(&folder), Arc::new(pictures));
    for number in 0..3 {
        let shown =
            preview::preview(&app, UserNumber(1), &format!("http://example.org/{number}"), None).await;
        let shown: Value = serde_json::from_str(shown.unwrap().get()).unwrap();
        assert!(shown["og:image"].is_string(), "{shown}");
    }
    let named = std::fs::read_dir(folder.path().join("media/content")).unwrap().count();
    assert_eq!(named, 1);
}

#[tokio::test]
async fn where_no_picture_may_be_kept_a_page_has_none() {
    let png = encoded(&picture(2, 2), ImageFormat::Png);
    let site = site(move |path| match path {
        "/p" => of_type("image/png", png.clone()),
        _ => html("<title>t</title><meta property=og:image content=/p>"),
    })
    .await;
    let rig = Rig::with(|config| {
        open(config);
        config.media.remote_cache_mb = 0;
    })
    .await;
    let alice = rig.register("alice").await;
    let shown = preview(&rig, &alice, &format!("http://{}/", site.address)).await.ok();
    assert_eq!(shown, json!({"og:title": "t"}));
    assert_eq!(rig.files("content").len(), 0);
}

#[tokio::test]
async fn one_fetch_serves_all_for_a_while() {
    let site = site(|path| if path == "/fails" { status(500) } else { html("<title>t</title>") }).await;
    let (rig, alice) = scene().await;
    let bob = rig.register("bob").await;
    let url = format!("http://{}/", site.address);
    let ask = |who| preview(&rig, who, &url);
    let replies = tokio::join!(ask(&alice), ask(&alice), ask(&bob), ask(&bob));
    for reply in [replies.0, replies.1, replies.2, replies.3] {
        assert_eq!(reply.ok(), json!({"og:title": "t"}));
    }
    rig.advance(limits::PREVIEW_LIFETIME - Duration::from_secs(1));
    ask(&alice).await.ok();
    assert_eq!(site.seen().len(), 1);
    // As of a time: not much older.
    let fetched = rig.app.clock.now().0 - limits::PREVIEW_LIFETIME.as_millis() as u64 + 1_000;
    let age = limits::PREVIEW_AGE.as_millis() as u64;
    for (ts, count) in [(0, 1), (fetched + age, 1), (fetched + age + 1, 2), (u64::MAX >> 12, 2)] {
        let path = format!("{}&ts={ts}", path(&url));
        rig.send_as(&alice, "GET", &path, Value::Null).await.ok();
        assert_eq!(site.seen().len(), count, "{ts}");
    }
    rig.advance(limits::PREVIEW_LIFETIME);
    ask(&alice).await.ok();
    assert_eq!(site.seen().len(), 3);

    let fails = format!("http://{}/fails", site.address);
    for count in [4, 4] {
        assert_eq!(preview(&rig, &bob, &fails).await.error(), (502, "M_UNKNOWN"));
        assert_eq!(site.seen().len(), count);
    }
    rig.advance(limits::PREVIEW_PAUSE);
    assert_eq!(preview(&rig, &alice, &fails).await.status, 502);
    assert_eq!(site.seen().len(), 5);
}

/// Pages that don't answer keep only those waiting who asked for them, and those not from what else they do.
#[tokio::test]
async fn slow_pages_take_the_places_of_one_user() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let slow = listener.local_addr().unwrap();
    let site = site(|_| html("<title>t</title>")).await;
    let (rig, alice) = scene().await;
    let bob = rig.register("bob").await;
    let page = format!("http://{}/", site.address);
    let urls: Vec<_> = (0..8).map(|number| format!("http://{slow}/{number}")).collect();
    let hanging = async {
        let asked = urls.iter().map(|url| preview(&rig, &alice, url));
        let mut asked: Vec<_> = asked.map(Box::pin).collect();
        std::future::poll_fn(|context| {
            asked.iter_mut().for_each(|asked| _ = asked.as_mut().poll(context));
            std::task::Poll::<()>::Pending
        })
        .await;
    };
    let others = async {
        let mut held = Vec::new();
        for _ in 0..limits::PREVIEWS_PER_USER {
            held.push(listener.accept().await.unwrap());
        }
        rig.send_as(&alice, "GET", "/_matrix/client/v3/account/whoami", Value::Null).await.ok();
        // What she waits for as well.
        let others = async {
            sleep(Duration::from_millis(200)).await;
            assert_eq!(site.connections(), 0);
            timeout(Duration::from_secs(10), preview(&rig, &bob, &page)).await.unwrap().ok();
        };
        tokio::select! {
            reply = preview(&rig, &alice, &page) => panic!("{reply:?}"),
            () = others => {}
        }
        let more = timeout(Duration::from_millis(200), listener.accept()).await;
        assert!(more.is_err(), "the third of one user waits");
    };
    tokio::select! {
        () = hanging => {}
        () = others => {}
    }
}

#[tokio::test]
async fn a_page_that_breaks_off_or_is_no_page_of_http_is_a_failure_of_its_server() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 100\r\n\r\n<title>t",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 1_000]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        // Nobody listens any more.
    });
    let log = Log::capture();
    let (rig, alice) = scene().await;
    for path in ["breaks-off", "ssh", "encoded", "refused"] {
        let reply = preview(&rig, &alice, &format!("http://{address}/{path}")).await;
        assert_eq!(reply.error(), (502, "M_UNKNOWN"), "{path}");
        assert_eq!(reply.body["error"], "The page can't be fetched", "why is for the log alone");
    }
    let log = log.text();
    assert!(
        log.contains("a page can't be fetched") && !log.contains("ERROR"),
        "it is no failure of this one"
    );
}

#[tokio::test]
async fn redirects_are_followed_and_judged_each() {
    let elsewhere = site(|_| html("<title>elsewhere</title><meta property=og:image content=p>")).await;
    let port = elsewhere.address.port();
    let site = site(move |path| match path {
        "/1" => to("/2"),
        "/2" => to(&format!("http://{LOOPBACK}:{port}/a/b")),
        "/around" => to("/around"),
        "/metadata" => to("http://169.254.169.254/latest/meta-data/"),
        "/nobody" => to("http://0.0.0.0/"),
        "/file" => to("file:///etc/passwd"),
        "/named" => to(&format!("http://alice:secret@{LOOPBACK}:{port}/")),
        "/mail" => to("http://127.0.0.1:25/"),
        "/refused" => to(&format!("http://localhost:{port}/")),
        _ => html(
            "<title>t</title><meta property=og:image content='http://169.254.169.254/p.png'>
             <meta property=og:image content='http://localhost:1/p.png'>",
        ),
    })
    .await;
    let rig = Rig::with(|config| {
        open(config);
        config.previews.refused_hosts = vec!["LOCAL*".parse().unwrap()];
    })
    .await;
    let alice = rig.register("alice").await;
    let ask = async |path: &str| preview(&rig, &alice, &format!("http://{}{path}", site.address)).await;
    assert_eq!(ask("/1").await.ok(), json!({"og:title": "elsewhere"}));
    let seen: Vec<_> = elsewhere.seen().iter().map(|seen| seen.request.uri().path().to_owned()).collect();
    assert_eq!(seen, ["/a/b", "/a/p"], "what a page names is beside where the redirect led to");
    for path in ["/around", "/metadata", "/nobody", "/named", "/mail", "/refused"] {
        assert_eq!(ask(path).await.error(), (502, "M_UNKNOWN"), "{path}");
    }
    // That is no place at all.
    assert_eq!(ask("/file").await.status, 502);
    assert_eq!(elsewhere.seen().len(), 2);
    assert_eq!(ask("/").await.ok(), json!({"og:title": "t"}), "its picture is where nobody goes");
    let refused = preview(&rig, &alice, &format!("http://localhost:{port}/")).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN"));
    assert_eq!(elsewhere.seen().len(), 2);
}

/// However the address is spelled, nobody connects to it.
#[tokio::test]
async fn private_addresses_are_gone_to_by_no_way() {
    let site = site(|_| html("<title>secret</title>")).await;
    let port = site.address.port();
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "%6c%6f%63%61lhost",
        "127。0。0。1",
    ] {
        let reply = preview(&rig, &alice, &format!("http://{host}:{port}/")).await;
        assert_eq!(reply.error(), (502, "M_UNKNOWN"), "{host}");
        assert_eq!(reply.body["error"], "The page can't be fetched", "{host}");
    }
    assert_eq!(site.connections(), 0);
}

/// What is refused is so by whatever name.
#[tokio::test]
async fn no_name_leads_to_a_refused_address() {
    let site = site(|_| html("<title>secret</title>")).await;
    let port = site.address.port();
    for hosts in ["127.0.0.1", "127.0.0.0/8", "127.*"] {
        let rig = Rig::with(|config| {
            open(config);
            config.previews.refused_hosts = vec![hosts.parse().unwrap()];
        })
        .await;
        let alice = rig.register("alice").await;
        for (host, status) in [("127.0.0.1", 403), ("127.1", 403), ("localhost", 502)] {
            let reply = preview(&rig, &alice, &format!("http://{host}:{port}/")).await;
            assert_eq!(reply.status, status, "{hosts} {host}");
        }
    }
    assert_eq!(site.connections(), 0);
}

#[tokio::test]
async fn what_is_no_url_of_a_page_is_refused() {
    let (rig, alice) = scene().await;
    for url in [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://a:b@example.org/",
        "http://example.org:25/",
    ] {
        assert_eq!(preview(&rig, &alice, url).await.error(), (400, "M_INVALID_PARAM"), "{url}");
    }
    let none = rig.send_as(&alice, "GET", "/_matrix/client/v1/media/preview_url", Value::Null).await;
    assert_eq!(none.error(), (400, "M_MISSING_PARAM"));
}

/// As where there is no such endpoint.
#[tokio::test]
async fn a_server_may_make_none() {
    let site = site(|_| html("<title>t</title>")).await;
    let rig = Rig::with(|config| {
        open(config);
        config.previews.enabled = false;
    })
    .await;
    let alice = rig.register("alice").await;
    let reply = preview(&rig, &alice, &format!("http://{}/", site.address)).await;
    assert_eq!((reply.error(), site.connections()), ((404, "M_UNRECOGNIZED"), 0));
}
