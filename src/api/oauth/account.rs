//! The pages of an account: what its owner sees and does there, also sent by a program.
//! <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-account-management>

use std::time::Duration;

use http::{Response, StatusCode};
use ruma::OwnedDeviceId;
use serde_json::Value;
use url::form_urlencoded;

use super::{
    sign_in,
    visit::{Refusal, Visit},
};
use crate::{
    api::{
        Body,
        page::{Field, Html, Sent},
    },
    base::secret::Secret,
    service::{
        App,
        accounts::{self, ChangePasswordError, EndSessions, LogInError},
        devices, localpart,
        oauth::{
            self, ACCOUNT, RESET,
            browsers::{self, ProveError},
        },
        profile::{self, ProfileError},
    },
    store::{Device, SignedIn},
};

/// A page: that of an action, or the first.
pub(super) async fn show(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let visit = Visit::begin(app, sent).await?;
    let who = visit.signed_in()?;
    let Some(action) = visit.query.get("action").and_then(Action::named) else {
        return Ok(visit.page("Your account", overview(&visit, who).await?));
    };
    let is_of_none =
        matches!(action, Action::Device | Action::EndDevice) && device_id(&visit).as_str().is_empty();
    if is_of_none || matches!(action, Action::Sessions) {
        return Ok(visit.page("Your sessions", sessions(&visit, who).await?));
    }
    let html = form(&visit, who, action).await?;
    Ok(visit.page(action.title(), html))
}

/// Does what a form says.
pub(super) async fn act(app: App, sent: Sent) -> Result<Response<Body>, Refusal> {
    let mut visit = Visit::begin(app, sent).await?;
    let who = visit.signed_in()?.clone();
    let app = visit.app.clone();
    let Some(action) = visit.form.get("action").and_then(Action::named) else {
        return Ok(visit.redirect(&visit.path(ACCOUNT)));
    };
    if action.is_grave() {
        match browsers::prove(&app, &visit.cookie, &who, visit.form.get("password")).await {
            Ok(()) => {}
            Err(ProveError::Store(error)) => return Err(error.into()),
            Err(ProveError::Old) => {
                let next = format!("{}?action={}", visit.path(ACCOUNT), action.name());
                let target = visit.path_with_next(sign_in::PATH, Some(&next));
                return Ok(visit.redirect(&format!("{target}&{}=yes", sign_in::AGAIN)));
            }
            Err(ProveError::NotTold) => return again(&visit, &who, action, NOT_TOLD).await,
            Err(ProveError::Password) => {
                return again(&visit, &who, action, "The password is wrong.").await;
            }
        }
    }
    let done = match action {
        Action::Sessions => "",
        Action::Profile => {
            if who.suspended {
                return again(&visit, &who, action, "Your account is suspended, so this can’t be changed.")
                    .await;
            }
            let name = Value::from(visit.form.get("name").unwrap_or_default().trim());
            match profile::set_field(&app, who.user, "displayname", name).await {
                Ok(()) => "name",
                Err(ProfileError::Store(error)) => return Err(error.into()),
                Err(_) => return again(&visit, &who, action, "This name is too long.").await,
            }
        }
        Action::Device | Action::EndDevice => {
            devices::remove(&app, who.user, vec![device_id(&visit)]).await?;
            "session"
        }
        Action::Password => {
            let (new, once_more) = (visit.form.get("new"), visit.form.get("again"));
            if new != once_more {
                return again(&visit, &who, action, "The two new passwords differ.").await;
            }
            let new = Secret::new(new.unwrap_or_default().to_owned());
            let end = if visit.form.get("end").is_some() { EndSessions::All } else { EndSessions::None };
            match accounts::set_password(&app, who.user, new, end).await {
                Ok(()) => {}
                Err(ChangePasswordError::Store(error)) => return Err(error.into()),
                Err(_) => return again(&visit, &who, action, "A password has 1 to 512 bytes.").await,
            }
            // Every browser was signed out, but this one goes on.
            match browsers::signed_in(&app, &visit.cookie, who.user).await {
                Ok(cookie) => visit.set_cookie(cookie, true),
                Err(LogInError::Store(error)) => return Err(error.into()),
                Err(_) => {}
            }
            "password"
        }
        Action::Deactivate => {
            accounts::deactivate(&app, who.user, visit.form.get("erase").is_some()).await?;
            let cookie = browsers::new_cookie(&app);
            visit.set_cookie(cookie, false);
            let html = Html::default().paragraph("Nobody can use it any more. You can close this page.");
            return Ok(visit.page("Your account is deactivated", html));
        }
        Action::Reset => {
            oauth::allow_reset(&app, who.user);
            let text = "Go back to the program that you came from. It can set up your new identity in the next ten \
                        minutes.";
            return Ok(visit.page("Your identity may be reset", Html::default().paragraph(text)));
        }
    };
    Ok(visit.redirect(&format!("{}?done={done}", visit.path(ACCOUNT))))
}

