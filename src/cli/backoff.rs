//! A partner's backoff, for the commands that send requests themselves.

use crate::cli::{Context, Exit, Failure};
use crate::partner_center::Error;
use crate::poller::{Poller, pause};
use crate::store::Backoff;

/// The failure while the backoff lasts. `then` says what happens, or is to be done, after it.
pub(super) fn failure(exit: Exit, what: String, backoff: &Backoff, then: &str) -> Failure {
    Failure::new(exit, what)
        .because(backoff.reason.clone())
        .advise(format!("nothing is sent there before {}; {then}", backoff.backoff_until))
}

/// Waits until the partner's budget has a request. Returns the number of backoffs so far, for [`start`].
///
/// # Errors
/// [`Exit::TryAgain`] while the partner backs off.
pub(super) async fn wait(context: &Context, poller: &Poller, what: String, then: &str) -> Result<u32, Failure> {
    let backoff = poller.store.backoff(poller.partner.id).await?;
    if let Some(backoff) = backoff.as_ref().filter(|backoff| backoff.backoff_until > context.now()) {
        return Err(failure(Exit::TryAgain, what, backoff, then));
    }
    tokio::time::sleep(poller.budget.ready_at(context.now()).since(context.now())).await;
    Ok(backoff.map_or(0, |backoff| backoff.backoffs))
}

/// Stores a backoff if the request was throttled.
pub(super) async fn start(context: &Context, poller: &Poller, backoffs: u32, error: &Error) -> Result<(), Failure> {
    if let Error::Throttled { .. } = error {
        let until = context.now().after(pause(error, backoffs, poller.intervals.in_review));
        let mut tx = poller.store.begin().await?;
        tx.start_backoff(poller.partner.id, until, &error.to_string(), error.is_throttling()).await?;
        tx.commit().await?;
    }
    Ok(())
}
