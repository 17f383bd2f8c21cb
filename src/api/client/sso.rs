//! Signing in through a provider of identities: what a browser sees of it.
//! <https://spec.matrix.org/v1.19/client-server-api/#sso-client-loginauthentication>

use http::{Response, StatusCode};

use crate::{
    api::{
        Body, Error,
        page::{Field, Html, Page, Sent, cookie_name, deed, redirect, set_cookie, to_client},
    },
    base::{limits, parameters::encoded},
    service::{
        App, oauth,
        upstream::{self, Browser, NameProblem, Next, Return, SignInError, Then, Wanted},
    },
};

/// `GET /_matrix/client/v3/login/sso/redirect/{idpId}`. Whether somebody wants to sign in or to register makes no
/// difference with a provider: who is new gets an account. Without one, the pages of this server have every way.
/// <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-aware-clients>
pub(crate) async fn begin(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    if let (Some(base), []) = (oauth::base(&app), &sent.arguments[..]) {
        let page = format!("{base}{}?{}", oauth::CLIENT, sent.query);
        return Ok(redirect(StatusCode::FOUND, &page));
    }
    let browser = browser(&app, &sent).unwrap_or_else(|| new_browser(&app, &sent));
    let redirect_url = sent.query.get("redirectUrl").unwrap_or_default();
    let id = sent.arguments.first().map(String::as_str);
    let wanted = Wanted::LogIn { redirect_url };
    let next = upstream::begin(&app, browser.clone(), wanted, id).await;
    let start = upstream::base_path(&app);
    let to_provider = |id: &str| format!("{start}{}/{id}?redirectUrl={}", BEGIN[0], encoded(redirect_url));
    Ok(known(&app, &browser, shown(&app, next, to_provider)?))
}

/// `GET /_tayberry/sso/account/{idpId}`: somebody signs in on the pages of the account.
pub(crate) async fn account(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    oauth::base(&app).ok_or_else(Error::unrecognized)?;
    let browser = browser(&app, &sent).unwrap_or_else(|| new_browser(&app, &sent));
    let text = |name: &str| sent.query.get(name).unwrap_or_default();
    let wanted = Wanted::Account { proof: text("proof"), next: text("next") };
    let id = sent.arguments.first().map(String::as_str);
    let next = upstream::begin(&app, browser.clone(), wanted, id).await;
    Ok(known(&app, &browser, shown(&app, next, |_| String::new())?))
}

/// `GET /_matrix/client/v3/auth/m.login.sso/fallback/web`
pub(crate) async fn prove(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    let browser = browser(&app, &sent).unwrap_or_else(|| new_browser(&app, &sent));
    let session = sent.query.get("session").unwrap_or_default();
    let wanted = Wanted::Prove { session };
    let next = upstream::begin(&app, browser.clone(), wanted, sent.query.get("provider")).await;
    let start = upstream::base_path(&app);
    let to_provider = |id: &str| format!("{start}{}?session={}&provider={id}", PROVE[0], encoded(session));
    Ok(known(&app, &browser, shown(&app, next, to_provider)?))
}

/// `GET /_tayberry/sso/callback/{idpId}`: somebody comes back from their provider.
pub(crate) async fn finish(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    let text = |name: &str| sent.query.get(name).map(str::to_owned);
    let back = Return {
        state: text("state").unwrap_or_default(),
        code: text("code"),
        error: text("error"),
        issuer: text("iss"),
        provider: sent.arguments.first().cloned(),
    };
    shown(&app, upstream::finish(&app, browser(&app, &sent), back).await, |_| String::new())
}

/// `POST /_tayberry/sso/continue`: somebody answers what one of the pages below asked.
pub(crate) async fn answer(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    let form = sent.form();
    let ticket = form.get("ticket").unwrap_or_default();
    let next = upstream::answer(&app, browser(&app, &sent), ticket, form.get("name")).await;
    shown(&app, next, |_| String::new())
}

pub(crate) const BEGIN: &[&str] = &[
    "/_matrix/client/v3/login/sso/redirect",
    "/_matrix/client/v3/login/sso/redirect/{idp_id}",
    "/_matrix/client/r0/login/sso/redirect",
    "/_matrix/client/r0/login/sso/redirect/{idp_id}",
];
pub(crate) const ACCOUNT: &str = "/_tayberry/sso/account/{idp_id}";
pub(crate) const PROVE: &[&str] =
    &["/_matrix/client/v3/auth/m.login.sso/fallback/web", "/_matrix/client/r0/auth/m.login.sso/fallback/web"];
pub(crate) const FINISH: &[&str] = &["/_tayberry/sso/callback/{idp_id}", "/_tayberry/sso/callback"];
pub(crate) const ANSWER: &str = "/_tayberry/sso/continue";

/// The browser, if it was here a while ago.
fn browser(app: &App, sent: &Sent) -> Option<Browser> {
    let secret = sent.cookie(cookie(app))?.to_owned();
    Some(Browser { secret, client: sent.client })
}

fn new_browser(app: &App, sent: &Sent) -> Browser {
    Browser { secret: app.rng.token(), client: sent.client }
}

