//! One keep-alive connection of a client, with as little work a request as possible.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection that opens itself again when the server closed it.
pub(crate) struct Connection {
    pub(crate) address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, sender: connect(address).await? })
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
        let body = self.respond(method, path, token, body).await?;
        Ok(body.collect().await?.to_bytes())
    }

    /// Gets something large and throws it away; returns its length in bytes.
    pub(crate) async fn measure(&mut self, path: &str, token: Option<&str>) -> Result<usize> {
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
        token: Option<&str>,
        body: Bytes,
    ) -> Result<Incoming> {
        if self.sender.is_closed() {
            self.sender = connect(self.address).await?;
        }
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
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

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
