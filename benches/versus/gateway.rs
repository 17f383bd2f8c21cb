//! A push gateway on loopback, which takes everything.

use std::{convert::Infallible, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::meter::Stopwatch;

/// It answers until the bench ends.
pub(crate) struct Gateway {
    url: String,
    told: UnboundedReceiver<Told>,
}

/// An event that it was told of, and the time since.
type Told = (String, Stopwatch);

impl Gateway {
    /// Starts one over TLS or, without that, over plain HTTP.
    pub(crate) async fn start(tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/_matrix/push/v1/notify", listener.local_addr()?);
        let (sender, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).ok();
                let (tls, sender) = (tls.clone(), sender.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, sender).await;
                            }
                        }
                        None => answer(stream, sender).await,
                    }
                });
            }
        });
        Ok(Self { url, told })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it is told of an event; gives the time since then.
    pub(crate) async fn told_of(&mut self, event: &str) -> Result<Stopwatch> {
        loop {
            let told = timeout(PATIENCE, self.told.recv()).await.ok().flatten();
            let (told, since) = told.context("the gateway was never told of an event")?;
            if told == event {
                return Ok(since);
            }
        }
    }
}

/// Answers on one connection until it ends.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, told: UnboundedSender<Told>) {
    let service = service_fn(|request: Request<Incoming>| {
        let told = told.clone();
        async move {
            let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let since = Stopwatch::start();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            if let Some(event) = body["notification"]["event_id"].as_str() {
                // The receiver is gone only when the measurement is over.
                told.send((event.to_owned(), since)).ok();
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{\"rejected\":[]}"))))
        }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

const PATIENCE: Duration = Duration::from_secs(60);
