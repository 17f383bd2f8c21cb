//! R37, R39: the endpoints that need no access token know what was uploaded before they were frozen, and nothing else.
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repo-client-behaviour>

use super::thumbnails::{encoded, picture};
use crate::rig::Rig;

#[tokio::test]
async fn what_was_uploaded_after_the_freeze_needs_a_token() {
    let mut rig = Rig::start().await;
    let alice = rig.register("alice").await;
    let png = encoded(&picture(64, 48), image::ImageFormat::Png);
    let frozen = rig.upload(&alice, "image/png", &png).await;
    let paths = |id: &str| {
        ["v3", "r0"].map(|version| {
            [
                format!("/_matrix/media/{version}/download/example.org/{id}"),
                format!("/_matrix/media/{version}/download/example.org/{id}/a.png"),
                format!("/_matrix/media/{version}/thumbnail/example.org/{id}?width=32&height=32&method=crop"),
            ]
        })
    };
    // Not for somebody with a token either: the endpoint is what is frozen.
    for path in paths(&frozen).as_flattened() {
        for who in [None, Some(&alice)] {
            let answer = rig.transfer("GET", path, who, &[], b"").await;
            assert_eq!(answer.error(), (404, "M_NOT_FOUND".to_owned()), "{path}");
        }
    }

    rig = rig.again(|config| config.media.unauthenticated_downloads = true).await;
    let open = rig.upload(&alice, "image/png", &png).await;
    for path in paths(&frozen).as_flattened() {
        assert_eq!(rig.transfer("GET", path, None, &[], b"").await.status, 404, "uploaded meanwhile: {path}");
    }
    rig = rig.again(|config| config.media.unauthenticated_downloads = false).await;
    for path in paths(&open).as_flattened() {
        let answer = rig.transfer("GET", path, None, &[], b"").await.harmless();
        assert_eq!(answer.header("content-type").split('/').next(), Some("image"), "{path}");
        assert!(answer.header("cache-control").starts_with("public"));
    }
    rig.media(&alice, &format!("download/{open}")).await.ok();
    rig.media(&alice, &format!("download/{frozen}")).await.ok();
    let config = rig.transfer("GET", "/_matrix/media/v3/config", Some(&alice), &[], b"").await.ok();
    assert_eq!(config.json()["m.upload.size"], 100_000_000);
}
