//! People and devices, over HTTP, as the specification has them.

mod account;
mod account_data;
mod calls;
mod devices;
mod login;
mod moderation;
mod operator;
mod profile;
mod quiet;
mod refresh;
mod register;
mod rendezvous;
mod shared_secret;
mod support;
mod tags;
mod tokens;
mod uia;

use serde_json::{Value, json};

use crate::rig::PASSWORD;

/// The `auth` of a request that proves the password of `user`.
pub(crate) fn by_password(user: &str) -> Value {
    by_this_password(user, PASSWORD)
}

fn by_this_password(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
    })
}

const ACCOUNT_DATA: &str = "/_matrix/client/v3/user/@alice:example.org/account_data";
const DEVICES: &str = "/_matrix/client/v3/devices";
const LOGIN: &str = "/_matrix/client/v3/login";
const LOGOUT: &str = "/_matrix/client/v3/logout";
const REFRESH: &str = "/_matrix/client/v3/refresh";
const REGISTER: &str = "/_matrix/client/v3/register";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
