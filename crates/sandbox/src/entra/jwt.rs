//! Signed tokens, as Entra ID issues them, and the documents with which a client finds endpoints and keys.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// Everybody has this key, so nothing may trust it but a client of the sandbox.
const SIGNING_KEY: &str = include_str!("signing-key.pem");
const KEY_ID: &str = "vetwatch-sandbox";

/// Signs tokens with RS256.
#[derive(Debug)]
pub(super) struct Signer(RsaKeyPair);

impl Signer {
    pub(super) fn new() -> Self {
        let der = PrivatePkcs8KeyDer::from_pem_slice(SIGNING_KEY.as_bytes()).expect("the key is PEM");
        Self(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("the key is an RSA key"))
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = format!(r#"{{"typ":"JWT","alg":"RS256","kid":"{KEY_ID}"}}"#);
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        let mut signature = vec![0; self.0.public().modulus_len()];
        // Fails only for a key that is too short for the digest.
        let _ = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        format!("{signed}.{}", encode(&signature))
    }

    /// The JSON Web Key Set with the public key.
    pub(super) fn keys(&self) -> Value {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.0.public_key());
        let encode = |bytes: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": encode(n), "e": encode(e),
        }]})
    }
}

/// The URL of the sandbox, as the client wrote it. A client that wants https has put something in front that speaks TLS,
/// and does not name an IP address.
pub(super) fn base(host: &str) -> String {
    let is_address = host.starts_with("127.") || host.starts_with('[');
    format!("{}://{host}", if is_address { "http" } else { "https" })
}

pub(super) fn issuer(tenant: &str, v2: bool, host: &str) -> String {
    if v2 { format!("{}/{tenant}/v2.0", base(host)) } else { format!("https://sts.windows.net/{tenant}/") }
}

/// `…/.well-known/openid-configuration`
pub(super) fn configuration(tenant: &str, v2: bool, host: &str) -> Value {
    let (at, version) = (format!("{}/{tenant}", base(host)), if v2 { "v2.0/" } else { "" });
    json!({
        "issuer": issuer(tenant, v2, host),
        "authorization_endpoint": format!("{at}/oauth2/{version}authorize"),
        "token_endpoint": format!("{at}/oauth2/{version}token"),
        "device_authorization_endpoint": format!("{at}/oauth2/{version}devicecode"),
        "jwks_uri": format!("{at}/discovery/{version}keys"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_modes_supported": ["query", "form_post"],
        "response_types_supported": ["code"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "subject_types_supported": ["pairwise"],
    })
}

/// `/common/discovery/instance`: which other names the login server has.
pub(super) fn instance(tenant: &str, host: &str) -> Value {
    json!({
        "tenant_discovery_endpoint": format!("{}/{tenant}/v2.0/.well-known/openid-configuration", base(host)),
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    })
}
