//! A user's own keys, and what they sign. <https://spec.matrix.org/v1.19/client-server-api/#cross-signing>

use ruma::{
    api::client::keys::{
        upload_signatures::{self, v3::Failure},
        upload_signing_keys,
    },
    serde::Raw,
};
use serde_json::json;

use crate::{
    api::{Error, caller::EvenSuspended, custom::Proved},
    base::ordered::Ordered,
    service::{
        App,
        keys::{self, SignatureFailure, SigningKeys},
        uia::{self, Operation},
    },
};

/// `POST /_matrix/client/v3/keys/device_signing/upload`
pub(crate) async fn upload(
    app: App,
    EvenSuspended(user): EvenSuspended,
    Proved(request): Proved<upload_signing_keys::v3::Request>,
) -> Result<upload_signing_keys::v3::Response, Error> {
    let text = |key: Option<Raw<_>>| key.map(|key| key.into_json().get().to_owned());
    let wanted = SigningKeys {
        master: text(request.master_key),
        self_signing: text(request.self_signing_key),
        user_signing: text(request.user_signing_key),
    };
    let upload = keys::prepare(&app, &user, wanted).await?;
    if upload.replaces {
        let ids: Vec<&str> = upload.keys.iter().map(|key| key.id.as_str()).collect();
        let operation = Operation::of_user("device_signing", user.number, &ids);
        uia::authorize_reset(&app, &user, operation, request.auth.as_ref()).await?;
    }
    keys::store(&app, &user, upload).await?;
    Ok(upload_signing_keys::v3::Response::new())
}

/// `POST /_matrix/client/v3/keys/signatures/upload`
pub(crate) async fn sign(
    app: App,
    EvenSuspended(user): EvenSuspended,
    request: upload_signatures::v3::Request,
) -> Result<upload_signatures::v3::Response, Error> {
    let signed = request.signed_keys.into_iter().map(|(user_id, keys)| {
        (user_id, keys.iter().map(|(id, key)| (id.to_owned(), key.get().to_owned())).into_map())
    });
    let failed = keys::sign(&app, &user, signed.into_map()).await?;
    let mut response = upload_signatures::v3::Response::new();
    for (user_id, keys) in failed {
        let failures = keys.into_iter().map(|(id, why)| Ok((id, failure(why)?)));
        response.failures.insert(user_id, failures.try_into_map::<_, _, Error>()?);
    }
    Ok(response)
}

fn failure(why: SignatureFailure) -> Result<Failure, Error> {
    let code = match why {
        SignatureFailure::NoSuchKey => "M_NOT_FOUND",
        SignatureFailure::OtherKey => "M_INVALID_PARAM",
        SignatureFailure::Invalid => "M_INVALID_SIGNATURE",
    };
    serde_json::from_value(json!({"errcode": code, "error": why.to_string()})).map_err(Error::internal)
}
