//! The directory of users: people are found by name, and only by those who may know that they are there.
//!
//! Names come first, since they tell most candidates apart at the cost of an index; only of those whose name fits is it
//! asked whether they share a room with whoever searches, or are in one that is open to everybody.
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch>

use std::{collections::HashSet, ops::ControlFlow};

use ruma::{OwnedUserId, ServerName};

use super::circle::Circle;
use crate::{
    base::{
        fold::{cut, words},
        ids::UserNumber,
        limits,
    },
    service::{App, write::member::Profile},
    store::{StoreError, View},
};

/// A user who was found.
#[derive(Debug)]
pub struct Found {
    pub user_id: OwnedUserId,
    pub profile: Profile,
}

/// The users who were found, those first who are called just so, then those who share a room with the one who searches;
/// and whether there are more.
#[derive(Debug, Default)]
pub struct Findings {
    pub users: Vec<Found>,
    pub limited: bool,
}

/// Finds at most `limit` users by what somebody typed: words of a name in any order, begun at least, or a user id.
pub async fn search(
    app: &App,
    searcher: UserNumber,
    term: &str,
    limit: usize,
) -> Result<Findings, StoreError> {
    let query = Query::parse(cut(term.trim(), limits::SEARCH_TERM_BYTES), &app.server_name);
    let limit = limit.min(limits::FOUND_USERS);
    app.store.read(move |view| find(view, searcher, &query, limit)).await
}

/// What is looked for.
#[derive(Debug, PartialEq, Eq)]
enum Query {
    Words(Vec<String>),
    /// The user with this localpart, as typed.
    User(String),
    /// Users of another server.
    Elsewhere,
}

impl Query {
    fn parse(term: &str, server_name: &ServerName) -> Self {
        let bare = term.strip_prefix('@').unwrap_or(term);
        match bare.split_once(':') {
            Some((localpart, server)) if is_begun(server, server_name.as_str()) => {
                Self::User(localpart.to_owned())
            }
            Some(_) if term.starts_with('@') => Self::Elsewhere,
            _ => {
                let mut words = words(term);
                words.truncate(limits::SEARCH_WORDS);
                Self::Words(words)
            }
        }
    }
}

/// Whether somebody who typed `start` may be about to type `whole`.
fn is_begun(start: &str, whole: &str) -> bool {
    whole.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn find(view: &View<'_>, searcher: UserNumber, query: &Query, limit: usize) -> Result<Findings, StoreError> {
    let mut search = Search::new(view, searcher, limit);
    match query {
        Query::Words(words) => {
            search.among(|visit| view.users_called(words, visit))?;
            search.among(|visit| view.users_with_words(words, visit))?;
        }
        Query::User(name) => search.among(|visit| {
            for localpart in [name, &name.to_ascii_lowercase()] {
                let account = view.account(localpart)?;
                if let Some(account) = account.filter(|account| account.deactivated_at.is_none()) {
                    _ = visit(account.number)?;
                }
            }
            Ok(())
        })?,
        Query::Elsewhere => {}
    }
    search.findings()
}

/// A search under way.
struct Search<'v> {
    view: &'v View<'v>,
    searcher: UserNumber,
    limit: usize,
    /// Those who share a room with the searcher.
    company: Option<Circle>,
    /// Those who are in a room that is open to everybody.
    open: Option<Circle>,
    /// Those whose name fits.
    seen: HashSet<UserNumber>,
    /// Those of them whom the searcher may find, up to one more than are wanted.
    found: Vec<UserNumber>,
    steps: usize,
}

/// Takes a candidate, and says whether there were enough.
type Visit<'a> = dyn FnMut(UserNumber) -> Result<ControlFlow<()>, StoreError> + 'a;

impl<'v> Search<'v> {
    fn new(view: &'v View<'v>, searcher: UserNumber, limit: usize) -> Self {
        let (seen, found) = (HashSet::from([searcher]), Vec::new());
        Self { view, searcher, limit, company: None, open: None, seen, found, steps: limits::CIRCLE_STEPS }
    }

    /// Finds users among candidates: first those who share a room.
    fn among(
        &mut self,
        candidates: impl FnOnce(&mut Visit<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.is_over() {
            return Ok(());
        }
        let mut others = Vec::new();
        candidates(&mut |user| {
            if self.seen.insert(user) {
                if self.shares_room(user)? {
                    self.found.push(user);
                } else {
                    others.push(user);
                }
            }
            Ok(if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        for user in others {
            if self.found.len() <= self.limit && self.is_in_the_open(user)? {
                self.found.push(user);
            }
        }
        Ok(())
    }

    fn shares_room(&mut self, user: UserNumber) -> Result<bool, StoreError> {
        let company = match &mut self.company {
            Some(company) => company,
            none => none.insert(Circle::around(self.view, self.searcher)?),
        };
        company.has(self.view, user, &mut self.steps)
    }

    fn is_in_the_open(&mut self, user: UserNumber) -> Result<bool, StoreError> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Circle::in_the_open(self.view)?),
        };
        open.has(self.view, user, &mut self.steps)
    }

    /// Whether there are enough, or no more candidates may be looked at.
    fn is_over(&self) -> bool {
        self.found.len() > self.limit || self.seen.len() > limits::CANDIDATES
    }

    fn findings(self) -> Result<Findings, StoreError> {
        let limited = self.is_over() || self.steps == 0;
        let users = self.found.iter().take(self.limit).map(|user| {
            let user_id = self.view.user_id(*user)?;
            let profile = Profile::of(self.view, &user_id)?;
            Ok(Found { user_id, profile })
        });
        Ok(Findings { users: users.collect::<Result<_, StoreError>>()?, limited })
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_term_is_words_or_a_user_id() {
        let parsed = |term: &str| Query::parse(term, server_name!("example.org:8448"));
        let all = |words: &[&str]| Query::Words(words.iter().map(|word| (*word).to_owned()).collect());
        let user = |name: &str| Query::User(name.to_owned());
        for (term, query) in [
            ("Al Smi", all(&["al", "smi"])),
            ("@ali", all(&["ali"])),
            ("@Ali:", user("Ali")),
            ("ali:EXAMPLE.o", user("ali")),
            ("@ali.ce:example.org:8448", user("ali.ce")),
            ("@ali:example.org:84480", Query::Elsewhere),
            ("@ali:elsewhere.org", Query::Elsewhere),
            ("Ali: the", all(&["ali", "the"])),
            ("", all(&[])),
            ("@", all(&[])),
        ] {
            assert_eq!(parsed(term), query, "{term}");
        }
        assert_eq!(parsed(&"a ".repeat(99)), all(&["a"; limits::SEARCH_WORDS]));
    }
}
