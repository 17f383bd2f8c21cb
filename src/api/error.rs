//! What a request that fails is told. The text for the client and the source for the log never cross.
//! <https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER},
};
use ruma::api::{
    OutgoingResponseExt,
    client::uiaa::{UiaaInfo, UiaaResponse},
    error::{
        DeserializationError, Error as MatrixError, ErrorBody, ErrorKind, FromHttpRequestError,
        LimitExceededErrorData, RetryAfter, StandardErrorBody, UnknownTokenErrorData,
    },
};

use crate::{
    base::unambiguous::Fault,
    service::{
        federation::joining::Elsewhere, federation::queries::QueryError, invite_permission::Blocked,
        read::access::ReadError, uia::UiaError, write::append::WriteError,
    },
    store::StoreError,
};

/// A refusal or a failure of a request.
pub struct Error {
    status: StatusCode,
    told: Told,
    /// What the status wants in a header: when to ask again, which methods there are.
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// The cause, for the log only.
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What the client is told.
enum Told {
    Plain {
        kind: Box<ErrorKind>,
        text: Cow<'static, str>,
    },
    /// More authentication is needed. <https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api>
    Interactive(Box<UiaaInfo>),
}

impl Error {
    /// An error with a status and kind for which there is no constructor below.
    pub fn new(status: StatusCode, kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        let told = Told::Plain { kind: Box::new(kind), text: text.into() };
        Self { status, told, header: None, source: None }
    }

    /// 400 with the given kind: the request itself is wrong.
    pub fn bad_request(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, text)
    }

    /// 400 `M_BAD_JSON`: JSON of another shape than the endpoint's.
    pub fn bad_json(text: impl Into<Cow<'static, str>>) -> Self {
        Self::bad_request(ErrorKind::BadJson, text)
    }

    /// 400 `M_INVALID_PARAM`: a parameter has a value that it can't have.
    pub fn invalid_param(text: impl Into<Cow<'static, str>>) -> Self {
        Self::bad_request(ErrorKind::InvalidParam, text)
    }

    /// 400 `M_MISSING_PARAM`: a parameter that is needed is missing.
    pub fn missing_param(text: impl Into<Cow<'static, str>>) -> Self {
        Self::bad_request(ErrorKind::MissingParam, text)
    }

    /// An error with a code that ruma has no name for.
    pub fn coded(status: StatusCode, code: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        let kind = serde_json::from_value(serde_json::json!({"errcode": code}));
        Self::new(status, kind.expect("any code is an error's kind"), text)
    }

