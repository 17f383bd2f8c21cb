//! Room versions as data: which ones this server takes part in, and their rules as ruma lists them.
//!
//! No other module compares version numbers; each asks a rule. <https://spec.matrix.org/v1.19/rooms/>

use std::fmt;

use ruma::{
    RoomVersionId,
    room_version_rules::{
        AuthorizationRules, EventIdFormatVersion, EventsReferenceFormatVersion, RedactionRules,
        RoomVersionRules, StateResolutionVersion,
    },
};

use crate::base::limits;

/// A room version that this server supports.
#[derive(Clone, Copy)]
pub struct Version(&'static (RoomVersionId, RoomVersionRules));

impl Version {
    /// The version of new rooms.
    pub const DEFAULT: Self = Self(&SUPPORTED[11]);

    /// The version with this id, unless it is not supported.
    pub fn of(id: &RoomVersionId) -> Option<Self> {
        Self::named(id.as_str())
    }

    /// The same by its name.
    pub fn named(name: &str) -> Option<Self> {
        // Most rooms have a newer one.
        SUPPORTED.iter().rfind(|(id, _)| id.as_str() == name).map(Self)
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

    /// Whether an event's id is its reference hash. Before, it is what its server says, and that server signs it too.
    pub fn event_id_is_hash(self) -> bool {
        self.rules().event_id_format != EventIdFormatVersion::V1
    }

    /// Whether an event names others by pairs of an id and a reference hash.
    pub fn references_are_pairs(self) -> bool {
        self.rules().events_reference_format == EventsReferenceFormatVersion::V1
    }

    /// Whether events hold canonical JSON only. Before, their numbers may be fractions and integers of any size.
    pub fn strict_json(self) -> bool {
        self.auth().strict_canonical_json
    }

    /// The greatest integer that an event's own fields hold. A depth that reached it stays there.
    pub fn max_integer(self) -> u64 {
        if self.strict_json() { limits::MAX_INTEGER } else { i64::MAX.unsigned_abs() }
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

static SUPPORTED: [(RoomVersionId, RoomVersionRules); 12] = [
    (RoomVersionId::V1, RoomVersionRules::V1),
    (RoomVersionId::V2, RoomVersionRules::V2),
    (RoomVersionId::V3, RoomVersionRules::V3),
    (RoomVersionId::V4, RoomVersionRules::V4),
    (RoomVersionId::V5, RoomVersionRules::V5),
    (RoomVersionId::V6, RoomVersionRules::V6),
    (RoomVersionId::V7, RoomVersionRules::V7),
    (RoomVersionId::V8, RoomVersionRules::V8),
    (RoomVersionId::V9, RoomVersionRules::V9),
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
    fn every_version_of_the_specification_is_there_under_its_id() {
        let ids: Vec<_> = Version::all().map(|version| version.id().to_string()).collect();
        assert_eq!(ids, (1..=12).map(|number: u8| number.to_string()).collect::<Vec<_>>());
        for version in Version::all() {
            let rules = format!("{:?}", version.id().rules().unwrap());
            assert_eq!(format!("{:?}", version.rules()), rules);
        }
    }

    #[test]
    fn an_unknown_version_is_none() {
        assert_eq!(Version::of(&RoomVersionId::V11).map(Version::id), Some(&RoomVersionId::V11));
        assert_eq!(Version::of(&RoomVersionId::try_from("org.example").unwrap()), None);
    }
}
