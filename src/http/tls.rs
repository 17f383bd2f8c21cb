//! TLS for a listener. Certificate and key are read again when their files change: no restart for a renewal.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::base::clock::Clock;

/// Where a listener's certificate chain and private key are, both PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why TLS has no certificate; names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}: {error}")]
    File { path: PathBuf, error: io::Error },
    #[error("{path} holds no usable PEM: {error}")]
    Pem { path: PathBuf, error: pem::Error },
    #[error("{certificate} and {key} don't make a TLS server: {error}")]
    Unusable { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

/// Gives the acceptor for the newest certificate.
pub(super) struct Tls {
    files: TlsFiles,
    clock: Clock,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    stamp: Stamp,
    looked: Duration,
}

/// What changes when a file does: modification time and length of both files.
type Stamp = [(SystemTime, u64); 2];

impl Tls {
    /// Reads certificate and key.
    pub(super) fn load(files: TlsFiles, clock: Clock) -> Result<Self, TlsError> {
        // The stamp comes first: a change in between is then seen the next time.
        let (stamp, acceptor) = (stamp(&files)?, acceptor(&files)?);
        let current = Mutex::new(Current { acceptor, stamp, looked: clock.monotonic() });
        Ok(Self { files, clock, current })
    }

    /// The acceptor for the next connection. Looks at the files at most once in [`LOOK_INTERVAL`], and only when somebody
    /// connects. Files that can't be used leave the last certificate in place.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current();
        let now = self.clock.monotonic();
        if now.saturating_sub(current.looked) >= LOOK_INTERVAL {
            current.looked = now;
            self.refresh(&mut current, false);
        }
        current.acceptor.clone()
    }

    /// Reads certificate and key again, whether they look changed or not.
    pub(super) fn reload(&self) {
        self.refresh(&mut self.current(), true);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self, current: &mut Current, anyway: bool) {
        let read = stamp(&self.files).and_then(|stamp| {
            if anyway || stamp != current.stamp {
                current.acceptor = acceptor(&self.files)?;
                current.stamp = stamp;
                let certificate = self.files.certificate.display();
                tracing::info!(%certificate, "the TLS certificate was read again");
            }
            Ok(())
        });
        if let Err(error) = read {
            tracing::error!(%error, "the TLS certificate can't be read again, the last one stays");
        }
    }
}

fn stamp(files: &TlsFiles) -> Result<Stamp, TlsError> {
    let of = |path: &PathBuf| {
        let stamp = fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len())));
        stamp.map_err(|error| TlsError::File { path: path.clone(), error })
    };
    Ok([of(&files.certificate)?, of(&files.key)?])
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let TlsFiles { certificate, key } = files;
    let unusable = |path: &PathBuf| {
        let path = path.clone();
        move |error| TlsError::Pem { path, error }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(unusable(certificate))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(unusable(key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|error| TlsError::Unusable {
        certificate: certificate.clone(),
        key: key.clone(),
        error,
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
