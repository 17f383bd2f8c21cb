//! Whose certificates are trusted: those of the system's authorities, or of the binary's list where the system has none,
//! and of those that the operator adds. <https://spec.matrix.org/v1.19/server-server-api/#tls>

use std::{
    env, io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Where systems have the authorities that they trust, all in one file.
const SYSTEM: &[&str] = &[
    // Debian, Alpine, Arch.
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, CentOS.
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    // openSUSE.
    "/etc/ssl/ca-bundle.pem",
    // The BSDs.
    "/etc/ssl/cert.pem",
];

/// Goes before them.
const VARIABLE: &str = "SSL_CERT_FILE";

/// All authorities to trust.
///
/// # Errors
/// A file that the operator added can't be read, or holds no certificate.
pub(super) fn trusted(added: &[PathBuf]) -> io::Result<RootCertStore> {
    let named = env::var_os(VARIABLE).map(PathBuf::from);
    let mut files = named.into_iter().chain(SYSTEM.iter().map(PathBuf::from));
    let mut roots = RootCertStore::empty();
    if !files.any(|file| add(&mut roots, &file).is_ok()) {
        tracing::info!("the system names no authorities to trust, so the list of this program holds");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for file in added {
        add(&mut roots, file)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    }
    Ok(roots)
}

/// Adds what a file holds, as far as it can be used.
fn add(roots: &mut RootCertStore, file: &Path) -> io::Result<()> {
    let text = std::fs::read(file)?;
    let certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate of an authority")),
        _ => Ok(()),
    }
}
