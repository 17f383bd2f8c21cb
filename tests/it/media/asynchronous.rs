//! URIs that are made before their content is uploaded.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav1create>

use std::time::Duration;

use serde_json::json;
use tayberry::base::limits;

use super::Answer;
use crate::rig::{Member, Reply, Rig};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn create(rig: &Rig, who: &Member) -> Reply {
    rig.send_as(who, "POST", "/_matrix/media/v1/create", json!({})).await
}

async fn created(rig: &Rig, who: &Member) -> String {
    let uri = create(rig, who).await.ok()["content_uri"].as_str().unwrap().to_owned();
    uri.strip_prefix("mxc://example.org/").unwrap().to_owned()
}

async fn upload(rig: &Rig, who: &Member, id: &str, body: &[u8]) -> Answer {
    let path = format!("/_matrix/media/v3/upload/example.org/{id}?filename=a.txt");
    rig.transfer("PUT", &path, Some(who), &[("content-type", "text/plain")], body).await
}

#[tokio::test]
async fn a_download_waits_for_its_upload() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let id = created(&rig, &alice).await;
    let path = format!("download/{id}?timeout_ms=0");
    assert_eq!(rig.media(&bob, &path).await.error(), (504, "M_NOT_YET_UPLOADED".to_owned()));

    let path = format!("download/{id}?timeout_ms=30000");
    let upload = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = upload(&rig, &alice, &id, b"hello").await.ok();
        assert_eq!(answer.json(), json!({}));
    };
    let (answer, ()) = tokio::join!(rig.media(&bob, &path), upload);
    let answer = answer.ok();
    assert_eq!((&*answer.body, answer.header("content-type")), (&b"hello"[..], "text/plain"));
    assert_eq!(answer.header("content-disposition"), "inline; filename=a.txt");
}

#[tokio::test]
async fn content_is_uploaded_once_by_whom_the_uri_is() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let id = created(&rig, &alice).await;
    assert_eq!(upload(&rig, &bob, &id, b"mine").await.error(), (403, "M_FORBIDDEN".to_owned()));
    upload(&rig, &alice, &id, b"hello").await.ok();
    let again = upload(&rig, &alice, &id, b"other").await;
    assert_eq!(again.error(), (409, "M_CANNOT_OVERWRITE_MEDIA".to_owned()));
    assert_eq!(upload(&rig, &bob, &id, b"other").await.error(), (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(rig.media(&bob, &format!("download/{id}")).await.ok().body, b"hello");
    assert_eq!(rig.files("content").len(), 1);
    assert_eq!(upload(&rig, &alice, "unknown", b"other").await.error(), (404, "M_NOT_FOUND".to_owned()));
    // An upload of another kind can't be overwritten either.
    let other = rig.upload(&alice, "text/plain", b"other").await;
    assert_eq!(
        upload(&rig, &alice, &other, b"new").await.error(),
        (409, "M_CANNOT_OVERWRITE_MEDIA".to_owned())
    );
}

#[tokio::test]
async fn of_two_uploads_at_once_one_is_kept() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let id = created(&rig, &alice).await;
    let (first, second) = (vec![1; 500_000], vec![2; 500_000]);
    let (one, two) = tokio::join!(upload(&rig, &alice, &id, &first), upload(&rig, &alice, &id, &second));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let kept = if one.status == 200 { first } else { second };
    assert!(rig.media(&alice, &format!("download/{id}")).await.ok().body == kept);
    assert_eq!(rig.files("content").len(), 1);
}

#[tokio::test]
async fn what_is_not_uploaded_in_time_is_forgotten() {
    let rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let made = create(&rig, &alice).await.ok();
    let expires_at = rig.app.clock.now().0 + DAY.as_millis() as u64;
    assert_eq!(made["unused_expires_at"], expires_at);
    let id = made["content_uri"].as_str().unwrap().strip_prefix("mxc://example.org/").unwrap();
    rig.advance(DAY);
    assert_eq!(upload(&rig, &alice, id, b"late").await.error(), (404, "M_NOT_FOUND".to_owned()));
    assert_eq!(rig.media(&alice, &format!("download/{id}")).await.error(), (404, "M_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_user_has_so_many_uris_without_content() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let mut ids = Vec::new();
    for _ in 0..limits::PENDING_UPLOADS {
        ids.push(created(&rig, &alice).await);
    }
    let refused = create(&rig, &alice).await;
    assert_eq!(refused.error(), (429, "M_LIMIT_EXCEEDED"));
    assert!(refused.body["retry_after_ms"].as_u64().unwrap() > 0);
    create(&rig, &bob).await.ok();
    upload(&rig, &alice, &ids[0], b"hello").await.ok();
    create(&rig, &alice).await.ok();
    assert_eq!(create(&rig, &alice).await.error(), (429, "M_LIMIT_EXCEEDED"));
    rig.advance(DAY);
    create(&rig, &alice).await.ok();
}
