//! Looking for what was said. <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>

use std::collections::BTreeMap;

use http::Response;
use ruma::{
    UInt,
    api::client::search::search_events::v3::{self, GroupingKey, OrderBy, SearchKeys},
};

use crate::{
    api::{Body, Error, User, custom::Unparsed, written::Written},
    base::ordered::Ordered,
    service::{
        App,
        read::search::{self, Ask, Bounds, Found, GroupBy, Order, SearchError, Surroundings},
    },
    store::Part,
};

/// `POST /_matrix/client/v3/search`
pub(crate) async fn search(
    app: App,
    user: User,
    request: Unparsed<v3::Request>,
) -> Result<Response<Body>, Error> {
    // The type of the request has the same value for a context that is to be as usual and for none.
    let criteria = request.body.get("search_categories").and_then(|categories| categories.get("room_events"));
    let has_context = criteria.is_some_and(|criteria| criteria.get("event_context").is_some());
    let v3::Request { next_batch, search_categories, .. } = request.parse()?;
    let Some(criteria) = search_categories.room_events else {
        return Written::default().text(r#"{"search_categories":{}}"#).answer(app).await;
    };
    let ask = ask(criteria, has_context, next_batch)?;
    let Found { count, words, hits, groups, next, states } =
        search::search(&app, user.onlooker(&app), ask, Bounds::default()).await?;
    let written =
        Written::default().text(r#"{"search_categories":{"room_events":{"count":"#).value(&count)?;
    let written = written.text(r#","highlights":"#).value(&words)?.text(r#","results":"#).value(&hits)?;
    let groups: BTreeMap<_, _> = groups.iter().map(|(by, groups)| (name(*by), groups)).into_map();
    let mut written = match groups.is_empty() {
        true => written,
        false => written.text(r#","groups":"#).value(&groups)?,
    };
    if let Some(next) = next {
        written = written.text(r#","next_batch":"#).value(&next)?;
    }
    let is_stateless = states.is_empty();
    for (at, (room_id, state)) in states.into_iter().enumerate() {
        written = written.text(if at == 0 { r#","state":{"# } else { "]," });
        written = written.value(&room_id)?.text(":[").list(state);
    }
    written.text(if is_stateless { "}}}" } else { "]}}}}" }).answer(app).await
}

fn ask(criteria: v3::Criteria, has_context: bool, from: Option<String>) -> Result<Ask, Error> {
    let order = match criteria.order_by {
        None | Some(OrderBy::Rank) => Order::Rank,
        Some(OrderBy::Recent) => Order::Recent,
        Some(_) => return Err(Error::invalid_param("Results are ordered by rank, or the recent ones first")),
    };
    let mut groups = Vec::new();
    for grouping in criteria.groupings.group_by {
        let by = match grouping.key {
            Some(GroupingKey::RoomId) => GroupBy::Room,
            Some(GroupingKey::Sender) => GroupBy::Sender,
            _ => return Err(Error::invalid_param("Results are grouped by room_id or sender")),
        };
        if !groups.contains(&by) {
            groups.push(by);
        }
    }
    let part = |key: &SearchKeys| match key {
        SearchKeys::ContentBody => Some(Part::Body),
        SearchKeys::ContentName => Some(Part::Name),
        SearchKeys::ContentTopic => Some(Part::Topic),
        _ => None,
    };
    let size = |limit: UInt| u64::from(limit).try_into().unwrap_or(usize::MAX);
    let around = criteria.event_context;
    Ok(Ask {
        term: criteria.search_term,
        parts: criteria.keys.map(|keys| keys.iter().filter_map(part).collect()),
        filter: criteria.filter,
        order,
        context: has_context.then(|| Surroundings {
            before: size(around.before_limit),
            after: size(around.after_limit),
            profiles: around.include_profile,
        }),
        state: criteria.include_state == Some(true),
        groups,
        from,
    })
}

fn name(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Room => "room_id",
        GroupBy::Sender => "sender",
    }
}

impl From<SearchError> for Error {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Off => Self::unrecognized(),
            SearchError::Read(error) => error.into(),
        }
    }
}
