//! Rooms that one shares with somebody. <https://spec.matrix.org/v1.19/client-server-api/#mutual-rooms>

use ruma::api::client::membership::get_mutual_rooms::v1;

use crate::{
    api::{Error, User, unstable::MutualRooms},
    service::{
        App,
        directory::mutual::{self, MutualError},
    },
};

/// `GET /_matrix/client/v1/mutual_rooms`
pub(crate) async fn rooms(
    app: App,
    user: User,
    MutualRooms(request): MutualRooms,
) -> Result<v1::Response, Error> {
    let mutual = mutual::rooms(&app, &user, request.user_id, request.from.as_deref()).await?;
    let mut response = v1::Response::new(mutual.count.into(), mutual.rooms);
    response.next_batch = mutual.next;
    Ok(response)
}

impl From<MutualError> for Error {
    fn from(error: MutualError) -> Self {
        match error {
            MutualError::Oneself => Self::invalid_param("Rooms are shared with another user"),
            MutualError::NonCompliant => {
                Self::invalid_param("The user id has characters that no user id may have")
            }
            MutualError::Token => Self::invalid_param("The token is not one of this server's"),
            MutualError::Store(error) => error.into(),
        }
    }
}
