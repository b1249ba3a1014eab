//! The state of partners and endpoints.

use serde::{Deserialize, Serialize};

use crate::store::columns::NullableTime;
use crate::store::{Error, PartnerId, Store, doing, unreadable};
use crate::time::Timestamp;

/// A partner's backoff, health and customers.
#[derive(Debug, Clone, Serialize)]
pub struct PartnerState {
    #[serde(skip)]
    pub row: PartnerId,
    pub partner: String,
    /// Not polled before this; may be in the past.
    pub backoff_until: Option<Timestamp>,
    pub backoff_reason: Option<String>,
    /// Backoffs in a row without a good response in between.
    pub backoffs: i64,
    /// The first failed poll since the last good one, and the last failure.
    pub failing_since: Option<Timestamp>,
    pub last_failure: Option<String>,
    /// Set while the operators know that the partner is failing.
    pub failing_reported_since: Option<Timestamp>,
    /// Since when so many entries are missing at once that none is recorded.
    pub mass_absence_since: Option<Timestamp>,
    /// Customers whose last response lacked an entry, or showed an older one.
    pub missing: i64,
    /// When its credentials expire, as far as the daemon knows: `{"of", "at"}`.
    pub credentials: Vec<CredentialEnd>,
    /// Requests a minute after throttling; null means the configured limit.
    pub reduced_rate_limit: Option<i64>,
    pub customers: i64,
    pub paused: i64,
    /// Not paused: in review (or waiting for confirmation), settled, unqualified (or unseen).
    pub in_review: i64,
    pub settled: i64,
    pub unqualified: i64,
    /// Customers that are due, and since when the first of them is.
    pub due: i64,
    pub due_since: Option<Timestamp>,
    /// The newest understood response.
    pub last_answer_at: Option<Timestamp>,
    /// How many of these customers departed.
    pub left: i64,
    /// The last complete customer list, and its size.
    pub list_complete_at: Option<Timestamp>,
    pub list_size: Option<i64>,
    /// Since when lists end but are too short to count anybody as missing.
    pub list_short_since: Option<Timestamp>,
    pub list_short_size: Option<i64>,
    /// Why the last sync failed, and when it is retried.
    pub list_error: Option<String>,
    pub list_retry_at: Option<Timestamp>,
    pub list_failing_since: Option<Timestamp>,
    /// The activity log reveals submissions: unqualified customers are polled at the `unqualified` interval.
    pub activity_log_counts: bool,
    pub activity_log_read_at: Option<Timestamp>,
    /// Since when and why the activity log cannot be read, and when it is retried.
    pub activity_log_failing_since: Option<Timestamp>,
    pub activity_log_error: Option<String>,
    pub activity_log_retry_at: Option<Timestamp>,
}

/// A secret, certificate or refresh token, and when it expires.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CredentialEnd {
    pub of: String,
    pub at: Timestamp,
}

/// An endpoint's deliveries and health.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointState {
    pub endpoint: String,
    pub pending: i64,
    pub dead: i64,
    /// How many of the pending ones cannot be read, and wait.
    pub unreadable: i64,
    /// When its oldest pending delivery was created.
    pub oldest_pending_at: Option<Timestamp>,
    /// Since when the oldest one waits that is not deferred (quiet hours, a group's wait).
    pub waiting_since: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    /// Since when it is backing off.
    pub closed_since: Option<Timestamp>,
    /// Since when messages were handed over and none was answered.
    pub unconfirmed_since: Option<Timestamp>,
    /// It said that it is gone: nothing is sent until its configuration changes or a delivery is redriven.
    pub paused_at: Option<Timestamp>,
    pub last_accepted_at: Option<Timestamp>,
    pub last_error: Option<String>,
    /// When its template last failed on a message, and why.
    pub template_failed_at: Option<Timestamp>,
    pub template_error: Option<String>,
    /// Set while the operators know that it is failing.
    pub failing_reported_at: Option<Timestamp>,
}

