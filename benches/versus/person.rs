//! A user with a token and one connection, and the calls that the figures are made of.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{client::Connection, server::Server};

/// One logged-in user on one connection.
pub(crate) struct Person {
    connection: Connection,
    session: Session,
}

/// What a registration gives.
#[derive(Clone, Deserialize)]
pub(crate) struct Session {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    access_token: String,
}

impl Person {
    /// Registers a user called `name`.
    pub(crate) async fn register(server: &Server, name: &str) -> Result<Self> {
        let mut connection = Connection::open(server.address).await?;
        let body = json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
        let body =
            connection.request(Method::POST, "/_matrix/client/v3/register", None, encode(&body)).await?;
        Ok(Self { connection, session: serde_json::from_slice(&body)? })
    }

    /// Somebody who is logged in already.
    pub(crate) async fn with_token(server: &Server, access_token: String) -> Result<Self> {
        #[derive(Deserialize)]
        struct Whoami {
            user_id: String,
            device_id: String,
        }
        let mut connection = Connection::open(server.address).await?;
        let body = connection.get("/_matrix/client/v3/account/whoami", Some(&access_token)).await?;
        let Whoami { user_id, device_id } = serde_json::from_slice(&body)?;
        Ok(Self { connection, session: Session { user_id, device_id, access_token } })
    }

    /// Logs in on a further device.
    pub(crate) async fn another_login(&self) -> Result<Self> {
        let mut connection = Connection::open(self.connection.address).await?;
        let identifier = json!({ "type": "m.id.user", "user": self.session.user_id });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": PASSWORD });
        let body = connection.request(Method::POST, "/_matrix/client/v3/login", None, encode(&body)).await?;
        Ok(Self { connection, session: serde_json::from_slice(&body)? })
    }

    /// Registers `count` users, called `{prefix}0` and so on.
    pub(crate) async fn register_many(server: &Server, prefix: &str, count: usize) -> Result<Vec<Self>> {
        let mut people = Vec::with_capacity(count);
        for n in 0..count {
            people.push(Self::register(server, &format!("{prefix}{n}")).await?);
        }
        Ok(people)
    }

