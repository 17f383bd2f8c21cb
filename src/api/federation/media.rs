//! What was uploaded here, for other servers: in two parts, of which the second is the file.
//! <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

use std::time::Duration;

use bytes::Bytes;
use http::{
    Response,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue},
};
use ruma::api::federation::authenticated_media::{get_content, get_content_thumbnail};

use crate::{
    api::{Body, Error, Streamed, file, media, peer::Peer},
    service::{
        App,
        media::{
            download::{self, Download, Reader},
            thumbnail,
        },
    },
};

/// `GET /_matrix/federation/v1/media/download/{mediaId}`
pub(crate) async fn content(
    app: App,
    peer: Peer,
    Streamed { request, .. }: Streamed<get_content::v1::Request>,
) -> Result<Response<Body>, Error> {
    let get_content::v1::Request { media_id, timeout_ms, .. } = request;
    let id = media::named(&app.server_name, &media_id)?;
    let file = download::open(&app, &Reader::Peer(peer.server()), id, timeout_ms).await?;
    answer(&app, file)
}

/// `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
pub(crate) async fn thumbnail(
    app: App,
    peer: Peer,
    Streamed { request, .. }: Streamed<get_content_thumbnail::v1::Request>,
) -> Result<Response<Body>, Error> {
    let get_content_thumbnail::v1::Request { media_id, method, width, height, animated, timeout_ms, .. } =
        request;
    let id = media::named(&app.server_name, &media_id)?;
    let wanted = media::wanted(width, height, method, animated)?;
    let patience: Duration = timeout_ms;
    let file = thumbnail::open(&app, &Reader::Peer(peer.server()), id, wanted, patience).await?;
    answer(&app, file)
}

fn answer(app: &App, file: Download) -> Result<Response<Body>, Error> {
    // What nobody can guess is in no file.
    let boundary = app.rng.token();
    let (kind, disposition) = file::described(&file);
    let mut begin =
        format!("--{boundary}\r\n{CONTENT_TYPE}: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n");
    begin.push_str(&format!("{CONTENT_TYPE}: {kind}\r\n{CONTENT_DISPOSITION}: {disposition}\r\n\r\n"));
    let end = format!("\r\n--{boundary}--\r\n");
    let mut response = Response::new(Body::Stream(file::framed(file, begin.into(), Bytes::from(end))));
    let kind = HeaderValue::try_from(format!("multipart/mixed; boundary={boundary}"));
    response.headers_mut().insert(CONTENT_TYPE, kind.map_err(Error::internal)?);
    Ok(response)
}