    /// 401 `M_MISSING_TOKEN`: the endpoint needs an access token.
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::MissingToken, "An access token is needed")
    }

    /// 401 `M_UNKNOWN_TOKEN`: the access token is not valid, or no longer. After a soft logout the client may log in
    /// again to the same device.
    pub fn unknown_token(soft_logout: bool) -> Self {
        let mut data = UnknownTokenErrorData::new();
        data.soft_logout = soft_logout;
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::UnknownToken(data), "The access token is not valid")
    }

    /// 401 `M_USER_LOCKED`. <https://spec.matrix.org/v1.19/client-server-api/#account-locking>
    pub fn user_locked() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::UserLocked, "This account is locked")
    }

    /// 403 `M_USER_SUSPENDED`. <https://spec.matrix.org/v1.19/client-server-api/#account-suspension>
    pub fn user_suspended() -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorKind::UserSuspended, "This account is suspended")
    }

    /// 401 with the flows of user-interactive authentication that are left.
    pub fn interactive(info: UiaaInfo) -> Self {
        let told = Told::Interactive(Box::new(info));
        Self { status: StatusCode::UNAUTHORIZED, told, header: None, source: None }
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorKind::Forbidden, text)
    }

    /// 404 `M_NOT_FOUND`: the endpoint exists, the thing does not.
    pub fn not_found(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, text)
    }

    /// 404 `M_UNRECOGNIZED`: there is no such endpoint.
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorKind::Unrecognized, "There is no such endpoint")
    }

    /// 405 `M_UNRECOGNIZED`: the endpoint exists, for the methods in `allow`.
    pub fn wrong_method(allow: HeaderValue) -> Self {
        let text = "This endpoint has other methods";
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Unrecognized, text);
        error.header = Some(Box::new((ALLOW, allow)));
        error
    }

    /// 413 `M_TOO_LARGE`.
    pub fn too_large(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, text)
    }

    /// 429 `M_LIMIT_EXCEEDED`: too many requests; the next one is welcome after `delay`.
    pub fn limit_exceeded(delay: Duration) -> Self {
        let mut data = LimitExceededErrorData::new();
        data.retry_after = Some(RetryAfter::Delay(delay));
        let kind = ErrorKind::LimitExceeded(data);
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, kind, "Too many requests");
        error.header = Some(Box::new((RETRY_AFTER, whole_seconds(delay))));
        error
    }

    /// 500 `M_UNKNOWN`: our fault, which only the log tells.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let text = "Something went wrong on the server";
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::Unknown, text);
        error.source = Some(source.into());
        error
    }

    /// 503 `M_UNKNOWN`: not now, but perhaps after `delay`.
    pub fn unavailable(text: impl Into<Cow<'static, str>>, delay: Duration) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Unknown, text);
        error.header = Some(Box::new((RETRY_AFTER, whole_seconds(delay))));
        error
    }

    /// Adds the cause, for the log.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The cause, for the log only.
    pub fn source(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// The response that the client gets.
    pub fn into_response(self) -> Response<Bytes> {
        let Self { status, told, header, source: _ } = self;
        let response = match told {
            Told::Plain { kind, text } => {
                let body = ErrorBody::Standard(StandardErrorBody::new(*kind, text.into_owned()));
                MatrixError::new(status, body).try_into_http_response::<BytesMut>()
            }
            Told::Interactive(info) => UiaaResponse::AuthResponse(*info).try_into_http_response::<BytesMut>(),
        };
        let mut response = response.expect("an error of our own making serializes").map(BytesMut::freeze);
        if let Some((name, value)) = header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Rounded up: a client that comes back too early is refused again.
fn whole_seconds(delay: Duration) -> HeaderValue {
    HeaderValue::from(delay.as_millis().div_ceil(1_000) as u64)
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Error");
        debug.field("status", &self.status.as_u16());
        if let Told::Plain { kind, text } = &self.told {
            debug.field("errcode", &kind.errcode()).field("text", text);
        }
        debug.field("source", &self.source).finish()
    }
}

impl From<Fault> for Error {
    fn from(error: Fault) -> Self {
        match error {
            Fault::Malformed => Self::bad_request(ErrorKind::NotJson, "The body is not valid JSON"),
            Fault::Refused => Self::bad_json("The JSON has duplicate keys or is nested too deeply"),
        }
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::UnknownRoom => Self::forbidden("You are not in this room"),
            WriteError::UnknownEvent => Self::not_found("The room has no such event"),
            error @ WriteError::InvalidAlias(_) => Self::invalid_param(error.to_string()),
            error @ WriteError::BadAlias(_) => Self::bad_request(ErrorKind::BadAlias, error.to_string()),
            WriteError::NotLeft => {
                Self::bad_request(ErrorKind::Unknown, "Leave the room before you forget it")
            }
            WriteError::Denied(denied) => Self::forbidden(denied.reason),
            WriteError::TooLarge => Self::too_large("An event has at most 65536 bytes, its type and key 255"),
            WriteError::Content(reason) => Self::bad_json(reason),
            WriteError::NestedThread => {
                Self::bad_request(ErrorKind::Unknown, "No thread begins at an event that relates to another")
            }
            WriteError::DuplicateAnnotation => {
                Self::bad_request(ErrorKind::DuplicateAnnotation, "You annotated the event so before")
            }
            WriteError::AliasTaken => {
                Self::bad_request(ErrorKind::RoomInUse, "The alias names a room already")
            }
            WriteError::InviteBlocked(blocked) => blocked.into(),
            WriteError::Withdrawn => {
                Self::new(StatusCode::CONFLICT, ErrorKind::Unknown, "The event is not to be sent any more")
            }
            WriteError::Remote => Self::forbidden("Users of other servers can't be reached from here"),
            WriteError::Elsewhere(error) => error.into(),
            // The room is too busy for its policy server.
            WriteError::Unconsented(_) => Self::limit_exceeded(crate::base::limits::BUSY_TIME),
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<Blocked> for Error {
    fn from(blocked: Blocked) -> Self {
        Self::coded(StatusCode::FORBIDDEN, blocked.code(), "This user wants no such invitation")
    }
}

impl From<Elsewhere> for Error {
    fn from(error: Elsewhere) -> Self {
        match error {
            Elsewhere::Nobody => {
                Self::not_found("This server knows no such room, nor a server that is in it")
            }
            Elsewhere::Busy => Self::limit_exceeded(crate::base::limits::BUSY_TIME),
            Elsewhere::Failed(_) => {
                let text = "No server of those that may be in the room could help";
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, text).caused_by(error)
            }
            Elsewhere::Refused { ref error, .. } => match &error.kind {
                kind @ (ErrorKind::Forbidden
                | ErrorKind::NotFound
                | ErrorKind::InviteBlocked
                | ErrorKind::IncompatibleRoomVersion(_)
                | ErrorKind::UnsupportedRoomVersion) => {
                    let status = match kind {
                        ErrorKind::Forbidden | ErrorKind::InviteBlocked => StatusCode::FORBIDDEN,
                        ErrorKind::NotFound => StatusCode::NOT_FOUND,
                        _ => StatusCode::BAD_REQUEST,
                    };
                    Self::new(status, kind.clone(), error.message.clone())
                }
                ErrorKind::UnableToAuthorizeJoin | ErrorKind::UnableToGrantJoin => {
                    Self::forbidden(error.message.clone())
                }
                kind if kind.errcode().as_str() == Blocked::Inviter.code() => Blocked::Inviter.into(),
                _ => {
                    let text = "The server that was asked has other problems with it";
                    Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, text)
                        .caused_by(error.message.clone())
                }
            },
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Forbidden => Self::forbidden("You are not in this room"),
            ReadError::NotFound => Self::not_found("There is no such thing, or you may not see it"),
            ReadError::Token => Self::invalid_param("The token is not one of this server's"),
            ReadError::TooLong => {
                Self::unavailable("This takes too long: ask for less", crate::base::limits::BUSY_TIME)
            }
            ReadError::Store(error) => error.into(),
        }
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Unknown => Self::not_found("The server knows nothing of it"),
            QueryError::Forbidden => Self::forbidden("The server doesn't tell"),
            QueryError::Invalid => Self::invalid_param("The server doesn't understand what is asked"),
            // What is asked for may well exist: it is the way there that fails.
            QueryError::Failed(error) => {
                let text = "The server doesn't answer, or not as it should";
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, text).caused_by(error)
            }
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                Self::unavailable("The server's disk is full", Duration::from_secs(60)).caused_by(error)
            }
            error => Self::internal(error),
        }
    }
}

