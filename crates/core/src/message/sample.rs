//! A sample event of each type: for test messages, examples and previews.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::event::{CustomerRef, Event, EventData, EventPayload, EventType, OperationalNotice, Overdue, VettingChange};
use crate::forecast::Expected;
use crate::summary::{Decided, Named, Summary, Waiting};
use crate::time::Timestamp;

/// A sample event of `kind` at `now`, marked as a test, about a customer that does not exist.
#[must_use]
pub fn event(kind: EventType, event_id: Uuid, partner: &str, now: Timestamp) -> Event {
    let subject = match kind {
        EventType::Approved => vetting(Some("InReview"), Some("Approved"), None, now),
        EventType::Denied => vetting(Some("InReview"), Some("Denied"), Some("Not an Education Customer"), now),
        EventType::Revoked => vetting(Some("Approved"), Some("Denied"), Some("No longer an Education Customer"), now),
        EventType::Vanished => vetting(Some("InReview"), Some("absent"), None, now),
        EventType::Submitted => vetting(Some("absent"), Some("InReview"), None, now),
        EventType::Changed => vetting(Some("Denied"), Some("absent"), None, now),
        EventType::Overdue => vetting(Some("InReview"), Some("InReview"), None, now),
        EventType::UnknownStatus => monitor(
            "Partner Center writes a vetting status that vetwatch does not know: Expired",
            "3 customers have it now. It is kept and shown as it is, and never taken for a verdict: nobody is told when a \
             review ends with this word. Look at what it means in Partner Center, and whether there is a newer vetwatch.",
            &json!({"vetting_status": "Expired", "customers": 3}),
        ),
        EventType::InitialSync => monitor(
            "vetwatch has looked at all customers once",
            "From now on it tells what changes. What was decided before is recorded and not told.",
            &json!({"watched": 1240, "in_review": 7, "overdue": 1, "approved": 310, "denied": 22}),
        ),
        EventType::PartnerFailing => monitor(
            "No good answer from Partner Center for 30 minutes",
            "The application's secret is refused (AADSTS7000222: it has expired). Nothing is lost: verdicts are told \
             once Partner Center answers again. Make a new client secret and put it into the credential file.",
            &json!({"since": now.before(Duration::from_mins(30))}),
        ),
        EventType::PartnerRecovered => monitor(
            "Partner Center answers again",
            "Partner Center could not be read for 2 hours. What changed meanwhile is sent now, with the time it was last seen \
             otherwise.",
            &json!({"since": now.before(Duration::from_hours(2)), "minutes": 120}),
        ),
        EventType::CustomersFailing => monitor(
            "2 customers cannot be read",
            "Partner Center has given no good answer about Contoso School and Fabrikam College for over an hour, three \
             times in a row; the others of emea can be read. What it said: 403 Forbidden (code 20002). They are polled on. \
             One who is no customer any more can be paused or removed: `vetwatch customers pause`, `vetwatch customers \
             remove`.",
            &json!({"customers": 2}),
        ),
        EventType::CustomersRecovered => monitor(
            "2 customers can be read again",
            "Partner Center answers again about Contoso School and Fabrikam College of emea.",
            &json!({"customers": 2}),
        ),
        EventType::CustomersDeparted => monitor(
            "Contoso School is no longer a customer in Partner Center, in the middle of a review",
            "Contoso School has been missing from Partner Center's customer list for a day. Ask the customer whether the \
             reseller relationship was ended.",
            &json!({"customer": "Contoso School", "customer_id": "b1d5a3c0-7e6f-4f0e-9c1b-2a8d54e7f913", "qualification": "Education"}),
        ),
        EventType::PollingLate => monitor(
            "Customers of emea are polled late: the oldest has been due for 31 minutes",
            "A review is polled every 15 minutes, and the oldest customer that is due has waited for more than twice as \
             long. No verdict is lost by that, but it is told late. Ask less often ([schedule]) or allow more requests \
             (requests_per_minute); `vetwatch status` shows what is due.",
            &json!({"reason": "polling_late", "since": now.before(Duration::from_mins(31))}),
        ),
        EventType::PollingRecovered => monitor(
            "Customers of emea are polled in time again",
            "It was told 2 hours ago that they were not.",
            &json!({"reason": "polling_late"}),
        ),
        EventType::EndpointFailing => monitor(
            "The endpoint sales-mail has not delivered for 15 minutes",
            "mail.contoso.example:587, logging in: 535 5.7.8 authentication failed. Nothing is lost: what waits is \
             sent once it works again.",
            &json!({"endpoint": "sales-mail", "waiting": 4, "since": now.before(Duration::from_mins(15))}),
        ),
        EventType::EndpointRecovered => monitor(
            "The endpoint sales-mail delivers again",
            "All that waited for it has been sent.",
            &json!({"endpoint": "sales-mail"}),
        ),
        EventType::DeadLetter => monitor(
            "A message to sales-mail was given up",
            "education-sales@contoso.example: 550 5.1.1 no such mailbox. Correct the endpoint, then send it again \
             with `vetwatch deliveries redrive`.",
            &json!({"endpoint": "sales-mail", "messages": 1}),
        ),
        EventType::BackupFailed => monitor(
            "No backup has been made for 26 hours",
            "The last attempt failed: 82 MB are needed in /var/lib/vetwatch/backups, and 12 MB are free. Free the disk; it is \
             tried again every hour. The database itself is not harmed by that. `vetwatch status` shows how it stands.",
            &json!({"reason": "backup_failed", "since": now.before(Duration::from_hours(2))}),
        ),
        EventType::BackupRecovered => monitor(
            "A backup was made again",
            "It was told 2 hours ago that they fail.",
            &json!({"reason": "backup_failed"}),
        ),
        EventType::LeaderChanged => monitor(
            "vetwatch runs on vetwatch-2 now",
            "vetwatch-1 led until then. See whether that host is well: nobody else can take over until it is back.",
            &json!({"host": "vetwatch-2", "before": "vetwatch-1", "epoch": 41}),
        ),
        EventType::StandbyFailing => monitor(
            "The replica has lacked the newest changes for 2 minutes",
            "sftp://backup.contoso.example/vetwatch: no space left on device. Verdicts are sent all the same; if this host died \
             now, what the replica lacks would be found again.",
            &json!({"reason": "replica_late", "since": now.before(Duration::from_mins(2))}),
        ),
        EventType::StandbyRecovered => monitor(
            "The replica has everything again",
            "It was told 2 hours ago that it does not.",
            &json!({"reason": "replica_late"}),
        ),
        EventType::Summary => summary(partner, now),
        EventType::CredentialExpiring => monitor(
            "The client secret of emea ends in 14 days",
            "Make a new one in Microsoft Entra and put it into the credential file; after that day vetwatch cannot read Partner Center.",
            &json!({"credential": "client secret", "ends_at": now.after(Duration::from_hours(14 * 24)), "days": 14}),
        ),
    };
    // What is about an endpoint is about no partner.
    let of_partner = !matches!(
        kind,
        EventType::EndpointFailing | EventType::EndpointRecovered | EventType::DeadLetter | EventType::Summary
    );
    let partner = of_partner.then(|| partner.to_owned());
    let data = EventData { event_id, partner, subject, observed_at: now, test: true };
    Event { kind, occurred_at: now, data }
}

