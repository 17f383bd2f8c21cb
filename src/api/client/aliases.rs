//! Names of rooms. <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use http::StatusCode;
use ruma::api::{
    client::{
        alias::{create_alias, delete_alias, get_alias},
        room::aliases,
    },
    error::ErrorKind,
};

use crate::{
    api::{Error, User, caller::Anyone},
    service::{
        App,
        aliases::{self as names, AliasError},
        federation::queries,
        read::{access::ReadError, look},
    },
};

/// `GET /_matrix/client/v3/directory/room/{roomAlias}`
pub(crate) async fn get(
    app: App,
    _: Anyone,
    request: get_alias::v3::Request,
) -> Result<get_alias::v3::Response, Error> {
    if request.room_alias.server_name() != app.server_name {
        let (room_id, servers) = queries::alias(&app, request.room_alias).await?;
        return Ok(get_alias::v3::Response::new(room_id, servers));
    }
    let found = names::find(&app, request.room_alias).await?;
    let room_id = found.ok_or_else(|| Error::not_found("No room has this alias"))?;
    Ok(get_alias::v3::Response::new(room_id, vec![app.server_name.clone()]))
}

/// `PUT /_matrix/client/v3/directory/room/{roomAlias}`
pub(crate) async fn create(
    app: App,
    user: User,
    request: create_alias::v3::Request,
) -> Result<create_alias::v3::Response, Error> {
    names::create(&app, &user, request.room_alias, request.room_id).await?;
    Ok(create_alias::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/directory/room/{roomAlias}`
pub(crate) async fn delete(
    app: App,
    user: User,
    request: delete_alias::v3::Request,
) -> Result<delete_alias::v3::Response, Error> {
    names::delete(&app, &user, request.room_alias).await?;
    Ok(delete_alias::v3::Response::new())
}

/// `GET /_matrix/client/v3/rooms/{roomId}/aliases`
pub(crate) async fn list(
    app: App,
    user: User,
    request: aliases::v3::Request,
) -> Result<aliases::v3::Response, Error> {
    let list = look::look(&app, user.onlooker(&app), request.room_id, |look| {
        if !look.access.sees_present(look.view)? {
            return Err(ReadError::Forbidden);
        }
        Ok(look.view.aliases(look.room()).collect::<Result<_, _>>()?)
    });
    Ok(aliases::v3::Response::new(list.await?))
}

impl From<AliasError> for Error {
    fn from(error: AliasError) -> Self {
        match error {
            AliasError::Foreign => Self::invalid_param("Aliases of other servers are theirs to change"),
            AliasError::TooLong => Self::invalid_param("An alias has at most 255 bytes"),
            AliasError::Taken => {
                Self::new(StatusCode::CONFLICT, ErrorKind::Unknown, "The alias names a room already")
            }
            AliasError::TooMany => {
                Self::forbidden("The room has as many aliases as one may have: remove another")
            }
            AliasError::Unknown => Self::not_found("No room has this alias"),
            AliasError::UnknownRoom => Self::not_found("This server knows no such room"),
            AliasError::Forbidden => Self::forbidden("You may not change this alias"),
            AliasError::Store(error) => error.into(),
        }
    }
}