    /// Opens a further connection of the same session, as a client does for its long-poll.
    pub(crate) async fn split(&self) -> Result<Self> {
        let connection = Connection::open(self.connection.address).await?;
        Ok(Self { connection, session: self.session.clone() })
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Creates a public room and returns its id.
    pub(crate) async fn create_room(&mut self) -> Result<String> {
        self.create_room_with(json!([])).await
    }

    /// Creates a public room with further state and returns its id.
    pub(crate) async fn create_room_with(&mut self, initial_state: Value) -> Result<String> {
        let body = json!({ "preset": "public_chat", "initial_state": initial_state });
        let made: Value = serde_json::from_slice(&self.call(Method::POST, "createRoom", &body).await?)?;
        Ok(made["room_id"].as_str().context("createRoom without room_id")?.to_owned())
    }

    pub(crate) async fn join(&mut self, room: &str) -> Result<()> {
        self.call(Method::POST, &format!("join/{room}"), &json!({})).await.map(drop)
    }

    /// Joins a room of another server; returns when that is answered.
    pub(crate) async fn join_through(&mut self, room: &str, server: &str) -> Result<()> {
        // Synapse knows the parameter by its older name, too.
        let path = format!("join/{room}?via={server}&server_name={server}");
        self.call(Method::POST, &path, &json!({})).await.map(drop)
    }

    /// How many members of a room the person's server knows.
    pub(crate) async fn count_members(&mut self, room: &str) -> Result<usize> {
        let path = format!("/_matrix/client/v3/rooms/{room}/joined_members");
        let body = self.connection.get(&path, Some(&self.session.access_token)).await?;
        let known: Value = serde_json::from_slice(&body)?;
        Ok(known["joined"].as_object().context("joined_members without joined")?.len())
    }

    /// Whether the person's server has this event.
    pub(crate) async fn sees(&mut self, room: &str, event: &str) -> bool {
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{event}");
        self.connection.get(&path, Some(&self.session.access_token)).await.is_ok()
    }

    pub(crate) async fn leave(&mut self, room: &str) -> Result<()> {
        self.call(Method::POST, &format!("rooms/{room}/leave"), &json!({})).await.map(drop)
    }

    /// Sends a text message with a new transaction id; returns when it is acknowledged.
    pub(crate) async fn send(&mut self, room: &str, text: &str) -> Result<()> {
        self.send_event(room, "m.room.message", &json!({ "msgtype": "m.text", "body": text })).await.map(drop)
    }

    /// The same with an event of any type; gives its id.
    pub(crate) async fn send_event(&mut self, room: &str, kind: &str, content: &Value) -> Result<String> {
        let path = format!("rooms/{room}/send/{kind}/{}", transaction_id());
        let sent: Value = serde_json::from_slice(&self.call(Method::PUT, &path, content).await?)?;
        Ok(sent["event_id"].as_str().context("send without event_id")?.to_owned())
    }

    /// Whether a word is found in what was said.
    pub(crate) async fn finds(&mut self, word: &str) -> Result<bool> {
        let body = json!({ "search_categories": { "room_events": { "search_term": word } } });
        let found: Value = serde_json::from_slice(&self.call(Method::POST, "search", &body).await?)?;
        Ok(found["search_categories"]["room_events"]["count"].as_u64().context("search without count")? > 0)
    }

    /// Uploads a file; returns what names it in paths.
    pub(crate) async fn upload(&mut self, file: Bytes) -> Result<String> {
        let path = "/_matrix/media/v3/upload";
        let body =
            self.connection.request(Method::POST, path, Some(&self.session.access_token), file).await?;
        let made: Value = serde_json::from_slice(&body)?;
        let uri = made["content_uri"].as_str().context("upload without content_uri")?;
        Ok(uri.trim_start_matches("mxc://").to_owned())
    }

    /// Downloads a file and throws it away; returns its length in bytes.
    pub(crate) async fn download(&mut self, name: &str) -> Result<usize> {
        let path = format!("/_matrix/client/v1/media/download/{name}");
        self.connection.measure(&path, Some(&self.session.access_token)).await
    }

    /// Reads the newest `limit` messages of a room.
    pub(crate) async fn messages(&mut self, room: &str, limit: usize) -> Result<()> {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit={limit}");
        self.connection.get(&path, Some(&self.session.access_token)).await.map(drop)
    }

    /// The initial sync: the whole answer.
    pub(crate) async fn sync(&mut self) -> Result<Synced> {
        self.sync_at("sync?timeout=0").await
    }

    /// One incremental sync, which waits up to 60 s for something new.
    pub(crate) async fn poll(&mut self, since: &str) -> Result<Synced> {
        self.sync_at(&format!("sync?timeout=60000&since={since}")).await
    }

    /// One sliding sync, in the shape that both servers take.
    pub(crate) async fn slide(
        &mut self,
        since: Option<&str>,
        timeout_ms: u64,
        body: &Value,
    ) -> Result<Synced> {
        #[derive(Deserialize)]
        struct Answer {
            pos: String,
        }
        let mut path = format!("{SLIDING_PATH}?timeout={timeout_ms}");
        if let Some(since) = since {
            path = format!("{path}&pos={since}");
        }
        let token = Some(self.session.access_token.as_str());
        let body = self.connection.request(Method::POST, &path, token, encode(body)).await?;
        let Answer { pos } = serde_json::from_slice(&body)?;
        Ok(Synced { next_batch: pos, body })
    }

    async fn sync_at(&mut self, path: &str) -> Result<Synced> {
        #[derive(Deserialize)]
        struct Answer {
            next_batch: String,
        }
        let path = format!("/_matrix/client/v3/{path}");
        let body = self.connection.get(&path, Some(&self.session.access_token)).await?;
        let Answer { next_batch } = serde_json::from_slice(&body)?;
        Ok(Synced { next_batch, body })
    }

    /// Sends a request with a JSON body; `path` starts after `/_matrix/client/v3/`.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: &Value) -> Result<Bytes> {
        let path = format!("/_matrix/client/v3/{path}");
        self.connection.request(method, &path, Some(&self.session.access_token), encode(body)).await
    }
}

/// A new one; connections of one session must not repeat each other's.
pub(crate) fn transaction_id() -> String {
    static SENT: AtomicU64 = AtomicU64::new(0);
    format!("txn{}", SENT.fetch_add(1, Relaxed))
}

/// An answered sync.
pub(crate) struct Synced {
    pub(crate) next_batch: String,
    pub(crate) body: Bytes,
}

fn encode(body: &Value) -> Bytes {
    body.to_string().into()
}

const PASSWORD: &str = "a long pass phrase";
const SLIDING_PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
