//! Where devices want to be notified, and how far they were. A pusher belongs to its device's session, and ends with it.
//! <https://spec.matrix.org/v1.19/client-server-api/#push-notifications>

use rusqlite::{OptionalExtension, Row};

use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, Position, PusherNumber, UserNumber},
    },
    store::{StoreError, Topic, Transaction, View},
};

/// A pusher as a client sets it.
#[derive(Clone)]
pub struct PusherSettings {
    pub app_id: String,
    pub pushkey: String,
    /// Where its gateway is.
    pub url: String,
    /// What else it has for the gateway: a JSON object.
    pub data: String,
    pub app_display_name: String,
    pub device_display_name: String,
    pub profile_tag: Option<String>,
    pub lang: String,
}

/// A pusher.
pub struct Pusher {
    pub number: PusherNumber,
    pub user: UserNumber,
    pub device: DeviceNumber,
    pub settings: PusherSettings,
    pub set_at: Timestamp,
}

/// How far a pusher is.
pub struct PusherStand {
    pub number: PusherNumber,
    pub user: UserNumber,
    pub url: String,
    /// Where the log stood when it was made.
    pub since: Position,
    /// Up to where all is told, if that is noted of it alone.
    pub behind: Option<Position>,
}

impl View<'_> {
    /// A user's pushers, in the order in which they were made.
    pub fn pushers(&self, user: UserNumber) -> Result<Vec<Pusher>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM pushers WHERE user = ?1 ORDER BY number");
        let mut statement = self.sql().prepare_cached(sql)?;
        Ok(statement.query_map([user], read)?.collect::<Result<_, _>>()?)
    }

    /// A pusher; none if it was removed.
    pub fn pusher(&self, number: PusherNumber) -> Result<Option<Pusher>, StoreError> {
        let sql = concat!("SELECT ", columns!(), " FROM pushers WHERE number = ?1");
        Ok(self.sql().prepare_cached(sql)?.query_row([number], read).optional()?)
    }

    /// How far each pusher is.
    pub fn pusher_stands(&self) -> Result<Vec<PusherStand>, StoreError> {
        let sql = "SELECT number, user, url, since, behind FROM pushers";
        let mut statement = self.sql().prepare_cached(sql)?;
        let stands = statement.query_map([], |row| {
            Ok(PusherStand {
                number: row.get(0)?,
                user: row.get(1)?,
                url: row.get(2)?,
                since: row.get(3)?,
                behind: row.get(4)?,
            })
        })?;
        Ok(stands.collect::<Result<_, _>>()?)
    }

    /// How far the log was told by all pushers that are not behind.
    pub fn pushed(&self) -> Result<Option<Position>, StoreError> {
        let sql = "SELECT position FROM pushed";
        Ok(self.sql().prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
    }
}

impl Transaction<'_> {
    /// Sets a pusher of a user, which is a device's from now on.
    pub fn set_pusher(
        &mut self,
        (user, device): (UserNumber, DeviceNumber),
        settings: &PusherSettings,
    ) -> Result<PusherStand, StoreError> {
        let sql = "INSERT INTO pushers (user, device, app_id, pushkey, url, data, app_display_name,
                       device_display_name, profile_tag, lang, set_at, since)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                   ON CONFLICT (user, app_id, pushkey) DO UPDATE SET device = excluded.device,
                       url = excluded.url, data = excluded.data, app_display_name = excluded.app_display_name,
                       device_display_name = excluded.device_display_name,
                       profile_tag = excluded.profile_tag, lang = excluded.lang, set_at = excluded.set_at
                   RETURNING number, since, behind";
        let PusherSettings { app_id, pushkey, url, data, .. } = settings;
        let (app, phone) = (&settings.app_display_name, &settings.device_display_name);
        let (tag, lang, now, since) = (&settings.profile_tag, &settings.lang, self.now(), self.position());
        let row = (user, device, app_id, pushkey, url, data, app, phone, tag, lang, now, since);
        self.touch(Topic::Push);
        Ok(self.sql().prepare_cached(sql)?.query_row(row, |row| {
            Ok(PusherStand {
                number: row.get(0)?,
                user,
                url: url.clone(),
                since: row.get(1)?,
                behind: row.get(2)?,
            })
        })?)
    }

    /// Removes a user's pusher.
    pub fn remove_pusher(&mut self, user: UserNumber, app_id: &str, pushkey: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM pushers WHERE app_id = ?1 AND pushkey = ?2 AND user = ?3";
        self.sql().prepare_cached(sql)?.execute((app_id, pushkey, user))?;
        Ok(())
    }

    /// Removes the pushers of all others who have the same one.
    pub fn remove_pusher_of_others(
        &mut self,
        user: UserNumber,
        app_id: &str,
        pushkey: &str,
    ) -> Result<(), StoreError> {
        let sql = "DELETE FROM pushers WHERE app_id = ?1 AND pushkey = ?2 AND user <> ?3";
        self.sql().prepare_cached(sql)?.execute((app_id, pushkey, user))?;
        Ok(())
    }

    /// Removes a pusher that its gateway doesn't want; tells whether that still is its gateway.
    pub fn remove_rejected_pusher(&mut self, number: PusherNumber, url: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM pushers WHERE number = ?1 AND url = ?2";
        Ok(self.sql().prepare_cached(sql)?.execute((number, url))? > 0)
    }

    /// Removes the pushers of a device.
    pub(in crate::store) fn remove_pushers(&mut self, device: DeviceNumber) -> Result<(), StoreError> {
        self.sql().prepare_cached("DELETE FROM pushers WHERE device = ?1")?.execute([device])?;
        Ok(())
    }

    /// Notes how far some pushers are, and, if that is given, all that are not behind.
    pub fn note_pushed(
        &mut self,
        stands: &[(PusherNumber, Option<Position>)],
        all: Option<Position>,
    ) -> Result<(), StoreError> {
        let mut statement = self.sql().prepare_cached("UPDATE pushers SET behind = ?2 WHERE number = ?1")?;
        for stand in stands {
            statement.execute(*stand)?;
        }
        if let Some(position) = all {
            let sql = "INSERT OR REPLACE INTO pushed (only, position) VALUES (1, ?1)";
            self.sql().prepare_cached(sql)?.execute([position])?;
        }
        Ok(())
    }
}

/// The columns that [`read`] reads, in its order.
macro_rules! columns {
    () => {
        "number, user, device, app_id, pushkey, url, data, app_display_name, device_display_name, profile_tag,
         lang, set_at"
    };
}
use columns;

fn read(row: &Row<'_>) -> rusqlite::Result<Pusher> {
    Ok(Pusher {
        number: row.get(0)?,
        user: row.get(1)?,
        device: row.get(2)?,
        settings: PusherSettings {
            app_id: row.get(3)?,
            pushkey: row.get(4)?,
            url: row.get(5)?,
            data: row.get(6)?,
            app_display_name: row.get(7)?,
            device_display_name: row.get(8)?,
            profile_tag: row.get(9)?,
            lang: row.get(10)?,
        },
        set_at: row.get(11)?,
    })
}
