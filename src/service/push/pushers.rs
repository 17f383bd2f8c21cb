//! Where a user's devices want to be notified.
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushers>

use url::Url;

use crate::{
    base::{ids::UserNumber, limits},
    service::{App, sessions::Session},
    store::{Pusher, PusherSettings, StoreError, Transaction},
};

/// Why a pusher is not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("the application's id, the push key or a name is too long")]
    TooLong,
    #[error("a gateway's URL begins with `https:`, and its path ends in {NOTIFY}")]
    Url,
    #[error("the user has too many pushers")]
    TooMany,
    #[error("the session is over")]
    Ended,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The pushers of a user.
pub async fn list(app: &App, user: UserNumber) -> Result<Vec<Pusher>, StoreError> {
    app.store.read(move |view| view.pushers(user)).await
}

/// Sets a pusher, which ends with the session that sets it. Unless it is to be added, others who have the same one lose
/// it: their app is somebody else's now.
pub async fn set(app: &App, session: &Session, settings: PusherSettings, add: bool) -> Result<(), SetError> {
    check(&settings)?;
    let (user, device) = (session.number, session.device);
    let job = move |transaction: &mut Transaction<'_>| {
        let PusherSettings { app_id, pushkey, .. } = &settings;
        transaction.is_locked(device)?.ok_or(SetError::Ended)?;
        if !add {
            transaction.remove_pusher_of_others(user, app_id, pushkey)?;
        }
        let stand = transaction.set_pusher((user, device), &settings)?;
        let numbers: Vec<_> = transaction.pushers(user)?.iter().map(|pusher| pusher.number).collect();
        match numbers.len() {
            ..=limits::PUSHERS => Ok((stand, numbers)),
            _ => Err(SetError::TooMany),
        }
    };
    let (stand, numbers) = app.store.write(job).await?;
    app.pushers_left(user, &numbers);
    app.pusher_set(&stand);
    Ok(())
}

/// Removes a pusher of a user, if there is such a one.
pub async fn remove(app: &App, user: UserNumber, app_id: String, pushkey: String) -> Result<(), StoreError> {
    let job = move |transaction: &mut Transaction<'_>| {
        transaction.remove_pusher(user, &app_id, &pushkey)?;
        Ok::<_, StoreError>(transaction.pushers(user)?.iter().map(|pusher| pusher.number).collect::<Vec<_>>())
    };
    let numbers = app.store.write(job).await?;
    app.pushers_left(user, &numbers);
    Ok(())
}

fn check(settings: &PusherSettings) -> Result<(), SetError> {
    let PusherSettings { app_id, pushkey, url, data, profile_tag, .. } = settings;
    let texts = [&settings.app_display_name, &settings.device_display_name, &settings.lang, url];
    let is_long = |text: &String| text.len() > limits::PUSHER_TEXT_BYTES;
    if app_id.chars().count() > limits::APP_ID_CHARACTERS
        || pushkey.len() > limits::PUSH_KEY_BYTES
        || data.len() > limits::PUSHER_DATA_BYTES
        || texts.into_iter().chain(profile_tag).any(is_long)
    {
        return Err(SetError::TooLong);
    }
    // Behind what the path ends in, a gateway of UnifiedPush is found under a path of its own.
    let is_gateway = |url: &Url| {
        url.scheme() == "https"
            && url.has_host()
            && url.path().ends_with(NOTIFY)
            && url.username().is_empty()
            && url.password().is_none()
    };
    Url::parse(url).ok().filter(is_gateway).map(drop).ok_or(SetError::Url)
}

const NOTIFY: &str = "/_matrix/push/v1/notify";
