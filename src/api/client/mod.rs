//! The client-server API: one file an endpoint or tight group, one line each in [`routes`]. The files don't import
//! each other. <https://spec.matrix.org/v1.19/client-server-api/>

mod account;
mod account_data;
mod aliases;
mod calls;
mod capabilities;
mod create_room;
mod cross_signing;
mod dehydrated_devices;
mod delayed_events;
mod devices;
mod discovery;
mod filters;
mod history;
mod key_backup;
mod keys;
mod login;
mod login_page;
mod media;
mod membership;
mod moderation;
mod mutual_rooms;
mod notifications;
mod old_sync;
mod openid;
mod presence;
mod profile;
mod push_rules;
mod pushers;
mod receipts;
mod register;
mod relations;
mod rendezvous;
mod reports;
mod room_directory;
mod search;
mod send;
mod session;
mod shared_secret;
mod sliding_sync;
mod spaces;
mod sso;
mod state;
mod sync;
mod tags;
mod thread_subscriptions;
mod threads;
mod to_device;
mod typing;
mod uia_page;
mod upgrade;
mod user_directory;

use http::Method;

use super::{Reading, Routes};
use crate::base::limits;

/// Adds the endpoints of the client-server API.
pub(crate) fn routes(routes: &mut Routes) {
    routes.add(discovery::versions);
    routes.add(discovery::well_known);
    routes.add(discovery::support);
    routes.add(discovery::auth_metadata);
    routes.add(capabilities::capabilities);

    routes.add(register::register);
    routes.add(register::available);
    routes.add(register::token_validity);
    routes.add(shared_secret::nonce);
    routes.add(shared_secret::register);
    routes.add(login::flows);
    routes.add(login::login);
    routes.add(login::token);
    pages(routes);
    routes.add(session::whoami);
    routes.add(session::refresh);
    routes.add(session::logout);
    routes.add(session::logout_all);
    routes.add(account::password);
    routes.add(account::deactivate);

    routes.add(devices::list);
    routes.add(devices::get);
    routes.add(devices::rename);
    // Password guesses, so these are limited although the specification doesn't ask for it.
    routes.add(devices::delete).rate_limited = true;
    routes.add(devices::delete_several).rate_limited = true;

    routes.add(openid::token);

    routes.add(reports::room);
    // Kept as the others are, so it's limited although the specification doesn't ask for it.
    routes.add(reports::event).rate_limited = true;
    routes.add(reports::user);
    routes.add(moderation::whois);
    routes.add(moderation::lock);
    routes.add(moderation::is_locked);
    routes.add(moderation::suspend);
    routes.add(moderation::is_suspended);

    routes.add(profile::get);
    routes.add(profile::get_field);
    routes.add(profile::set_field);
    routes.add(profile::remove_field);
    routes.add(filters::create);
    routes.add(filters::get);
    routes.add(account_data::get);
    routes.add(account_data::set);
    routes.add(account_data::get_of_room);
    routes.add(account_data::set_of_room);
    routes.add(tags::get);
    routes.add(tags::set);
    routes.add(tags::remove);

    routes.add(typing::set);
    routes.add(presence::get);
    routes.add(presence::set);
    routes.add(receipts::receipt);
    routes.add(receipts::markers);
    routes.add(push_rules::all);
    routes.add(push_rules::global);
    routes.add(push_rules::get);
    routes.add(push_rules::set);
    routes.add(push_rules::remove);
    routes.add(push_rules::is_enabled);
    routes.add(push_rules::set_enabled);
    routes.add(push_rules::actions);
    routes.add(push_rules::set_actions);
    routes.add(notifications::list);
    routes.add(pushers::list);
    routes.add(pushers::set);

    routes.add(keys::upload);
    routes.add(keys::query);
    routes.add(keys::claim);
    routes.add(keys::changes);
    routes.add(cross_signing::upload).rate_limited = true;
    routes.add(cross_signing::sign);

    routes.add(dehydrated_devices::put);
    routes.add(dehydrated_devices::get);
    routes.add(dehydrated_devices::remove);
    routes.add(dehydrated_devices::events);
    routes.add(dehydrated_devices::old_events);

    routes.add_written(sync::sync);
    routes.add_written_whole(sliding_sync::sync);
    // It waits, as `/sync` does.
    routes.add_written(old_sync::events).rate_limited = false;
    routes.add_written(old_sync::event);
    routes.add_written(old_sync::room);
    routes.add_written(old_sync::all);
    routes.add(to_device::send).body_limit(limits::TO_DEVICE_BODY_BYTES);

    routes.add(key_backup::create);
    routes.add(key_backup::newest);
    routes.add(key_backup::get);
    routes.add(key_backup::update);
    routes.add(key_backup::remove);
    routes.add(key_backup::put_all).body_limit(limits::BACKUP_BODY_BYTES);
    routes.add(key_backup::put_room).body_limit(limits::BACKUP_BODY_BYTES);
    routes.add(key_backup::put_session);
    routes.add_streamed(key_backup::all);
    routes.add_streamed(key_backup::room);
    routes.add(key_backup::session);
    routes.add(key_backup::remove_all);
    routes.add(key_backup::remove_room);
    routes.add(key_backup::remove_session);

    routes.add(state::rooms);
    routes.add_written(state::all);
    routes.add(state::one);
    routes.add_written(state::members);
    routes.add_written(state::joined);
    routes.add_written(history::messages);
    routes.add_written(history::context);
    routes.add(history::event);
    routes.add(history::event_at);
    routes.add_written_whole(search::search);
    routes.add(relations::all);
    routes.add(relations::of_type);
    routes.add(relations::of_event_type);
    routes.add(threads::threads);
    routes.add(thread_subscriptions::subscribe);
    routes.add(thread_subscriptions::unsubscribe);
    routes.add(thread_subscriptions::get);
    routes.add(thread_subscriptions::changes);

    routes.add(create_room::create_room);
    // Makes a room as the former does, so it's limited although the specification doesn't ask for it.
    routes.add(upgrade::upgrade).rate_limited = true;
    routes.add(membership::invite);
    routes.add(membership::join);
    routes.add(membership::join_by_name);
    routes.add(membership::knock);
    routes.add(membership::leave);
    routes.add(membership::forget);
    routes.add(membership::kick);
    routes.add(membership::ban);
    routes.add(membership::unban);
    routes.add(send::message);
    routes.add(send::state);
    routes.add(send::redact);
    routes.add(delayed_events::schedule);
    routes.add(delayed_events::list);
    routes.add(delayed_events::get);
    routes.add(delayed_events::manage).per_token = limits::DELAYS_MANAGED;
    routes.add(aliases::get);
    routes.add(aliases::create);
    routes.add(aliases::delete);
    routes.add(aliases::list);
    routes.add(room_directory::visibility);
    routes.add(room_directory::set_visibility);
    routes.add(room_directory::list);
    routes.add(room_directory::search);
    routes.add(user_directory::search);
    routes.add(spaces::hierarchy);
    // It may ask others, so it's limited although the specification doesn't ask for it.
    routes.add(spaces::summary).rate_limited = true;
    routes.add(mutual_rooms::rooms);
    routes.add(rendezvous::discover);
    routes.add_streamed(rendezvous::open).body_limit(limits::RENDEZVOUS_BODY_BYTES);
    routes.add_streamed(rendezvous::look).body_limit(0);
    routes.add_streamed(rendezvous::replace).body_limit(limits::RENDEZVOUS_BODY_BYTES);
    routes.add_streamed(rendezvous::close).body_limit(0);
    routes.add(calls::turn_server);
    routes.add(calls::transports);

    routes.add_streamed(media::upload);
    routes.add(media::create);
    routes.add_streamed(media::upload_to);
    routes.add(media::config);
    routes.add(media::old_config);
    routes.add(media::preview);
    routes.add(media::old_preview);
    routes.add_streamed(media::content);
    routes.add_streamed(media::content_as);
    routes.add_streamed(media::thumbnail);
    // ruma's types leave out that the specification wants these limited.
    routes.add_streamed(media::old_content).rate_limited = true;
    routes.add_streamed(media::old_content_as).rate_limited = true;
    routes.add_streamed(media::old_thumbnail).rate_limited = true;
}

