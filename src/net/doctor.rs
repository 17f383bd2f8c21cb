//! Whether a server can be found and reached as others find and reach it, told in plain words.

use std::{io, time::Duration};

use http::{HeaderMap, Method, StatusCode, header::DATE};
use ruma::{MilliSecondsSinceUnixEpoch, ServerName, http_headers::http_date_to_system_time};
use serde::Deserialize;
use url::Url;

use super::{
    Bounds, Federation, NetError, Target,
    discovery::{SERVICES, told},
    dns::DnsError,
    federation::Call,
    keys,
};
use crate::base::clock::{Clock, Timestamp};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Such as `name` or `certificate`.
    pub subject: &'static str,
    /// How it is.
    pub text: String,
    /// What to do about it; none where it is well.
    pub remedy: Option<String>,
}

/// Looks at a server step by step, and gives each to `tell` as soon as it is known.
pub async fn examine(
    federation: &Federation,
    server: &ServerName,
    clock: &Clock,
    mut tell: impl FnMut(Finding),
) {
    if told(server).is_some() {
        tell(well("name", "it tells where the server is; nobody has to be asked".to_owned()));
    } else {
        tell(delegation(federation, server.host()).await);
    }
    let target = match federation.target(server).await {
        Ok(target) => target,
        Err(error) => {
            let remedy = format!(
                "the DNS says that there is no Matrix server: take the SRV record of {}.{} away, or let it name one",
                SERVICES[0],
                server.host()
            );
            return tell(ill("place", error.to_string(), remedy));
        }
    };
    tell(place(&target));
    let call = Call { method: Method::GET, uri: "/_matrix/federation/v1/version".to_owned(), content: None };
    let response = match federation.send(server, call, Bounds::SMALL).await {
        Ok(response) => response,
        Err(error) => return tell(unreached(&target, &error)),
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap_or_default();
    tell(answers(head.status, &body));
    let now = clock.now();
    tell(time(&head.headers, now));
    tell(match keys::fetch(federation, server, now).await {
        Ok(keys) => {
            let current = keys.keys.iter().filter(|key| key.expired_at.is_none());
            let current: Vec<_> = current.map(|key| key.id.as_str()).collect();
            well("keys", format!("{} is signed and good", current.join(", ")))
        }
        Err(error) => {
            let remedy = format!(
                "GET /_matrix/key/v2/server must reach the homeserver, whose server_name must be exactly {server}"
            );
            ill("keys", error.to_string(), remedy)
        }
    });
}

async fn delegation(federation: &Federation, host: &str) -> Finding {
    const SUBJECT: &str = "well-known";
    const PLAIN: &str = "the name itself is where the server is looked for, by SRV records or at port 8448";
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "m.server")]
        server: String,
    }
    let address = format!("https://{host}/.well-known/matrix/server");
    let Ok(url) = Url::parse(&address) else {
        return ill(SUBJECT, format!("{host} is no host"), "choose a proper name".to_owned());
    };
    let remedy = format!(
        "if the server is elsewhere, {address} must be reachable over HTTPS and say {{\"m.server\": \"matrix.{host}:443\"}}; \
         if not, this is in order"
    );
    let response = match federation.get(url, Bounds::SMALL).await {
        Ok(response) => response,
        Err(error) => return note(SUBJECT, format!("none ({error}): {PLAIN}"), remedy),
    };
    let status = response.status();
    if status != StatusCode::OK {
        return well(SUBJECT, format!("none (status {}): {PLAIN}", status.as_u16()));
    }
    let body = response.into_body().collect().await.unwrap_or_default();
    let document = serde_json::from_slice::<Document>(&body).ok();
    match document.filter(|document| ServerName::parse(&document.server).is_ok()) {
        Some(document) => well(SUBJECT, format!("the server is found as {}", document.server)),
        None => ill(SUBJECT, "it is not of the form that it must have, and doesn't count".to_owned(), remedy),
    }
}

fn place(target: &Target) -> Finding {
    let places: Vec<_> =
        target.places.iter().map(|place| format!("{} port {}", place.host, place.port)).collect();
    let places = places.join(", then ");
    match &target.certificate {
        Some(name) => well("place", format!("{places}, with a certificate for {name}")),
        None => well("place", places),
    }
}

