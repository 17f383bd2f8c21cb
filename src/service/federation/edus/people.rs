//! Whether people of another server are there. <https://spec.matrix.org/v1.19/server-server-api/#presence>

use std::{sync::Arc, time::Duration};

use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{is_of, parsed};
use crate::{
    base::{ids::UserNumber, limits},
    service::{
        App, keys,
        presence::{self, Elsewhere, State},
    },
    store::{StoreError, View},
};

/// What is told of somebody.
pub(super) struct Told {
    user_id: OwnedUserId,
    elsewhere: Elsewhere,
}

pub(super) fn read(content: &RawValue, origin: &ServerName) -> Option<Vec<Told>> {
    #[derive(Deserialize)]
    struct Content {
        push: Vec<Update>,
    }
    #[derive(Deserialize)]
    struct Update {
        user_id: OwnedUserId,
        presence: String,
        #[serde(default)]
        status_msg: Option<String>,
        // Some leave it out of who was never there.
        #[serde(default)]
        last_active_ago: Option<u64>,
        #[serde(default)]
        currently_active: Option<bool>,
    }
    let Content { push } = parsed(content)?;
    let told = push.into_iter().take(limits::EDU_ENTRIES).filter_map(|update| {
        let state = State::ALL.into_iter().find(|state| state.name() == update.presence)?;
        let status =
            update.status_msg.filter(|status| (1..=limits::PRESENCE_STATUS_BYTES).contains(&status.len()));
        let elsewhere = Elsewhere {
            state,
            active: update.currently_active == Some(true),
            status: status.map(Arc::from),
            idle: update.last_active_ago.map(Duration::from_millis),
        };
        is_of(&update.user_id, origin).then_some(Told { user_id: update.user_id, elsewhere })
    });
    Some(told.collect())
}

/// Somebody with whom somebody here shares a room.
pub(super) struct Known {
    user: UserNumber,
    elsewhere: Elsewhere,
}

pub(super) fn known(view: &View<'_>, own: &ServerName, told: Vec<Told>) -> Result<Vec<Known>, StoreError> {
    let mut known = Vec::new();
    for Told { user_id, elsewhere } in told {
        if let Some(user) = view.user_number(&user_id)?
            && keys::is_met(view, own, user)?
        {
            known.push(Known { user, elsewhere });
        }
    }
    Ok(known)
}

impl Known {
    pub(super) fn show(self, app: &App) {
        presence::hear(app, self.user, self.elsewhere);
    }
}
