//! One connection from its first byte to its last: handshake, HTTP/1.1 or HTTP/2, idleness, a stop.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};

use super::{answer::answer, clients::Connected, listener::Stream, server::Shared, tls::Tls};
use crate::base::{clock::Clock, limits};

/// Serves a connection until either side is done with it. The permit, one of those for all connections, ends with it.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: Box<dyn Stream>,
    tls: Option<Arc<Tls>>,
    client: Connected,
    _permit: OwnedSemaphorePermit,
) {
    let stream: Box<dyn Stream> = match tls {
        None => stream,
        // On the heap for its time: what a connection's future can hold, it takes as long as it is open.
        Some(tls) => match Box::pin(timeout(limits::HANDSHAKE_TIME, tls.acceptor().accept(stream))).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let activity = Arc::new(Activity::new(shared.app.clock.clone()));
    let io = TokioIo::new(Watched { stream, activity: activity.clone() });
    let client = Arc::new(client);
    let service = service_fn(|request| {
        let (shared, client, activity) = (shared.clone(), client.clone(), activity.clone());
        // On the heap, too, and otherwise there several times over.
        Box::pin(async move {
            let _busy = activity.busy();
            Ok::<_, Infallible>(answer(&shared, &client, request).await)
        })
    });
    let builder = builder(&shared);
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        // Whatever ended the connection, nobody is left to be told.
        _ = connection.as_mut() => return,
        () = activity.idle(shared.limits.idle_time) => connection.as_mut().graceful_shutdown(),
        () = shared.stopped() => {
            connection.as_mut().graceful_shutdown();
            _ = timeout(shared.limits.drain_time, connection.as_mut()).await;
        }
    }
    _ = timeout(limits::CLOSE_TIME, connection.as_mut()).await;
}

fn builder(shared: &Shared) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.head_time)
        .max_buf_size(limits::HEAD_BYTES * 2);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS)
        .max_header_list_size(limits::HEAD_BYTES as u32 * 2)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * 4)
        .max_send_buf_size(STREAM_WINDOW as usize);
    builder
}

/// What an HTTP/2 client may send on a stream before it was read, in bytes.
const STREAM_WINDOW: u32 = 64 << 10;

/// When a connection last did something for its client.
struct Activity {
    clock: Clock,
    requests: AtomicUsize,
    last_ms: AtomicU64,
}

impl Activity {
    fn new(clock: Clock) -> Self {
        let last_ms = AtomicU64::new(clock.monotonic().as_millis() as u64);
        Self { clock, requests: AtomicUsize::new(0), last_ms }
    }

    fn touch(&self) {
        self.last_ms.store(self.clock.monotonic().as_millis() as u64, Ordering::Relaxed);
    }

    fn busy(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Resolves when there was no request in flight and nothing was written for `time`, or a little later: all connections
    /// look at the same moments, so that many that wait wake the server seldom.
    async fn idle(&self, time: Duration) {
        let beat = (time / limits::IDLE_BEATS).as_millis().max(1) as u64;
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let now = self.clock.monotonic();
            let left = match time.checked_sub(now.saturating_sub(last)) {
                _ if self.requests.load(Ordering::Relaxed) > 0 => time,
                Some(left) if !left.is_zero() => left,
                _ => return,
            };
            let until = ((now + left).as_millis() as u64 + 1).next_multiple_of(beat);
            sleep(Duration::from_millis(until).saturating_sub(now)).await;
        }
    }
}

/// A request in flight on a connection.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream whose writes count as activity. Reads don't: a client that sends a byte now and then is not served by that.
struct Watched {
    stream: Box<dyn Stream>,
    activity: Arc<Activity>,
}

impl Watched {
    fn written(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = poll {
            self.activity.touch();
        }
        poll
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
