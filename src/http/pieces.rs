//! Large answers go out piece by piece, so that a client that takes them slowly or not at all holds a bounded part of the
//! memory, and not for ever: over HTTP/2 one may ask for hundreds of them and take none.

use bytes::Bytes;
use tokio::time::timeout;

use super::clients::InFlight;
use crate::{
    api::{Body, body::Stream},
    base::limits,
};

/// The body of an answer to this request. A large one waits until its client has taken enough of earlier ones.
pub(super) async fn body(mut bytes: Bytes, request: InFlight) -> Body {
    if bytes.len() <= limits::ANSWER_PIECE_BYTES {
        return bytes.into();
    }
    let (sender, stream) = Stream::new(bytes.len() as u64);
    let share = bytes.len().min(limits::ANSWERS_PER_CLIENT_BYTES) as u32;
    let memory = request.answers().clone().acquire_many_owned(share).await;
    tokio::spawn(async move {
        let _held = (memory, request);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(limits::ANSWER_PIECE_BYTES));
            // A copy, because a part of the whole would keep all of it.
            let sent = sender.send(Ok(Bytes::copy_from_slice(&piece)));
            let Ok(Ok(())) = timeout(limits::ANSWER_PIECE_TIME, sent).await else { break };
        }
    });
    Body::Stream(stream)
}
