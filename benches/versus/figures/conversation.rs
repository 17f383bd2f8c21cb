//! What a message costs the disk in an encrypted conversation: the message, and the receipts of five people who follow
//! the room and read it at once.
//!
//! Needs the rights of root, as [`super::writes`] does.

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};

use super::{Figure, room_of};
use crate::{
    Scale,
    disk::Disk,
    person::{Person, Synced},
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Conversation;

impl Figure for Conversation {
    const NAME: &'static str = "conversation";
    const ROWS: &'static [Row] = &[
        Row { what: "bytes written an encrypted message with receipts by 5 people, KB", goal: Goal::None },
        Row { what: "of these, the message while the 5 follow without receipts, KB", goal: Goal::None },
        Row { what: "of these, each of the receipts, KB", goal: Goal::None },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        let disk = match Disk::mount(&server.folder) {
            Ok(disk) => disk,
            Err(error) => {
                let values = vec![None; Self::ROWS.len()];
                return Ok(Measured { values, notes: Vec::new() }.note(format!("conversation: {error:#}")));
            }
        };
        let mut server = Server::install(server.kind, &disk.folder)?;
        server.start().await?;
        let mut people = Person::register_many(&server, "user", READERS + 1).await?;
        let room = room_of(&mut people).await?;
        let count = scale.of(if server.kind == Kind::Synapse { 300 } else { 3_000 });
        let mut written = Vec::new();
        for with_receipts in [true, false] {
            let before = disk.written()?;
            talk(&mut people, &room, count, with_receipts).await?;
            // What waits in memory or in a journal is written before the end.
            server.stop()?;
            written.push((disk.written()? - before) as f64 / 1024.0 / count as f64);
            server.start().await?;
        }
        let [whole, message] = written[..] else { bail!("two were measured") };
        Ok([whole, message, (whole - message) / READERS as f64].into())
    }
}

/// Lets the first of the people send, and the others hear each message before the next.
async fn talk(people: &mut [Person], room: &str, count: usize, with_receipts: bool) -> Result<()> {
    let (sender, readers) = people.split_first_mut().context("there are people")?;
    let mut at = Vec::new();
    for reader in &mut *readers {
        at.push(reader.sync().await?.next_batch);
    }
    for n in 0..count {
        let content = json!({
            "algorithm": "m.megolm.v1.aes-sha2",
            "ciphertext": ciphertext(n),
            "device_id": sender.session().device_id,
            "sender_key": "RF3s+E7RkTQTGF2d8Deol0FkQvgII2aJDf3/Jp5mxVU",
            "session_id": "X3lUlvLELLYxeTx4yOVu6UDpasGEVO0Jbu+QFnm0cKQ",
        });
        let event_id = sender.send_event(room, "m.room.encrypted", &content).await?;
        for (reader, at) in readers.iter_mut().zip(&mut at) {
            hear(reader, at, &event_id).await?;
        }
        if with_receipts {
            for reader in &mut *readers {
                reader
                    .call(Method::POST, &format!("rooms/{room}/receipt/m.read/{event_id}"), &json!({}))
                    .await?;
            }
        }
    }
    Ok(())
}

/// Syncs until an event is there.
async fn hear(reader: &mut Person, at: &mut String, event_id: &str) -> Result<()> {
    loop {
        let Synced { next_batch, body } = reader.poll(at).await?;
        *at = next_batch;
        let synced: Value = serde_json::from_slice(&body)?;
        let rooms = synced["rooms"]["join"].as_object().into_iter().flatten();
        let mut events =
            rooms.flat_map(|(_, room)| room["timeline"]["events"].as_array().into_iter().flatten());
        if events.any(|event| event["event_id"] == event_id) {
            return Ok(());
        }
    }
}

/// What a message of some words becomes, which can't be compressed.
fn ciphertext(n: usize) -> String {
    let mut bytes = vec![0; 350];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    vodozemac::base64_encode(bytes)
}

const READERS: usize = 5;
