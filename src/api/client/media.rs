//! The content repository. <https://spec.matrix.org/v1.19/client-server-api/#content-repository>
//!
//! The endpoints that need no access token are frozen: they know only what was uploaded while the operator let them.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, Version};
use ruma::{
    UInt,
    api::{
        client::{
            authenticated_media::{
                get_content, get_content_as_filename, get_content_thumbnail, get_media_config,
                get_media_preview,
            },
            media::{
                create_content, create_content_async, create_mxc_uri, get_content as old_content,
                get_content_as_filename as old_content_as_filename,
                get_content_thumbnail as old_content_thumbnail, get_media_config as old_media_config,
                get_media_preview as old_media_preview,
            },
        },
        error::ErrorKind,
    },
};
use serde_json::Map;

use crate::{
    api::{
        Anyone, Body, Error, Inbound, Streamed, User, Waiting,
        custom::JsonAnswer,
        endpoint::respond,
        file::{self, Cache},
        media,
    },
    service::{
        App,
        media::{
            MediaId,
            download::{self, Found, Reader},
            preview::{self, PreviewError},
            thumbnail,
            upload::{self, Description, Upload, UploadError},
        },
    },
};

/// `POST /_matrix/media/v3/upload`
pub(crate) async fn upload(
    app: App,
    user: User,
    Streamed { request, body, .. }: Streamed<create_content::v3::Request>,
) -> Result<Response<Body>, Error> {
    let create_content::v3::Request { filename: file_name, content_type, .. } = request;
    let id = receive(app, user, None, description(content_type, file_name), body).await?;
    respond(create_content::v3::Response::new(id.to_uri()))
}

/// `POST /_matrix/media/v1/create`
pub(crate) async fn create(
    app: App,
    user: User,
    _request: create_mxc_uri::v1::Request,
) -> Result<create_mxc_uri::v1::Response, Error> {
    let (id, expires_at) = upload::reserve(&app, user.number).await?;
    let mut response = create_mxc_uri::v1::Response::new(id.to_uri());
    response.unused_expires_at = Some(expires_at.into());
    Ok(response)
}

/// `PUT /_matrix/media/v3/upload/{serverName}/{mediaId}`
pub(crate) async fn upload_to(
    app: App,
    user: User,
    Streamed { request, body, .. }: Streamed<create_content_async::v3::Request>,
) -> Result<Response<Body>, Error> {
    let id = media::named(&request.server_name, &request.media_id)?;
    let create_content_async::v3::Request { filename: file_name, content_type, .. } = request;
    receive(app, user, Some(id), description(content_type, file_name), body).await?;
    respond(JsonAnswer(Map::new()))
}

/// `GET /_matrix/client/v1/media/config`
pub(crate) async fn config(
    app: App,
    _user: User,
    _request: get_media_config::v1::Request,
) -> Result<get_media_config::v1::Response, Error> {
    Ok(get_media_config::v1::Response::new(UInt::new_saturating(app.media.upload_limit())))
}

/// `GET /_matrix/media/v3/config`
#[expect(deprecated, reason = "clients from before Matrix 1.11 ask here")]
pub(crate) async fn old_config(
    app: App,
    _user: User,
    _request: old_media_config::v3::Request,
) -> Result<old_media_config::v3::Response, Error> {
    Ok(old_media_config::v3::Response::new(UInt::new_saturating(app.media.upload_limit())))
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}`
pub(crate) async fn content(
    app: App,
    user: User,
    Streamed { request, version, headers, .. }: Streamed<get_content::v1::Request>,
) -> Result<Response<Body>, Error> {
    let id = media::named(&request.server_name, &request.media_id)?;
    send(&app, &Reader::User(user.number), id, None, request.timeout_ms, (version, &headers)).await
}

/// `GET /_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}`
pub(crate) async fn content_as(
    app: App,
    user: User,
    Streamed { request, version, headers, .. }: Streamed<get_content_as_filename::v1::Request>,
) -> Result<Response<Body>, Error> {
    let id = media::named(&request.server_name, &request.media_id)?;
    let file_name = Some(request.filename);
    send(&app, &Reader::User(user.number), id, file_name, request.timeout_ms, (version, &headers)).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}`
#[expect(deprecated, reason = "for what was uploaded before the freeze")]
pub(crate) async fn old_content(
    app: App,
    _anyone: Anyone,
    Streamed { request, version, headers, .. }: Streamed<old_content::v3::Request>,
) -> Result<Response<Body>, Error> {
    let id = media::named(&request.server_name, &request.media_id)?;
    send(&app, &Reader::Anyone, id, None, request.timeout_ms, (version, &headers)).await
}

/// `GET /_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}`
#[expect(deprecated, reason = "for what was uploaded before the freeze")]
pub(crate) async fn old_content_as(
    app: App,
    _anyone: Anyone,
    Streamed { request, version, headers, .. }: Streamed<old_content_as_filename::v3::Request>,
) -> Result<Response<Body>, Error> {
    let id = media::named(&request.server_name, &request.media_id)?;
    let file_name = Some(request.filename);
    send(&app, &Reader::Anyone, id, file_name, request.timeout_ms, (version, &headers)).await
}

