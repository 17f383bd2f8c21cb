//! The content repository over HTTP, with bytes that are no JSON.
//! <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

mod asynchronous;
mod downloads;
mod frozen;
mod keep;
mod previews;
pub(crate) mod thumbnails;
mod uploads;

use std::{collections::HashMap, fs};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Member, Rig};

/// What a server answered, byte for byte.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end, as the head says or by its last piece.
    pub(crate) is_whole: bool,
}

impl Answer {
    /// Reads a response that ends with its connection.
    pub(crate) fn parse(response: &[u8]) -> Self {
        let end =
            response.windows(4).position(|window| window == b"\r\n\r\n").expect("a response has a head");
        let head = std::str::from_utf8(&response[..end]).unwrap();
        let (line, fields) = head.split_once("\r\n").unwrap();
        let field = |field: &str| {
            let (name, value) = field.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        let headers: HashMap<_, _> = fields.split("\r\n").map(field).collect();
        let mut body = response[end + 4..].to_vec();
        let mut is_whole =
            headers.get("content-length").is_none_or(|length| *length == body.len().to_string());
        if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
            (body, is_whole) = dechunked(&body);
        }
        Self { status: line.split(' ').nth(1).unwrap().parse().unwrap(), headers, body, is_whole }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and error code.
    pub(crate) fn error(&self) -> (u16, String) {
        (self.status, self.json()["errcode"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Checks that a browser is told to run nothing of the file, and to let other sites show it.
    /// <https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>
    #[track_caller]
    pub(crate) fn harmless(self) -> Self {
        let told = self.ok();
        assert_eq!(
            told.header("content-security-policy"),
            "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
             style-src 'unsafe-inline'; object-src 'self';"
        );
        assert_eq!(told.header("cross-origin-resource-policy"), "cross-origin");
        assert_eq!(told.header("x-content-type-options"), "nosniff");
        told
    }

    /// The media id of an upload.
    #[track_caller]
    pub(crate) fn media_id(self) -> String {
        let body = self.ok().json();
        body["content_uri"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned()
    }
}

impl Rig {
    /// Sends bytes and gets bytes.
    pub(crate) async fn transfer(
        &self,
        method: &str,
        path: &str,
        who: Option<&Member>,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        if let Some(who) = who {
            head += &format!("authorization: Bearer {}\r\n", who.token);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !headers.iter().any(|(name, _)| *name == "transfer-encoding") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let (mut reader, mut writer) = self.connect().await.into_split();
        let request = [head.as_bytes(), b"\r\n", body].concat();
        // A server that refuses may not take all of it.
        let sending = tokio::spawn(async move {
            _ = writer.write_all(&request).await;
            writer
        });
        let mut response = Vec::new();
        _ = reader.read_to_end(&mut response).await;
        sending.abort();
        Answer::parse(&response)
    }

    /// Uploads a file without a name; gives its media id.
    pub(crate) async fn upload(&self, who: &Member, content_type: &str, body: &[u8]) -> String {
        let headers = [("content-type", content_type)];
        self.transfer("POST", "/_matrix/media/v3/upload", Some(who), &headers, body).await.media_id()
    }

    /// Asks for something of this server's content repository, such as `download/ID`.
    async fn media(&self, who: &Member, path: &str) -> Answer {
        self.media_with(who, path, &[]).await
    }

    async fn media_with(&self, who: &Member, path: &str, headers: &[(&str, &str)]) -> Answer {
        let (kind, rest) = path.split_once('/').unwrap();
        let path = format!("/_matrix/client/v1/media/{kind}/example.org/{rest}");
        self.transfer("GET", &path, Some(who), headers, b"").await
    }

    /// The names in one of the content repository's folders.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder().join("media").join(folder)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The bytes in pieces with their lengths before them, as far as they are there, and whether that is all of them.
fn dechunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let piece = &rest[line + 2..];
        if length == 0 {
            return (body, piece == b"\r\n");
        }
        body.extend_from_slice(&piece[..length.min(piece.len())]);
        rest = piece.get(length + 2..).unwrap_or_default();
    }
    (body, false)
}

/// Bytes of no known format.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tayberry::base::rng::Rng::seeded(seed).fill(&mut bytes);
    bytes
}
