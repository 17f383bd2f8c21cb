//! Compresses large responses for clients that take gzip. Small ones gain nothing.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY},
};
use tokio::sync::Semaphore;

use crate::{api::body::Failed, base::limits};

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

/// Compresses the body of a response that is worth it. `threads` bounds how many large ones are compressed at once.
pub(super) async fn compress(response: Response<Bytes>, threads: &Semaphore) -> Response<Bytes> {
    let (mut head, body) = response.into_parts();
    if !is_worth(&head.headers) || body.len() < limits::GZIP_BYTES {
        return Response::from_parts(head, body);
    }
    let compressed = if body.len() < limits::GZIP_THREAD_BYTES {
        gzip(&body)
    } else {
        let body = body.clone();
        let _permit = threads.acquire().await;
        tokio::task::spawn_blocking(move || gzip(&body)).await.ok().flatten()
    };
    head.headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    match compressed {
        Some(compressed) => {
            head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Response::from_parts(head, compressed)
        }
        None => Response::from_parts(head, body),
    }
}

/// Compresses a body that comes in pieces.
pub(super) struct Encoder(GzEncoder<Vec<u8>>);

impl Encoder {
    /// Begins to compress the body of a response that is worth it, and says so in its head.
    pub(super) fn begin(headers: &mut HeaderMap) -> Option<Self> {
        if !is_worth(headers) {
            return None;
        }
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Some(Self(GzEncoder::new(Vec::new(), Compression::fast())))
    }

    /// Takes a piece, and gives what is compressed by then: perhaps nothing yet. `threads` is as with [`compress`].
    pub(super) async fn piece(mut self, piece: Bytes, threads: &Semaphore) -> Result<(Self, Bytes), Failed> {
        let _permit = threads.acquire().await;
        let compressing = tokio::task::spawn_blocking(move || {
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

fn is_worth(headers: &HeaderMap) -> bool {
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    json && !headers.contains_key(CONTENT_ENCODING)
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

    fn response(body: &str) -> Response<Bytes> {
        let response = Response::builder().header(CONTENT_TYPE, "application/json");
        response.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

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
    async fn large_bodies_shrink_and_small_ones_stay() {
        let threads = Semaphore::new(1);
        for length in [limits::GZIP_BYTES, limits::GZIP_THREAD_BYTES] {
            let body = "x".repeat(length);
            let packed = compress(response(&body), &threads).await;
            assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
            let mut text = String::new();
            flate2::read::GzDecoder::new(&packed.body()[..]).read_to_string(&mut text).unwrap();
            assert_eq!(text, body);
        }
        let mut headers = response("").headers().clone();
        let (mut encoder, mut packed) = (Encoder::begin(&mut headers).unwrap(), Vec::new());
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        for _ in 0..100 {
            let piece;
            (encoder, piece) = encoder.piece(Bytes::from_static(&[b'x'; 1_000]), &threads).await.unwrap();
            packed.extend_from_slice(&piece);
        }
        packed.extend_from_slice(&encoder.end().unwrap());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x".repeat(100_000), "the pieces are one body");
        let small = compress(response("{}"), &threads).await;
        assert_eq!(small.headers().get(CONTENT_ENCODING), None);
        assert_eq!(small.body(), "{}");
    }
}