/// Has the browser known for as long as it is on the way.
fn known(app: &App, browser: &Browser, mut response: Response<Body>) -> Response<Body> {
    set_cookie(&mut response, cookie(app), &browser.secret, Some(limits::SIGN_IN_LIFETIME));
    response
}

fn cookie(app: &App) -> &'static str {
    cookie_name("__Host-tayberry-sso", &upstream::base_url(app))
}

/// The page that is next. `to_provider` is the address that leads to one of several.
fn shown(
    app: &App,
    next: Result<Next, SignInError>,
    to_provider: impl Fn(&str) -> String,
) -> Result<Response<Body>, Error> {
    let page = match next {
        Err(error) => return refused(error),
        Ok(Next::Go(url)) => return Ok(redirect(StatusCode::FOUND, &url)),
        Ok(Next::Choose(providers)) => {
            let providers = providers.into_iter().map(|index| &app.upstream[index]);
            let html = providers.fold(Html::default(), |html, provider| {
                html.way(&to_provider(&provider.id.0), &format!("Continue with {}", provider.name))
            });
            Page::new("Sign in", html)
        }
        Ok(Next::Name { ticket, suggestion, problem, then }) => {
            return Ok(named(app, &ticket, &suggestion, problem, &then));
        }
        Ok(Next::Client { ticket, user_id, url }) => {
            let html = to_client(&url, &user_id).form(&answered(app), ("ticket", &ticket)).mark(CONTINUE);
            let page = Page::new("Continue to your client?", html);
            return Ok(Page { target: Some(&url), ..page }.answer());
        }
        Ok(Next::Operation { ticket, user_id, operation }) => {
            let html = Html::default()
                .paragraph(&format!("A client that you are signed in with wants to {}:", deed(operation)))
                .quote(user_id.as_str())
                .paragraph(
                    "If you did not expect this, close this page: somebody else may be using your account.",
                )
                .form(&answered(app), ("ticket", &ticket));
            Page::new("Confirm that it is you", html.mark("<button>Confirm</button></form>"))
        }
        Ok(Next::Proved) => Page::passed(),
    };
    Ok(page.answer())
}

/// Where the answers to these pages go.
fn answered(app: &App) -> String {
    format!("{}{ANSWER}", upstream::base_path(app))
}

fn named(app: &App, ticket: &str, suggestion: &str, problem: NameProblem, then: &Then) -> Response<Body> {
    let problem = match problem {
        NameProblem::None => "",
        NameProblem::Taken => "This user name is taken: choose another.",
        NameProblem::Invalid => "A user name has only a-z, 0-9 and . _ = - / + in it, and is not too long.",
    };
    let name = &app.server_name;
    let mut html = Html::default()
        .paragraph(&format!("Others will know you by it, as @name:{name}. You can't change it later."));
    if let Some(terms) = &app.terms.url {
        html = html
            .paragraph("By continuing you accept what is written here:")
            .link(terms.as_str(), &app.terms.name);
    }
    let target = match then {
        Then::LogInToken { redirect_url } => Some(redirect_url),
        Then::Account { .. } | Then::Prove { .. } => None,
    };
    let field = Field {
        name: "name",
        label: "User name",
        kind: "text",
        autocomplete: "username",
        value: suggestion,
        is_first: true,
        ..Field::default()
    };
    let html = html.form(&answered(app), ("ticket", ticket)).field(&field).mark(CONTINUE);
    Page { problem, target, ..Page::new("Choose your user name", html) }.answer()
}

fn refused(error: SignInError) -> Result<Response<Body>, Error> {
    let (status, text) = match error {
        SignInError::Store(error) => return Err(error.into()),
        SignInError::UnknownProvider => (StatusCode::NOT_FOUND, "There is no such way to sign in here."),
        SignInError::Client => (
            StatusCode::BAD_REQUEST,
            "Your client didn't say where it is, or in a way that can't be. Begin again from your client.",
        ),
        SignInError::Lost => (
            StatusCode::BAD_REQUEST,
            "This took too long, was done before, or was begun in another browser. Begin again from your client.",
        ),
        SignInError::Cancelled => (StatusCode::FORBIDDEN, "You were not signed in."),
        SignInError::Provider(_) => (
            StatusCode::BAD_GATEWAY,
            "The service that you sign in with doesn't answer, or not as it should. Try again later.",
        ),
        SignInError::Stranger => {
            (StatusCode::FORBIDDEN, "You have no account here. Ask whoever runs this server.")
        }
        SignInError::Ended => (StatusCode::FORBIDDEN, "Your account here has ended."),
        SignInError::Locked => {
            (StatusCode::FORBIDDEN, "Your account is locked. Ask whoever runs this server.")
        }
        SignInError::AnotherUser => (
            StatusCode::FORBIDDEN,
            "You signed in as somebody else. Begin again from your client, and sign in as yourself.",
        ),
    };
    Ok(Page::failed(status, text).answer())
}

const CONTINUE: &str = "<button>Continue</button></form>";
