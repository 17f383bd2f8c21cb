//! Reads the body of a request within its bounds: a whole one of size, time and memory; a stream of speed.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use ruma::api::error::ErrorKind;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep, timeout},
};

use crate::{
    api::{Error, body::Arriving, endpoint::Boxed},
    base::limits,
};

/// A body's share of the memory that all bodies have, and of what one client's have; none for an empty one.
pub(super) type Memory = [Option<OwnedSemaphorePermit>; 2];

/// Reads a whole body of at most `limit` bytes within `time`. Each of `memory` has a permit for each byte that may
/// be held.
///
/// A client that waits for leave to send (`expect`) gets it from the first look at the body, or the answer instead.
pub(super) async fn read(
    mut body: Incoming,
    limit: usize,
    time: Duration,
    memory: [&Arc<Semaphore>; 2],
    expect: bool,
) -> Result<(Bytes, Memory), Error> {
    if body.size_hint().lower() > limit as u64 {
        if !expect {
            discard(body, limit).await;
        }
        return Err(too_large(limit));
    }
    let whole = async {
        let mut permits: Memory = [None, None];
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ended_early())?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                return Ok(None);
            }
            for (permit, memory) in permits.iter_mut().zip(memory) {
                let more = memory
                    .clone()
                    .try_acquire_many_owned(data.len() as u32)
                    .map_err(|_| Error::unavailable("The server is busy", limits::BUSY_TIME))?;
                match permit {
                    Some(permit) => permit.merge(more),
                    None => *permit = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Some((bytes.freeze(), permits)))
    };
    match timeout(time, whole).await {
        Ok(Ok(Some(read))) => Ok(read),
        Ok(Ok(None)) => {
            discard(body, limit).await;
            Err(too_large(limit))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(late()),
    }
}

/// A body that its handler reads as it arrives. What it leaves is thrown away.
pub(super) struct Stream {
    /// None: it ended.
    body: Option<Incoming>,
    /// Each piece may take so long.
    time: Duration,
    /// When the whole is too slow; later with every byte. None: the handler has not begun to read.
    too_slow: Option<Pin<Box<Sleep>>>,
    /// Whether the client waits for leave to send, which it gets from the first look at the body.
    expect: bool,
}

impl Stream {
    /// A body that may take `time` besides what its size takes at the slowest speed.
    pub(super) fn new(body: Incoming, time: Duration, expect: bool) -> Self {
        Self { body: Some(body), time, too_slow: None, expect }
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, Error> {
        self.expect = false;
        let too_slow = self.too_slow.get_or_insert_with(|| Box::pin(sleep(self.time)));
        while let Some(body) = &mut self.body {
            let frame = tokio::select! {
                frame = timeout(self.time, body.frame()) => frame.map_err(|_| late())?,
                () = too_slow.as_mut() => return Err(late()),
            };
            let Some(frame) = frame else {
                self.body = None;
                break;
            };
            if let Ok(data) = frame.map_err(|_| ended_early())?.into_data() {
                let earned =
                    Duration::from_millis(data.len() as u64 * 1_000 / limits::UPLOAD_BYTES_PER_SECOND);
                let later = too_slow.deadline() + earned;
                too_slow.as_mut().reset(later);
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl Arriving for Stream {
    fn promised(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.size_hint().lower())
    }

    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Error>> {
        Box::pin(self.next_piece())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let (Some(body), false) = (self.body.take(), self.expect) {
            tokio::spawn(discard(body, usize::MAX));
        }
    }
}

fn ended_early() -> Error {
    Error::bad_request(ErrorKind::Unknown, "The body ended early")
}

fn late() -> Error {
    Error::new(StatusCode::REQUEST_TIMEOUT, ErrorKind::Unknown, "The body did not arrive in time")
}

fn too_large(limit: usize) -> Error {
    Error::too_large(format!("A body may have {limit} bytes here"))
}

/// Throws away what is on its way: a connection that is closed on unread bytes is reset, and the client would see that
/// instead of the answer.
async fn discard(mut body: Incoming, limit: usize) {
    let mut left = limit.saturating_mul(DISCARD_FACTOR);
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // Whether the client was done or its time was up, the answer is the same.
    _ = timeout(DISCARD_TIME, rest).await;
}

/// How many times its limit a body may be too large and still be read to its end.
const DISCARD_FACTOR: usize = 8;
const DISCARD_TIME: Duration = Duration::from_secs(2);
