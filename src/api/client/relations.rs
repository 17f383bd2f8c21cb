//! Events that relate to another. <https://spec.matrix.org/v1.19/client-server-api/#relationships-api>

use http::Request;
use ruma::{
    UInt, UserId,
    api::{
        auth_scheme::AccessToken,
        client::relations::{
            get_relating_events, get_relating_events_with_rel_type,
            get_relating_events_with_rel_type_and_event_type,
        },
    },
    exports::serde_html_form,
};
use serde::Deserialize;

use crate::{
    api::{Error, User, caller::Caller},
    base::limits,
    service::{
        App,
        read::relations::{self, Related, Wanted},
    },
};

/// Declares the handler of one of the three endpoints, which differ in what they narrow.
macro_rules! handler {
    ($(#[doc = $doc:literal])* $name:ident, $endpoint:ident, $rel_type:expr, $event_type:expr) => {
        $(#[doc = $doc])*
        pub(crate) async fn $name(
            app: App,
            Asker { user, recurse }: Asker,
            request: $endpoint::v1::Request,
        ) -> Result<$endpoint::v1::Response, Error> {
            let (rel_type, event_type): (fn(&_) -> _, fn(&_) -> _) = ($rel_type, $event_type);
            let wanted = Wanted {
                rel_type: rel_type(&request),
                event_type: event_type(&request),
                direction: request.dir,
                from: request.from.clone(),
                to: request.to,
                limit: size(request.limit),
                recurse: request.recurse,
            };
            let event = (request.room_id, request.event_id);
            let Related { events, next } =
                relations::relations(&app, user.onlooker(&app), event, wanted).await?;
            let mut response = $endpoint::v1::Response::new(events);
            response.next_batch = next;
            response.prev_batch = request.from;
            let depth = |recurse| if recurse { limits::RELATION_HOPS as u32 } else { 1 };
            response.recursion_depth = recurse.map(|recurse| depth(recurse).into());
            Ok(response)
        }
    };
}

handler! {
    /// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}`
    all, get_relating_events, |_| None, |_| None
}
handler! {
    /// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}`
    of_type, get_relating_events_with_rel_type,
    |request: &get_relating_events_with_rel_type::v1::Request| Some(request.rel_type.to_string()), |_| None
}
handler! {
    /// `GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`
    of_event_type, get_relating_events_with_rel_type_and_event_type,
    |request: &get_relating_events_with_rel_type_and_event_type::v1::Request| Some(request.rel_type.to_string()),
    |request: &get_relating_events_with_rel_type_and_event_type::v1::Request| Some(request.event_type.to_string())
}

/// A user, and what they said of indirect relations: the type of the request has one value for no and for nothing, but
/// only who said something is told of the depth.
pub(crate) struct Asker {
    user: User,
    recurse: Option<bool>,
}

impl Caller<AccessToken> for Asker {
    async fn identify(app: &App, head: &Request<()>) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Query {
            recurse: Option<bool>,
        }
        let query = serde_html_form::from_str(head.uri().query().unwrap_or_default());
        let user = User::identify(app, head).await?;
        // What is wrong in it, the request's type refuses.
        Ok(Self { user, recurse: query.ok().and_then(|Query { recurse }| recurse) })
    }

    fn user_id(&self) -> Option<&UserId> {
        self.user.user_id()
    }
}

fn size(limit: Option<UInt>) -> usize {
    limit.map_or(limits::PAGE_EVENTS_DEFAULT, |limit| u64::from(limit).try_into().unwrap_or(usize::MAX))
}
