//! Where a user's devices want to be notified.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushers>

use ruma::api::client::push::{get_pushers, set_pusher};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        Error, User,
        caller::EvenSuspended,
        custom::{AsKept, JsonAnswer, Unparsed},
    },
    service::{
        App,
        push::pushers::{self, SetError},
    },
    store::{Pusher, PusherSettings},
};

/// `GET /_matrix/client/v3/pushers`
pub(crate) async fn list(
    app: App,
    user: User,
    _request: AsKept<get_pushers::v3::Request, Value>,
) -> Result<JsonAnswer<Value>, Error> {
    let pushers = pushers::list(&app, user.number).await?;
    Ok(JsonAnswer(json!({"pushers": pushers.into_iter().map(shown).collect::<Vec<_>>()})))
}

/// `POST /_matrix/client/v3/pushers/set`
pub(crate) async fn set(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: Unparsed<set_pusher::v3::Request>,
) -> Result<set_pusher::v3::Response, Error> {
    let mut body = Fields { body: request.body, missing: Vec::new() };
    let (app_id, pushkey) = (body.text("app_id")?, body.text("pushkey")?);
    let kind = body.take("kind").unwrap_or_default();
    if kind.is_null() {
        body.complete()?;
        pushers::remove(&app, user.number, app_id, pushkey).await?;
        return Ok(set_pusher::v3::Response::new());
    }
    let (app_display_name, device_display_name) =
        (body.text("app_display_name")?, body.text("device_display_name")?);
    let (lang, data) = (body.text("lang")?, body.take("data").unwrap_or_default());
    body.complete()?;
    if kind != "http" {
        return Err(Error::invalid_param("A pusher's kind is http: this server sends no e-mail"));
    }
    let Value::Object(mut data) = data else {
        return Err(Error::invalid_param("A pusher's data is an object"));
    };
    let url = match data.remove("url") {
        Some(Value::String(url)) => url,
        Some(_) => return Err(Error::invalid_param("A gateway's URL is a text")),
        None => return Err(Error::missing_param("Missing parameters: data.url")),
    };
    let profile_tag = body.body.remove("profile_tag").and_then(|tag| tag.as_str().map(str::to_owned));
    let settings = PusherSettings {
        app_id,
        pushkey,
        url,
        data: Value::Object(data).to_string(),
        app_display_name,
        device_display_name,
        profile_tag,
        lang,
    };
    let add = body.body.get("append").is_some_and(|append| *append == true);
    pushers::set(&app, &user, settings, add).await?;
    Ok(set_pusher::v3::Response::new())
}

/// The fields of a body. What is missing is told all at once.
struct Fields {
    body: Map<String, Value>,
    missing: Vec<&'static str>,
}

impl Fields {
    fn take(&mut self, name: &'static str) -> Option<Value> {
        let value = self.body.remove(name);
        if value.is_none() {
            self.missing.push(name);
        }
        value
    }

    fn text(&mut self, name: &'static str) -> Result<String, Error> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Error::invalid_param(format!("{name} is a text"))),
            None => Ok(String::new()),
        }
    }

    fn complete(&self) -> Result<(), Error> {
        match self.missing[..] {
            [] => Ok(()),
            ref missing => Err(Error::missing_param(format!("Missing parameters: {}", missing.join(", ")))),
        }
    }
}

fn shown(Pusher { settings, .. }: Pusher) -> Value {
    let mut data: Value = serde_json::from_str(&settings.data).unwrap_or_default();
    data["url"] = settings.url.into();
    let mut shown = json!({
        "kind": "http",
        "app_id": settings.app_id,
        "pushkey": settings.pushkey,
        "app_display_name": settings.app_display_name,
        "device_display_name": settings.device_display_name,
        "lang": settings.lang,
        "data": data,
    });
    if let Some(tag) = settings.profile_tag {
        shown["profile_tag"] = tag.into();
    }
    shown
}

impl From<SetError> for Error {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Ended => Self::unknown_token(false),
            SetError::Store(error) => error.into(),
            error => Self::invalid_param(error.to_string()),
        }
    }
}
