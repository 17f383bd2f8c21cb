//! Pages on which somebody passes a stage of user-interactive authentication that their client doesn't know.
//! <https://spec.matrix.org/v1.19/client-server-api/#fallback>

use http::{Response, StatusCode};

use crate::{
    api::{
        Body, Error,
        page::{Field, Html, Page, Sent, deed},
    },
    base::parameters::encoded,
    service::{
        App,
        uia::{self, Stage},
    },
};

/// `GET /_matrix/client/v3/auth/{authType}/fallback/web`
pub(crate) async fn show(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    let session = sent.query.get("session").unwrap_or_default();
    match stage(&sent.arguments) {
        Some(stage) if uia::waits_for(&app, session, stage) => form(&app, stage, session, "").await,
        stage => Ok(lost(stage)),
    }
}

/// `POST /_matrix/client/v3/auth/{authType}/fallback/web`: what somebody wrote on that page.
pub(crate) async fn fill(app: App, sent: Sent) -> Result<Response<Body>, Error> {
    let session = sent.query.get("session").unwrap_or_default();
    let Some(stage) = stage(&sent.arguments) else { return Ok(lost(None)) };
    let written = sent.form();
    let text = written.get("text").unwrap_or_default();
    match uia::attempt_on_page(&app, session, stage, text).await? {
        Some(Ok(())) => Ok(Page::passed().answer()),
        Some(Err(problem)) => form(&app, stage, session, problem).await,
        None => Ok(lost(Some(stage))),
    }
}

pub(crate) const PATHS: &[&str] =
    &["/_matrix/client/v3/auth/{auth_type}/fallback/web", "/_matrix/client/r0/auth/{auth_type}/fallback/web"];

fn stage(arguments: &[String]) -> Option<Stage> {
    match arguments.first().map(String::as_str)? {
        "m.login.dummy" => Some(Stage::Dummy),
        "m.login.password" => Some(Stage::Password),
        "m.login.registration_token" => Some(Stage::RegistrationToken),
        "m.login.terms" => Some(Stage::Terms),
        _ => None,
    }
}

async fn form(app: &App, stage: Stage, session: &str, problem: &str) -> Result<Response<Body>, Error> {
    let password =
        Field { label: "Password", kind: "password", autocomplete: "current-password", ..Field::default() };
    let token = Field { label: "Registration token", kind: "text", autocomplete: "off", ..Field::default() };
    let (title, button, field) = match stage {
        // The latter has another page, that of the account.
        Stage::Dummy | Stage::OAuth => ("Continue", "Continue", None),
        Stage::Password => ("Confirm that it is you", "Confirm", Some(password)),
        Stage::RegistrationToken => ("You need an invitation", "Continue", Some(token)),
        Stage::Terms => ("What you agree to", "I agree", None),
    };
    let mut html = Html::default();
    if let (Stage::Password, Some((user_id, operation))) = (stage, uia::subject_shown(app, session).await?) {
        html = html
            .paragraph(&format!("A client that you are signed in with wants to {}:", deed(operation)))
            .quote(user_id.as_str())
            .paragraph(
                "If you did not expect this, close this page: somebody else may be using your account.",
            );
    }
    if let (Stage::Terms, Some(url)) = (stage, &app.terms.url) {
        html = html.link(url.as_str(), &app.terms.name);
    }
    // This very page.
    html = html.mark("<form method=\"post\" action=\"?session=").text(&encoded(session)).mark("\">");
    if let Some(field) = field {
        html = html.field(&Field { name: "text", is_first: true, ..field });
    }
    let html = html.mark("<button>").mark(button).mark("</button></form>");
    Ok(Page { problem, ..Page::new(title, html) }.answer())
}

fn lost(stage: Option<Stage>) -> Response<Body> {
    let (status, text) = match stage {
        Some(_) => {
            (StatusCode::BAD_REQUEST, "This took too long, or was done before. Begin again from your client.")
        }
        None => (StatusCode::NOT_FOUND, "There is no such page here."),
    };
    Page::failed(status, text).answer()
}
