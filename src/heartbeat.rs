//! Pings a dead man's switch (Healthchecks and the like), because vetwatch cannot report its own death.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use tracing::warn;
use url::Url;

use crate::delivery::http::{client_for_operator_url, origin};
use crate::store::{self, Store};
use crate::time::{Clock as _, SystemClock};
use crate::worker_loop::Progress;

const FIRST_AFTER: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(10);

/// `[operators] heartbeat_url_file`. The URL is a secret: it lets others send the heartbeat.
#[derive(Clone)]
pub struct Heartbeat(pub Url);

impl Heartbeat {
    /// Sends one per minute while every loop completes its rounds, no work is late, and the database can be written to. A
    /// full disk stops it at once.
    pub(crate) async fn beat(&self, progress: impl Fn() -> Vec<Arc<Progress>>, late: &AtomicBool, store: &Store) {
        let client = client_for_operator_url(&self.0);
        // What is recorded is unknown at the start: the URL may be another one.
        let (mut pause, mut failed) = (FIRST_AFTER, None);
        loop {
            tokio::time::sleep(pause).await;
            pause = EVERY;
            let is_failing = progress().iter().any(|activity| activity.is_stuck() || activity.is_failing());
            if is_failing || late.load(Ordering::Relaxed) || store.waiting_since().is_some() {
                continue;
            }
            let result = match &client {
                Ok(client) => self.send(client).await,
                Err(why) => Err(why.clone()),
            };
            if failed == Some(result.is_err()) {
                continue;
            }
            failed = Some(result.is_err());
            if let Err(why) = &result {
                warn!("the heartbeat to {} was not accepted: {why}", origin(&self.0));
            }
            let error = result.err();
            if let Err(error) = note(store, error.as_deref()).await {
                warn!("whether the heartbeat was accepted could not be recorded: {error}");
                failed = None;
            }
        }
    }

    /// Sends one, for a person who waits.
    ///
    /// # Errors
    /// Why it was not accepted; without the URL.
    pub async fn probe(&self) -> Result<(), String> {
        self.send(&client_for_operator_url(&self.0)?).await
    }

    /// The part of its URL that may be shown.
    #[must_use]
    pub fn origin(&self) -> String {
        origin(&self.0)
    }

    async fn send(&self, client: &Client) -> Result<(), String> {
        let answer = client.post(self.0.clone()).timeout(TIMEOUT).send().await.map_err(|error| {
            let why = if error.is_timeout() { "no answer in time" } else { "it cannot be reached" };
            why.to_owned()
        })?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("HTTP {}", answer.status())) }
    }
}

/// Records whether the heartbeat was accepted, for `status`.
async fn note(store: &Store, error: Option<&str>) -> Result<(), store::Error> {
    let mut tx = store.begin().await?;
    tx.note_heartbeat(error, SystemClock.now()).await?;
    tx.commit().await
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Heartbeat({})", origin(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_and_host_of_the_url_are_shown() {
        let heartbeat = Heartbeat("https://me:s3cret-word@checks.example:8443/ping/T0KEN?k=v".parse().unwrap());
        assert_eq!(format!("{heartbeat:?}"), "Heartbeat(https://checks.example:8443)");
    }
}
