//! How a file of the content repository is answered: its headers, a part of it, or that the client has it already.
//! <https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>, RFC 9110 sections 13 and 14

use std::ops::Range;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
    },
};
use ruma::http_headers::{CROSS_ORIGIN_RESOURCE_POLICY, ContentDisposition, ContentDispositionType};
use tokio::{sync::mpsc::Sender, time::timeout};

use super::{
    Body, Error,
    body::{Failed, Stream},
};
use crate::{
    base::limits,
    service::media::download::{Arriving, Download, DownloadError, Pieces},
};

/// Who may keep a copy of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    Anybody,
    /// Not what stands between: the next one who asks it may have no access token.
    Client,
}

/// Answers with a file, or the part of it that the request's headers ask for.
pub(super) fn answer(file: Download, headers: &HeaderMap, cache: Cache) -> Result<Response<Body>, Error> {
    let tag = format!("\"{}\"", file.tag);
    let has_already = headers.get_all(IF_NONE_MATCH).iter().any(|value| names(value, &tag));
    let (status, range) = if has_already {
        (StatusCode::NOT_MODIFIED, 0..0)
    } else {
        match part(headers, &tag, file.size) {
            Part::Whole => (StatusCode::OK, 0..file.size),
            Part::Range(range) => (StatusCode::PARTIAL_CONTENT, range),
            Part::OutOfRange => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
        }
    };
    // Who keeps that a part is not there could take it for the whole.
    let cache = Some(cache).filter(|_| status != StatusCode::RANGE_NOT_SATISFIABLE);
    let mut response = headed(described(&file), cache)?;
    *response.status_mut() = status;
    let mut set = |name, value: &str| set(response.headers_mut(), name, value);
    set(ETAG, &tag)?;
    set(ACCEPT_RANGES, "bytes")?;
    match status {
        StatusCode::PARTIAL_CONTENT => {
            set(CONTENT_RANGE, &format!("bytes {}-{}/{}", range.start, range.end - 1, file.size))?;
        }
        StatusCode::RANGE_NOT_SATISFIABLE => set(CONTENT_RANGE, &format!("bytes */{}", file.size))?,
        _ => {}
    }
    if !range.is_empty() {
        let size = range.end - range.start;
        *response.body_mut() = Body::Stream(stream(file.pieces(range), size, Bytes::new(), Bytes::new()));
    }
    Ok(response)
}

/// Answers with a file while it arrives. Should it break off, so does the answer.
pub(super) fn arriving(file: Arriving, cache: Cache) -> Result<Response<Body>, Error> {
    let Arriving { size, content_type, file_name, .. } = &file;
    let mut response = headed(said(content_type.as_deref(), file_name.clone()), Some(cache))?;
    let size = *size;
    let pieces = file.pieces();
    *response.body_mut() = Body::Stream(match size {
        Some(size) => stream(pieces, size, Bytes::new(), Bytes::new()),
        None => Stream::unmeasured(async move |sender| pass_on(pieces, &sender).await),
    });
    Ok(response)
}

/// Whether a client wants a part of a file, which is there once the whole is.
pub(super) fn wants_part(headers: &HeaderMap) -> bool {
    headers.get(RANGE).is_some_and(|range| range != "bytes=0-")
}

/// An empty answer with what is told of every file.
fn headed(
    (content_type, disposition): (String, String),
    cache: Option<Cache>,
) -> Result<Response<Body>, Error> {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    let mut set = |name, value: &str| set(response.headers_mut(), name, value);
    set(CONTENT_TYPE, &content_type)?;
    set(CONTENT_DISPOSITION, &disposition)?;
    match cache {
        Some(Cache::Anybody) => set(CACHE_CONTROL, FOR_ANYBODY)?,
        Some(Cache::Client) => set(CACHE_CONTROL, FOR_CLIENT)?,
        None => {}
    }
    set(CONTENT_SECURITY_POLICY, POLICY)?;
    set(CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin")?;
    set(X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    Ok(response)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), Error> {
    headers.insert(name, HeaderValue::from_str(value).map_err(Error::internal)?);
    Ok(())
}

/// Content type and disposition of a file.
pub(super) fn described(file: &Download) -> (String, String) {
    said(file.content_type.as_deref(), file.file_name.clone())
}

fn said(content_type: Option<&str>, file_name: Option<String>) -> (String, String) {
    let content_type = content_type.unwrap_or(UNKNOWN_TYPE);
    (content_type.to_owned(), disposition(content_type, file_name).to_string())
}

/// Sends a whole file between a head and a foot.
pub(super) fn framed(file: Download, head: Bytes, foot: Bytes) -> Stream {
    let size = file.size;
    stream(file.pieces(0..size), size, head, foot)
}

/// Sends so many bytes of a file between a head and a foot, for as long as somebody takes them.
fn stream(pieces: Pieces, size: u64, head: Bytes, foot: Bytes) -> Stream {
    let length = size + (head.len() + foot.len()) as u64;
    let (sender, stream) = Stream::new(length);
    tokio::spawn(async move {
        if !head.is_empty() {
            send(&sender, Ok(head)).await?;
        }
        pass_on(pieces, &sender).await?;
        if !foot.is_empty() {
            send(&sender, Ok(foot)).await?;
        }
        Ok::<_, Failed>(())
    });
    stream
}

/// Sends the pieces of a file as they come.
async fn pass_on(mut pieces: Pieces, sender: &Sender<Result<Bytes, Failed>>) -> Result<(), Failed> {
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            // Nobody waits for what is still to arrive.
            () = sender.closed() => return Err(Failed),
        };
        match piece {
            None => return Ok(()),
            Some(Ok(piece)) => send(sender, Ok(piece)).await?,
            Some(Err(error)) => {
                if let DownloadError::Store(error) = error {
                    tracing::error!(%error, "a file of the content repository can't be read");
                }
                return send(sender, Err(Failed)).await.and(Err(Failed));
            }
        }
    }
}

