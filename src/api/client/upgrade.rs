//! `POST /_matrix/client/v3/rooms/{roomId}/upgrade`.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidupgrade>

use ruma::api::{
    client::room::upgrade_room::v3::{Request, Response},
    error::ErrorKind,
};

use crate::{
    api::{Error, User},
    room::version::Version,
    service::{App, upgrade as service},
};

pub(crate) async fn upgrade(app: App, user: User, request: Request) -> Result<Response, Error> {
    let version = Version::of(&request.new_version).ok_or_else(|| {
        let unsupported = "This server has no such room version";
        Error::bad_request(ErrorKind::UnsupportedRoomVersion, unsupported)
    })?;
    let creators = request.additional_creators;
    Ok(Response::new(service::upgrade(&app, &user, &request.room_id, version, creators).await?))
}
