//! TLS, HTTP/2, and certificates that change while the server runs.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tayberry::http::TlsFiles;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

#[tokio::test]
async fn http2_and_http1_are_served_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_certificate(folder.path());
    let server = Running::start(settings(folder.path())).await;

    let stream = connect(&server, &certificate, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // One request waits; others on the same connection don't wait for it.
    let waiting = tokio::spawn(client.send_request(request("GET", WAIT)));
    for (method, path, status) in
        [("GET", BIG, 200), ("GET", WHOAMI, 401), ("HEAD", BIG, 200), ("PUT", BIG, 405)]
    {
        let response = client.send_request(request(method, path)).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert!(response.headers().contains_key("access-control-allow-origin"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.is_empty(), method == "HEAD");
    }
    assert!(!waiting.is_finished());

    let stream = connect(&server, &certificate, &[]).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.send_request(request("GET", WHOAMI)).await.unwrap().status(), 401);
}

#[tokio::test]
async fn http2_is_served_without_tls_to_those_who_know() {
    let server = Running::start(plain()).await;
    let io = TokioIo::new(server.connect().await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.send_request(request("GET", BIG)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_certificate(folder.path());
    let server = Running::start(settings(folder.path())).await;
    connect(&server, &first, &[]).await.expect("the first certificate is served");

    fs::write(folder.path().join("cert.pem"), "half a certificate").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    connect(&server, &first, &[]).await.expect("what can't be used leaves the first in place");

    let second = write_certificate(folder.path());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    connect(&server, &second, &[]).await.expect("the second certificate is served");
    connect(&server, &first, &[]).await.expect_err("the first is no longer");
}

#[tokio::test]
async fn an_unusable_certificate_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = |expected: &'static str| {
        let settings = settings(folder.path());
        async move {
            let folder = TempDir::new().unwrap();
            let error = Server::bind(settings, app(&folder), routes()).await.err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    };
    error("cert.pem").await;
    write_certificate(folder.path());
    fs::write(folder.path().join("key.pem"), "nothing").unwrap();
    error("key.pem").await;
}

#[tokio::test]
async fn plain_bytes_on_a_tls_port_end_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    let server = Running::start(settings(folder.path())).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP"));
}

fn settings(folder: &Path) -> Settings {
    let mut settings = plain();
    settings.listeners[0].tls =
        Some(TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") });
    settings
}

fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// Connects with TLS, trusting just this certificate.
async fn connect(
    server: &Running,
    trusted: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await
}

fn request(method: &str, path: &str) -> hyper::Request<Empty<Bytes>> {
    let uri = format!("https://localhost{path}");
    hyper::Request::builder().method(method).uri(uri).header("host", "localhost").body(Empty::new()).unwrap()
}
