//! Pages on which somebody passes a stage of user-interactive authentication that their client doesn't know.
//! <https://spec.matrix.org/v1.19/client-server-api/#fallback>

use http::{Method, Response, StatusCode};

use crate::{
    api::{
        Anyone, Body, Error, Streamed,
        page::{Page, Pages, Sent, Visit, deed, encoded},
    },
    service::{
        App,
        uia::{self, Stage},
    },
};

pub(crate) struct Shown;
pub(crate) struct Filled;

const PATHS: &[&str] =
    &["/_matrix/client/v3/auth/{auth_type}/fallback/web", "/_matrix/client/r0/auth/{auth_type}/fallback/web"];

impl Pages for Shown {
    const METHOD: Method = Method::GET;
    const PATHS: &'static [&'static str] = PATHS;
}

impl Pages for Filled {
    const METHOD: Method = Method::POST;
    const PATHS: &'static [&'static str] = PATHS;
}

/// `GET /_matrix/client/v3/auth/{authType}/fallback/web`
pub(crate) async fn show(
    app: App,
    _: Anyone,
    request: Streamed<Visit<Shown>>,
) -> Result<Response<Body>, Error> {
    let (arguments, sent) = Sent::of(request);
    let session = sent.query("session").unwrap_or_default();
    match stage(&arguments) {
        Some(stage) if uia::waits_for(&app, session, stage) => {
            form(&app, stage, session, None).await?.answer(StatusCode::OK)
        }
        stage => lost(stage),
    }
}

/// `POST /_matrix/client/v3/auth/{authType}/fallback/web`: what somebody wrote on that page.
pub(crate) async fn fill(
    app: App,
    _: Anyone,
    request: Streamed<Visit<Filled>>,
) -> Result<Response<Body>, Error> {
    let (arguments, sent) = Sent::of(request);
    let session = sent.query("session").unwrap_or_default();
    let Some(stage) = stage(&arguments) else { return lost(None) };
    let text = sent.form("text").unwrap_or_default();
    match uia::attempt_on_page(&app, session, stage, text).await? {
        Some(Ok(())) => Page::passed().answer(StatusCode::OK),
        Some(Err(problem)) => form(&app, stage, session, Some(problem)).await?.answer(StatusCode::OK),
        None => lost(Some(stage)),
    }
}

fn stage(arguments: &[String]) -> Option<Stage> {
    match arguments.first().map(String::as_str)? {
        "m.login.dummy" => Some(Stage::Dummy),
        "m.login.password" => Some(Stage::Password),
        "m.login.registration_token" => Some(Stage::RegistrationToken),
        "m.login.terms" => Some(Stage::Terms),
        _ => None,
    }
}

async fn form(app: &App, stage: Stage, session: &str, problem: Option<&str>) -> Result<Page, Error> {
    let (title, button, field) = match stage {
        // The latter has another page, that of the account.
        Stage::Dummy | Stage::OAuth => ("Continue", "Continue", None),
        Stage::Password => {
            let attributes = "type=\"password\" required autofocus autocomplete=\"current-password\"";
            ("Confirm that it is you", "Confirm", Some(("Password", attributes)))
        }
        Stage::RegistrationToken => {
            let attributes =
                "required autofocus autocapitalize=\"none\" autocomplete=\"off\" spellcheck=\"false\"";
            ("You need an invitation", "Continue", Some(("Registration token", attributes)))
        }
        Stage::Terms => ("What you agree to", "I agree", None),
    };
    let mut page = Page::new(title);
    if let Some(problem) = problem {
        page = page.problem(problem);
    }
    if let (Stage::Password, Some((user_id, operation))) = (stage, uia::subject_shown(app, session).await?) {
        page = page
            .text(&format!("A client that you are signed in with wants to {}:", deed(operation)))
            .quote(user_id.as_str())
            .text("If you did not expect this, close this page: somebody else may be using your account.");
    }
    if let (Stage::Terms, Some(url)) = (stage, &app.terms.url) {
        page = page.link(url.as_str(), &app.terms.name);
    }
    // This very page.
    Ok(page.form(&format!("?session={}", encoded(session)), button, |form| {
        if let Some((label, attributes)) = field {
            form.field("text", label, attributes, "");
        }
    }))
}

fn lost(stage: Option<Stage>) -> Result<Response<Body>, Error> {
    let (status, text) = match stage {
        Some(_) => {
            (StatusCode::BAD_REQUEST, "This took too long, or was done before. Begin again from your client.")
        }
        None => (StatusCode::NOT_FOUND, "There is no such page here."),
    };
    Page::new("This didn't work").problem(text).answer(status)
}
