//! TLS to mail servers and HTTP servers.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs, io};

use rustls::ClientConfig;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

/// Trusts the system's authorities, and those of the PEM file `ca_file`. `client_certificate`, certificates and key in
/// PEM, is for servers that ask for one.
pub(super) fn config(ca_file: Option<&Path>, client_certificate: Option<&str>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut extra = Vec::new();
    if let Some(path) = ca_file {
        let unreadable = |error: &dyn fmt::Display| format!("ca_file {}: {error}", path.display());
        let text = fs::read(path).map_err(|error| unreadable(&error))?;
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
pub(super) fn cause(error: &io::Error) -> Option<&rustls::Error> {
    // `io::Error::source` skips the error that it wraps.
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| cause(inner.downcast_ref()?))
}

/// What may help the administrator, for the end of a message.
pub(super) fn hint(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            " (if its certificate is from a CA of your own, name that in ca_file)"
        }
        _ => "",
    }
}
