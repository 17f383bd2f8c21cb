//! Signing in through a provider of identities: what a browser sees of it.
//! <https://spec.matrix.org/v1.19/client-server-api/#sso-client-loginauthentication>

use http::{HeaderValue, Method, Response, StatusCode, header::SET_COOKIE};

use crate::{
    api::{
        Anyone, Body, Error, Streamed,
        page::{Page, Pages, Sent, Visit, deed, encoded, redirect},
    },
    base::limits,
    service::{
        App,
        upstream::{self, Browser, NameProblem, Next, Return, SignInError, Then, Wanted},
    },
};

pub(crate) struct Redirect;

impl Pages for Redirect {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = &[
        "/_matrix/client/v3/login/sso/redirect",
        "/_matrix/client/v3/login/sso/redirect/{idp_id}",
        "/_matrix/client/r0/login/sso/redirect",
        "/_matrix/client/r0/login/sso/redirect/{idp_id}",
    ];
}

/// `GET /_matrix/client/v3/login/sso/redirect/{idpId}`. Whether somebody wants to sign in or to register makes no
/// difference: who is new gets an account.
pub(crate) async fn begin(
    app: App,
    _: Anyone,
    request: Streamed<Visit<Redirect>>,
) -> Result<Response<Body>, Error> {
    let (arguments, sent) = Sent::of(request);
    let browser = browser(&app, &sent).unwrap_or_else(|| Browser(app.rng.token()));
    let redirect_url = sent.query("redirectUrl").unwrap_or_default();
    let id = arguments.first().map(String::as_str);
    let wanted = Wanted::LogIn { redirect_url };
    let next = upstream::begin(&app, browser.clone(), wanted, id).await;
    let start = upstream::base_path(&app);
    let to_provider = |id: &str| format!("{start}{PATH}/{id}?redirectUrl={}", encoded(redirect_url));
    known(&app, browser, shown(&app, next, to_provider)?)
}

const PATH: &str = "/_matrix/client/v3/login/sso/redirect";

pub(crate) struct Proof;

impl Pages for Proof {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = &[
        "/_matrix/client/v3/auth/m.login.sso/fallback/web",
        "/_matrix/client/r0/auth/m.login.sso/fallback/web",
    ];
}

/// `GET /_matrix/client/v3/auth/m.login.sso/fallback/web`
pub(crate) async fn prove(
    app: App,
    _: Anyone,
    request: Streamed<Visit<Proof>>,
) -> Result<Response<Body>, Error> {
    let (_, sent) = Sent::of(request);
    let browser = browser(&app, &sent).unwrap_or_else(|| Browser(app.rng.token()));
    let session = sent.query("session").unwrap_or_default();
    let next =
        upstream::begin(&app, browser.clone(), Wanted::Prove { session }, sent.query("provider")).await;
    let start = upstream::base_path(&app);
    let to_provider =
        |id: &str| format!("{start}{}?session={}&provider={id}", Proof::PATHS[0], encoded(session));
    known(&app, browser, shown(&app, next, to_provider)?)
}

pub(crate) struct Callback;

impl Pages for Callback {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = &["/_tayberry/sso/callback/{idp_id}", "/_tayberry/sso/callback"];
}

/// `GET /_tayberry/sso/callback/{idpId}`: somebody comes back from their provider.
pub(crate) async fn finish(
    app: App,
    _: Anyone,
    request: Streamed<Visit<Callback>>,
) -> Result<Response<Body>, Error> {
    let (arguments, sent) = Sent::of(request);
    let text = |name: &str| sent.query(name).map(str::to_owned);
    let back = Return {
        state: text("state").unwrap_or_default(),
        code: text("code"),
        error: text("error"),
        issuer: text("iss"),
        provider: arguments.into_iter().next(),
    };
    shown(&app, upstream::finish(&app, browser(&app, &sent), back).await, |_| String::new())
}

pub(crate) struct Answer;

impl Pages for Answer {
    const METHOD: Method = Method::POST;
    const PATHS: &'static [&'static str] = &["/_tayberry/sso/continue"];
}

/// `POST /_tayberry/sso/continue`: somebody answers what one of the pages below asked.
pub(crate) async fn answer(
    app: App,
    _: Anyone,
    request: Streamed<Visit<Answer>>,
) -> Result<Response<Body>, Error> {
    let (_, sent) = Sent::of(request);
    let ticket = sent.form("ticket").unwrap_or_default();
    let next = upstream::answer(&app, browser(&app, &sent), ticket, sent.form("name")).await;
    shown(&app, next, |_| String::new())
}

