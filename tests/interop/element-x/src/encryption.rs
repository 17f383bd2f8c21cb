//! Keys: recovery, the backup, and people and devices who verify each other by comparing short strings.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use matrix_sdk::{
    Client,
    encryption::verification::{
        SasState, SasVerification, Verification, VerificationRequest, VerificationRequestState,
    },
    ruma::{
        OwnedDeviceId, OwnedUserId, UserId,
        api::client::backup::get_latest_backup_info::v3::Request as Backup,
        events::{
            key::verification::{VerificationMethod, request::ToDeviceKeyVerificationRequestEvent},
            room::message::{MessageType, OriginalSyncRoomMessageEvent},
        },
    },
};
use serde_json::{Value, json};

use crate::{device::Device, with::With};

/// What each verification showed to compare.
type Notebook = Arc<Mutex<Vec<[u16; 3]>>>;

/// Secret storage and a key backup; returns the key to recover with.
pub async fn set_up_recovery(device: &Device) -> Result<Value> {
    let recovery = device.client.encryption().recovery();
    Ok(recovery.enable().wait_for_backups_to_upload().await?.into())
}

pub async fn recover(device: &Device, with: &With) -> Result<()> {
    Ok(device.client.encryption().recovery().recover(&with.text("recovery_key")?).await?)
}

/// What the device believes of itself and of its secrets, and how many room keys the backup holds.
pub async fn secrets(device: &Device) -> Result<Value> {
    let encryption = device.client.encryption();
    let backup = device.client.send(Backup::new()).await.ok();
    let signs = encryption.cross_signing_status().await.is_some_and(|status| status.is_complete());
    Ok(json!({
        "device": format!("{:?}", encryption.verification_state().get()),
        "recovery": format!("{:?}", encryption.recovery().state()),
        "backup": format!("{:?}", encryption.backups().state()),
        "backed_up": backup.map(|backup| backup.count),
        "signs": signs,
    }))
}

/// Encrypts what follows in the room with a key that nobody has yet.
pub async fn renew_session(device: &Device, with: &With) -> Result<()> {
    Ok(device.room(&with.room()?)?.discard_room_key().await?)
}

/// From now on, the device takes part in verifications that others begin.
pub fn answer_verifications(device: &Device) {
    let notebook = device.notebook();
    device.client.add_event_handler({
        let notebook = notebook.clone();
        async move |event: ToDeviceKeyVerificationRequestEvent, client: Client| {
            take_part(client, event.sender, event.content.transaction_id.into(), notebook.clone());
        }
    });
    device.client.add_event_handler(async move |event: OriginalSyncRoomMessageEvent, client: Client| {
        if let MessageType::VerificationRequest(_) = event.content.msgtype {
            take_part(client, event.sender, event.event_id.to_string(), notebook.clone());
        }
    });
}

/// Takes part in a verification, beside of the sync that brings its steps.
fn take_part(client: Client, sender: OwnedUserId, flow: String, notebook: Notebook) {
    tokio::spawn(async move {
        if let Err(error) = answer(&client, &sender, &flow, &notebook).await {
            eprintln!("a verification with {sender}: {error:#}");
        }
    });
}

async fn answer(client: &Client, sender: &UserId, flow: &str, notebook: &Notebook) -> Result<()> {
    if client.user_id() == Some(sender) && flow.starts_with('$') {
        return Ok(());
    }
    let request = client.encryption().get_verification_request(sender, flow).await;
    let request = request.context("the request is unknown")?;
    let mut changes = pin!(request.changes());
    request.accept_with_methods(vec![VerificationMethod::SasV1]).await?;
    loop {
        match request.state() {
            VerificationRequestState::Transitioned { verification: Verification::SasV1(sas) } => {
                sas.accept().await?;
                return compare(&sas, notebook).await.map(drop);
            }
            VerificationRequestState::Cancelled(why) => bail!("cancelled: {}", why.reason()),
            _ => changes.next().await,
        };
    }
}

/// Verifies another user in the room of the two, or this user's other devices.
pub async fn verify(device: &Device, with: &With) -> Result<Value> {
    let encryption = device.client.encryption();
    let identity = match with.get::<Option<OwnedUserId>>("user")? {
        Some(user) => encryption.request_user_identity(&user).await?,
        None => encryption.get_user_identity(device.user_id()?).await?,
    };
    let identity = identity.context("the user has no identity")?;
    let request = identity.request_verification_with_methods(vec![VerificationMethod::SasV1]).await?;
    until_ready(&request).await?;
    let sas = request.start_sas().await?.context("the other is not ready")?;
    Ok(json!(compare(&sas, &device.notebook()).await?))
}

async fn until_ready(request: &VerificationRequest) -> Result<()> {
    let mut changes = pin!(request.changes());
    loop {
        match request.state() {
            VerificationRequestState::Ready { .. } => return Ok(()),
            VerificationRequestState::Cancelled(why) => bail!("cancelled: {}", why.reason()),
            _ => changes.next().await,
        };
    }
}

/// Confirms what the verification shows, and writes it down; the test compares what both sides showed.
async fn compare(sas: &SasVerification, notebook: &Notebook) -> Result<[u16; 3]> {
    let mut changes = pin!(sas.changes());
    let mut shown = None;
    loop {
        match sas.state() {
            SasState::KeysExchanged { decimals: (first, second, third), .. } if shown.is_none() => {
                let numbers = *shown.insert([first, second, third]);
                notebook.lock().unwrap_or_else(PoisonError::into_inner).push(numbers);
                sas.confirm().await?;
            }
            SasState::Done { .. } => return shown.context("nothing was shown"),
            SasState::Cancelled(why) => bail!("cancelled: {}", why.reason()),
            _ => drop(changes.next().await),
        }
    }
}

/// Whether the device believes that a user is who they say, and that one of their devices is theirs; that is `null` if it
/// knows none such.
pub async fn trust(device: &Device, with: &With) -> Result<Value> {
    let encryption = device.client.encryption();
    let user: OwnedUserId = with.get("user")?;
    let identity = encryption.get_user_identity(&user).await?;
    let other = match with.get::<Option<OwnedDeviceId>>("device")? {
        Some(id) => encryption.get_device(&user, &id).await?,
        None => None,
    };
    Ok(json!({
        "known": identity.is_some(),
        "user": identity.is_some_and(|identity| identity.is_verified()),
        "device": other.map(|other| other.is_cross_signed_by_owner()),
    }))
}
