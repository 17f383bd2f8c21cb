//! A call, as Element Call takes part in it: a widget in a page, to which the app speaks for the server. Nothing is said or
//! seen here; what matters is that the server takes out of the call who went silent.

use anyhow::{Context, Result, bail};
use matrix_sdk::{
    Room,
    widget::{Capabilities, CapabilitiesProvider, WidgetDriver, WidgetDriverHandle, WidgetSettings},
};
use serde_json::{Value, json};

use crate::{device::Device, with::With};

const ID: &str = "call";
const MEMBER: &str = "org.matrix.msc3401.call.member";
const UPDATE: &str = "org.matrix.msc4157.update_delayed_event";

/// The page, and the event that takes it out of the call.
pub struct Call {
    handle: WidgetDriverHandle,
    leave: String,
}

/// Joins the call of a room; after `delay_ms` without a sign of life, the server is to say that this device left.
pub async fn join(device: &Device, with: &With) -> Result<()> {
    let room = device.room(&with.room()?)?;
    let session = device.client.session_meta().context("nobody is logged in")?;
    let key = format!("_{}_{}_m.call", session.user_id, session.device_id);
    let mut call = Call::open(room.clone()).await?;
    let event = |content: Value| json!({"type": MEMBER, "state_key": key, "content": content});
    let mut leave = event(json!({}));
    leave["delay"] = with.get("delay_ms")?;
    let answer = call.ask("send_event", leave).await?;
    call.leave = answer["delay_id"].as_str().context("no delayed event")?.to_owned();
    let member = json!({
        "application": "m.call",
        "call_id": "",
        "scope": "m.room",
        "device_id": session.device_id,
        "focus_active": {"type": "livekit", "focus_selection": "oldest_membership"},
        "foci_preferred": [],
        "expires": 14_400_000,
    });
    call.ask("send_event", event(member)).await?;
    device.calls.lock().await.insert(room.room_id().to_owned(), call);
    Ok(())
}

/// Does with the delayed event what `action` says: `restart` is a sign of life, `send` leaves at once.
pub async fn update(device: &Device, with: &With) -> Result<()> {
    let calls = device.calls.lock().await;
    let call = calls.get(&with.room()?).context("not in the call")?;
    let update = json!({"action": with.text("action")?, "delay_id": call.leave});
    call.ask(UPDATE, update).await.map(drop)
}

impl Call {
    /// Opens the page, and returns when it may do what it wants to.
    async fn open(room: Room) -> Result<Self> {
        let settings = WidgetSettings::new(ID.to_owned(), false, "https://call.element.io/")?;
        let (driver, handle) = WidgetDriver::new(settings);
        tokio::spawn(driver.run(room, Permissive));
        let call = Self { handle, leave: String::new() };
        while call.receive().await?["action"] != "notify_capabilities" {}
        Ok(call)
    }

    /// Asks the app for something, and returns what it answers.
    async fn ask(&self, action: &str, data: Value) -> Result<Value> {
        self.tell(
            json!({"api": "fromWidget", "widgetId": ID, "requestId": action, "action": action, "data": data}),
        )
        .await?;
        loop {
            let mut message = self.receive().await?;
            if message["api"] == "fromWidget" && message["requestId"] == action {
                let answer = message["response"].take();
                if answer.get("error").is_some() {
                    bail!("{action}: {answer}");
                }
                return Ok(answer);
            }
        }
    }

    /// The next message of the app, which is answered if it is a question.
    async fn receive(&self) -> Result<Value> {
        let message = self.handle.recv().await.context("the app went away")?;
        let message: Value = serde_json::from_str(&message)?;
        if message["api"] == "toWidget" {
            let mut answer = message.clone();
            answer["response"] = match message["action"].as_str() {
                Some("capabilities") => json!({"capabilities": [
                    "org.matrix.msc4157.send.delayed_event",
                    UPDATE,
                    format!("org.matrix.msc2762.send.state_event:{MEMBER}"),
                    format!("org.matrix.msc2762.receive.state_event:{MEMBER}"),
                ]}),
                _ => json!({}),
            };
            self.tell(answer).await?;
        }
        Ok(message)
    }

    async fn tell(&self, message: Value) -> Result<()> {
        self.handle.send(message.to_string()).await.then_some(()).context("the app went away")
    }
}

/// Lets the page do what it wants to.
struct Permissive;

impl CapabilitiesProvider for Permissive {
    async fn acquire_capabilities(&self, wanted: Capabilities) -> Capabilities {
        wanted
    }
}