/// The browser, if it was here a while ago.
fn browser(app: &App, sent: &Sent) -> Option<Browser> {
    sent.cookie(cookie(app))
        .filter(|secret| secret.len() == SECRET_BYTES)
        .map(|secret| Browser(secret.to_owned()))
}

/// Has the browser known for as long as it is on the way. It comes back from the provider by a link, with which `Lax` lets the
/// cookie go; what other pages send in its name goes without.
fn known(app: &App, browser: Browser, mut response: Response<Body>) -> Result<Response<Body>, Error> {
    let (name, lifetime) = (cookie(app), limits::SIGN_IN_LIFETIME.as_secs());
    let secure = if name == COOKIE { "" } else { "; Secure" };
    let cookie = format!("{name}={}; Path=/; Max-Age={lifetime}; HttpOnly; SameSite=Lax{secure}", browser.0);
    response.headers_mut().insert(SET_COOKIE, HeaderValue::try_from(cookie).map_err(Error::internal)?);
    Ok(response)
}

/// The name of the cookie. By a name that begins so, nobody else can set it, not even from a part of this domain.
fn cookie(app: &App) -> &'static str {
    if upstream::base_url(app).starts_with("https:") { "__Host-tayberry-sso" } else { COOKIE }
}

const COOKIE: &str = "tayberry-sso";

/// Of a secret of [`Rng::token`](crate::base::rng::Rng::token).
const SECRET_BYTES: usize = 43;

/// The page that is next. `to_provider` is the address that leads to one of several.
fn shown(
    app: &App,
    next: Result<Next, SignInError>,
    to_provider: impl Fn(&str) -> String,
) -> Result<Response<Body>, Error> {
    let page = match next {
        Err(error) => return refused(error),
        Ok(Next::Go(url)) => return redirect(&url),
        Ok(Next::Choose(providers)) => {
            let providers = providers.into_iter().map(|index| &app.upstream[index]);
            providers.fold(Page::new("Sign in"), |page, provider| {
                page.button(&to_provider(&provider.id.0), &format!("Continue with {}", provider.name))
            })
        }
        Ok(Next::Name { ticket, suggestion, problem, then }) => {
            named(app, &ticket, &suggestion, problem, &then)
        }
        Ok(Next::Client { ticket, user_id, url }) => {
            let page = Page::new("Continue to your client?");
            let page = match url.host_str().filter(|_| url.scheme().starts_with("http")) {
                Some(host) => {
                    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                    page.text("This website wants to use your account:").quote(&format!("{host}{port}"))
                }
                None => {
                    let scheme = format!("{}:", url.scheme());
                    page.text("An app on this device wants to use your account. It opens what begins with")
                        .quote(&scheme)
                }
            };
            page.text("It will be able to read and send messages as")
                .quote(user_id.as_str())
                .text("Continue only if you were signing in there. Otherwise close this page.")
                .leads_to(&url)
                .form(&answered(app), "Continue", |form| form.hidden("ticket", &ticket))
        }
        Ok(Next::Operation { ticket, user_id, operation }) => Page::new("Confirm that it is you")
            .text(&format!("A client that you are signed in with wants to {}:", deed(operation)))
            .quote(user_id.as_str())
            .text("If you did not expect this, close this page: somebody else may be using your account.")
            .form(&answered(app), "Confirm", |form| form.hidden("ticket", &ticket)),
        Ok(Next::Proved) => Page::passed(),
    };
    page.answer(StatusCode::OK)
}

/// Where the answers to these pages go.
fn answered(app: &App) -> String {
    format!("{}{}", upstream::base_path(app), Answer::PATHS[0])
}

fn named(app: &App, ticket: &str, suggestion: &str, problem: NameProblem, then: &Then) -> Page {
    let mut page = Page::new("Choose your user name");
    page = match problem {
        NameProblem::None => page,
        NameProblem::Taken => page.problem("This user name is taken: choose another."),
        NameProblem::Invalid => {
            page.problem("A user name has only a-z, 0-9 and . _ = - / + in it, and is not too long.")
        }
    };
    page = page.text(&format!(
        "Others will know you by it, as @name:{}. You can't change it later.",
        app.server_name
    ));
    if let Some(terms) = &app.terms.url {
        page =
            page.text("By continuing you accept what is written here:").link(terms.as_str(), &app.terms.name);
    }
    if let Then::LogInToken { redirect_url } = then {
        page = page.leads_to(redirect_url);
    }
    page.form(&answered(app), "Continue", |form| {
        form.hidden("ticket", ticket);
        let attributes =
            "required autofocus autocapitalize=\"none\" autocomplete=\"username\" spellcheck=\"false\"";
        form.field("name", "User name", attributes, suggestion);
    })
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
    Page::new("This didn't work").problem(text).answer(status)
}
