//! Uploads: what is kept, what is refused.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload>

use std::{fs, time::Duration};

use tayberry::{base::limits, config::RegistrationMode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{Answer, noise};
use crate::rig::Rig;

async fn with_limits(upload_mb: u64, quota_mb: u64) -> Rig {
    Rig::with(|config| {
        config.registration.mode = RegistrationMode::Open;
        config.media.max_upload_mb = upload_mb;
        config.media.user_quota_mb = quota_mb;
    })
    .await
}

#[tokio::test]
async fn what_is_uploaded_comes_back() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for length in [0, 1, 128 << 10, (128 << 10) + 1, 3_000_000] {
        let body = noise(length, length as u64);
        let id = rig.upload(&alice, "video/mp4", &body).await;
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        let answer = rig.media(&alice, &format!("download/{id}")).await.ok();
        assert!(answer.body == body, "{length} bytes");
        assert_eq!(answer.header("content-length"), length.to_string());
        assert_eq!(answer.header("content-type"), "video/mp4");
    }
    assert_eq!(rig.files("incoming"), [""; 0]);
}

#[tokio::test]
async fn a_body_without_length_is_taken_too() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let chunked = [("transfer-encoding", "chunked")];
    let body = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let upload = "/_matrix/media/v3/upload";
    let id = rig.transfer("POST", upload, Some(&alice), &chunked, body).await.media_id();
    let answer = rig.media(&alice, &format!("download/{id}")).await.ok();
    assert_eq!(
        (answer.body, &*answer.headers["content-type"]),
        (b"hello world".into(), "application/octet-stream")
    );
}

#[tokio::test]
async fn what_is_left_empty_is_not_said() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let empty = [("content-type", "")];
    let path = "/_matrix/media/v3/upload?filename=";
    let id = rig.transfer("POST", path, Some(&alice), &empty, b"hello").await.media_id();
    let answer = rig.media(&alice, &format!("download/{id}")).await.ok();
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("content-disposition"), "attachment");
}

