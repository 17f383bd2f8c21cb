//! Floods of files: large ones, slow ones, and pictures that are larger than they look.

use image::{DynamicImage, ImageFormat, RgbImage};
use tayberry::base::{limits, rng::Rng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::media::{
    Answer,
    thumbnails::{claiming, encoded, in_scans, jpeg_claiming, picture},
};

const MALLORY: [u8; 4] = [127, 0, 1, 1];

/// Sends a request in pieces that are all the same.
async fn transfer(
    site: Site,
    who: Member,
    method: &str,
    path: &str,
    piece: Arc<[u8]>,
    pieces: usize,
) -> Answer {
    let mut stream = site.connect(MALLORY).await;
    let head = format!(
        "{method} /_matrix{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        who.token,
        piece.len() * pieces
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..pieces {
        stream.write_all(&piece).await.unwrap();
    }
    // What is downloaded is counted, not kept.
    let (mut start, mut rest, mut length) = (Vec::new(), vec![0; 256 << 10], 0);
    loop {
        match stream.read(&mut rest).await.unwrap() {
            0 => break,
            read if start.len() < 4_096 => start.extend_from_slice(&rest[..read]),
            read => length += read,
        }
    }
    let answer = Answer::parse(&start);
    let received = answer.body.len() + length;
    assert_eq!(answer.headers["content-length"], received.to_string());
    answer
}

async fn upload(site: Site, who: &Member, body: &[u8]) -> String {
    let body = body.into();
    transfer(site, who.clone(), "POST", "/media/v3/upload", body, 1).await.media_id()
}

/// Runs some transfers at once.
async fn together<F>(transfers: impl Iterator<Item = F>) -> Vec<Answer>
where
    F: Future<Output = Answer> + Send + 'static,
{
    transfers.collect::<JoinSet<_>>().join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_uploads_and_downloads_in_parallel() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register(MALLORY, "mallory").await;
    let count = if is_whole() { 40 } else { 4 };
    let mut piece = vec![0; 1_000_000];
    let before = flooded.memory();
    let flood = async {
        let uploads = (0..count).map(|seed| {
            Rng::seeded(seed).fill(&mut piece);
            let mallory = mallory.clone();
            let piece = Arc::from(&*piece);
            async move { transfer(site, mallory, "POST", "/media/v3/upload", piece, 100).await }
        });
        let ids: Vec<String> = together(uploads).await.into_iter().map(Answer::media_id).collect();
        let name = mallory.user_id.split_once(':').unwrap().1;
        let downloads = ids.into_iter().map(|id| {
            let path = format!("/client/v1/media/download/{name}/{id}");
            let mallory = mallory.clone();
            async move { transfer(site, mallory, "GET", &path, Arc::default(), 0).await }
        });
        together(downloads).await
    };
    for answer in flooded.through(flood).await {
        assert_eq!(answer.ok().headers["content-length"], "100000000");
    }
    let more = flooded.memory().saturating_sub(before);
    assert!(more < 8 << 20, "{} KB stay", more >> 10);
    flooded.end();
}

/// Whoever sends or reads slowly waits in the end, and keeps nobody else from a place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_transfers() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register(MALLORY, "mallory").await;
    let name = mallory.user_id.split_once(':').unwrap().1.to_owned();
    let id = upload(site, &mallory, &vec![7; 10_000_000]).await;
    let flood = async {
        let mut held = Vec::new();
        for _ in 0..limits::DOWNLOADS_PER_USER {
            let mut stream = site.connect(MALLORY).await;
            let request = format!(
                "GET /_matrix/client/v1/media/download/{name}/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
                mallory.token
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            held.push(stream);
        }
        for _ in 0..limits::UPLOADS_PER_USER * 4 {
            let mut stream = site.connect(MALLORY).await;
            let request = format!(
                "POST /_matrix/media/v3/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 99\r\n\r\nx",
                mallory.token
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            held.push(stream);
        }
        sleep(Duration::from_millis(500)).await;
        let ben = flooded.ben.clone();
        let path = format!("/client/v1/media/download/{name}/{}", upload(site, &ben, b"mine").await);
        let answer = transfer(site, ben, "GET", &path, Arc::default(), 0).await.ok();
        assert_eq!(answer.body, b"mine");
        held
    };
    drop(flooded.through(flood).await);
    flooded.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_are_larger_than_they_look() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register(MALLORY, "mallory").await;
    let name = mallory.user_id.split_once(':').unwrap().1.to_owned();
    let bomb = claiming(encoded(&picture(10, 10), ImageFormat::Png), 100_000, 100_000);
    let large = DynamicImage::from(RgbImage::new(5_000, 5_000));
    let scans = upload(site, &mallory, &in_scans(jpeg_claiming(5_000, 5_000))).await;
    let (bomb, large) = (
        upload(site, &mallory, &bomb).await,
        upload(site, &mallory, &encoded(&large, ImageFormat::Png)).await,
    );
    let thumbnail = |id: &str, size: &str| {
        let path = format!("/client/v1/media/thumbnail/{name}/{id}?{size}");
        let mallory = mallory.clone();
        async move { transfer(site, mallory, "GET", &path, Arc::default(), 0).await }
    };
    let flood = async {
        let bombs = [&bomb, &scans].into_iter().cycle().take(100);
        let refused = together(bombs.map(|bomb| thumbnail(bomb, "width=32&height=32&method=crop"))).await;
        // Who leaves doesn't make room for another one's.
        for (width, height) in [(320, 240), (640, 480), (800, 600), (1_600, 1_200)] {
            let mut stream = site.connect(MALLORY).await;
            let request = format!(
                "GET /_matrix/client/v1/media/thumbnail/{name}/{large}?width={width}&height={height} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
                mallory.token
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            sleep(Duration::from_millis(30)).await;
        }
        let sizes = [32, 96, 320, 640, 800].map(|side| format!("width={side}&height={side}&method=crop"));
        let made = together(sizes.iter().cycle().take(20).map(|size| thumbnail(&large, size))).await;
        (refused, made)
    };
    let (refused, made) = flooded.through(flood).await;
    for answer in refused {
        assert_eq!((answer.status, &answer.json()["errcode"]), (413, &json!("M_TOO_LARGE")));
    }
    for answer in made {
        assert_eq!(answer.ok().headers["content-type"], "image/jpeg");
    }
    flooded.end();
}
