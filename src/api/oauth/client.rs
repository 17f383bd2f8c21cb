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
        App,
        accounts::LogInError,
        localpart,
        oauth::CLIENT,
        upstream::{self, SignInError},
    },
    store::SignedIn,
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
    let who = visit.signed_in()?;
    gone(&visit, who, &client).await
}

/// Goes on to the client, unless the account was locked or ended this very moment.
async fn gone(visit: &Visit, who: &SignedIn, client: &Url) -> Result<Response<Body>, Refusal> {
    let problem = match upstream::log_in_at(&visit.app, who.user, client).await {
        Ok(url) => return Ok(visit.redirect(&url)),
        Err(SignInError::Store(error)) => return Err(error.into()),
        Err(SignInError::Locked) => sign_in::why_not(&LogInError::Locked),
        Err(_) => "Your account here has ended.",
    };
    Ok(visit.problem(StatusCode::FORBIDDEN, REFUSED, problem, Html::default()))
}

/// The client that is to be let in.
fn client(visit: &Visit) -> Result<Url, Refusal> {
    let url = visit.query.get("redirectUrl").and_then(|url| upstream::client_at(&visit.app, url));
    url.ok_or_else(|| {
        let html = Html::default().paragraph("Go back to the client and try to sign in once more.");
        let problem = "The client that sent you here did not say where it is, or in a way that can’t be.";
        visit.problem(StatusCode::BAD_REQUEST, REFUSED, problem, html).into()
    })
}

const REFUSED: &str = "You can’t sign in like this";

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, header::COOKIE};
    use ruma::server_name;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        api::Inbound,
        base::{
            clock::{Clock, Timestamp},
            rng::Rng,
        },
        config::{Config, HttpUrl},
        room::fixture::key_pair,
        service::{
            accounts::{self, Registration},
            app::Parts,
            oauth::browsers::{new_cookie, signed_in},
        },
        store::{Options, Store},
    };

    fn app(dir: &TempDir) -> App {
        let (clock, rng) = (Clock::manual(Timestamp(1_000)), Rng::seeded(1));
        let options = Options { dir: dir.path().to_owned(), clock: clock.clone(), rng: rng.clone() };
        let mut config = Config::of_defaults(server_name!("one.example"), dir.path());
        config.well_known.client_url = HttpUrl::parse("http://localhost:1");
        let store = Store::open(options).unwrap();
        App::new(Parts { config, store, signing_key: key_pair("one.example"), clock, rng })
    }

    #[tokio::test]
    async fn whoever_is_locked_at_the_last_moment_reads_why_they_go_nowhere() {
        let dir = TempDir::new().unwrap();
        let app = app(&dir);
        let wanted = Registration { name: Some("alice".to_owned()), ..Registration::default() };
        accounts::register(&app, wanted).await.map(drop).unwrap();
        let user = app.store.read(|view| view.account("alice")).await.unwrap().unwrap().number;
        let cookie = signed_in(&app, &new_cookie(&app), user).await.unwrap();
        let request = Request::get("/").header(COOKIE, format!("tayberry={cookie}"));
        let sent = Sent::of(request.body(Inbound::Whole(Bytes::new())).unwrap(), Vec::new());
        let Ok(visit) = Visit::begin(app.clone(), sent).await else { panic!("the pages are there") };
        let who = visit.who.as_ref().unwrap();
        let client = Url::parse("https://app.example.net/").unwrap();
        let status = async || match gone(&visit, who, &client).await {
            Ok(response) => response.status().as_u16(),
            Err(_) => panic!("it is told on a page"),
        };
        assert_eq!(status().await, 303);
        app.store.write(move |transaction| transaction.set_locked(user, true)).await.unwrap();
        assert_eq!(status().await, 403);
        accounts::deactivate(&app, user, false).await.unwrap();
        assert_eq!(status().await, 403);
        app.store.close();
    }
}
