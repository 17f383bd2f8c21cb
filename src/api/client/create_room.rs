//! `POST /_matrix/client/v3/createRoom`.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use ruma::{
    OwnedRoomAliasId, RoomAliasId,
    api::{
        client::room::{
            Visibility,
            create_room::v3::{Request, Response, RoomPreset},
        },
        error::ErrorKind,
    },
    events::{AnyInitialStateEvent, TimelineEventType},
    serde::Raw,
};
use serde::Deserialize;

use crate::{
    api::{Error, User, content},
    base::{json::Object, limits},
    room::{build::Draft, version::Version},
    service::{
        App, rooms,
        write::{
            append::WriteError,
            plan::{NewRoom, Preset},
        },
    },
};

pub(crate) async fn create_room(app: App, user: User, request: Request) -> Result<Response, Error> {
    if !request.invite_3pid.is_empty() {
        return Err(Error::forbidden("This server knows no identity server to invite by"));
    }
    let preset = preset(&request)?;
    let alias = request.room_alias_name.as_deref().map(|name| alias(&app, name)).transpose()?;
    let wanted = NewRoom {
        version: version(&request)?,
        creation_content: optional(request.creation_content.as_ref())?,
        preset,
        initial_state: request.initial_state.iter().map(draft).collect::<Result<_, _>>()?,
        power_levels: optional(request.power_level_content_override.as_ref())?,
        alias,
        name: request.name,
        topic: request.topic,
        invite: request.invite,
        is_direct: request.is_direct,
        published: request.visibility == Visibility::Public,
    };
    match rooms::create(&app, &user, wanted).await {
        Ok(room_id) => Ok(Response::new(room_id)),
        Err(WriteError::Denied(denied)) => {
            Err(Error::bad_request(ErrorKind::InvalidRoomState, denied.reason))
        }
        Err(error) => Err(error.into()),
    }
}

fn version(request: &Request) -> Result<Version, Error> {
    let Some(id) = &request.room_version else { return Ok(Version::DEFAULT) };
    let unsupported = "This server has no such room version";
    Version::of(id).ok_or_else(|| Error::bad_request(ErrorKind::UnsupportedRoomVersion, unsupported))
}

fn preset(request: &Request) -> Result<Preset, Error> {
    match (&request.preset, &request.visibility) {
        (Some(RoomPreset::PrivateChat), _) => Ok(Preset::Private),
        (Some(RoomPreset::TrustedPrivateChat), _) => Ok(Preset::TrustedPrivate),
        (Some(RoomPreset::PublicChat), _) | (None, Visibility::Public) => Ok(Preset::Public),
        (None, Visibility::Private) => Ok(Preset::Private),
        (Some(_), _) => Err(Error::invalid_param("There is no such preset")),
        (None, _) => Err(Error::invalid_param("There is no such visibility")),
    }
}

fn alias(app: &App, name: &str) -> Result<OwnedRoomAliasId, Error> {
    let whole = format!("#{name}:{}", app.server_name);
    let valid = !name.is_empty() && !name.contains([':', '\0']) && whole.len() <= limits::EVENT_FIELD_BYTES;
    let alias = RoomAliasId::parse(whole).ok().filter(|_| valid);
    alias.ok_or_else(|| Error::invalid_param("The alias's name is empty, too long, or has a colon"))
}

fn draft(event: &Raw<AnyInitialStateEvent>) -> Result<Draft, Error> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "type")]
        kind: TimelineEventType,
        #[serde(default)]
        state_key: String,
        content: Raw<AnyInitialStateEvent>,
    }
    let fields: Fields = event
        .deserialize_as_unchecked()
        .map_err(|_| Error::bad_json("An event of `initial_state` has a type and content"))?;
    Ok(Draft {
        kind: fields.kind,
        state_key: Some(fields.state_key),
        content: content::object(&fields.content)?,
        redacts: None,
    })
}

fn optional<T>(raw: Option<&Raw<T>>) -> Result<Object, Error> {
    raw.map_or_else(|| Ok(Object::default()), content::object)
}
