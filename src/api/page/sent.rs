//! What browsers, and programs by the ways of OAuth, send.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header::COOKIE};

use crate::{
    api::{Inbound, endpoint::client},
    base::parameters::Parameters,
    service::oauth::browsers,
};

/// A request, read.
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Whose request it is, as [`client`] tells.
    pub(crate) client: Option<IpAddr>,
    /// The path's variables.
    pub(crate) arguments: Vec<String>,
    pub(crate) query: Parameters,
    pub(crate) body: Bytes,
}

impl Sent {
    pub(crate) fn of(request: Request<Inbound>, arguments: Vec<String>) -> Self {
        let (head, body) = request.into_parts();
        let body = match body {
            Inbound::Whole(body) => body,
            Inbound::Stream(_) => Bytes::new(),
        };
        let client = client(&head.extensions);
        let query = Parameters::parse(head.uri.query().unwrap_or_default().as_bytes());
        Self { method: head.method, uri: head.uri, headers: head.headers, client, arguments, query, body }
    }

    /// The fields of a form.
    pub(crate) fn form(&self) -> Parameters {
        Parameters::parse(&self.body)
    }

    /// What a cookie holds; none if that is nothing that this server gave.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let texts = self.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(other, _)| *other == name)?;
        browsers::is_cookie(value).then_some(value)
    }
}
