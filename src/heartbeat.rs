//! Pings a dead man's switch (Healthchecks and the like), because vetwatch cannot report its own death.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

use crate::delivery::http::{client_for_operator_url, origin};
use crate::store::Store;
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
    pub(crate) async fn beat(
        self,
        progress: Vec<Arc<Progress>>,
        late: Arc<AtomicBool>,
        store: Store,
        stop: CancellationToken,
    ) -> String {
        let client = client_for_operator_url(&self.0);
        let (mut pause, mut failed) = (FIRST_AFTER, false);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = EVERY;
            let is_failing = progress.iter().any(|activity| activity.is_stuck() || activity.is_failing());
            if is_failing || late.load(Ordering::Relaxed) || store.waiting_since().is_some() {
                continue;
            }
            let result = match &client {
                Ok(client) => self.send(client).await,
                Err(why) => Err(why.clone()),
            };
            // Logged once per outage.
            if let (Err(why), false) = (&result, failed) {
                warn!("the heartbeat to {} was not taken: {why}", origin(&self.0));
            }
            failed = result.is_err();
        }
        "the heartbeat".to_owned()
    }

    async fn send(&self, client: &Client) -> Result<(), String> {
        let answer = client.post(self.0.clone()).timeout(TIMEOUT).send().await.map_err(|error| {
            let why = if error.is_timeout() { "no answer in time" } else { "it cannot be reached" };
            why.to_owned()
        })?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("HTTP {}", answer.status())) }
    }
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
