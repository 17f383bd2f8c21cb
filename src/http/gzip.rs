//! Compresses large responses for clients that take gzip. Small ones gain nothing.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE},
};
use tokio::sync::Semaphore;

use crate::{
    api::body::Failed,
    base::{blocking, limits},
};

/// Whether the client of a request takes gzip.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = parameters.trim().strip_prefix("q=").map(|q| q.trim().parse());
            name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight, Some(Ok(0.0) | Err::<f32, _>(_)))
        })
    })
}

/// Whether a body of so many bytes, or of nobody knows how many, is worth it: then it depends on what the client takes.
pub(super) fn is_worth(headers: &HeaderMap, length: Option<usize>) -> bool {
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    json && !headers.contains_key(CONTENT_ENCODING)
        && length.is_none_or(|length| length >= limits::GZIP_BYTES)
}

/// Compresses a body if that makes it smaller, and says so in its head. `threads` bounds how many large ones are
/// compressed at once.
pub(super) async fn compress(headers: &mut HeaderMap, body: Bytes, threads: &Semaphore) -> Bytes {
    let compressed = if body.len() < limits::GZIP_THREAD_BYTES {
        gzip(&body)
    } else {
        let body = body.clone();
        let _permit = threads.acquire().await;
        blocking::run(move || gzip(&body)).await.ok().flatten()
    };
    let Some(compressed) = compressed else { return body };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    compressed
}

/// Compresses a body that comes in pieces.
pub(super) struct Encoder(GzEncoder<Vec<u8>>);

impl Encoder {
    /// Begins to compress a body, and says so in its head.
    pub(super) fn begin(headers: &mut HeaderMap) -> Self {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// Takes a piece, and gives what is compressed by then: perhaps nothing yet. `threads` is as with [`compress`].
    pub(super) async fn piece(mut self, piece: Bytes, threads: &Semaphore) -> Result<(Self, Bytes), Failed> {
        let _permit = threads.acquire().await;
        let compressing = blocking::run(move || {
            self.0.write_all(&piece).map_err(|_| Failed)?;
            let compressed = std::mem::take(self.0.get_mut());
            Ok((self, compressed.into()))
        });
        compressing.await.map_err(|_| Failed)?
    }

    /// Gives what comes behind the last piece.
    pub(super) fn end(self) -> Result<Bytes, Failed> {
        self.0.finish().map(Bytes::from).map_err(|_| Failed)
    }
}

/// The compressed bytes, if they are fewer. The fastest level: it gets most of the gain on JSON.
fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    let compressed = encoder.write_all(body).and_then(|()| encoder.finish()).ok()?;
    (compressed.len() < body.len()).then(|| compressed.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn clients_say_what_they_take() {
        let takes =
            |value| accepted(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]));
        for yes in ["gzip", "deflate, GZIP;q=0.5", "br;q=1.0, gzip ; q=1"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip;q=0.000", "identity, x-gzip"] {
            assert!(!takes(no), "{no}");
        }
        assert!(!accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn large_bodies_shrink() {
        let threads = Semaphore::new(1);
        let mut headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        assert!(is_worth(&headers, None) && !is_worth(&headers, Some(limits::GZIP_BYTES - 1)));
        for length in [limits::GZIP_BYTES, limits::GZIP_THREAD_BYTES] {
            assert!(is_worth(&headers, Some(length)));
            let (mut headers, body) = (headers.clone(), "x".repeat(length));
            let packed = compress(&mut headers, body.clone().into(), &threads).await;
            assert_eq!((headers[CONTENT_ENCODING].as_bytes(), unpacked(&packed)), (&b"gzip"[..], body));
        }
        let (mut encoder, mut packed) = (Encoder::begin(&mut headers), Vec::new());
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        for _ in 0..100 {
            let piece;
            (encoder, piece) = encoder.piece(Bytes::from_static(&[b'x'; 1_000]), &threads).await.unwrap();
            packed.extend_from_slice(&piece);
        }
        packed.extend_from_slice(&encoder.end().unwrap());
        assert_eq!(unpacked(&packed), "x".repeat(100_000), "the pieces are one body");
        assert!(!is_worth(&headers, None), "it is compressed already");
        let picture = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("image/png"))]);
        assert!(!is_worth(&picture, None));
    }

    fn unpacked(packed: &[u8]) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        text
    }
}
