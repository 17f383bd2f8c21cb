//! Bodies that may be too large for memory: what arrives piece by piece, and what is sent so.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tracing::Instrument;

use super::{Error, endpoint::Boxed};

/// The body of a request.
pub enum Inbound {
    Whole(Bytes),
    Stream(Box<dyn Arriving>),
}

/// A body that arrives piece by piece. Who drops it doesn't want the rest.
pub trait Arriving: Send {
    /// How many bytes are still promised, at least.
    fn promised(&self) -> u64;

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The rest doesn't arrive, or not in time.
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Error>>;
}

/// The body of a response.
pub enum Body {
    Whole(Bytes),
    /// A file.
    Stream(Stream),
    /// What is written as it is asked for.
    Written(Box<dyn Writing>),
}

/// A body that is written piece by piece, for as long as somebody asks for more.
pub trait Writing: Send {
    /// About how many bytes it holds to go on by, beyond [`limits::ANSWER_STREAM_BYTES`].
    ///
    /// [`limits::ANSWER_STREAM_BYTES`]: crate::base::limits::ANSWER_STREAM_BYTES
    fn held(&self) -> usize {
        0
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// The rest can't be written.
    fn next(&mut self) -> Boxed<'_, Result<Option<Bytes>, Failed>>;
}

/// Bytes that are sent piece by piece as they come.
#[derive(Debug)]
pub struct Stream {
    /// What is still to be sent, in bytes; none where only the end will tell, which is an empty piece.
    left: Option<u64>,
    pieces: mpsc::Receiver<Result<Bytes, Failed>>,
}

/// The rest of a body doesn't come: all that is left is to end the connection.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the response can't be read")]
pub struct Failed;

impl Stream {
    /// A body of `length` bytes. The sender's channel has room for one piece, so that it is as fast as the client.
    pub fn new(length: u64) -> (mpsc::Sender<Result<Bytes, Failed>>, Self) {
        let (sender, pieces) = mpsc::channel(1);
        (sender, Self { left: Some(length), pieces })
    }

    /// A body that ends where `write` does, which runs as a task of its own. Should it fail or panic, the body breaks off,
    /// so that nobody takes a part for the whole. No piece is empty.
    pub fn unmeasured<F, Fut>(write: F) -> Self
    where
        F: FnOnce(mpsc::Sender<Result<Bytes, Failed>>) -> Fut,
        Fut: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(1);
        let writing = write(sender.clone());
        let task = async move {
            let end = writing.await.map(|()| Bytes::new());
            // Nobody is left to be told where the client is gone.
            _ = sender.send(end).await;
        };
        // What it logs is of this request.
        tokio::spawn(task.in_current_span());
        Self { left: None, pieces }
    }

    /// What the channel gave, to who reads the body.
    fn take(&mut self, piece: Option<Result<Bytes, Failed>>) -> Option<Result<Bytes, Failed>> {
        let piece = piece.unwrap_or(Err(Failed));
        match (&piece, self.left) {
            (Ok(bytes), None) if bytes.is_empty() => {
                self.left = Some(0);
                return None;
            }
            (Ok(bytes), Some(left)) => self.left = Some(left.saturating_sub(bytes.len() as u64)),
            _ => {}
        }
        Some(piece)
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let stream = self.get_mut();
        if stream.is_end_stream() {
            return Poll::Ready(None);
        }
        stream.pieces.poll_recv(context).map(|piece| Some(stream.take(piece)?.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// What arrives of a body whose writer ends so behind its first piece.
    async fn arrived(end: fn() -> Result<(), Failed>) -> Result<Bytes, Failed> {
        let stream = Stream::unmeasured(async move |sender| {
            _ = sender.send(Ok(Bytes::from_static(b"[1"))).await;
            end()
        });
        stream.collect().await.map(|body| body.to_bytes())
    }

    #[tokio::test]
    async fn no_part_of_a_body_is_taken_for_the_whole() {
        assert_eq!(arrived(|| Ok(())).await.unwrap(), "[1");
        assert!(arrived(|| Err(Failed)).await.is_err());
        assert!(arrived(|| panic!("on purpose")).await.is_err());
    }
}