/// Adds the pages for people whose client knows no other way.
fn pages(routes: &mut Routes) {
    let (get, post) = (Method::GET, Method::POST);
    routes.add_page(get.clone(), login_page::PATHS, |app, sent| Box::pin(login_page::page(app, sent)));
    // These four wait for a provider, and hold no turn meanwhile.
    routes.add_page(get.clone(), sso::BEGIN, |app, sent| Box::pin(sso::begin(app, sent))).reading =
        Reading::Stream;
    routes.add_page(get.clone(), &[sso::ACCOUNT], |app, sent| Box::pin(sso::account(app, sent))).reading =
        Reading::Stream;
    routes.add_page(get.clone(), sso::PROVE, |app, sent| Box::pin(sso::prove(app, sent))).reading =
        Reading::Stream;
    routes.add_page(get.clone(), sso::FINISH, |app, sent| Box::pin(sso::finish(app, sent))).reading =
        Reading::Stream;
    routes.add_page(post.clone(), &[sso::ANSWER], |app, sent| Box::pin(sso::answer(app, sent)));
    routes.add_page(get, uia_page::PATHS, |app, sent| Box::pin(uia_page::show(app, sent)));
    routes.add_page(post, uia_page::PATHS, |app, sent| Box::pin(uia_page::fill(app, sent)));
}
