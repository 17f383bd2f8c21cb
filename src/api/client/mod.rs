//! The client-server API: one file an endpoint or tight group, one line each in [`routes`]. The files don't import
//! each other. <https://spec.matrix.org/v1.19/client-server-api/>

mod discovery;

use super::Routes;

/// Adds the endpoints of the client-server API.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(discovery::versions);
    routes.add(discovery::well_known);
}
