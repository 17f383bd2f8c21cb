//! The server-server API: one file an endpoint or tight group, one line each in [`routes`].
//! <https://spec.matrix.org/v1.19/server-server-api/>

mod keys;
mod openid;
mod public_rooms;
mod query;
mod user_keys;
mod version;

use super::Routes;

/// Adds the endpoints of the server-server API.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(keys::server);
    routes.add(openid::user_info);
    routes.add(public_rooms::list);
    routes.add(public_rooms::search);
    routes.add(query::directory);
    routes.add(query::profile);
    routes.add(user_keys::claim);
    routes.add(user_keys::query);
    routes.add(version::version);
}
