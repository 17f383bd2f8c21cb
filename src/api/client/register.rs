//! Making an account. <https://spec.matrix.org/v1.19/client-server-api/#legacy-account-registration>

use http::StatusCode;
use ruma::api::{
    client::account::{
        check_registration_token_validity, get_username_availability,
        register::{LoginType, RegistrationKind, v3},
    },
    error::ErrorKind,
};

use crate::{
    api::{Anyone, Error},
    base::secret::Secret,
    config::RegistrationMode,
    service::{
        App,
        accounts::{self, PasswordRefused, RegisterError, Registration},
        registration_tokens,
        sessions::{DeviceRequest, InvalidDevice},
        uia::{self, Operation, Stage},
    },
};

/// `POST /_matrix/client/v3/register`
pub(crate) async fn register(app: App, caller: Anyone, request: v3::Request) -> Result<v3::Response, Error> {
    if request.login_type == Some(LoginType::ApplicationService) {
        return Err(Error::forbidden("No application service has this token"));
    }
    let flow: &'static [Stage] = match app.registration.mode {
        _ if request.kind != RegistrationKind::User => {
            return Err(Error::forbidden("Guests can't register here"));
        }
        RegistrationMode::Closed => return Err(closed()),
        RegistrationMode::Token if app.terms.url.is_some() => &[Stage::RegistrationToken, Stage::Terms],
        RegistrationMode::Token => &[Stage::RegistrationToken],
        RegistrationMode::Open if app.terms.url.is_some() => &[Stage::Terms],
        RegistrationMode::Open => &[Stage::Dummy],
    };
    if let Some(name) = &request.username {
        accounts::check_available(&app, name).await?;
    }
    if request.auth.is_some() && request.password.is_none() {
        return Err(Error::missing_param("An account needs a password"));
    }
    let operation = Operation::of_anyone("register");
    let proof = uia::authorize(&app, caller.client, operation, flow, request.auth.as_ref()).await?;
    let device = DeviceRequest {
        id: request.device_id,
        display_name: request.initial_device_display_name,
        refresh: request.refresh_token,
    };
    let wanted = Registration {
        name: request.username,
        password: request.password.map(Secret::new),
        admin: false,
        registration_token: proof.registration_token,
        terms: proof.terms,
        device: (!request.inhibit_login).then_some(device),
        ..Registration::default()
    };
    let registered = accounts::register(&app, wanted).await?;
    let mut response = v3::Response::new(registered.user_id);
    if let Some(log_in) = registered.log_in {
        response.access_token = Some(log_in.tokens.access.expose().clone());
        response.refresh_token = log_in.tokens.refresh.map(|token| token.expose().clone());
        response.expires_in = log_in.tokens.lifetime;
        response.device_id = Some(log_in.device_id);
    }
    Ok(response)
}

/// `GET /_matrix/client/v3/register/available`
pub(crate) async fn available(
    app: App,
    _caller: Anyone,
    request: get_username_availability::v3::Request,
) -> Result<get_username_availability::v3::Response, Error> {
    accounts::check_available(&app, &request.username).await?;
    Ok(get_username_availability::v3::Response::new(true))
}

/// `GET /_matrix/client/v1/register/m.login.registration_token/validity`
pub(crate) async fn token_validity(
    app: App,
    _caller: Anyone,
    request: check_registration_token_validity::v1::Request,
) -> Result<check_registration_token_validity::v1::Response, Error> {
    if app.registration.mode == RegistrationMode::Closed {
        return Err(closed());
    }
    let valid = registration_tokens::is_valid(&app, request.token).await?;
    Ok(check_registration_token_validity::v1::Response::new(valid))
}

fn closed() -> Error {
    Error::forbidden("Registration is closed here")
}

impl From<RegisterError> for Error {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::InvalidName => Self::bad_request(
                ErrorKind::InvalidUsername,
                "A user name has only a-z, 0-9 and . _ = - / +, and is not too long",
            ),
            RegisterError::Taken | RegisterError::Linked => {
                Self::bad_request(ErrorKind::UserInUse, "This user name is taken")
            }
            RegisterError::TokenSpent => Self::new(
                StatusCode::FORBIDDEN,
                ErrorKind::Forbidden,
                "This registration token is not valid any more",
            ),
            RegisterError::Password(refused) => refused.into(),
            RegisterError::Device(invalid) => invalid.into(),
            RegisterError::Store(error) => error.into(),
        }
    }
}

impl From<PasswordRefused> for Error {
    fn from(_: PasswordRefused) -> Self {
        Self::bad_request(ErrorKind::WeakPassword, "A password has 1 to 512 bytes")
    }
}

impl From<InvalidDevice> for Error {
    fn from(error: InvalidDevice) -> Self {
        match error {
            InvalidDevice::Length => {
                Self::invalid_param("The device id or the device's name is empty or longer than 255 bytes")
            }
            InvalidDevice::IsKey => Self::forbidden("One of your keys has this id"),
        }
    }
}
