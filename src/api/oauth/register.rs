//! The page to make an account. <https://spec.matrix.org/v1.19/client-server-api/#user-registration>

use http::{Response, StatusCode};

use super::{
    sign_in,
    visit::{Refusal, Visit},
};
use crate::{
    api::{
        Body, Error,
        page::{Field, Html, Sent},
    },
    base::secret::Secret,
    config::RegistrationMode,
    service::{
        App,
        accounts::{self, LogInError, RegisterError, Registration},
        oauth::browsers,
    },
};

/// The page.
pub(super) async fn show(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    must_be_open(&visit)?;
    Ok(visit.page(TITLE, form(&visit)))
}

/// Makes the account, and signs its owner in.
pub(super) async fn register(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let mut visit = Visit::begin(app, sent).await?;
    must_be_open(&visit)?;
    let app = visit.app.clone();
    let again = |problem: &str| Ok(visit.problem(StatusCode::BAD_REQUEST, TITLE, problem, form(&visit)));
    let value = |name| visit.form.get(name).unwrap_or_default().to_owned();
    let password = value("password");
    if password != value("again") {
        return again("The two passwords differ.");
    }
    if app.terms.url.is_some() && visit.form.get("terms").is_none() {
        return again("An account needs that you accept the terms.");
    }
    let wanted = Registration {
        name: Some(value("user").trim().to_owned()),
        password: Some(Secret::new(password)),
        registration_token: needs_token(&app).then(|| value("token").trim().to_owned()),
        terms: app.terms.url.is_some().then(|| app.terms.version.clone()),
        ..Registration::default()
    };
    let user_id = match accounts::register(&app, wanted).await {
        Ok(registered) => registered.user_id,
        Err(RegisterError::Store(error)) => return Err(error.into()),
        Err(error) => {
            return again(match error {
                RegisterError::Taken => "This user name is taken. Choose another.",
                RegisterError::TokenSpent => "This registration token is not valid.",
                RegisterError::Password(_) => "A password has 1 to 512 bytes.",
                _ => "A user name has only small letters, digits and . _ = - / +, and is not too long.",
            });
        }
    };
    let account = accounts::find(&app, user_id.as_str()).await?;
    let account = account.ok_or_else(|| Error::internal("an account that was just made is not there"))?;
    match browsers::signed_in(&app, &visit.cookie, account.number).await {
        Ok(cookie) => visit.set_cookie(cookie, true),
        Err(LogInError::Store(error)) => return Err(error.into()),
        // Somebody was faster to lock it.
        Err(_) => {}
    }
    Ok(visit.redirect(&sign_in::onward(&visit)))
}

fn must_be_open(visit: &Visit) -> Result<(), Refusal> {
    if visit.app.registration.mode != RegistrationMode::Closed {
        return Ok(());
    }
    let html = Html::default().link(&visit.path_with_next(sign_in::PATH, visit.next()), "Sign in");
    let problem = "Whoever runs this server makes its accounts. Ask them for one.";
    Err(visit.problem(StatusCode::FORBIDDEN, TITLE, problem, html).into())
}

fn needs_token(app: &App) -> bool {
    app.registration.mode == RegistrationMode::Token
}

fn form(visit: &Visit) -> Html {
    let value = |name| visit.form.get(name).unwrap_or_default();
    let hint = format!("Others find you as @name:{}", visit.app.server_name);
    let user = Field {
        name: "user",
        label: "User name",
        kind: "text",
        autocomplete: "username",
        value: value("user"),
        hint: &hint,
        ..Field::default()
    };
    let password = Field {
        name: "password",
        label: "Password",
        kind: "password",
        autocomplete: "new-password",
        ..Field::default()
    };
    let again = Field { name: "again", label: "Repeat password", ..password };
    let mut html = Html::default()
        .form(&visit.path_with_next(PATH, visit.next()), ("proof", &visit.proof()))
        .field(&user)
        .field(&password)
        .field(&again);
    if needs_token(&visit.app) {
        html = html.field(&Field {
            name: "token",
            label: "Registration token",
            kind: "text",
            autocomplete: "off",
            value: value("token"),
            hint: "From whoever runs this server",
            ..Field::default()
        });
    }
    if let Some(url) = &visit.app.terms.url {
        let words = Html::default().mark("I accept the <a rel=\"noreferrer\" href=\"").text(url.as_str());
        html = html.tick("terms", &words.mark("\">").text(&visit.app.terms.name).mark("</a>"));
    }
    html.button("main", "go", "Create account")
        .mark("</form>")
        .link(&visit.path_with_next(sign_in::PATH, visit.next()), "I have an account")
}

pub(super) const PATH: &str = "/oauth/register";
const TITLE: &str = "Create an account";
