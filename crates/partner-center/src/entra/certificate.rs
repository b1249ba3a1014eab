//! A certificate with its private key: authenticates an application without sending a secret.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::json;
use uuid::Uuid;

use super::x509::X509;
use vetwatch_core::redact;
use vetwatch_core::time::Timestamp;

/// Lifetime of an assertion. It is made for one request; Entra ID recommends at most this.
const ASSERTION_LIFETIME: Duration = Duration::from_mins(10);

/// An RSA key of 2048 to 4096 bits and its certificate, which the login server knows.
pub struct Certificate {
    x509: X509,
    key: RsaKeyPair,
}

/// Why a file cannot be used as a credential. Never contains key material.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("the file holds no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("the certificate cannot be read, or is not one for an RSA key; Entra ID takes RSA only")]
    OddCertificate,
    #[error("the file holds no private key (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    #[error(
        "the private key is encrypted; vetwatch starts unattended and cannot ask for a passphrase: store it without"
    )]
    Encrypted,
    #[error("the private key is for elliptic curves; Entra ID takes RSA only")]
    EllipticCurve,
    #[error("the private key is too short or too long: 2048 to 4096 bits")]
    Size,
    #[error("the private key cannot be read")]
    OddKey,
    #[error("the private key and the certificate do not belong together")]
    Strangers,
}

impl CertificateError {
    /// True if the fault is in the key, which may have its own file.
    pub fn is_the_keys(self) -> bool {
        !matches!(self, Self::NoCertificate | Self::OddCertificate)
    }
}

impl Certificate {
    /// Parses PEM. If there are several certificates (a chain), the one that matches the key is used.
    ///
    /// # Errors
    /// If something is missing or unusable.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, CertificateError> {
        let sections = |pem: &str| -> Vec<(SectionKind, Vec<u8>)> {
            <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()).map_while(Result::ok).collect()
        };
        let ders = sections(certificates).into_iter().filter(|(kind, _)| *kind == SectionKind::Certificate);
        let ders: Vec<_> = ders.collect();
        if ders.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let known: Vec<_> = ders.iter().filter_map(|(_, der)| X509::read(der)).collect();
        if known.is_empty() {
            return Err(CertificateError::OddCertificate);
        }
        redact::learn(key);
        let rsa = sections(key).into_iter().find_map(|(kind, der)| match kind {
            SectionKind::PrivateKey => Some(RsaKeyPair::from_pkcs8(&der)),
            SectionKind::RsaPrivateKey => Some(RsaKeyPair::from_der(&der)),
            _ => None,
        });
        let key = match rsa {
            Some(read) => read.map_err(|error| match error.to_string().as_str() {
                "TooSmall" | "TooLarge" => CertificateError::Size,
                "WrongAlgorithm" => CertificateError::EllipticCurve,
                _ => CertificateError::OddKey,
            })?,
            // In the older format only the header shows the encryption.
            None if key.contains("ENCRYPTED") => return Err(CertificateError::Encrypted),
            None if key.contains("BEGIN EC PRIVATE KEY") => return Err(CertificateError::EllipticCurve),
            None if key.contains("PRIVATE KEY-----") => return Err(CertificateError::OddKey),
            None => return Err(CertificateError::NoKey),
        };
        let public = key.public_key().as_ref();
        let x509 = known.into_iter().find(|x509| x509.public_key == public).ok_or(CertificateError::Strangers)?;
        Ok(Self { x509, key })
    }

    /// When the certificate expires.
    pub fn ends_at(&self) -> Timestamp {
        self.x509.ends_at
    }

    /// Signs an assertion that its sender is `client_id`, valid once for `audience` within ten minutes. `None` if the
    /// system has no random numbers.
    pub fn assertion(&self, client_id: &str, audience: &str, now: Timestamp) -> Option<String> {
        let encode = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": self.x509.thumbprint });
        let (begin, end) = (now.as_secs(), now.after(ASSERTION_LIFETIME).as_secs());
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": Uuid::new_v4(),
            "iat": begin, "nbf": begin, "exp": end,
        });
        let signed = format!("{}.{}", encode(head), encode(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("ends_at", &self.ends_at()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            include_str!(concat!("../../../../tests/data/certificates/", $name))
        };
    }

    #[test]
    fn a_key_is_read_in_both_forms_beside_its_certificate_or_apart_from_it() {
        let ends = Certificate::from_pem(pem!("app.pem"), pem!("app.pem")).unwrap().ends_at();
        for (certificates, key) in [
            (pem!("app.pem").to_owned(), pem!("app-pkcs1.key")),
            (pem!("other.pem").to_owned() + pem!("app.pem"), pem!("app.pem")),
            (
                format!("Bag Attributes\n    friendlyName: x\n{}", pem!("app.pem").replace('\n', "\r\n")),
                pem!("app.pem"),
            ),
        ] {
            assert_eq!(Certificate::from_pem(&certificates, key).unwrap().ends_at(), ends);
        }
    }

    #[test]
    fn what_is_of_no_use_is_told_apart() {
        for (certificates, key, why) in [
            ("", "", CertificateError::NoCertificate),
            (pem!("app-pkcs1.key"), pem!("app-pkcs1.key"), CertificateError::NoCertificate),
            (pem!("ec.pem"), pem!("ec.pem"), CertificateError::OddCertificate),
            (pem!("app.pem"), pem!("ec.pem"), CertificateError::EllipticCurve),
            (pem!("app.pem"), "no key", CertificateError::NoKey),
            (pem!("app.pem"), pem!("encrypted.key"), CertificateError::Encrypted),
            (pem!("short.pem"), pem!("short.pem"), CertificateError::Size),
            (pem!("other.pem"), pem!("app-pkcs1.key"), CertificateError::Strangers),
            (
                pem!("app.pem"),
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                CertificateError::OddKey,
            ),
        ] {
            assert_eq!(Certificate::from_pem(certificates, key).unwrap_err(), why);
        }
    }
}