/// Whoever takes nothing for so long takes a place that another one waits for.
async fn send(sender: &Sender<Result<Bytes, Failed>>, piece: Result<Bytes, Failed>) -> Result<(), Failed> {
    match timeout(limits::DOWNLOAD_PIECE_TIME, sender.send(piece)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Failed),
    }
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Range(Range<u64>),
    OutOfRange,
}

/// The part that a request asks for. Several ranges, and units other than bytes, are answered with the whole.
fn part(headers: &HeaderMap, tag: &str, size: u64) -> Part {
    let same = headers.get(IF_RANGE).is_none_or(|value| value.as_bytes() == tag.as_bytes());
    let range = headers.get(RANGE).filter(|_| same).and_then(|value| value.to_str().ok());
    let Some((first, last)) =
        range.and_then(|range| range.trim().strip_prefix("bytes=")).and_then(|range| range.split_once('-'))
    else {
        return Part::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(length)) if first.is_empty() => size.saturating_sub(length)..size,
        _ => return Part::Whole,
    };
    if range.is_empty() { Part::OutOfRange } else { Part::Range(range) }
}

/// Whether a list of tags has this one, or any.
pub(super) fn names(list: &HeaderValue, tag: &str) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// Shown in place only if no browser runs what is in it.
fn disposition(content_type: &str, file_name: Option<String>) -> ContentDisposition {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let disposition = if INLINE.contains(&kind.as_str()) {
        ContentDispositionType::Inline
    } else {
        ContentDispositionType::Attachment
    };
    ContentDisposition::new(disposition).with_filename(file_name)
}

const UNKNOWN_TYPE: &str = "application/octet-stream";
/// What a URI names never changes.
const FOR_ANYBODY: &str = "public, max-age=31536000, immutable";
const FOR_CLIENT: &str = "private, max-age=31536000, immutable";
/// <https://spec.matrix.org/v1.19/client-server-api/#content-repository>
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                      style-src 'unsafe-inline'; object-src 'self';";
/// <https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &'static str) -> Part {
        part(&HeaderMap::from_iter([(RANGE, HeaderValue::from_static(range))]), "\"a\"", 100)
    }

    #[test]
    fn a_range_is_what_it_says_within_the_file() {
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=90-", 90..100),
            ("bytes=90-200", 90..100),
            ("bytes=-10", 90..100),
            ("bytes=-200", 0..100),
            ("bytes=0-18446744073709551615", 0..100),
        ] {
            assert_eq!(asked(range), Part::Range(expected), "{range}");
        }
        for range in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(asked(range), Part::OutOfRange, "{range}");
        }
        for range in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes", "bytes=-", "bytes=a-b"] {
            assert_eq!(asked(range), Part::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_file_is_not_meant() {
        let headers = |tag| {
            let range = (RANGE, HeaderValue::from_static("bytes=0-0"));
            HeaderMap::from_iter([range, (IF_RANGE, HeaderValue::from_static(tag))])
        };
        assert_eq!(part(&headers("\"a\""), "\"a\"", 100), Part::Range(0..1));
        for other in ["\"b\"", "W/\"a\"", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(part(&headers(other), "\"a\"", 100), Part::Whole);
        }
    }

    #[test]
    fn only_what_is_harmless_is_shown_in_place() {
        let shown = |content_type| disposition(content_type, None).to_string() == "inline";
        // As the specification lists them.
        let listed = "text/css text/plain text/csv application/json application/ld+json image/jpeg image/gif image/png \
                      image/apng image/webp image/avif video/mp4 video/webm video/ogg video/quicktime audio/mp4 \
                      audio/webm audio/aac audio/mpeg audio/ogg audio/wave audio/wav audio/x-wav audio/x-pn-wav \
                      audio/flac audio/x-flac";
        for harmless in listed.split(' ').chain(["IMAGE/PNG", "text/plain; charset=utf-8"]) {
            assert!(shown(harmless), "{harmless}");
        }
        for other in
            ["text/html", "image/svg+xml", "application/pdf", "", "image/png2", "text/html;image/png"]
        {
            assert!(!shown(other), "{other}");
        }
    }
}
