//! A room's members by their servers, in step with its memberships.
//!
//! What a server may ask of a room, to whom an event goes and who can vouch for somebody are questions about the users of
//! one server, and of a large room's members those are few.

use std::ops::Bound;

use ruma::{OwnedServerName, ServerName};

use super::{Membership, codec::seal, damaged, part};
use crate::{
    base::ids::{RoomNumber, ServerNumber, UserNumber},
    store::{StoreError, Table, Transaction, View},
};

impl View<'_> {
    /// The users of a server with one membership of a room, in the order of their numbers.
    pub fn members_of_server(
        &self,
        room: RoomNumber,
        server: ServerNumber,
        membership: Membership,
    ) -> impl Iterator<Item = Result<UserNumber, StoreError>> {
        let prefix = [&prefix(room, server)[..], &[membership.code()]].concat();
        self.prefixed(Table::Servers, &prefix).map(|entry| user(&entry?.0))
    }

    /// The users of a server who are or were anything to a room.
    pub fn users_of_server(
        &self,
        room: RoomNumber,
        server: ServerNumber,
    ) -> impl Iterator<Item = Result<UserNumber, StoreError>> {
        self.prefixed(Table::Servers, &prefix(room, server)).map(|entry| user(&entry?.0))
    }

    /// Whether a user of a server is in a room.
    pub fn is_server_joined(&self, room: RoomNumber, server: &ServerName) -> Result<bool, StoreError> {
        let Some(server) = self.server_number(server)? else { return Ok(false) };
        Ok(self.members_of_server(room, server, Membership::Join).next().transpose()?.is_some())
    }

    /// The servers whose users are in a room, of so many with a number from `from` on whose users ever were anything to it;
    /// and where to go on, if there may be more.
    pub fn servers_joined(
        &self,
        room: RoomNumber,
        from: ServerNumber,
        limit: usize,
    ) -> Result<(Vec<OwnedServerName>, Option<ServerNumber>), StoreError> {
        let (mut servers, mut from) = (Vec::new(), from);
        let end = prefix(RoomNumber(room.0.saturating_add(1)), ServerNumber::default());
        for _ in 0..limit {
            let begin = prefix(room, from);
            let bounds = (Bound::Included(&begin[..]), Bound::Excluded(&end[..]));
            let Some((key, _)) = self.range(Table::Servers, bounds).next().transpose()? else {
                return Ok((servers, None));
            };
            let server = part(&key, 4).map(ServerNumber::from_be_bytes);
            let server = server.map_err(|_| damaged(Table::Servers, &key))?;
            if self.members_of_server(room, server, Membership::Join).next().transpose()?.is_some() {
                servers.push(self.name_of_server(server)?);
            }
            from = ServerNumber(server.0.saturating_add(1));
        }
        Ok((servers, Some(from)))
    }

    /// Whether users of more than one server are or were anything to a room.
    pub fn has_several_servers(&self, room: RoomNumber) -> Result<bool, StoreError> {
        let end = prefix(RoomNumber(room.0.saturating_add(1)), ServerNumber::default());
        let from = |server| {
            let begin = prefix(room, server);
            let bounds = (Bound::Included(&begin[..]), Bound::Excluded(&end[..]));
            self.range(Table::Servers, bounds).next().transpose()
        };
        let Some((key, _)) = from(ServerNumber::default())? else { return Ok(false) };
        let first = part(&key, 4).map(ServerNumber::from_be_bytes);
        let first = first.map_err(|_| damaged(Table::Servers, &key))?;
        Ok(from(ServerNumber(first.0.saturating_add(1)))?.is_some())
    }

    /// Whether a member of a room is noted under the server that the user is of.
    pub(super) fn is_member_of_server(
        &self,
        room: RoomNumber,
        membership: Membership,
        user: UserNumber,
    ) -> Result<bool, StoreError> {
        let Some(server) = self.server_number(self.user_id(user)?.server_name())? else { return Ok(false) };
        Ok(self.get(Table::Servers, &key(room, server, membership, user))?.is_some())
    }
}

