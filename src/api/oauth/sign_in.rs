//! The pages to sign in and out.

use http::{Response, StatusCode};

use super::{
    register,
    visit::{Refusal, Visit},
};
use crate::{
    api::{
        Body,
        page::{Field, Html, Sent},
    },
    base::{parameters::encoded, secret::Secret},
    config::{RegistrationMode, Upstream},
    service::{
        App,
        accounts::LogInError,
        oauth::{ACCOUNT, browsers},
        upstream,
    },
};

/// A way to sign in elsewhere.
pub(super) struct Elsewhere {
    /// What people call it.
    pub(super) name: String,
    /// Where it begins.
    pub(super) url: String,
}

/// The page. Whoever is signed in already goes on, unless they are to prove it again.
pub(super) async fn show(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    if visit.who.is_some() && visit.query.get(AGAIN).is_none() {
        return Ok(visit.redirect(&onward(&visit)));
    }
    Ok(visit.page(TITLE, form(&visit, &elsewhere(&visit))))
}

/// Signs in by a password.
pub(super) async fn sign_in(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let value = |name| visit.form.get(name).unwrap_or_default();
    let password = Secret::new(value("password").to_owned());
    let cookie = browsers::sign_in(&visit.app, &visit.cookie, value("user").trim(), password).await;
    let_in(visit, cookie)
}

/// Signs in whoever comes back from a provider: the very browser that was sent there.
pub(super) async fn come_back(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let is_its = visit.query.get(PROOF) == Some(&*browsers::proof_of_return(&visit.cookie));
    let token = visit.query.get("loginToken").filter(|_| is_its).unwrap_or_default();
    let cookie = browsers::sign_in_by_token(&visit.app, &visit.cookie, token).await;
    let_in(visit, cookie)
}

/// Sends whoever is signed in onward; whoever isn't reads why, on the page again.
fn let_in(mut visit: Visit, cookie: Result<String, LogInError>) -> Result<Response<Body>, Refusal> {
    match cookie {
        Ok(cookie) => {
            visit.set_cookie(cookie, true);
            Ok(visit.redirect(&onward(&visit)))
        }
        Err(LogInError::Store(error)) => Err(error.into()),
        Err(error) => {
            let html = form(&visit, &elsewhere(&visit));
            Ok(visit.problem(StatusCode::FORBIDDEN, TITLE, why_not(&error), html))
        }
    }
}

/// Signs out.
pub(super) async fn sign_out(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let mut visit = Visit::begin(app, sent).await?;
    browsers::sign_out(&visit.app, &visit.cookie).await?;
    let cookie = browsers::new_cookie(&visit.app);
    visit.set_cookie(cookie, false);
    Ok(visit.redirect(&visit.path_with_next(PATH, visit.next())))
}

/// Why nobody is signed in, in words for them.
pub(super) fn why_not(error: &LogInError) -> &'static str {
    match error {
        LogInError::Locked => "This account is locked. Ask whoever runs this server.",
        LogInError::TokenSpent => "This took too long, or was begun in another browser. Sign in again.",
        _ => "The user name or the password is wrong.",
    }
}

/// Where somebody goes who is signed in.
pub(super) fn onward(visit: &Visit) -> String {
    visit.next().map_or_else(|| visit.path(ACCOUNT), str::to_owned)
}

/// The other ways to sign in, each with where the visitor goes afterwards.
fn elsewhere(visit: &Visit) -> Vec<Elsewhere> {
    let (proof, next) = (browsers::proof_of_return(&visit.cookie), visit.next().unwrap_or_default());
    let to = |provider: &Upstream| {
        let id = &provider.id.0;
        let path = format!("{}/{id}?{PROOF}={proof}&next={}", upstream::ACCOUNT, encoded(next));
        Elsewhere { name: provider.name.clone(), url: visit.path(&path) }
    };
    visit.app.upstream.iter().map(to).collect()
}

fn form(visit: &Visit, elsewhere: &[Elsewhere]) -> Html {
    let user = Field {
        name: "user",
        label: "User name",
        kind: "text",
        autocomplete: "username",
        value: visit.form.get("user").unwrap_or_default(),
        ..Field::default()
    };
    let password = Field {
        name: "password",
        label: "Password",
        kind: "password",
        autocomplete: "current-password",
        ..Field::default()
    };
    let mut html = Html::default()
        .form(&visit.path_with_next(PATH, visit.next()), ("proof", &visit.proof()))
        .field(&user)
        .field(&password)
        .button("main", "go", "Sign in")
        .mark("</form>");
    for Elsewhere { name, url } in elsewhere {
        let html_ = html.mark("<p class=\"after\"><a class=\"button other\" href=\"").text(url).mark("\">");
        html = html_.mark("Continue with ").text(name).mark("</a></p>");
    }
    if visit.app.registration.mode != RegistrationMode::Closed {
        html = html.link(&visit.path_with_next(register::PATH, visit.next()), "Create an account");
    }
    html
}

pub(super) const PATH: &str = "/oauth/sign-in";
pub(super) const OUT_PATH: &str = "/oauth/sign-out";
/// Asks somebody who is signed in to sign in again.
pub(super) const AGAIN: &str = "again";
const TITLE: &str = "Sign in";
const PROOF: &str = "proof";
