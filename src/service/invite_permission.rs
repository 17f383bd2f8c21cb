//! Who wants no invitations, or not from some. <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>, and by
//! whom they are, <https://github.com/matrix-org/matrix-spec-proposals/pull/4155>

use ruma::UserId;
use serde::Deserialize;
use serde_json::Value;

use super::ignored::ignored;
use crate::{
    base::{
        glob::{Wildcards, matches},
        ids::UserNumber,
    },
    store::{StoreError, View},
};

/// Which invitations a user of this server wants.
#[derive(Debug, Default)]
pub struct InvitePermission {
    /// None.
    blocks_all: bool,
    filter: Option<Filter>,
}

/// What refuses an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The user wants none.
    Everybody,
    /// They want none of this one.
    Inviter,
}

/// Patterns of users and servers. Whose list isn't there names nobody.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Filter {
    enabled: bool,
    allowed_users: Vec<String>,
    ignored_users: Vec<String>,
    blocked_users: Vec<String>,
    allowed_servers: Vec<String>,
    ignored_servers: Vec<String>,
    blocked_servers: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Ignored,
    Blocked,
}

impl InvitePermission {
    /// What a user says; nothing where that has another form.
    pub fn of(view: &View<'_>, user: UserNumber) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Permission {
            default_action: Value,
        }
        let content = view.account_data(user, None, TYPES[0])?;
        let permission = content.and_then(|content| serde_json::from_str::<Permission>(&content).ok());
        let content = view.account_data(user, None, TYPES[1])?;
        let filter = content.and_then(|content| serde_json::from_str::<Filter>(&content).ok());
        Ok(Self {
            blocks_all: permission.is_some_and(|permission| permission.default_action == "block"),
            filter: filter.filter(|filter| filter.enabled),
        })
    }

    /// Whether no invitation is hidden.
    pub fn hides_none(&self) -> bool {
        !self.blocks_all && self.filter.is_none()
    }

    /// Whether all are.
    pub fn hides_all(&self) -> bool {
        self.blocks_all
    }

    /// Whether the user is not told of an invitation of somebody, whether that was taken or is from before.
    pub fn hides(&self, inviter: &UserId) -> bool {
        self.blocks_all || self.judged(inviter) != Verdict::Allowed
    }

    fn judged(&self, inviter: &UserId) -> Verdict {
        let Some(filter) = &self.filter else { return Verdict::Allowed };
        let host = inviter.server_name().host().to_lowercase();
        let users = |patterns: &[String]| {
            patterns.iter().any(|pattern| matches(pattern, inviter.as_str(), Wildcards::StarAndQuestionMark))
        };
        // As the lists of servers of a room.
        let servers = |patterns: &[String]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| matches(&pattern.to_lowercase(), &host, Wildcards::StarAndQuestionMark))
        };
        // The first that is so counts.
        if users(&filter.allowed_users) {
            Verdict::Allowed
        } else if users(&filter.ignored_users) {
            Verdict::Ignored
        } else if users(&filter.blocked_users) {
            Verdict::Blocked
        } else if servers(&filter.allowed_servers) {
            Verdict::Allowed
        } else if servers(&filter.ignored_servers) {
            Verdict::Ignored
        } else if servers(&filter.blocked_servers) {
            Verdict::Blocked
        } else {
            Verdict::Allowed
        }
    }
}

/// What refuses an invitation of a user of this server, if anything does. Who is ignored doesn't learn of it.
pub fn refused(view: &View<'_>, user_id: &UserId, inviter: &UserId) -> Result<Option<Blocked>, StoreError> {
    let Some(user) = view.user_number(user_id)? else { return Ok(None) };
    let permission = InvitePermission::of(view, user)?;
    if permission.blocks_all {
        return Ok(Some(Blocked::Everybody));
    }
    let is_blocked =
        permission.judged(inviter) == Verdict::Blocked && !ignored(view, user)?.contains(inviter);
    Ok(is_blocked.then_some(Blocked::Inviter))
}

