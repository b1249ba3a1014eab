//! TLS to Partner Center, mail servers and HTTP servers.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use chrono::DateTime;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, InvalidMessage};
use rustls_platform_verifier::Verifier;

use crate::file;

/// Ten times the size of a system's bundle.
pub const CA_FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Trusts the system's authorities, and those of the PEM file `ca_file`. `client_certificate`, certificates and key in
/// PEM, is for servers that ask for one.
///
/// # Errors
/// If a file cannot be read, or holds no certificate or key.
pub fn config(ca_file: Option<&Path>, client_certificate: Option<&str>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut extra = Vec::new();
    if let Some(path) = ca_file {
        let unreadable = |error: &dyn fmt::Display| format!("ca_file {}: {error}", path.display());
        let text = file::read(path, CA_FILE_MAX_BYTES).map_err(|error| unreadable(&error))?;
        for certificate in CertificateDer::pem_slice_iter(&text) {
            extra.push(certificate.map_err(|error| unreadable(&error))?);
        }
        if extra.is_empty() {
            return Err(unreadable(&"it holds no certificate"));
        }
    }
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider)).map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous() // not: it is the system's own verifier
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(text) = client_certificate.map(str::as_bytes) else { return Ok(config.with_no_client_auth()) };
    let unusable = |error: &dyn fmt::Display| format!("the client certificate: {error}");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    // A key from a file of its own is the last.
    let key = PrivateKeyDer::pem_slice_iter(text).last().unwrap_or(Err(pem::Error::NoItemsFound));
    let key = key.map_err(|error| unusable(&error))?;
    config.with_client_auth_cert(chain.map_err(|error| unusable(&error))?, key).map_err(|error| unusable(&error))
}

/// The TLS error within an I/O error: ours about the server, or (an alert) the server's about us.
#[must_use]
pub fn cause(error: &io::Error) -> Option<&rustls::Error> {
    // `io::Error::source` skips the error that it wraps.
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| cause(inner.downcast_ref()?))
}

/// What is wrong, in words: `its certificate ended on 2026-11-01`. `None` if the error's own text must do.
#[must_use]
pub fn problem(error: &rustls::Error) -> Option<String> {
    use rustls::CertificateError as Wrong;

    let day = |at: UnixTime| {
        let at = i64::try_from(at.as_secs()).ok().and_then(|secs| DateTime::from_timestamp(secs, 0));
        at.map_or_else(String::new, |at| at.format(" on %Y-%m-%d").to_string())
    };
    let certificate = match error {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            return Some("it does not speak TLS at this port".to_owned());
        }
        _ => return None,
    };
    Some(match certificate {
        Wrong::UnknownIssuer => {
            "no authority that this machine trusts has signed its certificate (if its certificate is from a \
                                 CA of your own, name that in ca_file)"
                .to_owned()
        }
        Wrong::Expired => "its certificate has ended".to_owned(),
        Wrong::ExpiredContext { not_after, .. } => format!("its certificate ended{}", day(*not_after)),
        Wrong::NotValidYet => "its certificate is not valid yet; compare this machine's clock".to_owned(),
        Wrong::NotValidYetContext { not_before, .. } => {
            format!("its certificate begins{}; compare this machine's clock", day(*not_before))
        }
        Wrong::NotValidForName => "its certificate is for another name".to_owned(),
        Wrong::NotValidForNameContext { presented, .. } => {
            format!("its certificate is for another name: {}", presented.join(", "))
        }
        _ => return None,
    })
}
