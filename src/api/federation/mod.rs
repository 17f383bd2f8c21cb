//! The server-server API: one file an endpoint or tight group, one line each in [`routes`].
//! <https://spec.matrix.org/v1.19/server-server-api/>

mod discovery;
mod history;
mod invites;
mod keys;
mod media;
mod membership;
mod openid;
mod public_rooms;
mod query;
mod spaces;
mod state;
mod transactions;
mod user_keys;

use super::Routes;
use crate::base::limits;

/// Adds the endpoints of the server-server API.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(discovery::version);
    routes.add(discovery::well_known);
    routes.add(history::event);
    routes.add(history::event_at);
    routes.add(history::backfill);
    routes.add(history::missing);
    routes.add(invites::invite);
    routes.add(invites::invite_of_first_version);
    routes.add(keys::server);
    // Anybody may have any server asked.
    routes.add(keys::query).rate_limited = true;
    routes.add(keys::query_one).rate_limited = true;
    routes.add_streamed(media::content);
    routes.add_streamed(media::thumbnail);
    routes.add(membership::make_join);
    routes.add(membership::make_knock);
    routes.add(membership::make_leave);
    routes.add_written_whole(membership::send_join);
    routes.add_written_whole(membership::send_join_of_first_version);
    routes.add(membership::send_knock);
    routes.add(membership::send_leave);
    routes.add(membership::send_leave_of_first_version);
    routes.add(openid::user_info);
    routes.add(public_rooms::list);
    routes.add(public_rooms::search);
    routes.add(query::directory);
    routes.add(query::profile);
    routes.add(query::unknown);
    routes.add(spaces::hierarchy);
    routes.add_written(state::state);
    routes.add_written(state::state_ids);
    routes.add_written(state::event_auth);
    routes.add_of_parts(transactions::send).body_limit(limits::TRANSACTION_BYTES);
    routes.add(user_keys::claim);
    routes.add(user_keys::devices);
    routes.add(user_keys::query);
}