#[tokio::test]
async fn the_same_content_is_one_file_under_its_hash() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let body = noise(100_000, 1);
    let first = rig.upload(&alice, "image/png", &body).await;
    let second = rig.upload(&bob, "text/plain", &body).await;
    assert_ne!(first, second);
    let name = blake3::hash(&body).to_hex().to_string();
    assert_eq!(rig.files("content"), [&*name]);
    assert_eq!(fs::read(rig.folder().join("media/content").join(name)).unwrap(), body);
    for (id, content_type) in [(first, "image/png"), (second, "text/plain")] {
        let answer = rig.media(&alice, &format!("download/{id}")).await.ok();
        assert_eq!(answer.header("content-type"), content_type);
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_leaves_nothing() {
    let rig = with_limits(1, 5_000).await;
    let alice = rig.register("alice").await;
    let config = rig.transfer("GET", "/_matrix/client/v1/media/config", Some(&alice), &[], b"").await;
    assert_eq!(config.ok().json()["m.upload.size"], 1_000_000);
    rig.upload(&alice, "text/plain", &noise(1_000_000, 1)).await;

    let upload = "/_matrix/media/v3/upload";
    let large = noise(1_000_001, 2);
    let refused = rig.transfer("POST", upload, Some(&alice), &[], &large).await;
    assert_eq!(refused.error(), (413, "M_TOO_LARGE".to_owned()));
    // Nobody knows beforehand how long this one is.
    let chunks: Vec<Vec<u8>> =
        large.chunks(50_000).map(|chunk| [b"c350\r\n", chunk, b"\r\n"].concat()).collect();
    let chunked = [("transfer-encoding", "chunked")];
    let refused = rig.transfer("POST", upload, Some(&alice), &chunked, &chunks.concat()).await;
    assert_eq!(refused.error(), (413, "M_TOO_LARGE".to_owned()));
    while rig.files("incoming") != [""; 0] {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rig.files("content").len(), 1);
}

#[tokio::test]
async fn a_user_has_a_quota() {
    let rig = with_limits(1, 2).await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let upload = "/_matrix/media/v3/upload";
    for seed in [1, 2] {
        rig.upload(&alice, "text/plain", &noise(900_000, seed)).await;
    }
    let refused = rig.transfer("POST", upload, Some(&alice), &[], &noise(200_001, 3)).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN".to_owned()));
    let chunked = [("transfer-encoding", "chunked")];
    let body = [b"30d41\r\n", &*noise(200_001, 4), b"\r\n0\r\n\r\n"].concat();
    let refused = rig.transfer("POST", upload, Some(&alice), &chunked, &body).await;
    assert_eq!(refused.error(), (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(rig.files("content").len(), 2, "the content of the refused upload is gone");
    // What is refused to one is another's all the same.
    rig.upload(&bob, "text/plain", &noise(200_001, 4)).await;
    rig.upload(&alice, "text/plain", &noise(200_000, 5)).await;
}

#[tokio::test]
async fn uploads_at_once_share_one_quota() {
    let rig = with_limits(1, 2).await;
    let alice = rig.register("alice").await;
    let head = format!(
        "POST /_matrix/media/v3/upload HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
         content-length: 900000\r\n\r\n",
        alice.token
    );
    let mut uploads = Vec::new();
    for seed in 0..limits::UPLOADS_PER_USER {
        let (mut stream, body) = (rig.connect().await, noise(900_000, seed as u64));
        stream.write_all(&[head.as_bytes(), &body[..899_999]].concat()).await.unwrap();
        uploads.push((stream, body[899_999]));
    }
    // Each was let in while there was nothing yet.
    while rig.files("incoming").len() < uploads.len() {
        sleep(Duration::from_millis(5)).await;
    }
    for (stream, last) in &mut uploads {
        stream.write_all(&[*last]).await.unwrap();
    }
    let mut taken = 0;
    for (mut stream, _) in uploads {
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        let answer = Answer::parse(&response);
        match answer.status {
            200 => taken += 1,
            _ => assert_eq!(answer.error(), (403, "M_FORBIDDEN".to_owned())),
        }
    }
    assert_eq!((taken, rig.files("content").len()), (2, 2));
    rig.upload(&alice, "text/plain", &noise(200_000, 9)).await;
}

#[tokio::test]
async fn half_an_upload_is_none() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let mut stream = rig.connect().await;
    let head = format!(
        "POST /_matrix/media/v3/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000000\r\n\r\n",
        alice.token
    );
    stream.write_all(&[head.as_bytes(), &noise(600_000, 1)].concat()).await.unwrap();
    while rig.files("incoming").is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    while !rig.files("incoming").is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rig.files("content"), [""; 0]);
}

#[tokio::test]
async fn who_waits_for_leave_gets_it_or_the_refusal() {
    let rig = with_limits(1, 5_000).await;
    let alice = rig.register("alice").await;
    let head = |length: usize| {
        format!(
            "POST /_matrix/media/v3/upload HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\n\
             authorization: Bearer {}\r\ncontent-length: {length}\r\n\r\n",
            alice.token
        )
    };
    let mut stream = rig.connect().await;
    stream.write_all(head(2_000_000).as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    assert_eq!(Answer::parse(&response).status, 413);

    let mut stream = rig.connect().await;
    stream.write_all(head(5).as_bytes()).await.unwrap();
    let mut leave = [0; 25];
    stream.read_exact(&mut leave).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    Answer::parse(&response).media_id();
}

#[tokio::test]
async fn an_upload_needs_an_account_and_a_sane_description() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let upload = "/_matrix/media/v3/upload";
    let refused = rig.transfer("POST", upload, None, &[], b"hello").await;
    assert_eq!(refused.error(), (401, "M_MISSING_TOKEN".to_owned()));
    let path = format!("{upload}?filename={}", "a".repeat(1_025));
    let refused = rig.transfer("POST", &path, Some(&alice), &[], b"hello").await;
    assert_eq!(refused.error(), (400, "M_INVALID_PARAM".to_owned()));
    let long = [("content-type", &*format!("text/{}", "a".repeat(251)))];
    let refused = rig.transfer("POST", upload, Some(&alice), &long, b"hello").await;
    assert_eq!(refused.error(), (400, "M_INVALID_PARAM".to_owned()));
}
