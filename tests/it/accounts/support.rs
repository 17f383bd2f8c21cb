//! To whom people turn. <https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixsupport>

use serde_json::json;
use tayberry::config::{Contact, HttpUrl};

use crate::rig::Rig;

const PATH: &str = "/.well-known/matrix/support";

#[tokio::test]
async fn anybody_is_told_whom_to_turn_to() {
    let contact = |id: Option<&str>, email: Option<&str>, role: &str| Contact {
        matrix_id: id.map(|id| id.try_into().unwrap()),
        email_address: email.map(str::to_owned),
        role: role.to_owned(),
    };
    let rig = Rig::with(|config| {
        config.well_known.contacts = vec![
            contact(Some("@anna:example.com"), Some("anna@example.org"), "m.role.admin"),
            contact(None, Some("security@example.org"), "m.role.security"),
            contact(Some("@ben:example.org"), None, "org.example.tea"),
        ];
        config.well_known.support_page = HttpUrl::parse("https://example.org/help");
    });
    let expected = json!({
        "contacts": [
            {"matrix_id": "@anna:example.com", "email_address": "anna@example.org", "role": "m.role.admin"},
            {"email_address": "security@example.org", "role": "m.role.security"},
            {"matrix_id": "@ben:example.org", "role": "org.example.tea"},
        ],
        "support_page": "https://example.org/help",
    });
    assert_eq!(rig.await.get(PATH).await.ok(), expected);
}

#[tokio::test]
async fn a_page_alone_is_enough_and_nothing_is_not_found() {
    assert_eq!(Rig::start().await.get(PATH).await.error(), (404, "M_NOT_FOUND"));
    let rig = Rig::with(|config| config.well_known.support_page = HttpUrl::parse("https://example.org/help"));
    assert_eq!(rig.await.get(PATH).await.ok(), json!({"support_page": "https://example.org/help"}));
}
