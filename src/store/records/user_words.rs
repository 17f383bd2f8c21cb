//! The words by which users are found, kept in step with their accounts and names.
//! <https://spec.matrix.org/v1.19/client-server-api/#user-directory>

use std::{
    collections::{BTreeSet, HashSet},
    ops::ControlFlow,
};

use crate::{
    base::{
        fold::{cut, words},
        ids::UserNumber,
        limits,
        ordered::Ordered,
    },
    store::{StoreError, Transaction, View},
};

impl View<'_> {
    /// Calls `visit` with every user whose whole name or localpart these words are, until it has enough.
    pub fn users_called(
        &self,
        words: &[String],
        mut visit: impl FnMut(UserNumber) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut statement =
            self.sql().prepare_cached("SELECT user FROM user_words WHERE word = ?1 ORDER BY user")?;
        let mut rows = statement.query([whole(words)])?;
        while let Some(row) = rows.next()? {
            if visit(row.get(0)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Calls `visit` with the users who have, for each of these words, one that begins so, until it has enough. A user
    /// may come more than once. If there are more than [`limits::CANDIDATES`] for each of the words, only so many of
    /// them are looked at.
    pub fn users_with_words(
        &self,
        words: &[String],
        mut visit: impl FnMut(UserNumber) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        if let [word] = words {
            return self.visit_users_with(word, &mut visit);
        }
        let mut matches = Vec::new();
        for word in words {
            let mut users = Vec::new();
            self.visit_users_with(word, &mut |user| {
                users.push(user);
                let full = users.len() == limits::CANDIDATES;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            matches.push((word, users));
        }
        matches.sort_by_key(|(_, users)| users.len());
        let mut matches = matches.into_iter();
        let Some((_, rarest)) = matches.next() else { return Ok(()) };
        let others: Vec<Match<'_>> = matches.map(Match::new).collect();
        'users: for user in rarest {
            for other in &others {
                if !other.has(self, user)? {
                    continue 'users;
                }
            }
            if visit(user)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Calls `visit` with every user who has a word that begins so, in the order of the words.
    fn visit_users_with(
        &self,
        word: &str,
        visit: &mut dyn FnMut(UserNumber) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let sql = "SELECT user FROM user_words WHERE word >= ?1 AND word < ?2 ORDER BY word, user";
        let mut statement = self.sql().prepare_cached(sql)?;
        let mut rows = statement.query((word, after(word)))?;
        while let Some(row) = rows.next()? {
            if visit(row.get(0)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn has_word(&self, user: UserNumber, word: &str) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM user_words WHERE user = ?1 AND word >= ?2 AND word < ?3)";
        Ok(self.sql().prepare_cached(sql)?.query_row((user, word, after(word)), |row| row.get(0))?)
    }
}

/// The users who have a word that begins so.
struct Match<'a> {
    word: &'a str,
    users: HashSet<UserNumber>,
    /// Whether these are all.
    whole: bool,
}

impl<'a> Match<'a> {
    fn new((word, users): (&'a String, Vec<UserNumber>)) -> Self {
        Self { word, whole: users.len() < limits::CANDIDATES, users: users.into_iter().collect() }
    }

    fn has(&self, view: &View<'_>, user: UserNumber) -> Result<bool, StoreError> {
        Ok(self.users.contains(&user) || !self.whole && view.has_word(user, self.word)?)
    }
}

/// What comes behind all words that begin with one.
fn after(word: &str) -> String {
    format!("{word}{}", char::MAX)
}

impl Transaction<'_> {
    /// Makes a local user be found by the localpart and name as they are now, or not at all once the account ended.
    pub(super) fn list_user(&mut self, user: UserNumber) -> Result<(), StoreError> {
        let wanted = match self.account_by_number(user)? {
            Some(account) if account.deactivated_at.is_none() => {
                let name = self.profile_field(user, "displayname")?;
                let name = name.and_then(|json| serde_json::from_str::<String>(&json).ok());
                words_of(&account.localpart, &name.unwrap_or_default())
            }
            _ => BTreeSet::new(),
        };
        let listed = self.listed_words(user)?;
        let mut remove = self.sql().prepare_cached("DELETE FROM user_words WHERE word = ?1 AND user = ?2")?;
        for word in listed.difference(&wanted) {
            remove.execute((word, user))?;
        }
        let mut add = self.sql().prepare_cached("INSERT INTO user_words (word, user) VALUES (?1, ?2)")?;
        for word in wanted.difference(&listed) {
            add.execute((word, user))?;
        }
        Ok(())
    }

    /// Makes the next local users after one be found, at most `limit`, and gives the last of them; none if there are no
    /// more.
    pub fn list_users_after(
        &mut self,
        user: UserNumber,
        limit: usize,
    ) -> Result<Option<UserNumber>, StoreError> {
        let users: Vec<UserNumber> = {
            let sql = "SELECT number FROM users WHERE number > ?1 ORDER BY number LIMIT ?2";
            let mut statement = self.sql().prepare_cached(sql)?;
            statement.query_map((user, limit as i64), |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        for user in &users {
            self.list_user(*user)?;
        }
        Ok(users.last().copied())
    }

    fn listed_words(&self, user: UserNumber) -> Result<BTreeSet<String>, StoreError> {
        let mut statement = self.sql().prepare_cached("SELECT word FROM user_words WHERE user = ?1")?;
        Ok(statement.query_map([user], |row| row.get(0))?.try_into_set()?)
    }
}

fn words_of(localpart: &str, name: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for text in [localpart, name] {
        let mut words = words(text);
        if !words.is_empty() {
            all.insert(whole(&words));
        }
        words.truncate(limits::USER_WORDS);
        all.extend(words);
    }
    all
}

/// A whole name among the words: no word has the sign.
fn whole(words: &[String]) -> String {
    let whole = format!("={}", words.join(" "));
    cut(&whole, limits::SEARCH_TERM_BYTES).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_words_of_localpart_and_name() {
        let all = |localpart, name| words_of(localpart, name).into_iter().collect::<Vec<_>>();
        let expected = ["=al ice", "=alice smith", "al", "alice", "ice", "smith"];
        assert_eq!(all("al.ice", "Alice  SMITH"), expected);
        assert_eq!(all("bob", ""), ["=bob", "bob"]);
        assert_eq!(all("bob", "…"), ["=bob", "bob"]);
        let many: String = (0..100).map(|n| format!("w{n} ")).collect();
        assert!(words_of("a", &many).len() <= limits::USER_WORDS + 3);
        assert!(words_of("a", &many).iter().all(|word| word.len() <= limits::SEARCH_TERM_BYTES));
    }
}
