//! The server-server API: one file an endpoint or tight group, one line each in [`routes`].
//! <https://spec.matrix.org/v1.19/server-server-api/>

mod openid;

use super::Routes;

/// Adds the endpoints of the server-server API.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(openid::user_info);
}
