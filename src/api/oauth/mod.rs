//! OAuth 2.0: the endpoints that programs ask, and the pages on which people let them in and look after their accounts.
//! The pages are plain HTML without a script. <https://spec.matrix.org/v1.19/client-server-api/#oauth-20-api>

mod account;
mod authorize;
mod client;
mod link;
mod programs;
mod register;
mod sign_in;
mod visit;

use http::Method;

pub(super) use self::programs::metadata;
use self::visit::answered;
use super::Routes;
use crate::service::oauth::{ACCOUNT, CLIENT, RETURN};

/// Adds pages, each with what shows it.
macro_rules! pages {
    ($routes:ident: $($method:ident $path:path => $show:path,)*) => {
        $($routes.add_page(Method::$method, &[$path], |app, sent| {
            Box::pin(async move { answered($show(app, sent).await) })
        });)*
    };
}

/// Adds the endpoints and the pages.
pub(super) fn routes(routes: &mut Routes) {
    routes.add_page(Method::POST, &[programs::REGISTER], |app, sent| Box::pin(programs::register(app, sent)));
    routes.add_page(Method::POST, &[programs::TOKEN], |app, sent| Box::pin(programs::token(app, sent)));
    routes.add_page(Method::POST, &[programs::REVOKE], |app, sent| Box::pin(programs::revoke(app, sent)));
    routes.add_page(Method::POST, &[programs::DEVICE], |app, sent| Box::pin(programs::device(app, sent)));
    pages! { routes:
        GET authorize::PATH => authorize::show,
        POST authorize::PATH => authorize::decide,
        GET CLIENT => client::show,
        POST CLIENT => client::go,
        GET sign_in::PATH => sign_in::show,
        POST sign_in::PATH => sign_in::sign_in,
        GET RETURN => sign_in::come_back,
        POST sign_in::OUT_PATH => sign_in::sign_out,
        GET register::PATH => register::show,
        POST register::PATH => register::register,
        GET link::PATH => link::show,
        POST link::PATH => link::decide,
        GET ACCOUNT => account::show,
        POST ACCOUNT => account::act,
    }
}
