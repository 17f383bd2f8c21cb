//! Large answers go out piece by piece, so that a client that takes them slowly or not at all holds a bounded part of the
//! memory, and not for ever: over HTTP/2 one may ask for hundreds of them and take none.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use tokio::{sync::mpsc::Sender, time::timeout};

use super::{clients::InFlight, gzip::Encoder, panic, server::Shared};
use crate::{
    api::body::{Failed, Stream, Writing},
    base::limits,
};

/// A body on its way to the client.
pub(super) type Sent = Either<Full<Bytes>, Stream>;

/// A body of these bytes.
pub(super) fn whole(bytes: Bytes) -> Sent {
    Either::Left(bytes.into())
}

/// Why an answer isn't sent: as many wait already for their client to take earlier ones as may.
#[derive(Debug)]
pub(super) struct Crowded;

/// The body of an answer to this request. A large one waits until its client has taken enough of earlier ones.
pub(super) async fn body(bytes: Bytes, request: InFlight) -> Result<Sent, Crowded> {
    if bytes.len() <= limits::ANSWER_PIECE_BYTES {
        return Ok(whole(bytes));
    }
    let memory = request.answer(bytes.len()).await.ok_or(Crowded)?;
    let (sender, stream) = Stream::new(bytes.len() as u64);
    tokio::spawn(async move {
        let _held = (memory, request);
        _ = send(&sender, bytes).await;
    });
    Ok(Either::Right(stream))
}

/// The body of an answer that is written while it is sent, compressed if an encoder is given. It waits as a large one
/// does, for as much as it holds, and takes a turn for every piece, of its user's as well. Where the rest of it fails to
/// come, nothing is left but to cut the connection.
pub(super) async fn written(
    mut writing: Box<dyn Writing>,
    mut encoder: Option<Encoder>,
    (request, of_user): (InFlight, Option<InFlight>),
    shared: Arc<Shared>,
) -> Result<Sent, Crowded> {
    let memory = request.answer(limits::ANSWER_STREAM_BYTES + writing.held()).await.ok_or(Crowded)?;
    Ok(Either::Right(Stream::unmeasured(async move |sender| {
        let _memory = memory;
        while !sender.is_closed() {
            let turn = request.turns().begin().await;
            if let Some(of_user) = &of_user {
                turn.and(of_user.turns()).await;
            }
            let written = panic::catch(writing.next()).await.map_err(|payload| {
                let cause = panic::told(&*payload, &shared.panics);
                tracing::error!(cause, "the rest of an answer can't be written");
                Failed
            })?;
            let Some(mut piece) = written? else {
                if let Some(encoder) = encoder {
                    send(&sender, encoder.end()?).await.ok_or(Failed)?;
                }
                return Ok(());
            };
            if let Some(whole) = encoder.take() {
                let (rest, compressed) = whole.piece(piece, &shared.compressions).await?;
                (encoder, piece) = (Some(rest), compressed);
            }
            drop(turn);
            send(&sender, piece).await.ok_or(Failed)?;
        }
        Err(Failed)
    })))
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
