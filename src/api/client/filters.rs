//! Filters kept on the server. <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::api::client::filter::{create_filter, get_filter};

use crate::{
    api::{Error, User, caller::EvenSuspended},
    service::{
        App,
        filters::{self, FilterError},
    },
};

/// `POST /_matrix/client/v3/user/{userId}/filter`
pub(crate) async fn create(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: create_filter::v3::Request,
) -> Result<create_filter::v3::Response, Error> {
    user.must_be(&request.user_id)?;
    let id = filters::create(&app, user.number, &request.filter).await?;
    Ok(create_filter::v3::Response::new(id))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
pub(crate) async fn get(
    app: App,
    user: User,
    request: get_filter::v3::Request,
) -> Result<get_filter::v3::Response, Error> {
    user.must_be(&request.user_id)?;
    let filter = filters::find(&app, user.number, request.filter_id).await?;
    Ok(get_filter::v3::Response::new(filter.ok_or_else(|| Error::not_found("You keep no such filter"))?))
}

impl From<FilterError> for Error {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::TooMany => Self::forbidden("You keep too many filters"),
            FilterError::Store(error) => error.into(),
        }
    }
}
