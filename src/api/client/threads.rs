//! The threads of a room. <https://spec.matrix.org/v1.19/client-server-api/#querying-threads-in-a-room>

use ruma::{
    UInt,
    api::client::threads::get_threads::{self, v1::IncludeThreads},
};

use crate::{
    api::{Error, User},
    base::limits,
    service::{
        App,
        read::threads::{self, Threads, Wanted},
    },
};

/// `GET /_matrix/client/v1/rooms/{roomId}/threads`
pub(crate) async fn threads(
    app: App,
    user: User,
    request: get_threads::v1::Request,
) -> Result<get_threads::v1::Response, Error> {
    let participated = match request.include {
        IncludeThreads::All => false,
        IncludeThreads::Participated => true,
        _ => return Err(Error::invalid_param("What to include is `all` or `participated`")),
    };
    let wanted = Wanted { from: request.from, limit: size(request.limit)?, participated };
    let Threads { roots, next } =
        threads::threads(&app, user.onlooker(&app), request.room_id, wanted).await?;
    let mut response = get_threads::v1::Response::new(roots);
    response.next_batch = next;
    Ok(response)
}

fn size(limit: Option<UInt>) -> Result<usize, Error> {
    match limit.map(u64::from) {
        None => Ok(limits::PAGE_EVENTS_DEFAULT),
        Some(0) => Err(Error::invalid_param("The limit is greater than zero")),
        Some(limit) => Ok(limit.try_into().unwrap_or(usize::MAX)),
    }
}
