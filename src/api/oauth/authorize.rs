//! The page on which a user lets a program in, or doesn't.
//! <https://spec.matrix.org/v1.19/client-server-api/#authorisation-code-flow>

use http::{Response, StatusCode};
use url::Url;

use super::{
    register, sign_in,
    visit::{Refusal, Visit},
};
use crate::{
    api::{
        Body,
        page::{Html, Page, Sent},
    },
    config::RegistrationMode,
    service::{
        App, devices,
        oauth::{
            Scope,
            authorization::{self, AskError, Asked},
            clients::Client,
            redirects,
        },
    },
    store::{SignedIn, StoreError},
};

/// The page.
pub(super) async fn show(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let asked = asked(&visit).await?;
    if asked.create && visit.app.registration.mode != RegistrationMode::Closed {
        // Once there is an account, there is no more to be made.
        let next = format!("{}?{}", visit.path(PATH), visit.query.without("prompt"));
        return Ok(visit.redirect(&visit.path_with_next(register::PATH, Some(&next))));
    }
    let who = visit.signed_in()?;
    let (client, scope) = (&asked.client, &asked.scope);
    let html = about(&visit, who, client, scope).await?;
    let html = html.mark("<p>After that you go back to <b>").text(&redirects::place(&asked.redirect_uri));
    let html = choice(html.mark("</b>.</p>"), &visit, &visit.here);
    let target = Url::parse(&asked.redirect_uri).ok();
    Ok(visit.shown(Page { target: target.as_ref(), ..Page::new(&title(client), html) }))
}

/// Goes back to the program with what the user decided.
pub(super) async fn decide(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let asked = asked(&visit).await?;
    let who = visit.signed_in()?;
    if visit.form.get("decision") != Some(ALLOW) {
        return Ok(visit.redirect(&asked.refuse()));
    }
    let refused = asked.refuse();
    let target = asked.allow(&visit.app, who).await?;
    Ok(visit.redirect(&target.unwrap_or(refused)))
}

async fn asked(visit: &Visit) -> Result<Asked, Refusal> {
    match authorization::ask(&visit.app, &visit.query).await {
        Ok(asked) => Ok(asked),
        Err(AskError::Store(error)) => Err(error.into()),
        Err(AskError::Refused(target)) if visit.who.is_some() => Err(visit.redirect(&target).into()),
        // Any page can register as a program: a link to this server is not to lead there by itself.
        // <https://www.rfc-editor.org/rfc/rfc9700#section-4.11.2>
        Err(AskError::Refused(target)) => {
            let html = Html::default().link(&target, &format!("Go back to {}", redirects::place(&target)));
            let problem = "The program that sent you here asks for something that it can’t have.";
            Err(visit.problem(StatusCode::BAD_REQUEST, REFUSED, problem, html).into())
        }
        Err(AskError::Unknown) => {
            let html = Html::default().paragraph("Go back to the program and try to sign in once more.");
            let problem = "The program that sent you here is not known to this server.";
            Err(visit.problem(StatusCode::BAD_REQUEST, REFUSED, problem, html).into())
        }
    }
}

/// What a program is, and what it gets.
pub(super) async fn about(
    visit: &Visit,
    who: &SignedIn,
    client: &Client,
    scope: &Scope,
) -> Result<Html, StoreError> {
    let known = devices::find(&visit.app, who.user, scope.device_id.clone()).await?;
    let user_id = format!("@{}:{}", who.localpart, visit.app.server_name);
    let mut html = Html::default()
        .mark("<p><b>")
        .text(&client.name)
        .mark("</b> wants to use your account <b>")
        .text(&user_id)
        .mark("</b>. It could then:</p><ul class=\"rights\"><li>read and send messages as you</li>")
        .mark("<li>join, create and leave rooms</li>")
        .mark("<li>change your profile and your settings</li></ul><p class=\"soft\">It appears among your sessions as ")
        .text(scope.device_id.as_str());
    html = match known {
        Some(device) => {
            let html = html.mark(", in the place of a session that you have already");
            match device.display_name {
                Some(name) => html.mark(", ").text(&name),
                None => html,
            }
        }
        None => html,
    };
    html = html.mark(".</p><p class=\"soft\">");
    for (uri, words) in [
        (Some(&client.uri), "More about it"),
        (client.policy_uri.as_ref(), "Its privacy policy"),
        (client.tos_uri.as_ref(), "Its terms"),
    ] {
        if let Some(uri) = uri {
            html = html.mark("<a rel=\"noreferrer\" href=\"").text(uri).mark("\">").mark(words).mark("</a> ");
        }
    }
    Ok(html.mark("</p>"))
}

/// The form to decide by, and a way out for somebody else.
pub(super) fn choice(html: Html, visit: &Visit, here: &str) -> Html {
    let here = visit.path(here);
    let proof = visit.proof();
    html.form(&here, ("proof", &proof))
        .button("main", ALLOW, "Allow")
        .button("other", "deny", "Deny")
        .mark("</form>")
        .form(&visit.path_with_next(sign_in::OUT_PATH, Some(&here)), ("proof", &proof))
        .button("quiet", "go", "This is not my account")
        .mark("</form>")
}

pub(super) fn title(client: &Client) -> String {
    format!("Allow {}?", client.name)
}

pub(super) const PATH: &str = "/oauth/authorize";
const REFUSED: &str = "You can’t sign in like this";
/// The decision that lets a program in.
pub(super) const ALLOW: &str = "allow";
