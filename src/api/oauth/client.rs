//! The page on which a user lets a client in that knows the log-in by `m.login.sso`, and not OAuth 2.0.
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-aware-clients>

use http::{Response, StatusCode};
use url::Url;

use super::{
    register, sign_in,
    visit::{Refusal, Visit},
};
use crate::{
    api::{
        Body,
        page::{Html, Page, Sent, to_client},
    },
    config::RegistrationMode,
    service::{
        App, localpart,
        oauth::CLIENT,
        upstream::{self, SignInError},
    },
};

/// The page.
pub(super) async fn show(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let client = client(&visit)?;
    let is_open = visit.app.registration.mode != RegistrationMode::Closed;
    if visit.who.is_none() && is_open && visit.query.get("action") == Some("register") {
        let next = format!("{}?{}", visit.path(CLIENT), visit.query.without("action"));
        return Ok(visit.redirect(&visit.path_with_next(register::PATH, Some(&next))));
    }
    let who = visit.signed_in()?;
    let (here, proof) = (visit.path(&visit.here), visit.proof());
    let html = to_client(&client, &localpart::user_id(&who.localpart, &visit.app.server_name))
        .form(&here, ("proof", &proof))
        .button("main", "go", "Continue")
        .mark("</form>")
        .form(&visit.path_with_next(sign_in::OUT_PATH, Some(&here)), ("proof", &proof))
        .button("quiet", "go", "This is not my account")
        .mark("</form>");
    Ok(visit.shown(Page { target: Some(&client), ..Page::new("Continue to your client?", html) }))
}

/// Goes on to the client.
pub(super) async fn go(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let client = client(&visit)?;
    match upstream::log_in_at(&visit.app, visit.signed_in()?.user, &client).await {
        Ok(url) => Ok(visit.redirect(&url)),
        Err(SignInError::Store(error)) => Err(error.into()),
        // Somebody was faster to lock the account: the page has them sign in again.
        Err(_) => Ok(visit.redirect(&visit.path(&visit.here))),
    }
}

/// The client that is to be let in.
fn client(visit: &Visit) -> Result<Url, Refusal> {
    let url = visit.query.get("redirectUrl").and_then(|url| upstream::client_at(&visit.app, url));
    url.ok_or_else(|| {
        let html = Html::default().paragraph("Go back to the client and try to sign in once more.");
        let problem = "The client that sent you here did not say where it is, or in a way that can’t be.";
        visit.problem(StatusCode::BAD_REQUEST, "You can’t sign in like this", problem, html).into()
    })
}
