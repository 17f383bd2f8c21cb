//! Acknowledged sends a second while every member follows the room, so that the push rules of each are evaluated.
//!
//! Synapse evaluates them when an event is sent, Tayberry when somebody syncs: with all syncing, both do it for all.

use std::time::Duration;

use anyhow::Result;

use super::{Figure, Polls, room_of, sends::send_for};
use crate::{
    Scale,
    meter::Load,
    person::Person,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Notified;

impl Figure for Notified {
    const NAME: &'static str = "notified";
    const ROWS: &'static [Row] = &[
        Row { what: "sends a second to 17 members who all sync, one client", goal: Goal::TimesMore(10.0) },
        Row { what: "the same, 16 at once", goal: Goal::TimesMore(10.0) },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let mut people = Person::register_many(server, "user", MEMBERS).await?;
        let room = room_of(&mut people).await?;
        let polls = Polls::open(&people, |_| |_: &[u8]| ()).await?;
        let stretch = Duration::from_secs(scale.of(20) as u64);
        let mut measured = Measured::default();
        for at_once in [1, MEMBERS - 1] {
            let mut senders = Vec::new();
            for person in &people[..at_once] {
                senders.push(person.split().await?);
            }
            let load = Load::start(server)?;
            measured.values.push(Some(send_for(stretch, &room, senders.into_iter()).await?));
            let (client, served) = load.shares()?;
            let note = format!(
                "notified, {at_once} at once: client {client:.0} % of a processor, server {served:.0} %"
            );
            measured = measured.note(note);
        }
        polls.check().await?;
        Ok(measured)
    }
}

const MEMBERS: usize = 17;
