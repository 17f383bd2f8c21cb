//! The sockets that clients connect to: TCP, Unix, or passed on by systemd.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
};

use super::tls::{TlsError, TlsFiles};
use crate::base::peers::Peers;

/// One place to listen at, as configured.
#[derive(Clone, Debug)]
pub struct Listener {
    pub bind: Bind,
    /// TLS with this certificate and key; none means plain HTTP, for a reverse proxy or this machine.
    pub tls: Option<TlsFiles>,
    /// The reverse proxies whose `X-Forwarded-For` is believed.
    pub proxies: Vec<Peers>,
}

impl Listener {
    /// Plain HTTP, straight from the clients.
    pub fn plain(bind: Bind) -> Self {
        Self { bind, tls: None, proxies: Vec::new() }
    }
}

/// What to listen on.
#[derive(Clone, Debug)]
pub enum Bind {
    Tcp(SocketAddr),
    /// A Unix socket, which the group may use; a socket left by a dead process is replaced.
    Unix(PathBuf),
    /// As above, for the owner alone: the operator's socket.
    Private(PathBuf),
    /// The next socket that systemd passes (`LISTEN_FDS`).
    Systemd,
}

/// Why a listener does not listen; names the listener.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {0}: {1}")]
    Socket(Bind, #[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound socket.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removes the file in the end, if this process made it.
        _file: Option<SocketFile>,
    },
}

/// A byte stream to a client.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Socket {
    /// Binds; `passed` are the sockets of systemd that are not taken yet.
    pub(super) async fn bind(bind: &Bind, passed: &mut Passed) -> Result<Self, BindError> {
        let socket = match bind {
            Bind::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Bind::Unix(path) => bind_unix(path, 0o660).await,
            Bind::Private(path) => bind_unix(path, 0o600).await,
            Bind::Systemd => passed.next(),
        };
        socket.map_err(|error| BindError::Socket(bind.clone(), error))
    }

    /// Waits for the next connection and tells its address, unspecified if it has none.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), address.ip()))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Ipv4Addr::UNSPECIFIED.into()))
            }
        }
    }

    /// The TCP address that it listens on, which tells a port that was left to the system.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }
}

/// The sockets that systemd passed to this process, in order.
pub(super) struct Passed {
    sockets: ListenFd,
    taken: usize,
}

impl Passed {
    pub(super) fn from_environment() -> Self {
        Self { sockets: ListenFd::from_env(), taken: 0 }
    }

    fn next(&mut self) -> io::Result<Socket> {
        let index = self.taken;
        self.taken += 1;
        if let Ok(Some(listener)) = self.sockets.take_tcp_listener(index) {
            listener.set_nonblocking(true)?;
            return TcpListener::from_std(listener).map(Socket::Tcp);
        }
        let missing = || io::Error::new(io::ErrorKind::NotFound, "systemd passed no such socket");
        let listener = self.sockets.take_unix_listener(index)?.ok_or_else(missing)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(|listener| Socket::Unix { listener, _file: None })
    }
}

/// A Unix socket's file, removed when the listener is dropped.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it; then there is nothing to do.
        _ = fs::remove_file(&self.0);
    }
}

async fn bind_unix(path: &Path, mode: u32) -> io::Result<Socket> {
    let left = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if left
        && UnixStream::connect(path)
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(Socket::Unix { listener, _file: Some(file) })
}

impl fmt::Display for Bind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) | Self::Private(path) => write!(formatter, "unix:{}", path.display()),
            Self::Systemd => formatter.write_str("systemd"),
        }
    }
}
