//! Client authentication: a secret, an assertion signed with a certificate, or a token of a trusted platform.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use super::refusal::Refusal;
use vetwatch_core::time::Timestamp;
use vetwatch_partner_center::X509;

/// Maximum clock difference.
const SKEW: Duration = Duration::from_mins(5);
/// Maximum lifetime of an assertion.
const LIFE: Duration = Duration::from_mins(10);
const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The application's registered credentials.
#[derive(Debug)]
pub(crate) struct Proofs {
    secret: String,
    pub(crate) secret_expired: bool,
    pub(crate) certificates: Vec<Registered>,
    /// The trusted platform's current token.
    pub(crate) federated: Option<String>,
    /// The `jti` of each assertion that was used.
    used: HashSet<String>,
}

/// A registered certificate.
#[derive(Debug)]
pub(crate) struct Registered {
    x509: X509,
    /// The older thumbprint, as `x5t` spells it.
    sha1: String,
}

impl Proofs {
    pub(super) fn new(secret: String) -> Self {
        Self { secret, secret_expired: false, certificates: Vec::new(), federated: None, used: HashSet::new() }
    }

    pub(crate) fn set_secret(&mut self, secret: String) {
        (self.secret, self.secret_expired) = (secret, false);
    }

    /// Adds a certificate to those known. False if it is not one.
    pub(crate) fn register(&mut self, pem: &str) -> bool {
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        let read = der.ok().and_then(|der| {
            let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
            Some(Registered { x509: X509::read(&der)?, sha1: BASE64_URL_SAFE_NO_PAD.encode(sha1) })
        });
        let is_one = read.is_some();
        self.certificates.extend(read);
        is_one
    }

    pub(super) fn check(
        &mut self,
        form: &HashMap<String, String>,
        client_id: &str,
        endpoint: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let parameter = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
        match (parameter("client_secret"), parameter("client_assertion")) {
            (Some(secret), _) => self.check_secret(secret, client_id),
            (None, Some(assertion)) if parameter("client_assertion_type") == Some(BEARER) => {
                if self.federated.as_deref() == Some(assertion) {
                    return Ok(());
                }
                self.check_assertion(assertion, client_id, endpoint, now)
            }
            _ => {
                let text = "The request body must contain the following parameter: 'client_assertion' or \
                            'client_secret'.";
                Err(Refusal::of_client(7_000_218, text))
            }
        }
    }

    fn check_secret(&self, secret: &str, client_id: &str) -> Result<(), Refusal> {
        if secret != self.secret {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '{client_id}'."
            );
            return Err(Refusal::of_client(7_000_215, text));
        }
        if self.secret_expired {
            let text = format!(
                "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create \
                 new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials \
                 for added security: https://aka.ms/certCreds."
            );
            return Err(Refusal::of_client(7_000_222, text));
        }
        Ok(())
    }

    fn check_assertion(
        &mut self,
        assertion: &str,
        client_id: &str,
        endpoint: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let malformed = || Refusal::new(400, "invalid_request", 50027, "JWT token is invalid or malformed.");
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).map_err(|_| malformed());
        let (signed, signature) = assertion.rsplit_once('.').ok_or_else(malformed)?;
        let (head, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let (head, claims, signature) = (json(head)?, json(claims)?, decode(signature)?);
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();

        if claims["iss"].as_str().is_some_and(|issuer| issuer != client_id)
            && head.get("x5t#S256").is_none()
            && head.get("x5t").is_none()
        {
            let text = format!(
                "No matching federated identity record found for presented assertion issuer '{}'.",
                text(&claims, "iss")
            );
            return Err(Refusal::of_client(700_211, text));
        }
        let invalid = |why: &str| {
            let text = format!(
                "The certificate with identifier used to sign the client assertion is not registered on application, or the signature is invalid. [Reason - {why}]"
            );
            Refusal::of_client(700_027, text)
        };
        // Some libraries pad it, and older ones name SHA-1.
        let thumbprint = |key| Some(head.get(key)?.as_str()?.trim_end_matches('=').to_owned());
        let (sha256, sha1) = (thumbprint("x5t#S256"), thumbprint("x5t"));
        let known = self.certificates.iter().find(|Registered { x509, sha1: older }| match &sha256 {
            Some(sha256) => *sha256 == x509.thumbprint,
            None => sha1.as_ref() == Some(older),
        });
        let known = &known.ok_or_else(|| invalid("The key was not found."))?.x509;
        let algorithm: &dyn VerificationAlgorithm = match head["alg"].as_str() {
            Some("PS256") => &RSA_PSS_2048_8192_SHA256,
            Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(invalid("The algorithm is not one that is asked for.")),
        };
        if head["typ"] != "JWT" {
            return Err(invalid("The type is not the one that is asked for."));
        }
        UnparsedPublicKey::new(algorithm, &known.public_key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| invalid("The key was found, but use of the key to verify the signature failed."))?;
        if known.ends_at <= now || known.begins_at > now.after(SKEW) {
            return Err(invalid("The key used is expired."));
        }
        // With http or https: something that speaks TLS may stand in front.
        if text(&claims, "aud").trim_start_matches("http").trim_start_matches(['s', ':']) != endpoint {
            let text = format!(
                "Client assertion audience claim does not match Realm issuer: it is for '{}'.",
                text(&claims, "aud")
            );
            return Err(Refusal::of_client(700_023, text));
        }
        if text(&claims, "iss") != client_id || text(&claims, "sub") != client_id {
            let text = "Client assertion application identifier doesn't match 'client_id' parameter.";
            return Err(Refusal::of_client(700_021, text));
        }
        // Some libraries write fractions, and no `nbf`.
        #[expect(clippy::cast_possible_truncation, reason = "a time in seconds")]
        let at = |key: &str| claims[key].as_f64().map(|seconds| seconds as i64);
        let (Some(begin), Some(end)) = (at("nbf").or_else(|| at("iat")), at("exp")) else { return Err(malformed()) };
        let (skew, life) = (SKEW.as_secs().cast_signed(), LIFE.as_secs().cast_signed());
        if begin > now.as_secs() + skew || end <= now.as_secs() - skew || end - begin > life {
            let text = "Client assertion is not within its valid time range.";
            return Err(Refusal::of_client(700_024, text));
        }
        let id = text(&claims, "jti");
        if id.is_empty() || !self.used.insert(id) {
            return Err(Refusal::of_client(700_024, "Client assertion was used before."));
        }
        Ok(())
    }
}
