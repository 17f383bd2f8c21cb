//! One keep-alive connection of a client or a server, with as little work a request as possible.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// A connection that opens itself again when the server closed it.
pub(crate) struct Connection {
    pub(crate) address: SocketAddr,
    tls: Option<TlsConnector>,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, tls: None, sender: connect(address, None).await? })
    }

    /// One over TLS.
    pub(crate) async fn secure(address: SocketAddr, tls: TlsConnector) -> Result<Self> {
        let sender = connect(address, Some(&tls)).await?;
        Ok(Self { address, tls: Some(tls), sender })
    }

    pub(crate) async fn get(&mut self, path: &str, token: Option<&str>) -> Result<Bytes> {
        self.request(Method::GET, path, token, Bytes::new()).await
    }

    /// Sends one request and returns the body of a successful answer.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<Bytes> {
        self.authorized(method, path, token.map(bearer).transpose()?, body).await
    }

    /// The same with this `Authorization`.
    pub(crate) async fn authorized(
        &mut self,
        method: Method,
        path: &str,
        authorization: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<Bytes> {
        let body = self.respond(method, path, authorization, body).await?;
        Ok(body.collect().await?.to_bytes())
    }

    /// Gets something large and throws it away; returns its length in bytes.
    pub(crate) async fn measure(&mut self, path: &str, token: Option<&str>) -> Result<usize> {
        let token = token.map(bearer).transpose()?;
        let mut body = self.respond(Method::GET, path, token, Bytes::new()).await?;
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }

    async fn respond(
        &mut self,
        method: Method,
        path: &str,
        authorization: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<Incoming> {
        if self.sender.is_closed() {
            self.sender = connect(self.address, self.tls.as_ref()).await?;
        }
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        if !status.is_success() {
            let body = answer.into_body().collect().await?.to_bytes();
            bail!("{path}: {status} {}", String::from_utf8_lossy(&body));
        }
        Ok(answer.into_body())
    }
}

fn bearer(token: &str) -> Result<HeaderValue> {
    Ok(format!("Bearer {token}").try_into()?)
}

async fn connect(address: SocketAddr, tls: Option<&TlsConnector>) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => shake_hands(tls.connect(address.ip().into(), stream).await?).await,
        None => shake_hands(stream).await,
    }
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
