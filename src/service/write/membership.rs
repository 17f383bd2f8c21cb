//! Coming and going: what makes a user a member of a room, and what ends it.
//!
//! Each is a member event like any other, judged by the room's rules. What stands here is only what the endpoints
//! promise beyond them: that joining twice is no error, and that whoever is not in the room can't be kicked.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use ruma::{CanonicalJsonObject, OwnedUserId, UserId, events::TimelineEventType};

use super::{
    append::{WriteError, append},
    member::Profile,
    restricted,
    send::send,
};
use crate::{
    base::ids::RoomNumber,
    room::{build::Draft, sign::sign, stranger::forsaken},
    service::{settings, signer::Signer},
    store::{OutOfBand, Transaction, View, events::Membership},
};

/// What somebody does to somebody's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Enters the room.
    Join,
    /// Asks to be invited.
    Knock,
    /// Leaves, declines an invitation or takes back a knock.
    Leave,
    /// Invites another user.
    Invite(OwnedUserId),
    /// Removes another user, who may come back.
    Kick(OwnedUserId),
    /// Removes another user for good.
    Ban(OwnedUserId),
    /// Lets a banned user come back.
    Unban(OwnedUserId),
}

/// Carries an action out in a room for a local user; `reason` goes with it. What is so already stays as it is.
pub fn act(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    room: RoomNumber,
    actor: &UserId,
    action: &Action,
    reason: Option<&str>,
) -> Result<(), WriteError> {
    let target = action.target().unwrap_or(actor);
    let now = membership(transaction, target, room)?;
    if *action == Action::Leave && forsake(transaction, signer, room, actor, reason)? {
        return Ok(());
    }
    let Some(mut content) = content(transaction, action, target, now)? else { return Ok(()) };
    if *action == Action::Join && now != Some(Membership::Invite) {
        let voucher = restricted::voucher(transaction, room, actor, signer.server_name)?;
        content.extend(
            voucher.map(|user| ("join_authorised_via_users_server".to_owned(), user.as_str().into())),
        );
    }
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
    let kind = TimelineEventType::RoomMember;
    let draft = Draft { kind, state_key: Some(target.to_string()), content: content.into(), redacts: None };
    append(transaction, signer, room, actor, draft, None)?;
    if *action == Action::Join {
        settings::follow(transaction, actor, room)?;
    }
    Ok(())
}

/// An invitation of a user of another server.
pub fn invitation(user: &UserId, reason: Option<&str>) -> Draft {
    let mut content = Profile::default().content("invite");
    content.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
    let kind = TimelineEventType::RoomMember;
    Draft { kind, state_key: Some(user.to_string()), content: content.into(), redacts: None }
}

/// Lets a user be rid of an invitation to a room that this server is not in, or of a knock there, whoever hears of it;
/// tells whether there was one.
fn forsake(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    room: RoomNumber,
    user_id: &UserId,
    reason: Option<&str>,
) -> Result<bool, WriteError> {
    let Some(user) = transaction.user_number(user_id)? else { return Ok(false) };
    let Some(stay) = transaction.stay(user, room)? else { return Ok(false) };
    if !matches!(stay.membership, Membership::Invite | Membership::Knock)
        || transaction.out_of_band(user, room)?.is_none()
    {
        return Ok(false);
    }
    let (version, pending) = (transaction.room(room)?.version, transaction.event(room, stay.event)?.pdu);
    let mut content = CanonicalJsonObject::new();
    content.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
    let event = forsaken(&pending, (user_id, transaction.now().into()), content, version)?;
    let pdu = sign(event, signer.server_name, signer.key)?;
    let told = OutOfBand { server: None, state: "[]".to_owned() };
    transaction.put_out_of_band(room, &pdu, &told)?;
    Ok(true)
}

/// Shows a local user's profile as it is now in a room that they are in.
pub fn show_profile(
    transaction: &mut Transaction<'_>,
    signer: Signer<'_>,
    room: RoomNumber,
    user: &UserId,
) -> Result<(), WriteError> {
    if membership(transaction, user, room)? == Some(Membership::Join) {
        let kind = TimelineEventType::RoomMember;
        let content = Profile::of(transaction, user)?.content("join");
        let draft = Draft { kind, state_key: Some(user.to_string()), content: content.into(), redacts: None };
        send(transaction, signer, room, user, draft, None)?;
    }
    Ok(())
}

/// Makes a user hear no more of a room that they left.
pub fn forget(transaction: &mut Transaction<'_>, room: RoomNumber, user: &UserId) -> Result<(), WriteError> {
    match membership(transaction, user, room)? {
        Some(Membership::Leave | Membership::Ban) => {
            let user = transaction.intern_user(user)?;
            Ok(transaction.forget(user, room)?)
        }
        Some(_) => Err(WriteError::NotLeft),
        None => Err(WriteError::UnknownRoom),
    }
}

impl Action {
    fn target(&self) -> Option<&UserId> {
        match self {
            Self::Join | Self::Knock | Self::Leave => None,
            Self::Invite(user) | Self::Kick(user) | Self::Ban(user) | Self::Unban(user) => Some(user),
        }
    }
}

/// The content of the member event for an action on a target who is `now`; none if nothing is to be done.
fn content(
    view: &View<'_>,
    action: &Action,
    target: &UserId,
    now: Option<Membership>,
) -> Result<Option<CanonicalJsonObject>, WriteError> {
    let membership = match (action, now) {
        (Action::Join, Some(Membership::Join))
        | (Action::Leave, Some(Membership::Leave))
        | (Action::Ban(_), Some(Membership::Ban)) => return Ok(None),
        (Action::Join, _) => "join",
        (Action::Knock, _) => "knock",
        (Action::Invite(_), _) => "invite",
        (Action::Ban(_), _) => "ban",
        (Action::Leave, _)
        | (Action::Kick(_), Some(Membership::Join | Membership::Invite | Membership::Knock))
        | (Action::Unban(_), Some(Membership::Ban)) => "leave",
        (Action::Kick(_), _) => return Err(WriteError::forbidden("the user is not in the room")),
        (Action::Unban(_), _) => return Err(WriteError::forbidden("the user is not banned")),
    };
    let shown = matches!(action, Action::Join | Action::Knock | Action::Invite(_));
    let profile = if shown { Profile::of(view, target)? } else { Profile::default() };
    Ok(Some(profile.content(membership)))
}

fn membership(view: &View<'_>, user: &UserId, room: RoomNumber) -> Result<Option<Membership>, WriteError> {
    let Some(user) = view.user_number(user)? else { return Ok(None) };
    Ok(view.stay(user, room)?.map(|stay| stay.membership))
}