impl Transaction<'_> {
    /// Notes a membership of a room under the user's server, in place of the one before.
    pub(super) fn put_member_of_server(
        &mut self,
        room: RoomNumber,
        user: UserNumber,
        before: Option<Membership>,
        membership: Membership,
    ) -> Result<(), StoreError> {
        let user_id = self.user_id(user)?;
        let server = self.intern_server(user_id.server_name())?;
        if let Some(before) = before {
            self.delete(Table::Servers, &key(room, server, before, user));
        }
        self.put(Table::Servers, &key(room, server, membership, user), &seal(1, |_| ()));
        Ok(())
    }

    /// Notes members of a room anew: of one membership and behind a user, at most so many. Gives the last of them; none if
    /// there are no more.
    fn note_servers(
        &mut self,
        room: RoomNumber,
        membership: Membership,
        after: UserNumber,
        limit: usize,
    ) -> Result<Option<UserNumber>, StoreError> {
        let users: Vec<_> =
            self.members_after(room, membership, after).take(limit).collect::<Result<_, _>>()?;
        for user in &users {
            self.put_member_of_server(room, *user, None, membership)?;
        }
        Ok(users.last().copied())
    }

    /// The same for whatever membership, one after another.
    pub fn index_servers(
        &mut self,
        room: RoomNumber,
        from: (Membership, UserNumber),
        limit: usize,
    ) -> Result<Option<(Membership, UserNumber)>, StoreError> {
        let (membership, after) = from;
        if let Some(last) = self.note_servers(room, membership, after, limit)? {
            return Ok(Some((membership, last)));
        }
        let next = Membership::ALL.into_iter().find(|next| *next > membership);
        Ok(next.map(|next| (next, UserNumber::default())))
    }
}

/// The kind of the task that notes what came before there was such an index; its step is the room that was done last.
pub const INDEX_SERVERS: &str = "index-servers";

fn prefix(room: RoomNumber, server: ServerNumber) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix[..4].copy_from_slice(&room.to_be_bytes());
    prefix[4..].copy_from_slice(&server.to_be_bytes());
    prefix
}

pub(super) fn key(
    room: RoomNumber,
    server: ServerNumber,
    membership: Membership,
    user: UserNumber,
) -> [u8; 13] {
    let mut key = [0; 13];
    key[..8].copy_from_slice(&prefix(room, server));
    key[8] = membership.code();
    key[9..].copy_from_slice(&user.to_be_bytes());
    key
}

fn user(key: &[u8]) -> Result<UserNumber, StoreError> {
    part(key, 9).map(UserNumber::from_be_bytes).map_err(|_| damaged(Table::Servers, key))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;
    use serde_json::json;

    use super::*;
    use crate::{
        room::fixture::{BOB, World},
        store::events::fixture::Rig,
    };

    #[test]
    fn members_are_found_by_their_servers_and_noted_anew() {
        let (mut world, last) = World::new("12");
        world.accept(BOB, &[&last], "m.room.member", Some(BOB), json!({ "membership": "leave" }));
        let rig = Rig::of(&world);
        let room = rig.room;
        let joined = || {
            rig.read(move |view| {
                let (mut servers, mut from) = (Vec::new(), Some(ServerNumber::default()));
                while let Some(begin) = from {
                    let page = view.servers_joined(room, begin, 1)?;
                    servers.extend(page.0);
                    from = page.1;
                }
                for server in [server_name!("one.example"), server_name!("two.example")] {
                    let is_listed = servers.iter().any(|listed| listed == server);
                    assert_eq!(view.is_server_joined(room, server)?, is_listed);
                }
                Ok(servers)
            })
        };
        let expected = [server_name!("one.example"), server_name!("three.example")];
        assert_eq!(joined(), expected);
        assert!(rig.read(move |view| view.has_several_servers(room)));
        assert!(!rig.read(move |view| view.has_several_servers(RoomNumber(room.0 + 1))));
        rig.write(|tx| {
            let entries: Vec<_> = tx.prefixed(Table::Servers, &[]).collect::<Result<_, StoreError>>()?;
            let keys: Vec<_> = entries.into_iter().map(|(key, _)| key.into_owned()).collect();
            keys.iter().for_each(|key| tx.delete(Table::Servers, key));
            tx.add_task(INDEX_SERVERS, 0)
        });
        assert_eq!((joined().len(), rig.findings().len()), (0, 0), "it is known to be unfinished");
        let mut from = Some((Membership::ALL[0], UserNumber::default()));
        while let Some(after) = from {
            from = rig.write(move |tx| tx.index_servers(room, after, 1));
        }
        rig.write(|tx| {
            let task = tx.first_task(INDEX_SERVERS)?.unwrap();
            tx.finish_task(task)
        });
        assert_eq!(joined(), expected);
        assert_eq!(rig.findings(), []);
    }
}
