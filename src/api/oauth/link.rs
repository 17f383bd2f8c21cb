//! The page on which a user lets a device in that has no browser.
//! <https://spec.matrix.org/v1.19/client-server-api/#device-authorisation-flow>

use http::{Response, StatusCode};

use super::{
    authorize::{self, ALLOW},
    visit::{Refusal, Visit},
};
use crate::{
    api::{
        Body,
        page::{Field, Html, Sent},
    },
    service::{App, oauth::devices},
};

/// The page: asks for the code and, once it is there, whether the device is to be let in.
pub(super) async fn show(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let who = visit.signed_in()?;
    let Some(code) = visit.query.get("user_code") else { return Ok(visit.page(TITLE, form(&visit))) };
    let Some((waiting, code)) = devices::find(&visit.app, code) else { return Ok(unknown(&visit)) };
    let html = Html::default()
        .paragraph("Go on only if the device is with you and shows this code:")
        .mark("<p class=\"code\">")
        .text(&code)
        .mark("</p>")
        .add(&authorize::about(&visit, who, &waiting.client, &waiting.scope).await?);
    let html = authorize::choice(html, &visit, &format!("{PATH}?user_code={code}"));
    Ok(visit.page(&authorize::title(&waiting.client), html))
}

/// Lets the device in, or doesn't.
pub(super) async fn decide(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let who = visit.signed_in()?;
    let is_allowed = visit.form.get("decision") == Some(ALLOW);
    let code = visit.query.get("user_code").unwrap_or_default();
    if !devices::decide(&visit.app, code, who, is_allowed).await? {
        return Ok(unknown(&visit));
    }
    let (title, text) = match is_allowed {
        true => ("The device is connected", "Go back to it: in a few seconds it goes on."),
        false => ("The device is not connected", "It is told so. You can close this page."),
    };
    Ok(visit.page(title, Html::default().paragraph(text)))
}

fn unknown(visit: &Visit) -> Response<Body> {
    let problem =
        "No device waits with this code. Perhaps it waited for too long, or the code has other letters.";
    visit.problem(StatusCode::BAD_REQUEST, TITLE, problem, form(visit))
}

/// It changes nothing, so it needs no proof.
fn form(visit: &Visit) -> Html {
    let code = Field {
        name: "user_code",
        label: "Code",
        kind: "text",
        autocomplete: "off",
        hint: "Eight letters that the device shows, such as BCDF-GHJK",
        ..Field::default()
    };
    Html::default()
        .mark("<form action=\"")
        .text(&visit.path(PATH))
        .mark("\">")
        .field(&code)
        .mark("<button class=\"main\">Go on</button></form>")
}

pub(super) const PATH: &str = "/oauth/link";
const TITLE: &str = "Connect a device";