fn unreached(target: &Target, error: &NetError) -> Finding {
    let place = target.places.first();
    let (host, port) =
        place.map_or_else(Default::default, |place| (place.host.to_string(), place.port.to_string()));
    let remedy = match error {
        NetError::Name(DnsError::Failed(_)) => {
            format!("let the name servers of {host}, and those that this machine asks, answer")
        }
        NetError::Name(_) => format!("give {host} an A or AAAA record"),
        NetError::Connect(_) | NetError::Broken(_) => {
            format!("let the server listen at port {port} of {host}, and let router and firewall pass it on")
        }
        NetError::Late { .. } => format!(
            "let router and firewall pass port {port} of {host} on; where they do, the server is overloaded"
        ),
        NetError::Tls(error) if is_no_tls(error) => {
            format!("let what listens at port {port} speak TLS, or a reverse proxy before it")
        }
        NetError::Tls(_) => {
            let name = target.certificate.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("the certificate there must be valid, for {name}, and come with those between it and its authority")
        }
        NetError::Http(_) => {
            format!("what answers at port {port} is no web server: let the homeserver, or a proxy before it, listen there")
        }
        NetError::Address(_) => {
            "a public address must be in the DNS; among servers of one's own network, allow_private_addresses is set"
                .to_owned()
        }
        NetError::Authorities(_) => {
            "trusted_ca_files must name files with certificates that can be read here".to_owned()
        }
        _ => "try again later".to_owned(),
    };
    ill("reached", format!("no: {error}"), remedy)
}

/// Whether what answered a handshake is of another protocol.
fn is_no_tls(error: &io::Error) -> bool {
    let source = error.get_ref().and_then(|source| source.downcast_ref());
    matches!(source, Some(rustls::Error::InvalidMessage(_)))
}

fn answers(status: StatusCode, body: &[u8]) -> Finding {
    #[derive(Deserialize)]
    struct Version {
        server: Software,
    }
    #[derive(Deserialize)]
    struct Software {
        name: String,
        version: String,
    }
    match serde_json::from_slice::<Version>(body) {
        Ok(Version { server: Software { name, version } }) if status == StatusCode::OK => {
            well("reached", format!("yes, it is {} {}", shown(&name), shown(&version)))
        }
        _ => ill(
            "reached",
            format!("something else answers, with status {}", status.as_u16()),
            "let the web server pass everything under /_matrix/ on to the homeserver".to_owned(),
        ),
    }
}

/// What a server says of itself, as it may be written to a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(SHOWN).collect()
}

fn time(headers: &HeaderMap, now: Timestamp) -> Finding {
    const SUBJECT: &str = "clock";
    let told = headers.get(DATE).and_then(|date| http_date_to_system_time(date).ok());
    let told = told.and_then(MilliSecondsSinceUnixEpoch::from_system_time).map(Timestamp::from);
    let Some(told) = told else { return well(SUBJECT, "it doesn't tell the time".to_owned()) };
    let off = told.since(now).max(now.since(told));
    if off <= TOLERANCE {
        return well(SUBJECT, "it tells the same time as this machine".to_owned());
    }
    ill(
        SUBJECT,
        format!("it is {} s off this machine's", off.as_secs()),
        "set the clock of whichever is wrong; a time service such as systemd-timesyncd keeps it right"
            .to_owned(),
    )
}

fn well(subject: &'static str, text: String) -> Finding {
    Finding { subject, text, remedy: None }
}

/// What may be in order or not, which the operator knows.
fn note(subject: &'static str, text: String, remedy: String) -> Finding {
    well(subject, format!("{text}; {remedy}"))
}

fn ill(subject: &'static str, text: String, remedy: String) -> Finding {
    Finding { subject, text, remedy: Some(remedy) }
}

/// Characters of a name or a version that are shown.
const SHOWN: usize = 60;
/// A date has whole seconds, and an answer takes some.
const TOLERANCE: Duration = Duration::from_secs(30);
