//! `GET /_matrix/client/v3/sync`. <https://spec.matrix.org/v1.19/client-server-api/#syncing>

use std::time::Duration;

use http::Response;
use ruma::{
    api::client::{filter::FilterDefinition, sync::sync_events::v3::Filter},
    presence::PresenceState,
};

use crate::{
    api::{Body, Error, User, Waiting, unstable::Sync, written::Written},
    service::{
        App, filters,
        presence::State,
        read::token::SyncToken,
        sync::{plan::Query, wait},
    },
};

pub(crate) async fn sync(
    app: App,
    Waiting { user, turn }: Waiting,
    request: Sync,
) -> Result<Response<Body>, Error> {
    let Sync { request, state } = request;
    let given = request.since.as_deref().map(str::parse::<SyncToken>).transpose()?;
    // Any other was given out by a server that knew something else than this one does now.
    let since = given.filter(|since| app.store.knows(since.told));
    let query = Query {
        since: since.map(|since| since.told),
        to_device: since.map(|since| since.to_device).unwrap_or_default(),
        heard: since.map(|since| since.heard),
        lost: since.is_none() && given.is_some(),
        filter: filter(&app, &user, request.filter).await?,
        full_state: request.full_state,
        state,
        onlooker: user.onlooker(&app),
    };
    let state = match request.set_presence {
        PresenceState::Online => State::Online,
        PresenceState::Unavailable => State::Unavailable,
        // What is meant by any other is not known here; it is no reason not to sync.
        _ => State::Offline,
    };
    let timeout = request.timeout.unwrap_or(Duration::ZERO);
    let answer = wait::sync(&app, &turn, query, timeout, state).await?;
    Written::default().json(answer.json).rooms(answer.rest).answer(app).await
}

async fn filter(app: &App, user: &User, filter: Option<Filter>) -> Result<FilterDefinition, Error> {
    match filter {
        None => Ok(FilterDefinition::default()),
        Some(Filter::FilterDefinition(definition)) => Ok(definition),
        Some(Filter::FilterId(id)) => {
            let kept = filters::find(app, user.number, id).await?;
            kept.ok_or_else(|| Error::invalid_param("You keep no such filter"))
        }
        Some(_) => Err(Error::invalid_param("The filter is neither an id nor a definition")),
    }
}
