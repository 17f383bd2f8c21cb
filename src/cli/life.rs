//! The life of a server process, from the first thread to the last flush.

use std::{path::PathBuf, thread::available_parallelism};

use anyhow::{Context, anyhow};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::interval,
};

use super::{
    descriptors, open, operator,
    reload::Reload,
    systemd::{self, Notifier},
};
use crate::{
    api,
    base::{blocking, limits},
    config::{self, Config},
    http::{Bind, Limits, Listener, Server, Settings, TlsFiles},
    service::{self, App},
    worker,
};

/// Serves until `SIGTERM` or `SIGINT`, drains, and closes the store. `SIGHUP` does what `reload` says, and without it what
/// it does by itself: it ends the process. `ready` is called once clients can connect.
pub(super) fn live(config: Config, reload: Option<Reload>, ready: impl FnOnce()) -> anyhow::Result<()> {
    let settings = settings(&config);
    let socket = operator::socket(&config.data_dir);
    let app = App::new(open::parts(config, None)?);
    let runtime = runtime()?;
    let result = runtime.block_on(serve(settings, socket, app.clone(), reload, ready));
    runtime.shutdown_timeout(limits::CLOSE_TIME);
    app.store.close();
    result
}

async fn serve(
    settings: Settings,
    socket: PathBuf,
    app: App,
    reload: Option<Reload>,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    // Before anything is answered, so that a signal never finds the default, which ends the process.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hangup = reload.is_some().then(|| signal(SignalKind::hangup())).transpose()?;
    app.claim_store().await?;
    // Whoever asks or is told goes by it.
    app.index_servers().await.context("the members of older rooms can't be indexed")?;
    let server = Server::bind(settings, app.clone(), api::routes()).await?;
    app.traffic.ask(server.traffic());
    let certificates = server.certificates();
    let operated = bind_operator(socket, app.clone()).await?;
    let workers = worker::start(&app);
    let notifier = Notifier::from_environment();
    notifier.tell("READY=1");
    ready();
    tracing::info!(server_name = %app.server_name, "serving");
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = watch_dog(&app, &notifier) => {}
            () = reload_when_told(hangup, reload, &app, certificates, &notifier) => {}
        }
        tracing::info!("stopping");
        notifier.tell("STOPPING=1");
    };
    let (running, ended) = oneshot::channel::<()>();
    let stop = async move {
        stop.await;
        drop(running);
    };
    let stop_operated = async {
        // The other half is dropped, never used.
        _ = ended.await;
    };
    tokio::join!(server.run(stop), operated.run(stop_operated));
    drop(workers);
    app.end_sending().await;
    app.end_pushing().await;
    app.keep_connections().await;
    Ok(())
}

/// Binds the operator's socket.
async fn bind_operator(socket: PathBuf, app: App) -> anyhow::Result<Server> {
    let limits = Limits {
        connections: limits::OPERATOR_CONNECTIONS,
        connections_per_address: limits::OPERATOR_CONNECTIONS,
        ..Limits::default()
    };
    let listeners = vec![Listener::plain(Bind::Private(socket))];
    let settings = Settings { listeners, rate_limit: false, limits };
    // Not as a `BindError`, which would be told as one of the listeners of the configuration.
    Server::bind(settings, app, api::admin::routes()).await.map_err(|error| anyhow!("{error}"))
}

/// Tells systemd that the server is well, twice as often as it wants to hear it, for as long as the store reads and its
/// writer gets on.
async fn watch_dog(app: &App, notifier: &Notifier) {
    let Some(period) = systemd::watchdog() else { return std::future::pending().await };
    let mut ticks = interval(period / 2);
    loop {
        ticks.tick().await;
        match service::operator::health(app).await {
            Ok(()) => notifier.tell("WATCHDOG=1"),
            Err(error) => tracing::error!(%error, "the store doesn't get on"),
        }
    }
}

/// Reloads at every `SIGHUP`, for ever.
async fn reload_when_told(
    hangup: Option<Signal>,
    reload: Option<Reload>,
    app: &App,
    certificates: impl Fn() + Clone + Send + 'static,
    notifier: &Notifier,
) {
    let (Some(mut hangup), Some(reload)) = (hangup, reload) else { return std::future::pending().await };
    while hangup.recv().await.is_some() {
        notifier.tell("RELOADING=1");
        let (reload, app, certificates) = (reload.clone(), app.clone(), certificates.clone());
        let reloading = blocking::run(move || {
            reload.configuration(&app.config);
            certificates();
        });
        if let Err(error) = reloading.await {
            tracing::error!(%error, "the reload broke off");
        }
        notifier.tell("READY=1");
    }
}

fn settings(config: &Config) -> Settings {
    let listeners = config.listener.iter().map(|listener| Listener {
        bind: match &listener.bind {
            config::Bind::Tcp(address) => Bind::Tcp(*address),
            config::Bind::Unix(path) => Bind::Unix(path.clone()),
            config::Bind::Systemd => Bind::Systemd,
        },
        tls: listener
            .tls
            .as_ref()
            .map(|tls| TlsFiles { certificate: tls.certificate.clone(), key: tls.key.clone() }),
        proxies: listener.proxies.clone(),
    });
    Settings {
        listeners: listeners.collect(),
        rate_limit: config.rate_limit.enabled,
        limits: Limits { connections: descriptors::connections(), ..Limits::default() },
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    let cores = available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, limits::WORKER_THREADS))
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .thread_stack_size(limits::STACK_BYTES)
        .enable_all()
        .build()
        .context("the server's threads can't be started")
}
