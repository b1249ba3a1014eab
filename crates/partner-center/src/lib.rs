//! Partner Center's REST API, and Entra ID below it.
//!
//! Only a 2xx response of a documented shape becomes an [`Answer`]; everything else is an [`Error`], by what the caller
//! does about it. No call exceeds its deadline, and none leaves the configured hosts: redirects and links are not
//! followed, and proxies of the environment are ignored.
//!
//! The modules, each above those that it uses:
//!
//! | module | holds |
//! | --- | --- |
//! | `client` | [`PartnerCenter`]: the calls, one file for each kind |
//! | `settings` | [`PartnerSettings`]: what a client is made of |
//! | `entra` | [`Tokens`] for an [`Application`], which may be Partner Center's or a mail server's; [`DeviceLogin`], [`BrowserLogin`] |
//! | `wire`, `date` | what Partner Center's bodies say |
//! | `http` | one exchange, bounded in size and time |
//! | `budget` | [`Budget`]: how many requests a partner may be sent |
//! | `error`, `error_codes`, `api_error` | why there is no answer, and what a person does about it |
//! | `file` | files, read with a limit |
//! | `json` | JSON without a second reading |
//! | `proxy` | [`Proxy`]: the way to a partner's hosts, if there is one |
//! | [`tls`] | which servers are trusted, and what is wrong with one that is not |
//! | `connectivity` | [`reach`]: how far a server can be reached, for `check --live` |

mod api_error;
mod budget;
mod client;
mod connectivity;
mod date;
mod entra;
mod error;
pub mod error_codes;
mod file;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[allow(clippy::missing_panics_doc, reason = "a panic is what a fuzz target finds")]
pub mod fuzzing;
mod http;
mod json;
mod proxy;
mod settings;
pub mod tls;
mod wire;

pub use self::api_error::ApiError;
pub use self::budget::{Budget, Promise, Reader};
pub use self::client::{
    Answer, Continuation, CustomerPage, NotSubmitted, Operation, OperationKind, OperationPage, PartnerCenter, Segment,
    Submission, Submitted, ValidationCode,
};
pub use self::connectivity::{Stage, reach};
pub use self::entra::{
    Application, Audience, BROWSER_LIFETIME, BrowserLogin, Certificate, CertificateError, ClientAuth, Credential,
    CredentialPart, DeviceLogin, Expiry, ManagedIdentity, Prompt, RequestEpoch, SignInError, SignedIn, Token,
    TokenFile, Tokens, X509, tenant_issuer,
};
pub use self::error::Error;
pub use self::http::SetupError;
pub use self::proxy::Proxy;
pub use self::settings::{Customers, PartnerSettings, RESOURCE, RESOURCE_IN_CHINA};
pub use self::wire::ListedCustomer;