/// What a user does there.
#[derive(Clone, Copy)]
enum Action {
    Sessions,
    Profile,
    Device,
    EndDevice,
    Password,
    Deactivate,
    Reset,
}

impl Action {
    /// The action of this name; some have another one in
    /// [MSC4191](https://github.com/matrix-org/matrix-spec-proposals/pull/4191), which programs may still use.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "org.matrix.profile" => Self::Profile,
            "org.matrix.devices_list" | "org.matrix.sessions_list" => Self::Sessions,
            "org.matrix.device_view" | "org.matrix.session_view" => Self::Device,
            "org.matrix.device_delete" | "org.matrix.session_end" => Self::EndDevice,
            "org.matrix.account_deactivate" => Self::Deactivate,
            "password" => Self::Password,
            RESET => Self::Reset,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sessions => "org.matrix.devices_list",
            Self::Profile => "org.matrix.profile",
            Self::Device => "org.matrix.device_view",
            Self::EndDevice => "org.matrix.device_delete",
            Self::Password => "password",
            Self::Deactivate => "org.matrix.account_deactivate",
            Self::Reset => RESET,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Sessions => "Your sessions",
            Self::Profile => "Your display name",
            Self::Device => "Session",
            Self::EndDevice => "Sign this session out?",
            Self::Password => "Change your password",
            Self::Deactivate => "Deactivate your account?",
            Self::Reset => "Reset your identity?",
        }
    }

    /// Whether it needs to be proved again who is there.
    fn is_grave(self) -> bool {
        matches!(self, Self::Password | Self::Deactivate | Self::Reset)
    }
}

/// What programs may send a user here for.
pub(super) const ACTIONS: [&str; 6] = [
    "org.matrix.profile",
    "org.matrix.devices_list",
    "org.matrix.device_view",
    "org.matrix.device_delete",
    "org.matrix.account_deactivate",
    RESET,
];

async fn again(
    visit: &Visit,
    who: &SignedIn,
    action: Action,
    problem: &str,
) -> Result<Response<Body>, Refusal> {
    let html = form(visit, who, action).await?;
    Ok(visit.problem(StatusCode::BAD_REQUEST, action.title(), problem, html))
}

/// The form of an action.
async fn form(visit: &Visit, who: &SignedIn, action: Action) -> Result<Html, Refusal> {
    let begun = |html: Html| {
        html.form(&visit.path(ACCOUNT), ("proof", &visit.proof())).hidden("action", action.name())
    };
    let html = match action {
        Action::Sessions => return sessions(visit, who).await,
        Action::Profile => {
            let user_id = localpart::user_id(&who.localpart, &visit.app.server_name);
            let name = profile::field(&visit.app, &user_id, "displayname").await?;
            let field = Field {
                name: "name",
                label: "Display name",
                kind: "text",
                autocomplete: "name",
                value: name.as_ref().and_then(Value::as_str).unwrap_or_default(),
                hint: "What others see in rooms beside what you say",
                ..Field::default()
            };
            begun(Html::default()).field(&field).button("main", "go", "Save")
        }
        Action::Device | Action::EndDevice => {
            let id = device_id(visit);
            let Some(device) = devices::find(&visit.app, who.user, id).await? else {
                let html = sessions(visit, who).await?;
                let problem = "You have no such session; perhaps it is signed out already.";
                return Err(visit.problem(StatusCode::NOT_FOUND, "Your sessions", problem, html).into());
            };
            let html =
                Html::default().mark("<p><b>").text(device.display_name.as_deref().unwrap_or(NAMELESS));
            let html = html
                .mark("</b></p><p class=\"soft\">")
                .text(&device.id)
                .mark("<br>")
                .text(&used(visit, &device));
            let html = html.mark("</p>").paragraph(
                "When it is signed out, it loses what it needs to read your encrypted messages, unless another session or \
                 a backup has it.",
            );
            begun(html).hidden("device_id", &device.id).button("danger", "go", "Sign out")
        }
        Action::Password => {
            let new = Field { name: "new", label: "New password", kind: "password", ..Field::default() };
            let new = Field { autocomplete: "new-password", ..new };
            let again = Field { name: "again", label: "Repeat new password", ..new };
            let end = Html::default().mark("Sign out all my sessions as well");
            let html = with_password(begun(Html::default()), who).field(&new).field(&again).tick("end", &end);
            html.button("main", "go", "Change password")
        }
        Action::Deactivate => {
            let html = Html::default().paragraph(
                "You are signed out everywhere and leave all rooms, for ever. Nobody can have your user name again, not \
                 even you.",
            );
            let erase = Html::default().mark("Whoever joins rooms later is not to see what I wrote");
            let html = with_password(begun(html), who).tick("erase", &erase);
            html.button("danger", "go", "Deactivate account")
        }
        Action::Reset => {
            let html = Html::default()
                .paragraph(
                    "Do this only if you have lost your recovery key and all your other sessions. People with whom you \
                     write will be told that your identity is another, and what is stored encrypted may be lost.",
                )
                .paragraph("If no program of yours asked for this just now, somebody else did: close this page.");
            with_password(begun(html), who).button("danger", "go", "Reset identity")
        }
    };
    Ok(html.mark("</form>").link(&visit.path(ACCOUNT), "Back to your account"))
}