fn vetting(from: Option<&str>, to: Option<&str>, reason: Option<&str>, now: Timestamp) -> EventPayload {
    const MINUTES_15: Duration = Duration::from_mins(15);
    const DAYS_3: Duration = Duration::from_hours(72);
    EventPayload::Vetting(Box::new(VettingChange {
        customer: CustomerRef {
            id: "b1d5a3c0-7e6f-4f0e-9c1b-2a8d54e7f913".to_owned(),
            name: "Contoso School".to_owned(),
            domain: "contoso.example".to_owned(),
            tags: vec!["north".to_owned()],
        },
        qualification: "Education".to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        vetting_reason: reason.map(str::to_owned),
        vetting_created_at: match to {
            Some("absent") => None,
            Some("InReview") if from == Some("absent") => Some(now.before(MINUTES_15)),
            _ => Some(now.before(DAYS_3)),
        },
        last_seen_before_at: Some(now.before(MINUTES_15)),
        attempt: 2,
        correlation_id: Some("7d24c9a2-51c8-4f6e-8a52-0c1f9b7e3d60".to_owned()),
        first_seen: false,
        gone_created_at: None,
        overdue: (from == to).then(|| Overdue {
            since: now.before(DAYS_3),
            business_days: 3,
            reminder: 1,
            expected: Some(Expected {
                by: Some(now.after(DAYS_3)),
                text: "9 of 10 that waited this long were decided by Thursday (from 41 reviews)".to_owned(),
                of: 41,
            }),
        }),
    }))
}

fn monitor(summary: &str, detail: &str, figures: &serde_json::Value) -> EventPayload {
    EventPayload::Monitor(OperationalNotice {
        summary: summary.to_owned(),
        detail: detail.to_owned(),
        figures: figures.as_object().cloned().unwrap_or_default(),
    })
}

fn summary(partner: &str, now: Timestamp) -> EventPayload {
    const DAY: Duration = Duration::from_hours(24);
    let named =
        |id: u32, name: &str| Named { id: format!("b1d5a3c0-7e6f-4f0e-9c1b-2a8d54e7f9{id:02}"), name: name.to_owned() };
    let decided = |id, name: &str, reason: Option<&str>, days: u32| Decided {
        partner: partner.to_owned(),
        customer: named(id, name),
        qualification: "Education".to_owned(),
        outcome: if reason.is_some() { "Denied" } else { "Approved" }.to_owned(),
        vetting_reason: reason.map(str::to_owned),
        attempt: 1,
        observed_at: now.before(days * DAY),
    };
    let waiting = |id, name: &str, days: u32| Waiting {
        partner: partner.to_owned(),
        customer: named(id, name),
        qualification: "Education".to_owned(),
        attempt: 1,
        since: now.before(days * DAY),
        expected: Some(Expected {
            by: None,
            text: "9 of 10 that waited this long were decided by Thursday (from 41 reviews)".to_owned(),
            of: 41,
        }),
    };
    EventPayload::Summary(Box::new(Summary {
        since: now.before(7 * DAY),
        until: now,
        approved: 2,
        denied: 1,
        revoked: 0,
        vanished: 0,
        decided: vec![
            decided(13, "Contoso School", Some("Not an Education Customer"), 1),
            decided(14, "Fabrikam College", None, 2),
            decided(15, "Northwind Academy", None, 4),
        ],
        in_review: 2,
        waiting: vec![waiting(16, "Adventure Works School", 9), waiting(17, "Tailspin Institute", 2)],
        attention: vec!["1 message to sales-mail was given up: see `vetwatch deliveries list --state dead`".to_owned()],
    }))
}
