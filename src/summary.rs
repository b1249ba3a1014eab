//! The summary of `[summary]`: what was decided since the last one, what is in review, what needs a person.
//!
//! The database remembers until when the last one told. A time that was missed is made up for once; a clock that is set
//! back repeats nothing, because the id of a summary is that of its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use vetwatch_core::summary::{Decided, Named, Summary, Waiting};

use crate::config::{PublicConfig, SummarySettings};
use crate::delivery::route::Routes;
use crate::event::{Event, EventPayload, EventType};
use crate::forecast::Forecasts;
use crate::ids;
use crate::overview::{self, Seen};
use crate::store::summary::Told;
use crate::store::{self, Store};
use crate::time::{Clock, Timestamp};
use crate::worker_loop::{self, Progress};

/// The most rows of a list in the event; the counts are of all.
const MAX_ROWS: u32 = 100;
/// How long the reads may take.
const WITHIN: Duration = Duration::from_mins(1);

/// Sends the summaries.
pub struct Summaries {
    pub settings: SummarySettings,
    pub outline: PublicConfig,
    pub routes: Routes,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    /// Poked once one is queued.
    pub pokes: Vec<Arc<Notify>>,
}

impl Summaries {
    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let clock = self.clock.clone();
        let summaries = Arc::new(self);
        let progress = Progress::new("the summaries".to_owned(), WITHIN);
        let round = || {
            let summaries = summaries.clone();
            async move { summaries.round().await }
        };
        worker_loop::run(progress, Arc::new(Notify::new()), clock, stop, round).await;
    }

    /// Queues the summary that is due, in one transaction with the time until which it tells. Returns when the next is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn round(&self) -> Result<Option<Timestamp>, store::Error> {
        let (now, times) = (self.clock.now(), &self.settings.times);
        let schedule = format!("{} {}", times.schedule, times.zone);
        let told = self.store.summaries_told().await?;
        let Some(told) = told.clone().filter(|told| told.schedule == schedule && told.from <= now) else {
            // The first start, another schedule, or a clock that was set back: the next time counts.
            let until = told.map_or(now, |told| told.until.min(now));
            let mut tx = self.store.begin().await?;
            tx.note_summaries(&Told { until, from: now, schedule }, now).await?;
            tx.commit().await?;
            return Ok(times.next_after(now));
        };
        let due = times.next_after(told.from);
        let Some(at) = due.filter(|due| *due <= now).and_then(|_| times.latest(now)) else { return Ok(due) };
        let summary = self.read(told.until, at).await?;
        let partner = self.store.any_partner().await?;
        let mut tx = self.store.begin().await?;
        let id = ids::summary(&self.outline.partners, at);
        if let Some(partner) = partner.filter(|_| !summary.is_empty())
            && !tx.has_event(id).await?
        {
            let mut event = Event::new(EventType::Summary, None, EventPayload::Summary(Box::new(summary)), now, now);
            event.data.event_id = id;
            tx.insert_event(&event, partner, None, None).await?;
            for endpoint in &self.settings.endpoints {
                let mut target = self.routes.direct_target(endpoint, "summary".to_owned(), String::new());
                target.group = None;
                tx.enqueue(&event, &target, now).await?;
            }
        }
        tx.note_summaries(&Told { until: at, from: at, schedule }, now).await?;
        tx.commit().await?;
        self.pokes.iter().for_each(|poke| poke.notify_one());
        Ok(times.next_after(at))
    }

    /// Reads what it tells, in one read transaction.
    async fn read(&self, since: Timestamp, until: Timestamp) -> Result<Summary, store::Error> {
        let store = Store::open_snapshots(self.store.path()).await?;
        store.begin_reading(Instant::now() + WITHIN).await?;
        let [approved, denied, revoked, vanished] = store.count_outcomes(since, until).await?;
        let verdicts = store.verdicts(Some((until.as_millis(), i64::MIN)), MAX_ROWS).await?;
        let decided = verdicts.into_iter().filter(|verdict| verdict.key.0 >= since.as_millis());
        let reviews = store.reviews(None, None, MAX_ROWS).await?;
        let forecasts = Forecasts::read(&store, &self.outline.calendar, self.clock.now()).await?;
        let health =
            overview::health(&self.outline, &store, Seen::by_daemon(&self.store), self.clock.now(), None).await?;
        let summary = Summary {
            since,
            until,
            approved,
            denied,
            revoked,
            vanished,
            decided: decided
                .map(|verdict| Decided {
                    partner: verdict.row.partner,
                    customer: Named { id: verdict.row.customer_id, name: verdict.row.customer_name },
                    qualification: verdict.row.qualification,
                    outcome: verdict.row.outcome,
                    vetting_reason: verdict.row.vetting_reason,
                    attempt: u32::try_from(verdict.row.attempt).unwrap_or(0),
                    observed_at: Timestamp::from_millis(verdict.key.0),
                })
                .collect(),
            in_review: store.count_reviews().await?,
            waiting: reviews
                .into_iter()
                .map(|review| Waiting {
                    expected: forecasts.of_row(&review.row),
                    partner: review.row.partner,
                    customer: Named { id: review.row.customer_id, name: review.row.customer_name },
                    qualification: review.row.qualification,
                    attempt: u32::try_from(review.row.attempt).unwrap_or(0),
                    since: Timestamp::from_millis(review.key.0),
                })
                .collect(),
            attention: health.attention,
        };
        store.end_reading().await?;
        Ok(summary)
    }
}

impl std::fmt::Debug for Summaries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Summaries").field("settings", &self.settings).finish_non_exhaustive()
    }
}
