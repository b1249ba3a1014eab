//! The parts of an X.509 certificate that are needed: the key, its name in an assertion, the expiry.
//!
//! Parsed by hand: a full X.509 parser is thousands of lines, and these are four fields. The login server judges
//! whether the certificate is valid; here it only has to match the key.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::NaiveDateTime;

use vetwatch_core::time::Timestamp;

/// A certificate for an RSA key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509 {
    /// SHA-256 over the certificate, as `x5t#S256` spells it.
    pub thumbprint: String,
    /// `RSAPublicKey`, DER.
    pub public_key: Vec<u8>,
    pub begins_at: Timestamp,
    pub ends_at: Timestamp,
}

/// 1.2.840.113549.1.1.1, `rsaEncryption`
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Tag of the version, which is optional.
const CONTEXT_0: u8 = 0xa0;

impl X509 {
    /// Parses DER. `None` if it is not a certificate with an RSA key.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut whole = Fields(der);
        let mut signed = Fields(Fields(whole.expect(SEQUENCE)?).expect(SEQUENCE)?);
        if signed.0.first() == Some(&CONTEXT_0) {
            signed.next()?;
        }
        let _serial = signed.next()?;
        let _algorithm = signed.expect(SEQUENCE)?;
        let _issuer = signed.expect(SEQUENCE)?;
        let mut validity = Fields(signed.expect(SEQUENCE)?);
        let _subject = signed.expect(SEQUENCE)?;
        let mut key = Fields(signed.expect(SEQUENCE)?);
        let is_rsa = Fields(key.expect(SEQUENCE)?).expect(OBJECT_ID)? == RSA;
        // The first byte counts the unused bits of the last one: none.
        let (unused, public_key) = key.expect(BIT_STRING)?.split_first()?;
        if !is_rsa || *unused != 0 || !whole.0.is_empty() {
            return None;
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        Some(Self {
            thumbprint: BASE64_URL_SAFE_NO_PAD.encode(digest),
            public_key: public_key.to_vec(),
            begins_at: validity.time()?,
            ends_at: validity.time()?,
        })
    }
}

/// The rest of a DER structure.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads the tag and content of the next field.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let length = if *first < 0x80 {
            usize::from(*first)
        } else {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = after;
            if digits.is_empty() || digits.len() > 4 {
                return None;
            }
            digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
        };
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((*tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn time(&mut self) -> Option<Timestamp> {
        let (tag, content) = self.next()?;
        let text = std::str::from_utf8(content).ok()?;
        let text = match tag {
            // RFC 5280: years from 50 on are of the last century.
            UTC_TIME if text < "5" => format!("20{text}"),
            UTC_TIME => format!("19{text}"),
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok().map(|time| time.and_utc().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    fn der(pem: &str) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }

    /// The expected values are `openssl x509`'s.
    #[test]
    fn a_certificate_is_read_as_openssl_reads_it() {
        let read = X509::read(&der(include_str!("../../../../tests/data/certificates/app.pem"))).unwrap();
        assert_eq!(read.thumbprint, include_str!("../../../../tests/data/certificates/app.thumbprint").trim());
        let dates = format!("{} {}", read.begins_at, read.ends_at);
        assert_eq!(dates, include_str!("../../../../tests/data/certificates/app.dates").trim());
        assert_eq!(X509::read(&der(include_str!("../../../../tests/data/certificates/ec.pem"))), None, "not RSA");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..900, byte: u8, cut in 0_usize..900) {
            let mut der = der(include_str!("../../../../tests/data/certificates/app.pem"));
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = X509::read(&der);
            let _ = X509::read(der.get(cut..).unwrap_or_default());
        }
    }
}