impl From<UiaError> for Error {
    fn from(error: UiaError) -> Self {
        match error {
            UiaError::Challenge(info) => Self::interactive(*info),
            UiaError::OAuth => Self::forbidden("This is done on the page of your account, with a browser"),
            UiaError::Store(error) => error.into(),
        }
    }
}

/// A request that doesn't fit its type. The reasons quote what the client sent, so they go back to it and to no log.
impl From<FromHttpRequestError> for Error {
    fn from(error: FromHttpRequestError) -> Self {
        match error {
            FromHttpRequestError::Deserialization(DeserializationError::Json(reason)) => {
                Self::bad_json(reason.to_string())
            }
            FromHttpRequestError::Deserialization(DeserializationError::Query(reason))
                if reason.to_string().starts_with("missing field") =>
            {
                Self::missing_param(reason.to_string())
            }
            FromHttpRequestError::Deserialization(reason) => Self::invalid_param(reason.to_string()),
            _ => Self::bad_request(ErrorKind::Unknown, "The request doesn't fit this endpoint"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answered(error: Error) -> (u16, Value, Response<Bytes>) {
        let response = error.into_response();
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap(), response)
    }

    #[test]
    fn a_client_is_told_code_and_text_but_no_cause() {
        let (status, body, response) = answered(Error::internal(std::io::Error::other("disk on fire")));
        assert_eq!(status, 500);
        assert_eq!(body, json!({"errcode": "M_UNKNOWN", "error": "Something went wrong on the server"}));
        assert_eq!(response.headers()["content-type"], "application/json");
    }

    #[test]
    fn a_limit_tells_when_to_come_back() {
        let (status, body, response) = answered(Error::limit_exceeded(Duration::from_millis(1_500)));
        assert_eq!((status, &body["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")));
        assert_eq!(body["retry_after_ms"], 1_500);
        assert_eq!(response.headers()["retry-after"], "2");
    }

    #[test]
    fn tokens_and_locks_follow_the_specification() {
        let (status, body, _) = answered(Error::unknown_token(true));
        assert_eq!(
            (status, &body["errcode"], &body["soft_logout"]),
            (401, &json!("M_UNKNOWN_TOKEN"), &json!(true))
        );
        let (status, body, _) = answered(Error::user_locked());
        assert_eq!(
            (status, &body["errcode"], &body["soft_logout"]),
            (401, &json!("M_USER_LOCKED"), &json!(true))
        );
        assert_eq!(answered(Error::missing_token()).1["errcode"], "M_MISSING_TOKEN");
    }

    #[test]
    fn interactive_authentication_answers_its_flows() {
        let (status, body, _) = answered(Error::interactive(UiaaInfo::new(Vec::new())));
        assert_eq!((status, body), (401, json!({"flows": []})));
    }
}
