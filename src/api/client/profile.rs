//! Profiles. <https://spec.matrix.org/v1.19/client-server-api/#profiles>

use ruma::{
    UserId,
    api::{
        client::profile::{delete_profile_field, get_profile, get_profile_field, set_profile_field},
        error::ErrorKind,
    },
    profile::ProfileFieldValue,
};

use crate::{
    api::{Anyone, Error, User, custom::Unparsed},
    service::{
        App,
        federation::queries,
        profile::{self, ProfileError},
    },
};

/// `GET /_matrix/client/v3/profile/{userId}`
pub(crate) async fn get(
    app: App,
    _caller: Anyone,
    request: get_profile::v3::Request,
) -> Result<get_profile::v3::Response, Error> {
    if request.user_id.server_name() != app.server_name {
        return Ok(queries::profile(&app, request.user_id, None).await?.into_iter().collect());
    }
    let fields = profile::profile(&app, &request.user_id).await?;
    let fields = fields.ok_or_else(|| Error::not_found("There is no such user here"))?;
    Ok(fields.into_iter().collect())
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
pub(crate) async fn get_field(
    app: App,
    _caller: Anyone,
    request: get_profile_field::v3::Request,
) -> Result<get_profile_field::v3::Response, Error> {
    let field = request.field.as_str();
    let value = if request.user_id.server_name() == app.server_name {
        profile::field(&app, &request.user_id, field).await?
    } else {
        queries::profile(&app, request.user_id, Some(field)).await?.remove(field)
    };
    let value = value.ok_or_else(|| Error::not_found("There is no such user here, or no such field"))?;
    let field = ProfileFieldValue::new(request.field.as_str(), value).map_err(Error::internal)?;
    Ok(get_profile_field::v3::Response::new(field))
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
pub(crate) async fn set_field(
    app: App,
    user: User,
    request: Unparsed<set_profile_field::v3::Request>,
) -> Result<set_profile_field::v3::Response, Error> {
    let [user_id, field] = &request.arguments[..] else { return Err(Error::unrecognized()) };
    user.must_be(&UserId::parse(user_id).map_err(|_| Error::invalid_param("This is not a user id"))?)?;
    // ruma calls this malformed.
    if !request.body.contains_key(field) {
        return Err(Error::missing_param("The field's value is missing"));
    }
    let field = field.clone();
    let value = request.parse()?.value.value().into_owned();
    profile::set_field(&app, user.number, &field, value).await?;
    Ok(set_profile_field::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
pub(crate) async fn remove_field(
    app: App,
    user: User,
    request: delete_profile_field::v3::Request,
) -> Result<delete_profile_field::v3::Response, Error> {
    user.must_be(&request.user_id)?;
    profile::remove_field(&app, user.number, request.field.as_str()).await?;
    Ok(delete_profile_field::v3::Response::new())
}

impl From<ProfileError> for Error {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::KeyTooLarge => {
                Self::bad_request(ErrorKind::KeyTooLarge, "The name of a field has at most 255 bytes")
            }
            ProfileError::InvalidKey => Self::invalid_param("A field is called like org.example.field"),
            ProfileError::NameTooLong => {
                Self::invalid_param("A display name or an avatar's address has at most 1024 bytes")
            }
            ProfileError::InvalidAvatar => Self::invalid_param("An avatar's address begins with mxc://"),
            ProfileError::TooLarge => {
                Self::bad_request(ErrorKind::ProfileTooLarge, "A profile stays below 64 KiB")
            }
            ProfileError::Store(error) => error.into(),
        }
    }
}
