//! The directory of rooms: whoever may set a room's canonical alias puts it there, and everybody reads it.
//! <https://spec.matrix.org/v1.19/client-server-api/#published-room-directory>

use std::{fmt, str::FromStr};

use ruma::OwnedRoomId;

use crate::{
    base::{
        fold::{cut, fold},
        ids::RoomNumber,
        limits,
    },
    room::listing::Listing,
    service::{App, aliases, moderation, sessions::Session},
    store::{Rank, RoomSearch, StoreError, Transaction, View},
};

/// Why the directory tells nothing, or stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("this server knows no such room")]
    UnknownRoom,
    #[error("the user may not publish this room")]
    Forbidden,
    #[error("this server knows no such network")]
    UnknownNetwork,
    #[error("the token is malformed")]
    Token,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a room is in the directory.
///
/// # Errors
/// There is no such room.
pub async fn is_published(app: &App, room_id: OwnedRoomId) -> Result<bool, DirectoryError> {
    let read = move |view: &View<'_>| {
        let room = view.room_number(&room_id)?.ok_or(DirectoryError::UnknownRoom)?;
        Ok(view.is_published(room)?)
    };
    app.store.read(read).await
}

/// Puts a room into the directory or takes it out.
///
/// # Errors
/// The user neither may set the room's canonical alias nor administers the server.
pub async fn set_published(
    app: &App,
    user: &Session,
    room_id: OwnedRoomId,
    published: bool,
) -> Result<(), DirectoryError> {
    let user = user.clone();
    let job = move |transaction: &mut Transaction<'_>| {
        let room = transaction.room_number(&room_id)?.ok_or(DirectoryError::UnknownRoom)?;
        let may = aliases::may_set_canonical(transaction, &user, room)?
            || moderation::administers(transaction, user.number)?;
        if !may {
            return Err(DirectoryError::Forbidden);
        }
        if transaction.is_published(room)? != published {
            transaction.set_published(room, published)?;
        }
        Ok(())
    };
    app.store.write(job).await
}

/// Which part of the directory to tell.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// A network of a bridge; none: Matrix.
    pub network: Option<String>,
    pub since: Option<String>,
    pub limit: Option<usize>,
    /// What name, aliases or topic have.
    pub term: Option<String>,
    /// The types of room, none among them for rooms without one; no list: all.
    pub types: Option<Vec<Option<String>>>,
    /// Only rooms that users of other servers can be in.
    pub federated: bool,
}

/// A room as the directory tells it.
#[derive(Debug)]
pub struct Published {
    pub room_id: OwnedRoomId,
    pub joined: u32,
    pub listing: Listing,
}

/// A part of the directory: rooms with many members come first.
#[derive(Debug)]
pub struct Page {
    pub rooms: Vec<Published>,
    /// Where to go on; none if nothing comes behind.
    pub next: Option<String>,
    /// Where to go on backwards; none if nothing comes before.
    pub previous: Option<String>,
    /// How many rooms the whole directory has for whoever asks.
    pub total: u64,
}

/// Tells a part of the directory. A token stands for a place by members and room, so that no room pushes another from
/// one page to the next.
///
/// # Errors
/// The directory of another network is asked for, or the token is none of ours.
pub async fn page(app: &App, wanted: Wanted) -> Result<Page, DirectoryError> {
    if wanted.network.is_some() {
        return Err(DirectoryError::UnknownNetwork);
    }
    let since = wanted.since.as_deref().map(str::parse::<Token>).transpose()?;
    let limit = wanted.limit.unwrap_or(limits::PUBLISHED_ROOMS).clamp(1, limits::PUBLISHED_ROOMS);
    let search = RoomSearch {
        texts: texts(&wanted.term.unwrap_or_default()),
        types: wanted.types,
        federated: wanted.federated,
    };
    app.store.read(move |view| read(view, since, &search, limit)).await
}

fn read(
    view: &View<'_>,
    since: Option<Token>,
    search: &RoomSearch,
    limit: usize,
) -> Result<Page, DirectoryError> {
    let (page, before, after) = match since {
        Some(Token::Before(rank)) => {
            let page = view.published_before(rank, search, limit)?;
            let before = page.more;
            (page, before, true)
        }
        Some(Token::After(rank)) => {
            let page = view.published_after(Some(rank), search, limit)?;
            let after = page.more;
            (page, true, after)
        }
        None => {
            let page = view.published_after(None, search, limit)?;
            let after = page.more;
            (page, false, after)
        }
    };
    let ends = match (&page.rooms[..], since) {
        ([first, .., last], _) => Some((first.rank(), last.rank())),
        ([only], _) => Some((only.rank(), only.rank())),
        // What the token stands next to was told before, and is told again on the way back.
        ([], Some(Token::After(rank) | Token::Before(rank))) => Some((rank.lower(), rank.higher())),
        ([], None) => None,
    };
    let rooms = page.rooms.into_iter().map(|listed| {
        let room_id = view.room_id(listed.room)?;
        Ok(Published { room_id, joined: listed.joined, listing: listed.listing })
    });
    Ok(Page {
        rooms: rooms.collect::<Result<_, StoreError>>()?,
        next: ends.filter(|_| after).map(|(_, last)| Token::After(last).to_string()),
        previous: ends.filter(|_| before).map(|(first, _)| Token::Before(first).to_string()),
        total: view.count_published(search.federated)?,
    })
}

/// The words of a search term as they stand in what is looked through.
fn texts(term: &str) -> Vec<String> {
    let term = fold(cut(term, limits::SEARCH_TERM_BYTES));
    term.split(' ').filter(|text| !text.is_empty()).take(limits::SEARCH_WORDS).map(str::to_owned).collect()
}

/// Where a page begins, or ends if it is read backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Behind a room of this rank.
    After(Rank),
    /// Before it.
    Before(Rank),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (way, Rank { joined, room }) = match self {
            Self::After(rank) => ('a', rank),
            Self::Before(rank) => ('b', rank),
        };
        write!(f, "{way}{joined}_{}", room.0)
    }
}

impl FromStr for Token {
    type Err = DirectoryError;

    fn from_str(text: &str) -> Result<Self, DirectoryError> {
        let parse = || {
            let (joined, room) = text.get(1..)?.split_once('_')?;
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let number = |text: &str| text.parse().ok().filter(|_| digits(text));
            let rank = Rank { joined: number(joined)?, room: RoomNumber(number(room)?) };
            match text.chars().next()? {
                'a' => Some(Self::After(rank)),
                'b' => Some(Self::Before(rank)),
                _ => None,
            }
        };
        parse().ok_or(DirectoryError::Token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        let rank = Rank { joined: 7, room: RoomNumber(12) };
        for token in [Token::After(rank), Token::Before(rank)] {
            assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        }
        for text in
            ["", "a", "a7", "a7_", "a_12", "a+7_12", "a7_12_1", "c7_12", "7_12", "a7_4294967296", "ä7_1"]
        {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_term_is_looked_for_word_by_word() {
        assert_eq!(texts(" Grüner  TEE "), ["gruner", "tee"]);
        assert!(texts(" \n ").is_empty());
        assert_eq!(texts(&"a ".repeat(100)).len(), limits::SEARCH_WORDS);
    }
}
