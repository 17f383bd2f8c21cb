//! What clients and servers name and want of the content repository in the same way.

use http::StatusCode;
use ruma::{ServerName, UInt, api::error::ErrorKind, media::Method};

use super::Error;
use crate::service::media::{
    MediaId,
    download::DownloadError,
    thumbnail::{ThumbnailError, Wanted},
};

/// Something of the content repository, by the parts of its URI.
pub(super) fn named(server_name: &ServerName, id: &str) -> Result<MediaId, Error> {
    let text = "A media id has letters, digits, underscores and hyphens only";
    MediaId::new(server_name, id).ok_or_else(|| Error::invalid_param(text))
}

/// A thumbnail.
pub(super) fn wanted(
    width: UInt,
    height: UInt,
    method: Option<Method>,
    animated: Option<bool>,
) -> Result<Wanted, Error> {
    let crop = match method {
        None | Some(Method::Scale) => false,
        Some(Method::Crop) => true,
        Some(_) => return Err(Error::bad_request(ErrorKind::Unknown, "A method is crop or scale")),
    };
    let (width, height) = (width.into(), height.into());
    Ok(Wanted { width, height, crop, animated: animated.unwrap_or(false) })
}

impl From<DownloadError> for Error {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::NotFound => Self::not_found("There is no such media"),
            DownloadError::NotYetUploaded => {
                let text = "Nothing was uploaded here yet";
                Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorKind::NotYetUploaded, text)
            }
            DownloadError::Unreachable => {
                Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, "Its server doesn't give it now")
            }
            DownloadError::TooLarge => Self::too_large("The file is larger than this server keeps"),
            DownloadError::Store(error) => error.into(),
        }
    }
}

impl From<ThumbnailError> for Error {
    fn from(error: ThumbnailError) -> Self {
        match error {
            ThumbnailError::NotAPicture => {
                Self::bad_request(ErrorKind::Unknown, "There are thumbnails of pictures only")
            }
            ThumbnailError::TooLarge => Self::too_large("The picture is too large for a thumbnail"),
            ThumbnailError::Download(error) => error.into(),
        }
    }
}