fn at(milliseconds: Option<i64>) -> Option<Timestamp> {
    milliseconds.map(Timestamp::from_millis)
}

impl Store {
    /// Every partner that was ever watched, by name.
    pub async fn partner_states(&self, now: Timestamp) -> Result<Vec<PartnerState>, Error> {
        let rows = sqlx::query!(
            r#"select p.id as "row!: PartnerId", p.name, p.backoff_until, p.backoff_reason, p.backoffs, p.failing_since, p.last_failure,
                      p.list_failing_since,
                      p.failing_reported_since, p.mass_absence_since, p.reduced_rate_limit, p.credentials,
                      (select count(distinct c.id) from qualification_state o join customer c on c.id = o.customer
                       where c.partner = p.id and c.removed_at is null
                         and (o.missing_since is not null or (o.pending_since is not null and o.present = 1))) as "missing!: i64",
                      coalesce(u.customers, 0) + coalesce(z.customers, 0) as "customers!: i64",
                      coalesce(z.customers, 0) as "paused!: i64",
                      coalesce(u.in_review, 0) as "in_review!: i64", coalesce(u.settled, 0) as "settled!: i64",
                      coalesce(u.unqualified, 0) as "unqualified!: i64", coalesce(u.due, 0) as "due!: i64",
                      u.due_since as "due_since: i64",
                      nullif(max(coalesce(u.seen_at, 0), coalesce(z.seen_at, 0)), 0) as "last_answer_at: i64",
                      coalesce(u.departed, 0) + coalesce(z.departed, 0) as "left!: i64",
                      p.last_synced_at, p.list_size, p.list_short_since, p.list_short_size, p.list_error, p.list_retry_at,
                      p.activity_log_counts as "activity_log_counts: bool", p.activity_log_read_at,
                      p.activity_log_failing_since, p.activity_log_error, p.activity_log_retry_at
               from partner p
               left join (select partner, count(*) as customers, max(last_seen_at) as seen_at, count(departed_since) as departed,
                                 count(*) filter (where poll_class in ('confirming', 'in_review')) as in_review,
                                 count(*) filter (where poll_class = 'settled') as settled,
                                 count(*) filter (where poll_class in ('unseen', 'unqualified')) as unqualified,
                                 count(*) filter (where next_poll_at <= ?1) as due,
                                 min(next_poll_at) filter (where next_poll_at <= ?1) as due_since
                          from customer indexed by customer_due where removed_at is null and paused_at is null group by partner) u on u.partner = p.id
               left join (select partner, count(*) as customers, max(last_seen_at) as seen_at, count(departed_since) as departed
                          from customer indexed by customer_paused where removed_at is null and paused_at is not null group by partner) z on z.partner = p.id
               order by p.name"#,
            now.as_millis(),
        );
        let states =
            rows.fetch_all(&self.read).await.map_err(doing("see how the partners stand"))?.into_iter().map(|row| {
                let credentials = serde_json::from_str(&row.credentials);
                let credentials = credentials.map_err(unreadable("partner", &row.name, "credentials"))?;
                Ok(PartnerState {
                    row: row.row,
                    partner: row.name,
                    failing_since: at(row.failing_since),
                    last_failure: row.last_failure,
                    list_failing_since: at(row.list_failing_since),
                    backoff_until: at(row.backoff_until),
                    backoff_reason: row.backoff_reason,
                    backoffs: row.backoffs,
                    failing_reported_since: at(row.failing_reported_since),
                    mass_absence_since: at(row.mass_absence_since),
                    missing: row.missing,
                    reduced_rate_limit: row.reduced_rate_limit,
                    credentials,
                    customers: row.customers,
                    paused: row.paused,
                    in_review: row.in_review,
                    settled: row.settled,
                    unqualified: row.unqualified,
                    due: row.due,
                    due_since: at(row.due_since),
                    last_answer_at: at(row.last_answer_at),
                    left: row.left,
                    list_complete_at: at(row.last_synced_at),
                    list_size: row.list_size,
                    list_short_since: at(row.list_short_since),
                    list_short_size: row.list_short_size,
                    list_error: row.list_error,
                    list_retry_at: at(row.list_retry_at),
                    activity_log_counts: row.activity_log_counts,
                    activity_log_read_at: at(row.activity_log_read_at),
                    activity_log_failing_since: at(row.activity_log_failing_since),
                    activity_log_error: row.activity_log_error,
                    activity_log_retry_at: at(row.activity_log_retry_at),
                })
            });
        states.collect()
    }

