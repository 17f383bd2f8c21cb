//! What this server can do for a user. <https://spec.matrix.org/v1.19/client-server-api/#capabilities-negotiation>

use ruma::api::client::discovery::get_capabilities::v3::{
    self, AccountModerationCapability, Capabilities, ChangePasswordCapability, GetLoginTokenCapability,
    ProfileFieldsCapability, RoomVersionStability, RoomVersionsCapability, ThirdPartyIdChangesCapability,
};

use serde_json::json;

use crate::{
    api::{Error, User},
    base::{limits, ordered::Ordered},
    room::version::Version,
    service::{App, moderation, oauth},
};

/// `GET /_matrix/client/v3/capabilities`
pub(crate) async fn capabilities(app: App, user: User, _request: v3::Request) -> Result<v3::Response, Error> {
    let mut capabilities = Capabilities::new();
    let versions = Version::all().map(|version| (version.id().clone(), RoomVersionStability::Stable));
    capabilities.room_versions =
        RoomVersionsCapability::new(Version::DEFAULT.id().clone(), versions.into_map());
    capabilities.profile_fields = Some(ProfileFieldsCapability::new(true));
    capabilities.thirdparty_id_changes = ThirdPartyIdChangesCapability::new(false);
    // What asks for the password again is not for sessions that know none.
    let knows_password = !oauth::is_session(&app, user.device).await?;
    capabilities.get_login_token = GetLoginTokenCapability::new(knows_password);
    capabilities.change_password = ChangePasswordCapability::new(knows_password);
    let admin = moderation::is_admin(&app, user.number).await?;
    capabilities.account_moderation = AccountModerationCapability::new(admin, admin);
    let delays = json!({"max_delay_ms": limits::DELAY.as_millis() as u64, "max_scheduled": limits::DELAYS});
    for name in ["m.delayed_events", "org.matrix.msc4140.delayed_events"] {
        capabilities.set(name, delays.clone()).map_err(Error::internal)?;
    }
    Ok(v3::Response::new(capabilities))
}
