//! Finding people. <https://spec.matrix.org/v1.19/client-server-api/#user-directory>

use ruma::api::client::user_directory::search_users::v3;

use crate::{
    api::{Error, User},
    service::{App, directory::users},
};

/// `POST /_matrix/client/v3/user_directory/search`
pub(crate) async fn search(app: App, user: User, request: v3::Request) -> Result<v3::Response, Error> {
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(usize::MAX);
    let findings = users::search(&app, user.number, &request.search_term, limit).await?;
    let results = findings.users.into_iter().map(|found| {
        let mut told = v3::User::new(found.user_id);
        // Clients remove a name or a picture by an empty one.
        told.display_name = found.profile.display_name.filter(|name| !name.is_empty());
        told.avatar_url = found.profile.avatar_url.filter(|url| !url.as_str().is_empty());
        told
    });
    Ok(v3::Response::new(results.collect(), findings.limited))
}