    /// Per partner, how many qualifications are in review, and since when the oldest is.
    pub async fn review_counts(&self) -> Result<Vec<(String, i64, Timestamp)>, Error> {
        let rows = sqlx::query!(
            r#"select p.name as "partner!", count(*) as "reviews!: i64",
                      min(coalesce(o.vetting_created_at, o.status_since)) as "since!: i64"
               from qualification_state o join customer c on c.id = o.customer join partner p on p.id = c.partner
               where o.present = 1 and c.removed_at is null
                 and replace(lower(trim(o.vetting_status)), '_', '') = 'inreview'
               group by p.name"#
        );
        let rows = rows.fetch_all(&self.read).await.map_err(doing("count what is in review"))?;
        Ok(rows.into_iter().map(|row| (row.partner, row.reviews, Timestamp::from_millis(row.since))).collect())
    }

    /// Every endpoint with a stored state, or with pending or dead deliveries, by name.
    pub async fn endpoint_states(&self, now: Timestamp) -> Result<Vec<EndpointState>, Error> {
        let states = sqlx::query_as!(
            EndpointState,
            r#"with known (name) as (select name from endpoint
                                     union select endpoint from delivery where state in ('pending', 'dead'))
               select k.name as "endpoint!: String",
                      (select count(*) from delivery d where d.endpoint = k.name and d.state = 'pending') as "pending!: i64",
                      (select count(*) from delivery d where d.endpoint = k.name and d.state = 'pending'
                       and d.unreadable_since is not null) as "unreadable!: i64",
                      -- A test that was given up is no news that nobody got.
                      (select count(*) from delivery d where d.endpoint = k.name and d.state = 'dead' and d.redirected_at is null and d.discarded_at is null
                       and not exists (select 1 from delivery_event de join event e on e.id = de.event
                                       where de.delivery = d.id and e.test = 1)) as "dead!: i64",
                      (select min(d.created_at) from delivery d where d.endpoint = k.name and d.state = 'pending') as "oldest_pending_at!: NullableTime",
                      (select min(d.next_attempt_at) from delivery d where d.endpoint = k.name and d.state = 'pending')
                          as "next_attempt_at!: NullableTime",
                      (select min(max(d.created_at, coalesce(d.deferred_until, 0))) from delivery d
                       where d.endpoint = k.name and d.state = 'pending' and coalesce(d.deferred_until, 0) <= ?1)
                          as "waiting_since!: NullableTime",
                      e.failing_reported_at as "failing_reported_at!: NullableTime", e.closed_since as "closed_since!: NullableTime",
                      e.unconfirmed_since as "unconfirmed_since!: NullableTime", e.paused_at as "paused_at!: NullableTime",
                      e.last_accepted_at as "last_accepted_at!: NullableTime", e.last_error as "last_error: String",
                      e.template_failed_at as "template_failed_at!: NullableTime", e.template_error as "template_error: String"
               from known k left join endpoint e on e.name = k.name
               order by k.name"#,
            now.as_millis()
        );
        states.fetch_all(&self.read).await.map_err(doing("see how the endpoints stand"))
    }

    /// True if there ever was a delivery or a state of an endpoint of this name.
    pub async fn has_endpoint(&self, name: &str) -> Result<bool, Error> {
        let known = sqlx::query_scalar!(
            r#"select exists (select 1 from endpoint where name = ?1)
                   or exists (select 1 from delivery where endpoint = ?1) as "known!: bool""#,
            name,
        );
        known.fetch_one(&self.read).await.map_err(doing("look an endpoint up"))
    }
}
