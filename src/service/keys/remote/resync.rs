//! Getting lists of devices anew that are not fresh: a few servers at once, and each that doesn't tell ever more seldom.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use ruma::{
    OwnedServerName, OwnedUserId, ServerName,
    api::federation::device::get_devices::v1::{Request, Response},
};
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
    time::timeout,
};

use super::{Known, Told, is_met, put_down, told};
use crate::{
    base::{ids::UserNumber, limits},
    net::{Bounds, NetError},
    service::{
        App,
        federation::ask::{AskError, ask},
    },
    store::{StoreError, View},
};

/// Which servers didn't tell, and whether there is something to be done.
#[derive(Default)]
pub struct Resyncs {
    wanted: Notify,
    absent: Mutex<HashMap<OwnedServerName, Absence>>,
}

/// The servers that are being asked, each once.
#[derive(Default)]
pub struct Resyncing {
    asked: JoinSet<Result<IsDone, StoreError>>,
    /// Whether lists of theirs are to be looked for again after that.
    busy: HashMap<Id, (OwnedServerName, bool)>,
}

/// Whether a server was asked for all that was wanted.
type IsDone = bool;

impl Resyncing {
    /// Waits until no server is being asked.
    ///
    /// # Errors
    /// The store failed.
    pub async fn over(&mut self) -> Result<(), StoreError> {
        while let Some(done) = self.one_is_done().await {
            done?;
        }
        Ok(())
    }

    fn ask(&mut self, app: &App, server: OwnedServerName, users: Vec<Stale>) {
        let task = self.asked.spawn(resync(app.clone(), server.clone(), users));
        self.busy.insert(task.id(), (server, false));
    }

    /// Tells whether a server is being asked already, which is then to be asked for more after that.
    fn is_busy(&mut self, server: &ServerName) -> bool {
        let busy = self.busy.values_mut().find(|(busy, _)| busy == server);
        busy.map(|(_, has_more)| *has_more = true).is_some()
    }

    /// Waits until one of them was asked; tells whether there may be more to ask it for. None is there if none is asked.
    async fn one_is_done(&mut self) -> Option<Result<bool, StoreError>> {
        let (id, done) = match self.asked.join_next_with_id().await? {
            Ok((id, done)) => (id, done),
            // It panicked, which the log tells; its users are still wanted.
            Err(error) => (error.id(), Ok(true)),
        };
        let has_more = self.busy.remove(&id).is_some_and(|(_, has_more)| has_more);
        Some(done.map(|is_done| has_more || !is_done))
    }
}

/// A server that didn't tell.
#[derive(Clone, Copy, Debug)]
struct Absence {
    tries: u32,
    /// On the monotonic clock.
    until: Duration,
}

/// A user whose list is wanted.
struct Stale {
    user: UserNumber,
    user_id: OwnedUserId,
    known: Known,
}

impl Resyncs {
    /// Tells that a list is not fresh any more.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Notes that a server is there: what it didn't tell it is asked for at once.
    pub fn came_back(&self, server: &ServerName) {
        if self.lock().remove(server).is_some() {
            self.want();
        }
    }

    /// Whether a server didn't tell and is not to be asked yet.
    pub fn is_absent(&self, server: &ServerName, now: Duration) -> bool {
        self.lock().get(server).is_some_and(|absence| now < absence.until)
    }

    /// Notes that a server didn't answer a client's question.
    pub fn missed(&self, server: &ServerName, now: Duration) {
        // However often clients ask: that makes nothing worse.
        if !self.is_absent(server, now) {
            self.failed(server.to_owned(), now);
        }
    }

    fn failed(&self, server: OwnedServerName, now: Duration) {
        let mut absent = self.lock();
        let tries = absent.get(&server).map_or(0, |absence| absence.tries);
        if tries == 0 && absent.len() >= limits::RESYNC_SERVERS {
            let first = absent.iter().min_by_key(|(_, absence)| absence.until);
            if let Some(first) = first.map(|(server, _)| server.clone()) {
                absent.remove(&first);
            }
        }
        let rest = limits::RESYNC_RETRY.saturating_mul(2u32.saturating_pow(tries));
        let until = now + rest.min(limits::RESYNC_RETRY_MAX);
        absent.insert(server, Absence { tries: tries.saturating_add(1), until });
    }

