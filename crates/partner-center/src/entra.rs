//! Entra ID, Microsoft's login server: tokens for an application, or for a user who signed in through it.
//!
//! Knows nothing of Partner Center: mail is sent with its tokens, too.

mod application;
mod browser_login;
mod certificate;
mod credential;
mod device_login;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod login;
mod managed_identity;
mod refresh;
mod sign_in;
mod tenant;
mod token_file;
mod tokens;
mod x509;

pub use self::application::{Application, Audience};
pub use self::browser_login::{BROWSER_LIFETIME, BrowserLogin};
pub use self::certificate::{Certificate, CertificateError};
pub use self::credential::{ClientAuth, Credential, CredentialPart, Expiry};
pub use self::device_login::{DeviceLogin, Prompt};
pub use self::managed_identity::ManagedIdentity;
pub use self::sign_in::{SignInError, SignedIn};
pub use self::tenant::tenant_issuer;
pub use self::token_file::TokenFile;
pub use self::tokens::{RequestEpoch, Token, Tokens};
pub use self::x509::X509;
