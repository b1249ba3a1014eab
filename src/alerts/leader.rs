//! With `[standby]`: another host leads than before.

use serde_json::json;

use super::{Alert, Alerter};
use crate::event::EventType;
use crate::store;
use crate::time::Timestamp;

impl Alerter {
    /// The host that led before is in the database, which went over to this one.
    pub(super) async fn check_leader(&self, now: Timestamp) -> Result<usize, store::Error> {
        let (Some(leadership), Some(partner)) = (&self.leadership, self.partners.first()) else { return Ok(0) };
        let leader = leadership.leader();
        let before = self.store.last_leader().await?;
        if before.as_ref() == Some(&leader.host) {
            return Ok(0);
        }
        let Some(before) = before else {
            let mut tx = self.store.begin().await?;
            tx.set_last_leader(&leader.host).await?;
            tx.commit().await?;
            return Ok(0);
        };
        let alert = Alert {
            summary: format!("vetwatch runs on {} now", leader.host),
            detail: format!(
                "{before} led until then. See whether that host is well: nobody else can take over until it is back. \
                 `vetwatch status` shows how it stands."
            ),
            figures: json!({ "host": leader.host, "before": before, "epoch": leader.epoch }),
            ..Alert::of_vetwatch(EventType::LeaderChanged, partner)
        };
        let mark = async |tx: &mut store::WriteTx| {
            tx.set_last_leader(&leader.host).await?;
            Ok(true)
        };
        self.announce(alert, now, mark).await
    }
}
