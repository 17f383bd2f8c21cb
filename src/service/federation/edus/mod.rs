//! What other servers tell that is no event of a room: each is of a user of the server that tells it, or is not heard. One
//! that is wrong is left out by itself, and the others of its transaction are taken.
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

mod devices;
mod people;
mod rooms;

use ruma::{OwnedUserId, ServerName, UserId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use self::{devices::ToDevice, people::Told, rooms::Typing};
use crate::{
    base::limits,
    service::{
        App,
        keys::{self, DeviceUpdate, SigningUpdate},
    },
    store::{Receipt, StoreError, Transaction, View},
};

/// Some of what a server told, by its own.
pub struct Heard(Vec<Edu>);

/// Reads what a server tells, which has proved to be it: messages to devices, and the rest.
pub fn read(origin: &ServerName, edus: &[Box<RawValue>]) -> (Heard, Heard) {
    let heard = edus.iter().take(limits::EDUS).filter_map(|edu| Edu::read(edu, origin));
    let (messages, rest) = heard.partition(|edu| matches!(edu, Edu::ToDevice(_)));
    (Heard(messages), Heard(rest))
}

/// Takes it. What is kept is on the device when this returns, and what is told again is not done again.
///
/// # Errors
/// The store failed; some of it may be kept.
pub async fn receive(app: &App, origin: &ServerName, Heard(mut heard): Heard) -> Result<(), StoreError> {
    app.resyncs.came_back(origin);
    if !app.config.presence.enabled {
        heard.retain(|edu| !matches!(edu, Edu::Presence(_)));
    }
    if heard.is_empty() {
        return Ok(());
    }
    let (own, server, now) = (app.server_name.clone(), origin.to_owned(), app.clock.now());
    let judge = move |view: &View<'_>| {
        let (mut records, mut unkept) = (Vec::new(), Unkept::default());
        let mut rooms = rooms::Rooms::new(view, &server, now);
        for edu in heard {
            match edu {
                Edu::Typing(typing) => unkept.typing.extend(rooms.typing(typing)?),
                Edu::Receipts(receipts) => records.extend(rooms.receipts(receipts)?.map(Record::Receipts)),
                Edu::Presence(told) => unkept.presence.extend(people::known(view, &own, told)?),
                Edu::Devices(update) => records.push(Record::Devices(update)),
                Edu::SigningKeys(update) => records.push(Record::SigningKeys(update)),
                Edu::Garbled(user_id) => records.push(Record::Garbled(user_id)),
                Edu::ToDevice(sent) => records.push(Record::ToDevice(sent)),
            }
        }
        Ok::<_, StoreError>((records, unkept))
    };
    let (records, unkept) = app.store.read(judge).await?;
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        // As much as one request of a client may send to devices: others' writes come in between.
        let (mut some, mut weight) = (Vec::new(), 0);
        while let Some(record) = records.next_if(|_| weight < limits::TO_DEVICE_SENT_BYTES) {
            weight += record.weight();
            some.push(record);
        }
        let (own, origin) = (app.server_name.clone(), origin.to_owned());
        let kept = app.store.write(move |transaction| {
            let mut is_stale = false;
            for record in &some {
                is_stale |= record.keep(transaction, &own, &origin)?;
            }
            Ok::<_, StoreError>(is_stale)
        });
        if kept.await? {
            app.resyncs.want();
        }
    }
    unkept.show(app);
    Ok(())
}

/// Something that is told, by the origin's own.
enum Edu {
    Typing(Typing),
    Receipts(rooms::Receipts),
    Presence(Vec<Told>),
    ToDevice(ToDevice),
    Devices(DeviceUpdate),
    SigningKeys(SigningUpdate),
    /// A change of one of a user's devices that can't be made out.
    Garbled(OwnedUserId),
}

impl Edu {
    /// Reads one; none if it is malformed, of another server's user or of no known type.
    fn read(text: &RawValue, origin: &ServerName) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            edu_type: String,
            #[serde(borrow)]
            content: &'a RawValue,
        }
        let Envelope { edu_type, content } = serde_json::from_str(text.get()).ok()?;
        let edu = match edu_type.as_str() {
            "m.typing" => rooms::read_typing(content, origin).map(Self::Typing),
            "m.receipt" => parsed(content).map(Self::Receipts),
            "m.presence" => people::read(content, origin).map(Self::Presence),
            "m.direct_to_device" => devices::read_message(content, origin).map(Self::ToDevice),
            "m.device_list_update" => devices::read_update(content, origin)
                .map(Self::Devices)
                .or_else(|| devices::read_user(content, origin).map(Self::Garbled)),
            "m.signing_key_update" | "org.matrix.signing_key_update" => {
                devices::read_signing_keys(content, origin).map(Self::SigningKeys)
            }
            _ => None,
        };
        if edu.is_none() {
            tracing::debug!(%origin, edu_type, "what a server tells is left out");
        }
        edu
    }
}

/// What of it is kept.
enum Record {
    Receipts(Vec<Receipt>),
    ToDevice(ToDevice),
    Devices(DeviceUpdate),
    SigningKeys(SigningUpdate),
    Garbled(OwnedUserId),
}

impl Record {
    /// About how many bytes it takes.
    fn weight(&self) -> usize {
        match self {
            Self::Receipts(receipts) => receipts.len() * 256,
            Self::ToDevice(sent) => sent.bytes(),
            Self::Devices(_) => limits::PUBLISHED_KEY_BYTES,
            Self::SigningKeys(_) => 2 * limits::PUBLISHED_KEY_BYTES,
            Self::Garbled(_) => limits::USER_ID_BYTES,
        }
    }

    /// Keeps it; returns whether a list of devices has to be had anew.
    fn keep(
        &self,
        transaction: &mut Transaction<'_>,
        own: &ServerName,
        origin: &ServerName,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Receipts(receipts) => rooms::keep(transaction, receipts).map(|()| false),
            Self::ToDevice(sent) => sent.keep(transaction, own, origin).map(|()| false),
            Self::Devices(update) => keys::apply_devices(transaction, own, update),
            Self::SigningKeys(update) => keys::apply_signing_keys(transaction, own, update),
            Self::Garbled(user_id) => keys::distrust_devices(transaction, own, user_id),
        }
    }
}

/// What of it is in memory only.
#[derive(Default)]
struct Unkept {
    typing: Vec<rooms::Typist>,
    presence: Vec<people::Known>,
}

impl Unkept {
    fn show(self, app: &App) {
        for typist in self.typing {
            typist.show(app);
        }
        for known in self.presence {
            known.show(app);
        }
    }
}

fn parsed<T: DeserializeOwned>(content: &RawValue) -> Option<T> {
    serde_json::from_str(content.get()).ok()
}

/// Whether a server may speak for a user.
fn is_of(user_id: &UserId, origin: &ServerName) -> bool {
    user_id.server_name() == origin && user_id.as_str().len() <= limits::USER_ID_BYTES
}
