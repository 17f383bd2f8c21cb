//! What becomes of files: nothing is left of half an upload, and what is deleted gives its space back.

use std::{fs, time::Duration};

use tayberry::{base::limits, service::media::keep::purge, store::MediaPart};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{
    noise,
    thumbnails::{encoded, picture},
};
use crate::rig::Rig;

#[tokio::test]
async fn a_start_removes_what_a_crash_left() {
    let mut rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let id = rig.upload(&alice, "text/plain", b"hello").await;
    let media = rig.folder().join("media");
    let orphan = "ab".repeat(32);
    for path in [format!("content/{orphan}"), "incoming/0123456789abcdef-7".to_owned()] {
        fs::write(media.join(path), b"left behind").unwrap();
    }
    for folder in [orphan.clone(), "cd".repeat(32)] {
        fs::create_dir(media.join("thumbnails").join(&folder)).unwrap();
        fs::write(media.join("thumbnails").join(folder).join("32x32-crop.png"), b"left behind").unwrap();
    }
    rig.stop_workers().await;
    rig.start_workers();
    while rig.files("content").len() > 1 {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((rig.files("incoming"), rig.files("thumbnails")), (vec![], vec![]));
    assert_eq!(rig.media(&alice, &format!("download/{id}")).await.ok().body, b"hello");
}

#[tokio::test]
async fn deleted_media_give_their_space_back_unless_somebody_else_has_them() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let png = encoded(&picture(400, 300), image::ImageFormat::Png);
    let shared = rig.upload(&alice, "text/plain", b"shared").await;
    let (own, also) =
        (rig.upload(&alice, "image/png", &png).await, rig.upload(&bob, "text/plain", b"shared").await);
    rig.media(&alice, &format!("thumbnail/{own}?width=32&height=32&method=crop")).await.ok();
    assert_eq!((rig.files("content").len(), rig.files("thumbnails").len()), (2, 1));

    let none = MediaPart { before: Some(rig.app.clock.now()), ..MediaPart::default() };
    assert_eq!(purge(&rig.app, none).await.unwrap().count, 0);
    rig.advance(Duration::from_secs(1));
    let bobs = rig.upload(&bob, "text/plain", b"new").await;
    let old = MediaPart { before: Some(rig.app.clock.now()), ..MediaPart::default() };
    let number = rig.app.store.read(|view| view.account("alice")).await.unwrap().unwrap().number;
    let alices = MediaPart { uploader: Some(number), ..old.clone() };
    let deleted = purge(&rig.app, alices).await.unwrap();
    assert_eq!((deleted.count, deleted.bytes), (2, png.len() as u64 + 6));
    for id in [&shared, &own] {
        assert_eq!(rig.media(&bob, &format!("download/{id}")).await.status, 404);
    }
    assert_eq!(rig.media(&alice, &format!("download/{also}")).await.ok().body, b"shared");
    assert_eq!((rig.files("content").len(), rig.files("thumbnails").len()), (2, 0));
    assert_eq!(purge(&rig.app, old).await.unwrap().count, 1);
    assert_eq!(rig.files("content").len(), 1);
    rig.media(&alice, &format!("download/{bobs}")).await.ok();
}

/// Whoever waits for a place may find that the file went meanwhile.
#[tokio::test]
async fn what_is_deleted_before_it_is_opened_is_not_found() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let large = rig.upload(&alice, "video/mp4", &noise(8_000_000, 1)).await;
    let id = rig.upload(&alice, "text/plain", b"hello").await;
    let mut slow = Vec::new();
    for _ in 0..limits::DOWNLOADS_PER_USER {
        let mut stream = rig.connect().await;
        let request = format!(
            "GET /_matrix/client/v1/media/download/example.org/{large} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
            alice.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        slow.push(stream);
    }
    let path = format!("download/{id}");
    let purge = async {
        sleep(Duration::from_millis(200)).await;
        assert_eq!(purge(&rig.app, MediaPart::default()).await.unwrap().count, 2);
        drop(slow);
    };
    let (answer, ()) = tokio::join!(rig.media(&alice, &path), purge);
    assert_eq!(answer.error(), (404, "M_NOT_FOUND".to_owned()));
}
