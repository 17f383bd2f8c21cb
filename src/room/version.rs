//! Room versions as data: which ones this server takes part in, and their rules as ruma lists them.
//!
//! No other module compares version numbers; each asks a rule. <https://spec.matrix.org/v1.19/rooms/>

use std::fmt;

use ruma::{
    RoomVersionId,
    room_version_rules::{AuthorizationRules, RedactionRules, RoomVersionRules, StateResolutionVersion},
};

/// A room version that this server supports.
#[derive(Clone, Copy)]
pub struct Version(&'static (RoomVersionId, RoomVersionRules));

impl Version {
    /// The version of new rooms.
    pub const DEFAULT: Self = Self(&SUPPORTED[2]);

    /// The version with this id, unless it is not supported.
    pub fn of(id: &RoomVersionId) -> Option<Self> {
        SUPPORTED.iter().find(|(known, _)| known == id).map(Self)
    }

    /// Every supported version, oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        SUPPORTED.iter().map(Self)
    }

    /// Its id, as `room_version` of a create event names it.
    pub fn id(self) -> &'static RoomVersionId {
        &self.0.0
    }

    /// All its rules.
    pub fn rules(self) -> &'static RoomVersionRules {
        &self.0.1
    }

    /// Its authorisation rules.
    pub fn auth(self) -> &'static AuthorizationRules {
        &self.rules().authorization
    }

    /// Its redaction rules.
    pub fn redaction(self) -> &'static RedactionRules {
        &self.rules().redaction
    }

    /// Its algorithm of state resolution.
    pub fn resolution(self) -> StateResolutionVersion {
        self.rules().state_res
    }

    /// Whether the room's id is the reference hash of its create event, which then bears no `room_id` and is no
    /// auth event.
    pub fn room_id_is_hash(self) -> bool {
        self.auth().room_create_event_id_as_room_id
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Version {}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.id())
    }
}

static SUPPORTED: [(RoomVersionId, RoomVersionRules); 3] = [
    (RoomVersionId::V10, RoomVersionRules::V10),
    (RoomVersionId::V11, RoomVersionRules::V11),
    (RoomVersionId::V12, RoomVersionRules::V12),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_default() {
        assert_eq!(Version::DEFAULT.id(), &RoomVersionId::V12);
        assert_eq!(Version::all().last(), Some(Version::DEFAULT));
    }

    #[test]
    fn an_unknown_version_is_none() {
        assert_eq!(Version::of(&RoomVersionId::V11).map(Version::id), Some(&RoomVersionId::V11));
        assert_eq!(Version::of(&RoomVersionId::V1), None);
        assert_eq!(Version::of(&RoomVersionId::try_from("org.example").unwrap()), None);
    }
}