    /// How long until one of them is to be asked again.
    fn rest(&self, now: Duration) -> Option<Duration> {
        let absent = self.lock();
        absent
            .values()
            .filter_map(|absence| absence.until.checked_sub(now))
            .filter(|rest| !rest.is_zero())
            .min()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedServerName, Absence>> {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Begins to get every list anew that is not fresh, of servers that are there. None waits for another one, unless too
    /// many are asked.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resync_device_lists(&self, resyncing: &mut Resyncing) -> Result<(), StoreError> {
        let mut after = UserNumber::default();
        loop {
            let server_name = self.server_name.clone();
            let page = self.store.read(move |view| stale(view, &server_name, after)).await?;
            let Some((last, by_server)) = page else { return Ok(()) };
            after = last;
            let now = self.clock.monotonic();
            for (server, users) in by_server {
                if self.resyncs.is_absent(&server, now) || resyncing.is_busy(&server) {
                    continue;
                }
                if resyncing.asked.len() >= limits::RESYNCS
                    && let Some(Ok(true) | Err(_)) = resyncing.one_is_done().await
                {
                    self.resyncs.want();
                }
                resyncing.ask(self, server, users);
            }
        }
    }

    /// Waits until a list is not fresh any more, or a server that didn't tell is to be asked again; not for ever.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resync_wanted(&self, resyncing: &mut Resyncing) -> Result<(), StoreError> {
        let wanted = async {
            let rest = self.resyncs.rest(self.clock.monotonic()).unwrap_or(limits::FORGET_EVERY);
            // Whether somebody wants it or the time has come is all one.
            _ = timeout(rest.min(limits::FORGET_EVERY), self.resyncs.wanted.notified()).await;
        };
        let mut wanted = pin!(wanted);
        loop {
            tokio::select! {
                () = &mut wanted => return Ok(()),
                Some(has_more) = resyncing.one_is_done() => {
                    if has_more? {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Forgets what is kept of users who share a room with nobody here any more.
///
/// # Errors
/// The store failed.
pub async fn forget_strangers(app: &App) -> Result<(), StoreError> {
    let mut after = UserNumber::default();
    loop {
        let own = app.server_name.clone();
        let page = app.store.read(move |view| {
            let users = view.remote_users(after, false, limits::REMOTE_STEP)?;
            let mut strangers = Vec::new();
            for user in &users {
                if !is_met(view, &own, *user)? {
                    strangers.push(*user);
                }
            }
            Ok::<_, StoreError>((users.last().copied(), strangers))
        });
        let (last, strangers) = page.await?;
        if !strangers.is_empty() {
            let own = app.server_name.clone();
            let forget = app.store.write(move |transaction| {
                for user in &strangers {
                    if !is_met(transaction, &own, *user)? {
                        transaction.remove_remote_user(*user)?;
                    }
                }
                Ok::<_, StoreError>(())
            });
            forget.await?;
        }
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

type ByServer = BTreeMap<OwnedServerName, Vec<Stale>>;

/// The next users whose lists are wanted, and the last of whom it was looked at; none if there are no more.
fn stale(
    view: &View<'_>,
    own: &ServerName,
    after: UserNumber,
) -> Result<Option<(UserNumber, ByServer)>, StoreError> {
    let users = view.remote_users(after, true, limits::REMOTE_STEP)?;
    let Some(last) = users.last().copied() else { return Ok(None) };
    let mut by_server = ByServer::new();
    for user in users {
        if is_met(view, own, user)? {
            let user_id = view.user_id(user)?;
            let kept_at = view.remote_user(user)?.map(|kept| kept.position);
            let known = Known { asked_at: view.position(), kept_at };
            let of_server = by_server.entry(user_id.server_name().to_owned()).or_default();
            of_server.push(Stale { user, user_id, known });
        }
    }
    Ok(Some((last, by_server)))
}

/// Asks a server for its users' lists, one after another, for so long; tells whether those are all.
async fn resync(app: App, server: OwnedServerName, users: Vec<Stale>) -> Result<IsDone, StoreError> {
    let (mut failed, mut is_done) = (false, true);
    let ends_at = app.clock.monotonic() + limits::RESYNC_TIME;
    for Stale { user, user_id, known } in users {
        if app.clock.monotonic() >= ends_at {
            is_done = false;
            break;
        }
        let bounds = Bounds { body_bytes: limits::KEYS_ANSWER_BYTES, ..Bounds::SMALL };
        let answer = ask(&app, &server, Request::new(user_id.clone()), bounds).await;
        let list = match answer {
            Ok(response) => list(&user_id, response),
            // There is no such user any more.
            Err(AskError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok((None, Told::default())),
            Err(error) => Err(error),
        };
        match list {
            Ok((stream_id, told)) => {
                let own = app.server_name.clone();
                let kept = app
                    .store
                    .write(move |transaction| put_down(transaction, &own, user, known, (stream_id, &told)));
                kept.await?;
            }
            Err(error) => {
                tracing::debug!(%user_id, %error, "a user's devices can't be had");
                failed = true;
                // Who refuses for one user may tell of others.
                if matches!(error, AskError::Net(_)) {
                    break;
                }
            }
        }
    }
    if failed {
        app.resyncs.failed(server, app.clock.monotonic());
    } else {
        app.resyncs.lock().remove(&server);
    }
    Ok(is_done)
}

/// What a server says of a user's devices, and the number that it gives it.
fn list(user_id: &OwnedUserId, response: Response) -> Result<(Option<u64>, Told), AskError> {
    const OTHER: NetError = NetError::Content("another user's devices");
    if response.user_id != *user_id || response.devices.len() > limits::REMOTE_DEVICES {
        return Err(OTHER.into());
    }
    let devices = response.devices.into_iter().filter_map(|device| {
        told::device(user_id, device.device_id.as_str(), device.keys.json().get(), device.device_display_name)
    });
    let mut devices: Vec<_> = devices.collect();
    devices.sort_by(|one, other| one.device_id.cmp(&other.device_id));
    devices.dedup_by(|one, other| one.device_id == other.device_id);
    let master = response.master_key.and_then(|key| told::master(user_id, key.json().get()));
    let self_signing =
        response.self_signing_key.and_then(|key| told::self_signing(user_id, key.json().get()));
    Ok((Some(response.stream_id.into()), Told { devices, master, self_signing }))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_server_that_tells_nothing_is_asked_ever_more_seldom_until_it_comes_back() {
        let resyncs = Resyncs::default();
        let server = server_name!("two.example");
        let mut now = Duration::from_secs(5);
        for rest in [limits::RESYNC_RETRY, limits::RESYNC_RETRY * 2, limits::RESYNC_RETRY * 4] {
            resyncs.failed(server.to_owned(), now);
            assert_eq!(resyncs.rest(now), Some(rest));
            assert!(resyncs.is_absent(server, now + rest - Duration::from_secs(1)));
            now += rest;
            assert!(!resyncs.is_absent(server, now));
        }
        assert_eq!(resyncs.rest(now), None);
        for _ in 0..40 {
            resyncs.failed(server.to_owned(), now);
        }
        assert_eq!(resyncs.rest(now), Some(limits::RESYNC_RETRY_MAX));
        resyncs.came_back(server);
        assert!(!resyncs.is_absent(server, now));
        for number in 0..=limits::RESYNC_SERVERS {
            resyncs.failed(ServerName::parse(format!("s{number}.example")).unwrap(), now);
        }
        assert_eq!(resyncs.lock().len(), limits::RESYNC_SERVERS);
    }
}