fn with_password(html: Html, who: &SignedIn) -> Html {
    if !who.has_password {
        return html;
    }
    let password = Field { name: "password", label: "Your password", kind: "password", ..Field::default() };
    html.field(&Field { autocomplete: "current-password", ..password })
}

async fn overview(visit: &Visit, who: &SignedIn) -> Result<Html, Refusal> {
    let user_id = format!("@{}:{}", who.localpart, visit.app.server_name);
    let html = match visit.query.get("done") {
        Some("name") => done("Your name is saved."),
        Some("session") => done("The session is signed out."),
        Some("password") => done("Your password is changed."),
        _ => Html::default(),
    };
    let html = html.mark("<p><b>").text(&user_id).mark("</b></p><ul class=\"list\">");
    let mut html = html;
    for action in [Action::Profile, Action::Password, Action::Deactivate] {
        html = html.mark("<li><a href=\"").text(&visit.path(ACCOUNT)).mark("?action=").mark(action.name());
        html = html.mark("\"><b>").mark(action.title().trim_end_matches('?')).mark("</b></a></li>");
    }
    let html = html.mark("</ul><h2>Your sessions</h2>").add(&sessions_list(visit, who).await?);
    let html = html.form(&visit.path(sign_in::OUT_PATH), ("proof", &visit.proof()));
    Ok(html.button("other", "go", "Sign out in this browser").mark("</form>"))
}

fn done(text: &str) -> Html {
    Html::default().mark("<div class=\"done\" role=\"status\">").text(text).mark("</div>")
}

async fn sessions(visit: &Visit, who: &SignedIn) -> Result<Html, Refusal> {
    Ok(sessions_list(visit, who).await?.link(&visit.path(ACCOUNT), "Back to your account"))
}

async fn sessions_list(visit: &Visit, who: &SignedIn) -> Result<Html, Refusal> {
    let devices = devices::list(&visit.app, who.user).await?;
    if devices.is_empty() {
        return Ok(Html::default().paragraph("No program is signed in."));
    }
    let mut html = Html::default().mark("<ul class=\"list\">");
    for device in &devices {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("action", Action::Device.name())
            .append_pair("device_id", &device.id)
            .finish();
        html = html.mark("<li><a href=\"").text(&format!("{}?{query}", visit.path(ACCOUNT))).mark("\"><b>");
        html =
            html.text(device.display_name.as_deref().unwrap_or(NAMELESS)).mark("</b><span class=\"soft\">");
        html = html.text(&used(visit, device)).mark("</span></a></li>");
    }
    Ok(html.mark("</ul>"))
}

/// The device that the URL or the form names.
fn device_id(visit: &Visit) -> OwnedDeviceId {
    let id = visit.form.get("device_id").or(visit.query.get("device_id"));
    id.unwrap_or_default().into()
}

/// When and where a device was used.
fn used(visit: &Visit, device: &Device) -> String {
    let place = device.last_seen_ip.as_ref().map(|ip| format!(", from {ip}"));
    let ago = visit.app.clock.now().since(device.last_seen_at);
    format!("Last used {}{}", spoken(ago), place.unwrap_or_default())
}

fn spoken(ago: Duration) -> String {
    let of = |count: u64, unit: &str| match count {
        1 => format!("1 {unit} ago"),
        count => format!("{count} {unit}s ago"),
    };
    match ago.as_secs() / 60 {
        0 => "just now".to_owned(),
        minutes @ ..60 => of(minutes, "minute"),
        minutes @ ..1_440 => of(minutes / 60, "hour"),
        minutes => of(minutes / 1_440, "day"),
    }
}

/// Why somebody can't confirm anything who has just signed in elsewhere.
const NOT_TOLD: &str = "The service that you sign in with doesn’t tell whether it asked you anew who you are, so this can’t \
                        be done here. Ask whoever runs this server.";
/// What a session is called that has no name.
const NAMELESS: &str = "A session without a name";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_that_is_told_is_there() {
        for name in ACTIONS {
            assert_eq!(Action::named(name).unwrap().name(), name);
        }
        assert!(Action::named("org.matrix.unknown").is_none());
    }

    #[test]
    fn time_is_told_in_words() {
        for (seconds, words) in [
            (59, "just now"),
            (60, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (7_200, "2 hours ago"),
            (86_400, "1 day ago"),
            (864_000, "10 days ago"),
        ] {
            assert_eq!(spoken(Duration::from_secs(seconds)), words);
        }
    }
}
