//! A push gateway on loopback. Whatever it is told it checks by the specification's schema, and answers as it is made to.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::net::Authority;

/// A gateway.
pub(super) struct Gateway {
    address: SocketAddr,
    path: &'static str,
    taken: Arc<Mutex<Vec<Value>>>,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<AtomicUsize>,
    /// What hangs ends when this changes.
    hung: watch::Sender<usize>,
}

type Answers = Box<dyn FnMut(&Value) -> Answer + Send>;

/// What it does about a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Take,
    /// It takes it, and doesn't want the push key any more.
    Reject,
    Status(u16),
    /// It takes it, and its answer is none but for the status.
    Garbage,
    /// It takes it a little later.
    Late,
    /// It says nothing, until it is told to end that.
    Hang,
    /// It closes the connection: before it has taken it, or after that.
    Die {
        taken: bool,
    },
}

impl Gateway {
    /// One that takes everything.
    pub(super) async fn start(authority: &Authority, version: &str) -> Self {
        Self::at("/some/path/_matrix/push/v1/notify", authority, version).await
    }

    /// The same at a path.
    pub(super) async fn at(path: &'static str, authority: &Authority, version: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let gateway = Self {
            address: listener.local_addr().unwrap(),
            path,
            taken: Arc::default(),
            answers: Arc::new(Mutex::new(Box::new(|_| Answer::Take))),
            asked: Arc::default(),
            hung: watch::Sender::new(0),
        };
        let tls = authority.tls(&["127.0.0.1"], &[version]);
        let (taken, answers, hung) = (gateway.taken.clone(), gateway.answers.clone(), gateway.hung.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, taken, answers, hung) = (tls.clone(), taken.clone(), answers.clone(), hung.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", path));
                        answer(request, taken.clone(), answers.clone(), hung.subscribe())
                    });
                    // How it ends is the other side's business, or was meant so.
                    _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        gateway
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("https://{}{}", self.address, self.path)
    }

    /// Answers otherwise from now on.
    pub(super) fn answer(&self, mut answer: impl FnMut(&Value) -> Answer + Send + 'static) {
        let asked = self.asked.clone();
        let answer = move |told: &Value| {
            asked.fetch_add(1, Ordering::SeqCst);
            answer(told)
        };
        *self.answers.lock().unwrap() = Box::new(answer);
    }

    /// How often it was told something since it was said for the first time how it answers.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Closes the connections on which it said nothing.
    pub(super) fn end_hanging(&self) {
        self.hung.send_modify(|count| *count += 1);
    }

    /// The notifications that it took.
    pub(super) fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }

    /// Those of a push key.
    pub(super) fn taken_of(&self, pushkey: &str) -> Vec<Value> {
        let mut taken = self.taken();
        taken.retain(|notification| notification["devices"][0]["pushkey"] == pushkey);
        taken
    }

    /// The events among these, in their order; `null` is how much is new, alone.
    pub(super) fn events_of(&self, pushkey: &str) -> Vec<Value> {
        self.taken_of(pushkey).into_iter().map(|notification| notification["event_id"].clone()).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut faults = self.taken();
        faults.retain(|told| told.get("fault").is_some());
        assert!(faults.is_empty() || std::thread::panicking(), "{faults:?}");
    }
}

async fn answer(
    request: Request<Incoming>,
    taken: Arc<Mutex<Vec<Value>>>,
    answers: Arc<Mutex<Answers>>,
    mut hung: watch::Receiver<usize>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(head.headers["content-type"], "application/json");
    let notification = body["notification"].clone();
    if let Err(fault) = fits(&SCHEMAS["request"], &body, "body").and_then(|()| sound(&notification)) {
        // The test ends at that.
        taken.lock().unwrap().push(json!({"fault": format!("{fault}: {body}")}));
    }
    let answer = answers.lock().unwrap()(&notification);
    let pushkey = notification["devices"][0]["pushkey"].clone();
    if matches!(
        answer,
        Answer::Take | Answer::Reject | Answer::Garbage | Answer::Late | Answer::Die { taken: true }
    ) {
        taken.lock().unwrap().push(notification);
    }
    let (status, answer) = match answer {
        Answer::Take => (200, json!({"rejected": []}).to_string()),
        Answer::Reject => (200, json!({"rejected": ["another", pushkey]}).to_string()),
        Answer::Status(status) => (status, json!({"errcode": "M_UNKNOWN"}).to_string()),
        Answer::Garbage => (200, "<html>".to_owned()),
        Answer::Late => {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            (200, json!({"rejected": []}).to_string())
        }
        Answer::Hang => {
            _ = hung.changed().await;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Answer::Die { .. } => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    let mut response = Response::new(Full::new(answer.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// What the schema says in words only, and what this server promises beside it.
fn sound(notification: &Value) -> Result<(), String> {
    let check = |is_so: bool, what: &str| if is_so { Ok(()) } else { Err(what.to_owned()) };
    check(notification.get("event_id").is_none() || notification.get("room_id").is_some(), "no room")?;
    check(notification["counts"]["unread"].is_u64(), "how much is new is not told")?;
    let devices = notification["devices"].as_array().unwrap();
    check(devices.len() == 1 && devices[0]["data"].get("url").is_none(), "a device with a URL")?;
    if devices[0]["data"]["format"] == "event_id_only" {
        let fields = notification.as_object().unwrap().keys();
        let mut others = fields
            .filter(|field| !["event_id", "room_id", "counts", "devices", "prio"].contains(&field.as_str()));
        check(others.next().is_none(), "more than the id")?;
    }
    Ok(())
}

/// Whether a value fits a schema, as far as those of push gateways go. Nothing may be in it that isn't in the schema, but
/// where that leaves it to others.
fn fits(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let is_type = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        other => return Err(format!("{path}: what is {other}?")),
    };
    if !is_type {
        return Err(format!("{path} is no {}", schema["type"]));
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        return Err(format!("{path} is none of {allowed:?}"));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            return Err(format!("{path} lacks {required}"));
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match schema["properties"].get(name) {
            Some(schema) => fits(schema, value, &path)?,
            None if ["EventContent", "PusherData", "Tweaks"].map(Value::from).contains(&schema["title"]) => {}
            None => return Err(format!("{path} is unknown")),
        }
    }
    for (n, value) in value.as_array().into_iter().flatten().enumerate() {
        fits(&schema["items"], value, &format!("{path}[{n}]"))?;
    }
    Ok(())
}

static SCHEMAS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../data/push-gateway/notify.json")).unwrap());

#[test]
fn the_schema_refuses_what_is_wrong() {
    let good = json!({"notification": {
        "event_id": "$e", "room_id": "!r", "prio": "low", "content": {"any": 1}, "counts": {"unread": 0},
        "devices": [{"app_id": "a", "pushkey": "k", "data": {"own": 1}, "tweaks": {}}],
    }});
    assert_eq!(fits(&SCHEMAS["request"], &good, "body"), Ok(()));
    for (pointer, wrong) in [
        ("/notification", json!([])),
        ("/notification/prio", json!("middle")),
        ("/notification/event_id", json!(null)),
        ("/notification/counts", json!({"unread": "1"})),
        ("/notification/counts", json!({"unraed": 1})),
        ("/notification/devices", json!([{"app_id": "a"}])),
        ("/notification/devices/0/data", json!({"format": 1})),
    ] {
        let mut value = good.clone();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(fits(&SCHEMAS["request"], &value, "body").is_err(), "{value}");
    }
}
