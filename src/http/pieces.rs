//! Large answers go out piece by piece, so that a client that takes them slowly or not at all holds a bounded part of the
//! memory, and not for ever: over HTTP/2 one may ask for hundreds of them and take none.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::mpsc::Sender, time::timeout};

use super::{clients::InFlight, gzip::Encoder, server::Shared};
use crate::{
    api::{
        Body,
        body::{Failed, Stream},
    },
    base::limits,
};

/// The body of an answer to this request. A large one waits until its client has taken enough of earlier ones.
pub(super) async fn body(bytes: Bytes, request: InFlight) -> Body {
    if bytes.len() <= limits::ANSWER_PIECE_BYTES {
        return bytes.into();
    }
    let (sender, stream) = Stream::new(bytes.len() as u64);
    let share = bytes.len().min(limits::ANSWERS_PER_CLIENT_BYTES) as u32;
    let memory = request.answers().clone().acquire_many_owned(share).await;
    tokio::spawn(async move {
        let _held = (memory, request);
        _ = send(&sender, bytes).await;
    });
    Body::Stream(stream)
}

/// The body of an answer that is written while it is sent, compressed if an encoder is given. It waits as a large one
/// does, for as much as it holds at most. Where the rest of it fails to come, nothing is left but to cut the connection.
pub(super) async fn written(
    mut pieces: Stream,
    mut encoder: Option<Encoder>,
    request: InFlight,
    shared: Arc<Shared>,
) -> Body {
    let share = limits::ANSWER_STREAM_BYTES as u32;
    let memory = request.answers().clone().acquire_many_owned(share).await;
    Body::Stream(Stream::unmeasured(async move |sender| {
        let _held = (memory, request);
        while let Some(piece) = pieces.next().await {
            let mut piece = piece?;
            if let Some(whole) = encoder.take() {
                let (rest, compressed) = whole.piece(piece, &shared.compressions).await?;
                (encoder, piece) = (Some(rest), compressed);
            }
            send(&sender, piece).await.ok_or(Failed)?;
        }
        if let Some(encoder) = encoder {
            send(&sender, encoder.end()?).await.ok_or(Failed)?;
        }
        Ok(())
    }))
}

/// Sends bytes as their client takes them; nothing comes of it if it doesn't.
async fn send(sender: &Sender<Result<Bytes, Failed>>, mut bytes: Bytes) -> Option<()> {
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(limits::ANSWER_PIECE_BYTES));
        // A copy, because a part of the whole would keep all of it.
        let sent = sender.send(Ok(Bytes::copy_from_slice(&piece)));
        timeout(limits::ANSWER_PIECE_TIME, sent).await.ok()?.ok()?;
    }
    Some(())
}
