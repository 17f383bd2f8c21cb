//! What owners do with their account. <https://spec.matrix.org/v1.19/client-server-api/#legacy-account-management>

use ruma::api::client::account::{ThirdPartyIdRemovalStatus, change_password, deactivate};

use crate::{
    api::{Error, caller::EvenSuspended, custom::Proved},
    base::secret::Secret,
    service::{
        App,
        accounts::{self, ChangePasswordError, EndSessions},
        uia::{self, Operation},
    },
};

/// `POST /_matrix/client/v3/account/password`
pub(crate) async fn password(
    app: App,
    EvenSuspended(user): EvenSuspended,
    Proved(request): Proved<change_password::v3::Request>,
) -> Result<change_password::v3::Response, Error> {
    let parameters = (&request.new_password, request.logout_devices);
    let operation = Operation::of_user("password", user.number, &parameters);
    uia::authorize_session(&app, &user, operation, request.auth.as_ref()).await?;
    let end = if request.logout_devices { EndSessions::Others(user.device) } else { EndSessions::None };
    accounts::set_password(&app, user.number, Secret::new(request.new_password), end).await?;
    Ok(change_password::v3::Response::new())
}

/// `POST /_matrix/client/v3/account/deactivate`
pub(crate) async fn deactivate(
    app: App,
    EvenSuspended(user): EvenSuspended,
    Proved(request): Proved<deactivate::v3::Request>,
) -> Result<deactivate::v3::Response, Error> {
    let operation = Operation::of_user("deactivate", user.number, &request.erase);
    uia::authorize_session(&app, &user, operation, request.auth.as_ref()).await?;
    accounts::deactivate(&app, user.number, request.erase).await?;
    // No third-party identifiers are kept here, so none is left bound.
    Ok(deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::Success))
}

impl From<ChangePasswordError> for Error {
    fn from(error: ChangePasswordError) -> Self {
        match error {
            ChangePasswordError::Password(refused) => refused.into(),
            ChangePasswordError::Ended => Self::unknown_token(false),
            ChangePasswordError::Store(error) => error.into(),
        }
    }
}
