//! User names: what may become the localpart of a user id here, and which account a name means.
//! <https://spec.matrix.org/v1.19/appendices/#user-identifiers>

use ruma::{OwnedUserId, ServerName, UserId};

use crate::base::limits;

/// The localpart that registering `name` gives: capitals become small letters, any other character that the grammar
/// doesn't have is refused, and so is a name whose user id would be too long.
pub fn for_registration(name: &str, server_name: &ServerName) -> Option<String> {
    let localpart = name.to_ascii_lowercase();
    let fits = "@:".len() + localpart.len() + server_name.as_str().len() <= limits::USER_ID_BYTES;
    let legal = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '=' | '_' | '/' | '+');
    (!localpart.is_empty() && fits && localpart.chars().all(legal)).then_some(localpart)
}

/// The localparts, in order, of the account that a log-in as `user`, a user id or only its localpart, may mean. The
/// first is the name as given, since accounts of other times have other characters.
pub fn for_log_in(user: &str, server_name: &ServerName) -> Vec<String> {
    let localpart = match user.strip_prefix('@') {
        Some(rest) => match rest.split_once(':') {
            Some((localpart, server)) if server == server_name.as_str() => localpart,
            _ => return Vec::new(),
        },
        None => user,
    };
    let lowered = localpart.to_ascii_lowercase();
    if lowered == localpart { vec![lowered] } else { vec![localpart.to_owned(), lowered] }
}

/// The localpart of a user id of this server.
pub fn of_local_user<'a>(user_id: &'a UserId, server_name: &ServerName) -> Option<&'a str> {
    (user_id.server_name() == server_name).then(|| user_id.localpart())
}

/// The id of this server's user with the given localpart, which comes from the store.
pub fn user_id(localpart: &str, server_name: &ServerName) -> OwnedUserId {
    UserId::parse(format!("@{localpart}:{server_name}")).expect("a stored localpart makes a user id")
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn registration_follows_the_grammar() {
        let server = server_name!("example.org");
        let registered = |name: &str| for_registration(name, server);
        assert_eq!(registered("alice"), Some("alice".to_owned()));
        assert_eq!(registered("Alice"), Some("alice".to_owned()));
        assert_eq!(registered("a-z.0=9_/+"), Some("a-z.0=9_/+".to_owned()));
        for bad in ["", "al ice", "alice:x", "@alice", "älice", "al\u{0}ice", "alice!", "İ"] {
            assert_eq!(registered(bad), None, "{bad:?}");
        }
        let longest = "a".repeat(limits::USER_ID_BYTES - "@:example.org".len());
        assert_eq!(registered(&longest), Some(longest.clone()));
        assert_eq!(registered(&format!("{longest}a")), None);
    }

    #[test]
    fn log_in_takes_user_ids_localparts_and_old_names() {
        let server = server_name!("example.org:8448");
        let meant = |user: &str| for_log_in(user, server);
        assert_eq!(meant("alice"), ["alice"]);
        assert_eq!(meant("@alice:example.org:8448"), ["alice"]);
        assert_eq!(meant("Alice"), ["Alice", "alice"]);
        assert_eq!(meant("@älice!:example.org:8448"), ["älice!"]);
        assert!(meant("@alice:example.org").is_empty());
        assert!(meant("@alice").is_empty());
    }
}
