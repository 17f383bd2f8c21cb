//! Reads the body of a request within its bounds of size, time and memory.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use ruma::api::error::ErrorKind;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{api::Error, base::limits};

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
            let frame = frame.map_err(|_| Error::bad_request(ErrorKind::Unknown, "The body ended early"))?;
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
        Err(_) => Err(Error::new(
            StatusCode::REQUEST_TIMEOUT,
            ErrorKind::Unknown,
            "The body did not arrive in time",
        )),
    }
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
