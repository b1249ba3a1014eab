//! `vetwatch customers sync`. A stub: the client is built elsewhere.

use crate::cli::{Context, Exit, Failure};
use crate::config::Config;
use crate::store::Store;

/// Takes over Partner Center's list of customers now: of `partner`, or of every partner that is watched as a whole.
#[expect(clippy::unused_async)]
pub async fn sync_now(
    _context: &Context,
    _config: &Config,
    _store: &Store,
    _partner: Option<&str>,
) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "`vetwatch customers sync` is not built yet"))
}