/// `GET /_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}`
pub(crate) async fn thumbnail(
    app: App,
    user: User,
    Streamed { request, headers, .. }: Streamed<get_content_thumbnail::v1::Request>,
) -> Result<Response<Body>, Error> {
    let id = media::named(&request.server_name, &request.media_id)?;
    let get_content_thumbnail::v1::Request { width, height, method, animated, .. } = request;
    let wanted = media::wanted(width, height, method, animated)?;
    let thumbnail = thumbnail::open(&app, &Reader::User(user.number), id, wanted, request.timeout_ms).await?;
    file::answer(thumbnail, &headers, Cache::Client)
}

/// `GET /_matrix/media/v3/thumbnail/{serverName}/{mediaId}`
#[expect(deprecated, reason = "for what was uploaded before the freeze")]
pub(crate) async fn old_thumbnail(
    app: App,
    _anyone: Anyone,
    Streamed { request, headers, .. }: Streamed<old_content_thumbnail::v3::Request>,
) -> Result<Response<Body>, Error> {
    let id = media::named(&request.server_name, &request.media_id)?;
    let old_content_thumbnail::v3::Request { width, height, method, animated, .. } = request;
    let wanted = media::wanted(width, height, method, animated)?;
    let thumbnail = thumbnail::open(&app, &Reader::Anyone, id, wanted, request.timeout_ms).await?;
    file::answer(thumbnail, &headers, Cache::Anybody)
}

/// `GET /_matrix/client/v1/media/preview_url`
pub(crate) async fn preview(
    app: App,
    Waiting { user, turn }: Waiting,
    request: get_media_preview::v1::Request,
) -> Result<get_media_preview::v1::Response, Error> {
    let as_of = request.ts.map(Into::into);
    let preview = turn.pause(preview::preview(&app, user.number, &request.url, as_of)).await?;
    Ok(get_media_preview::v1::Response::from_raw_value(preview))
}

/// `GET /_matrix/media/v3/preview_url`
#[expect(deprecated, reason = "clients from before Matrix 1.11 ask here")]
pub(crate) async fn old_preview(
    app: App,
    Waiting { user, turn }: Waiting,
    request: old_media_preview::v3::Request,
) -> Result<old_media_preview::v3::Response, Error> {
    let as_of = request.ts.map(Into::into);
    let preview = turn.pause(preview::preview(&app, user.number, &request.url, as_of)).await?;
    Ok(old_media_preview::v3::Response::from_raw_value(preview))
}

/// Takes a file in, piece by piece.
async fn receive(
    app: App,
    user: User,
    reserved: Option<MediaId>,
    description: Description,
    body: Inbound,
) -> Result<MediaId, Error> {
    let Inbound::Stream(mut body) = body else {
        return Err(Error::internal("an upload as a whole"));
    };
    let mut upload = Upload::begin(app, user.number, reserved, body.promised()).await?;
    while let Some(piece) = body.next().await? {
        upload.write(&piece).await?;
    }
    Ok(upload.finish(description).await?)
}

/// What is left empty is not said.
fn description(content_type: Option<String>, file_name: Option<String>) -> Description {
    let said = |text: &String| !text.trim().is_empty();
    Description { content_type: content_type.filter(said), file_name: file_name.filter(said) }
}

async fn send(
    app: &App,
    reader: &Reader,
    id: MediaId,
    file_name: Option<String>,
    patience: Duration,
    (version, headers): (Version, &HeaderMap),
) -> Result<Response<Body>, Error> {
    let cache = if *reader == Reader::Anyone { Cache::Anybody } else { Cache::Client };
    // Before HTTP/1.1 nobody could tell that an answer broke off.
    let early = version >= Version::HTTP_11 && !file::wants_part(headers);
    let found = match early {
        true => download::open_early(app, reader, id, patience).await?,
        false => Found::Whole(download::open(app, reader, id, patience).await?),
    };
    match found {
        Found::Whole(mut file) => {
            file.file_name = file_name.or(file.file_name);
            file::answer(file, headers, cache)
        }
        Found::Arriving(mut file) => {
            file.file_name = file_name.or(file.file_name);
            file::arriving(file, cache)
        }
    }
}

impl From<UploadError> for Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge(limit) => Self::too_large(format!("A file may have {limit} bytes here")),
            UploadError::Quota => Self::forbidden("You have uploaded as much as one may here"),
            UploadError::TooManyPending => Self::limit_exceeded(PENDING_DELAY),
            UploadError::Description => Self::invalid_param("The content type or the file name is too long"),
            UploadError::NotFound => Self::not_found("This URI was not created here, or it has expired"),
            UploadError::Forbidden => Self::forbidden("This URI was created by somebody else"),
            UploadError::Taken => {
                let text = "This URI has content already";
                Self::new(StatusCode::CONFLICT, ErrorKind::CannotOverwriteMedia, text)
            }
            UploadError::Store(error) => error.into(),
        }
    }
}

impl From<PreviewError> for Error {
    fn from(error: PreviewError) -> Self {
        match error {
            // As servers answer that don't know the endpoint: clients then ask no more.
            PreviewError::Off => Self::unrecognized(),
            PreviewError::Url(text) => Self::invalid_param(text),
            PreviewError::Refused => Self::forbidden("This server fetches nothing from that host"),
            PreviewError::Unreachable => {
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, "The page can't be fetched")
            }
            PreviewError::Busy => Self::limit_exceeded(crate::base::limits::BUSY_TIME),
            PreviewError::Store(error) => Self::internal(error),
        }
    }
}

/// Whoever has announced too many uploads should rather make one.
const PENDING_DELAY: Duration = Duration::from_secs(60);
