//! Downloads: their headers, parts of files, and what is not there.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid>

use tayberry::config::RegistrationMode;

use super::noise;
use crate::rig::Rig;

const UPLOAD: &str = "/_matrix/media/v3/upload";

/// R39. <https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>
#[tokio::test]
async fn browsers_are_told_to_run_nothing() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let harmless = rig.upload(&alice, "image/png", b"a").await;
    let harmful = rig.upload(&alice, "text/html", b"<script>").await;
    for (id, content_type, disposition) in
        [(&harmless, "image/png", "inline"), (&harmful, "text/html", "attachment")]
    {
        let answer = rig.media(&alice, &format!("download/{id}")).await.harmless();
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.header("content-disposition"), disposition);
        assert!(answer.header("cache-control").starts_with("private"), "the next one may have no token");
    }
}

#[tokio::test]
async fn a_file_keeps_its_name_unless_another_is_asked_for() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    for (given, told) in [
        ("War%20and%20Peace.pdf", "attachment; filename=\"War and Peace.pdf\""),
        ("a%22b%5Cc%0D%0Ax%3A%20y.txt", "attachment; filename=\"a\\\"b\\\\cx: y.txt\""),
        ("Krieg%20%C3%BCber%20alles", "attachment; filename*=utf-8''Krieg%20%C3%BCber%20alles"),
    ] {
        let path = format!("{UPLOAD}?filename={given}");
        let id = rig.transfer("POST", &path, Some(&alice), &[], b"text").await.media_id();
        let answer = rig.media(&alice, &format!("download/{id}")).await.ok();
        assert_eq!(answer.header("content-disposition"), told);
        let answer = rig.media(&alice, &format!("download/{id}/other.txt")).await.ok();
        assert_eq!(answer.header("content-disposition"), "attachment; filename=other.txt");
    }
}

#[tokio::test]
async fn parts_of_a_file_are_told_by_their_range() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let body = noise(300_000, 1);
    let path = format!("download/{}", rig.upload(&alice, "audio/ogg", &body).await);
    let whole = rig.media(&alice, &path).await.ok();
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let tag = whole.header("etag").to_owned();

    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=100-199", 100..200),
        ("bytes=70000-299999", 70_000..300_000),
        ("bytes=299000-", 299_000..300_000),
        ("bytes=-1000", 299_000..300_000),
    ] {
        let part = rig.media_with(&alice, &path, &[("range", range), ("if-range", &tag)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(
            part.header("content-range"),
            format!("bytes {}-{}/300000", expected.start, expected.end - 1)
        );
        assert_eq!(part.header("content-length"), expected.len().to_string());
        assert!(part.body == body[expected], "{range}");
    }
    let beyond = rig.media_with(&alice, &path, &[("range", "bytes=300000-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */300000"));
    assert_eq!(beyond.header("cache-control"), "", "what is no part of the file is not the file");
    for headers in [
        &[("range", "bytes=0-0,5-6")][..],
        &[("range", "bytes=0-0"), ("if-range", "\"other\"")],
        &[("range", "pages=1-2")],
    ] {
        assert_eq!(rig.media_with(&alice, &path, headers).await.ok().body.len(), 300_000);
    }
    let known = rig.media_with(&alice, &path, &[("if-none-match", &tag)]).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, &*tag));
}

#[tokio::test]
async fn a_head_tells_what_a_get_would() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let id = rig.upload(&alice, "image/png", &noise(100_000, 1)).await;
    let path = format!("/_matrix/client/v1/media/download/example.org/{id}");
    let head = rig.transfer("HEAD", &path, Some(&alice), &[], b"").await.ok();
    assert_eq!((head.header("content-length"), head.body.len()), ("100000", 0));
    assert_eq!(head.header("content-type"), "image/png");
}

/// A file is sent as it was uploaded, whatever the client takes and whatever it looks like.
#[tokio::test]
async fn files_are_not_compressed() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let body = vec![b' '; 100_000];
    let id = rig.upload(&alice, "application/json", &body).await;
    let answer = rig.media_with(&alice, &format!("download/{id}"), &[("accept-encoding", "gzip")]).await.ok();
    assert_eq!((answer.header("content-encoding"), answer.header("content-length")), ("", "100000"));
    assert!(answer.body == body);
}

/// R38. <https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations>
#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_can_not_be_is_refused() {
    let rig = Rig::with(|config| {
        config.registration.mode = RegistrationMode::Open;
        config.federation.enabled = false;
    })
    .await;
    let alice = rig.register("alice").await;
    let id = rig.upload(&alice, "text/plain", b"hello").await;
    for (path, error) in [
        ("download/example.org/unknown".to_owned(), (404, "M_NOT_FOUND")),
        (format!("download/other.example.org/{id}"), (404, "M_NOT_FOUND")),
        ("thumbnail/example.org/unknown?width=1&height=1".to_owned(), (404, "M_NOT_FOUND")),
        ("download/example.org/..%2F..%2Fsigning.key".to_owned(), (400, "M_INVALID_PARAM")),
        ("download/example.org/%2e%2e".to_owned(), (400, "M_INVALID_PARAM")),
        (format!("download/example.org/{id}%00"), (400, "M_INVALID_PARAM")),
    ] {
        let answer =
            rig.transfer("GET", &format!("/_matrix/client/v1/media/{path}"), Some(&alice), &[], b"").await;
        assert_eq!(answer.error(), (error.0, error.1.to_owned()), "{path}");
    }
    let path = format!("/_matrix/client/v1/media/download/..%2F/{id}");
    assert_eq!(rig.transfer("GET", &path, Some(&alice), &[], b"").await.status, 400);
    let path = format!("/_matrix/client/v1/media/download/example.org/{id}");
    let answer = rig.transfer("GET", &path, None, &[], b"").await;
    assert_eq!(answer.error(), (401, "M_MISSING_TOKEN".to_owned()));
}