impl Blocked {
    /// The error's code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Everybody => "M_INVITE_BLOCKED",
            Self::Inviter => "ORG.MATRIX.MSC4155.M_INVITE_BLOCKED",
        }
    }
}

impl Default for Filter {
    fn default() -> Self {
        let [allowed_users, ignored_users, blocked_users] = Default::default();
        let [allowed_servers, ignored_servers, blocked_servers] = Default::default();
        Self {
            enabled: true,
            allowed_users,
            ignored_users,
            blocked_users,
            allowed_servers,
            ignored_servers,
            blocked_servers,
        }
    }
}

/// The types of account data by which they say so.
pub const TYPES: [&str; 2] = ["m.invite_permission_config", "org.matrix.msc4155.invite_permission_config"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(filter: Value, inviter: &str) -> Verdict {
        let filter: Option<Filter> = serde_json::from_value(filter).ok();
        let filter = filter.filter(|filter| filter.enabled);
        InvitePermission { blocks_all: false, filter }.judged(inviter.try_into().unwrap())
    }

    // <https://github.com/matrix-org/matrix-spec-proposals/pull/4155>
    #[test]
    fn the_first_list_that_names_an_inviter_decides() {
        let only_good = json!({"allowed_servers": ["good.org"], "blocked_servers": ["*"]});
        let not_one = json!({
            "blocked_users": ["@not:good.org"], "allowed_servers": ["good.org"], "blocked_servers": ["*"],
        });
        let but_one = json!({"allowed_users": ["@good:bad.org"], "blocked_servers": ["bad.org"]});
        let quiet = json!({
            "allowed_servers": ["good.org"], "ignored_servers": ["worse.org"], "blocked_servers": ["*"],
        });
        for (filter, inviter, verdict) in [
            (json!({}), "@a:bad.org", Verdict::Allowed),
            (json!({"blocked_servers": ["*"]}), "@a:bad.org", Verdict::Blocked),
            (json!({"enabled": false, "blocked_servers": ["*"]}), "@a:bad.org", Verdict::Allowed),
            (only_good.clone(), "@a:good.org", Verdict::Allowed),
            (only_good, "@a:bad.org", Verdict::Blocked),
            (json!({"blocked_servers": ["bad.org"]}), "@a:good.org", Verdict::Allowed),
            (json!({"blocked_servers": ["BAD.o?g"]}), "@a:bad.ORG:8448", Verdict::Blocked),
            (json!({"blocked_servers": ["bad.org:8448"]}), "@a:bad.org:8448", Verdict::Allowed),
            (not_one.clone(), "@not:good.org", Verdict::Blocked),
            (not_one.clone(), "@is:good.org", Verdict::Allowed),
            (not_one, "@a:bad.org", Verdict::Blocked),
            (but_one.clone(), "@good:bad.org", Verdict::Allowed),
            (but_one, "@a:bad.org", Verdict::Blocked),
            (quiet.clone(), "@a:good.org", Verdict::Allowed),
            (quiet.clone(), "@a:worse.org", Verdict::Ignored),
            (quiet, "@a:bad.org", Verdict::Blocked),
            (json!({"ignored_users": ["@a*"], "blocked_users": ["@*"]}), "@a:x", Verdict::Ignored),
            (json!({"allowed_users": ["@a:x"], "ignored_users": ["@*"]}), "@a:x", Verdict::Allowed),
            (json!({"blocked_users": ["@a:*"], "allowed_servers": ["x"]}), "@a:x", Verdict::Blocked),
            // All of it is nothing where a part has another form.
            (json!({"blocked_servers": ["*"], "allowed_users": "x"}), "@a:x", Verdict::Allowed),
            (json!({"blocked_servers": ["*"], "allowed_users": [1]}), "@a:x", Verdict::Allowed),
            (json!({"blocked_servers": null}), "@a:x", Verdict::Allowed),
        ] {
            assert!(judged(filter.clone(), inviter) == verdict, "{filter} {inviter}");
        }
    }
}
