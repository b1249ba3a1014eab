//! Every template, with each optional value there and not. A misspelt field is found, because an undefined
//! value is an error.

use super::*;
use crate::attention::{Need, Reason};
use crate::overview::{Health, Partner};
use crate::report::Report;
use crate::standby::elector::Leader;
use crate::standby::host_state::{HostState, ReplicaState, Role};
use crate::store::PartnerId;
use crate::store::backup::BackupState;
use crate::store::reports::{
    AttemptRow, DecisionRow, DeliveryDetail, EndpointState, PartnerState, PendingRow, VerdictRow,
};
use vetwatch_core::forecast::{CameTrue, Expected};
use vetwatch_core::report::{ByAttempt, ByMonth, ByQualification, ByReason, ByWeek, Figures, Verdicts, Within};

const TIME: Timestamp = Timestamp::from_millis(1_763_974_800_000);

fn text(there: bool) -> Option<String> {
    there.then(|| "some".to_owned())
}

fn iso(there: bool) -> Option<String> {
    there.then(|| "2026-11-24T09:00:00.000Z".to_owned())
}

fn time(there: bool) -> Option<Timestamp> {
    there.then_some(TIME)
}

/// What `make` makes with everything there and with nothing; and with each key alone there, and alone not.
fn each<T: Serialize>(make: impl Fn(bool) -> T) -> Vec<Value> {
    let [full, bare] = [true, false].map(|there| serde_json::to_value(make(there)).unwrap());
    let keys: Vec<&String> = full.as_object().unwrap().keys().filter(|key| full.get(key) != bare.get(key)).collect();
    let mut all = vec![full.clone(), bare.clone()];
    for key in keys {
        for (of, from) in [(&full, &bare), (&bare, &full)] {
            let mut one = of.as_object().unwrap().clone();
            match from.get(key) {
                Some(value) => _ = one.insert(key.clone(), value.clone()),
                None => _ = one.remove(key),
            }
            all.push(one.into());
        }
    }
    all
}

fn customer(there: bool) -> CustomerRow {
    CustomerRow {
        row: CustomerId(1),
        partner: "emea".to_owned(),
        customer_id: "an id".to_owned(),
        name: text(there).unwrap_or_default(),
        domain: text(there).unwrap_or_default(),
        tags: text(there).unwrap_or_default(),
        contact: text(there).unwrap_or_default(),
        paused: there,
        last_seen_at: iso(there),
        next_poll_at: iso(there),
        poll_failures: there.into(),
        failing_since: iso(there),
        unreadable_since: iso(there),
        last_error: text(there),
        poll_class: "settled".to_owned(),
        added_at: iso(true).unwrap(),
        departed_since: iso(there),
        muted_since: iso(there),
        muted_until: iso(there),
    }
}

fn held(there: bool) -> InReview {
    let row = CurrentRow {
        partner: "emea".to_owned(),
        customer_id: "an id".to_owned(),
        customer_name: text(there).unwrap_or_default(),
        customer_domain: text(there).unwrap_or_default(),
        qualification: "Education".to_owned(),
        vetting_status: text(there),
        vetting_reason: text(there),
        vetting_created_at: iso(there),
        status_since: iso(true).unwrap(),
        attempt: there.into(),
        last_seen_at: iso(there),
        next_poll_at: iso(there),
        missing_since: iso(there),
    };
    InReview { row, expected: there.then(|| Expected { by: time(true), text: "soon".to_owned(), of: 0 }) }
}

fn listed(there: bool) -> Listed {
    let holds = if there { vec![held(true).row, held(false).row] } else { Vec::new() };
    Listed { row: customer(there), holds }
}

fn pending(there: bool) -> PendingRow {
    PendingRow {
        partner: "emea".to_owned(),
        customer_id: "an id".to_owned(),
        customer_name: text(there).unwrap_or_default(),
        qualification: "Education".to_owned(),
        vetting_status: "Denied".to_owned(),
        vetting_reason: text(there),
        seen_at: TIME,
        confirmed_by: TIME,
    }
}

fn verdict(there: bool) -> VerdictRow {
    let row = DecisionRow {
        partner: "emea".to_owned(),
        customer_id: "an id".to_owned(),
        customer_name: text(there).unwrap_or_default(),
        qualification: "Education".to_owned(),
        attempt: 1,
        submitted_at: iso(there),
        decided_after: iso(there),
        decided_before: iso(true).unwrap(),
        outcome: if there { "Denied" } else { "Approved" }.to_owned(),
        vetting_reason: text(there),
        hours_in_review: there.then_some(1.5),
    };
    VerdictRow { row, event_id: "an event".to_owned(), key: (0, 0) }
}

fn message(there: bool) -> DeliveryRow {
    DeliveryRow {
        sequence: 1,
        delivery_id: "a message".to_owned(),
        endpoint: "crm".to_owned(),
        state: if there { "dead" } else { "pending" }.to_owned(),
        attempts: if there { 2 } else { 0 },
        events: 1,
        created_at: iso(true).unwrap(),
        next_attempt_at: iso(there),
        finished_at: iso(there),
        redirected_at: iso(there),
        discarded_at: iso(there),
        last_error: text(there),
        about: text(there),
    }
}

fn attempts(there: bool) -> Vec<AttemptRow> {
    let attempt = |there| AttemptRow {
        number: 1,
        began_at: TIME,
        ended_at: time(there),
        outcome: text(there),
        response: text(there),
    };
    if there { vec![attempt(true), attempt(false)] } else { Vec::new() }
}

fn trace(there: bool) -> DeliveryTrace {
    let attempts_made = attempts(there);
    DeliveryTrace { delivery: message(there), why: text(there), attempts_made, final_replies: json!({}) }
}

fn transition(there: bool) -> TransitionEvidence {
    TransitionEvidence {
        transition_id: 1,
        customer_id: "an id".to_owned(),
        customer_name: text(there).unwrap_or_default(),
        qualification: "Education".to_owned(),
        from_status: text(there),
        to_status: text(there),
        vetting_reason: text(there),
        previous_reason: text(there),
        vetting_created_at: time(there),
        previous_created_at: time(there),
        attempt: there.into(),
        first_seen: there,
        last_seen_before_at: time(there),
        observed_at: TIME,
        request_id: text(there),
        correlation_id: text(there),
        raw_answer: text(there),
    }
}

fn steps() -> Vec<Value> {
    let step = |there| ShownStep {
        at: TIME,
        event_id: text(there),
        words: "Something was told",
        muted: there,
        last_seen_before_at: time(there),
        transition: there.then(|| transition(true)),
        deliveries: Vec::new(),
    };
    let (mut steps, template) = (each(step), serde_json::to_value(step(true)).unwrap());
    for transition in each(transition) {
        let mut step = template.clone();
        step["transition"] = transition;
        steps.push(step);
    }
    steps[0]["deliveries"] = each(trace).into();
    steps
}

fn told(there: bool) -> Told {
    let link = Link { partner: "emea".to_owned(), customer_id: "an id".to_owned(), name: "A school".to_owned() };
    Told {
        event_id: "an event".to_owned(),
        event_type: "vetting.denied".to_owned(),
        occurred_at: TIME,
        summary: text(there),
        link: there.then_some(link),
    }
}

fn detail(there: bool) -> DeliveryDetail {
    DeliveryDetail {
        delivery: message(there),
        first_due_at: TIME,
        events_told: Vec::new(),
        attempts_made: attempts(there),
        final_replies: json!({}),
        message: text(there),
        template_error: text(there),
    }
}

fn partner(there: bool) -> Partner {
    let count = i64::from(there);
    let state = PartnerState {
        row: PartnerId(1),
        partner: "emea".to_owned(),
        backoff_until: there.then(|| TIME.after(std::time::Duration::from_hours(1))),
        backoff_reason: text(there),
        backoffs: count,
        failing_since: time(there),
        last_failure: text(there),
        failing_reported_since: time(there),
        mass_absence_since: time(there),
        missing: count,
        credentials: Vec::new(),
        reduced_rate_limit: there.then_some(1),
        customers: count,
        paused: count,
        in_review: count,
        settled: count,
        unqualified: count,
        due: count,
        due_since: time(there),
        last_answer_at: time(there),
        left: count,
        list_complete_at: time(there),
        list_size: there.then_some(1),
        list_short_since: time(there),
        list_short_size: there.then_some(1),
        list_error: text(there),
        list_retry_at: time(there),
        list_failing_since: time(there),
        activity_log_counts: there,
        activity_log_read_at: time(there),
        activity_log_failing_since: time(there),
        activity_log_error: text(there),
        activity_log_retry_at: time(there),
    };
    Partner { state, requests_per_minute: there.then_some(300), scheduled_per_minute: 1.5 }
}

fn endpoint(there: bool) -> EndpointState {
    EndpointState {
        endpoint: "crm".to_owned(),
        pending: there.into(),
        dead: there.into(),
        unreadable: there.into(),
        oldest_pending_at: time(there),
        waiting_since: time(there),
        next_attempt_at: time(there),
        closed_since: time(there),
        unconfirmed_since: time(there),
        paused_at: time(there),
        last_accepted_at: time(there),
        last_error: text(there),
        template_failed_at: time(there),
        template_error: text(there),
        failing_reported_at: time(there),
    }
}

fn leading(there: bool) -> HostState {
    let leader = Leader { host: "vetwatch-1".to_owned(), epoch: 41, since: TIME };
    let place = "sftp://backup.example/vetwatch".to_owned();
    let replica = ReplicaState {
        synced_at: time(there),
        failing_since: time(there),
        error: text(there),
        ..ReplicaState::default()
    };
    HostState {
        role: Role::Leader,
        leader: there.then_some(leader),
        others: there.then(|| "vetwatch-2".to_owned()).into_iter().collect(),
        replica: ReplicaState { place, ..replica },
        ..HostState::begin("no.db".as_ref(), "vetwatch-1", String::new(), TIME)
    }
}

fn health(there: bool) -> Value {
    let need = |there: bool| Need {
        reason: Reason::PartnerFailing,
        about: "emea".to_owned(),
        since: time(there),
        text: "It fails.".to_owned(),
    };
    let backup = |there| BackupState {
        at: time(there),
        file: text(there),
        bytes: there.then_some(1),
        failing_since: time(there),
        error: text(there),
    };
    let health = Health {
        now: TIME,
        standby: there.then(|| leading(true)),
        daemon_running: there.then_some(true),
        attention: Vec::new(),
        reasons: if there { vec![need(true), need(false)] } else { Vec::new() },
        unreadable: Vec::new(),
        partners: Vec::new(),
        endpoints: Vec::new(),
        unused_endpoints: text(there).into_iter().collect(),
        dead_letters: Vec::new(),
        backup: there.then(|| backup(true)),
        restored: None,
    };
    let mut shown = serde_json::to_value(health).unwrap();
    if there {
        shown["partners"] = each(partner).into();
        shown["endpoints"] = each(endpoint).into();
        let row = |there| CustomerRow { unreadable_since: iso(true), ..customer(there) };
        shown["unreadable"] = each(row).into_iter().cycle().take(60).collect();
    }
    shown
}

fn report(there: bool) -> Report {
    let number = there.then_some(50.0);
    let verdicts = Verdicts { verdicts: there.into(), approved: there.into(), denied: 0, approved_percent: number };
    let qualification = |qualification| ByQualification {
        qualification,
        verdicts,
        vanished: 0,
        revoked: 0,
        in_review: 0,
        median_hours: number,
        p90_hours: number,
        timed: there.into(),
    };
    let (month, week) = ("2026-11".to_owned(), "2026-11-23".to_owned());
    let within = |decided_percent| Within { days: 1, decided_percent };
    let reason = ByReason {
        vetting_reason: text(there),
        denials: 1,
        tried_again: 1,
        then_approved: 1,
        then_denied: 0,
        cured_percent: number,
    };
    let figures = Figures {
        qualifications: vec![qualification(None), qualification(Some("Education".to_owned()))],
        months: there.then(|| ByMonth { month, qualification: "Education".to_owned(), verdicts }).into_iter().collect(),
        weeks: there.then_some(ByWeek { week, verdicts }).into_iter().collect(),
        decided_within: vec![within(number), within(None)],
        attempts: there
            .then(|| ByAttempt { qualification: "Education".to_owned(), attempt: 1, verdicts })
            .into_iter()
            .collect(),
        reasons: if there { vec![reason.clone(), ByReason { vetting_reason: None, ..reason }] } else { Vec::new() },
    };
    Report {
        since: TIME,
        until: TIME,
        cut: there,
        timezone: "Europe/Amsterdam".to_owned(),
        partner: text(there),
        figures,
        longest_in_review: if there { vec![held(true), held(false)] } else { Vec::new() },
        forecasts: CameTrue { made: there.into(), came_true: 0 },
    }
}

/// The frame of the daemon's pages and, as a file, that of `vetwatch page`.
fn frame(there: bool) -> Value {
    json!({
        "title": "A title", "page": if there { "index" } else { "" }, "pages": if there { &ALL[..] } else { &[] }, "root": "",
        "is_file": !there, "feeds": there, "refreshes": there, "query": text(there).unwrap_or_default(), "refresh": text(there),
        "sentence": text(there), "well": !there, "now": TIME, "zone": "Europe/Amsterdam", "style": text(!there),
    })
}

/// The values of each template.
fn values() -> Vec<(&'static str, Vec<Value>)> {
    let list = |there: bool, rows: Vec<Value>| if there { rows } else { Vec::new() };
    let section = |there: bool, key| Section {
        title: "Waiting",
        time: "Next attempt",
        key,
        rows: Vec::new(),
        next: text(there),
        more: there.then_some("a command"),
        help: there.then_some("help"),
    };
    let mut sections = Vec::new();
    for key in ["finished_at", "next_attempt_at"] {
        for mut section in each(|there| section(there, key)) {
            section["rows"] = each(message).into();
            sections.push(section);
        }
    }
    sections.push(serde_json::to_value(section(true, "finished_at")).unwrap());
    let one = |there: bool, is_alone| {
        let values = json!({
            "name": "A school", "customer": there.then(|| customer(true)), "qualifications": list(there, each(held)),
            "pending": list(there, each(pending)), "steps": list(there, steps()),
        });
        OneCustomer { name: String::new(), values, next: None }.values(text(there), is_alone)
    };
    let mut customers: Vec<Value> =
        [true, false].into_iter().flat_map(|alone| each(|there| one(there, alone))).collect();
    for is_alone in [true, false] {
        for customer in each(customer) {
            let mut one = one(true, is_alone);
            one["customer"] = customer;
            customers.push(one);
        }
    }
    let replies = |there: bool| if there { vec![("a@contoso.example", "550")] } else { Vec::new() };
    let mut deliveries = Vec::new();
    for there in [true, false] {
        for mut delivery in each(detail) {
            delivery["events_told"] = list(there, each(told)).into();
            deliveries.push(json!({ "delivery": delivery, "replies": replies(there) }));
        }
    }
    let mut without_backups = health(true);
    without_backups["backup"] = serde_json::to_value(BackupState::default()).unwrap();
    let mut healths = each(health);
    healths.push(without_backups);
    let mut alone = health(true);
    alone["standby"] = serde_json::to_value(leading(false)).unwrap();
    healths.push(alone);
    vec![
        (
            "index.html",
            each(
                |there| json!({ "rows": list(there, each(held)), "pending": list(there, each(pending)), "next": text(there) }),
            ),
        ),
        ("decided.html", each(|there| json!({ "rows": list(there, each(verdict)), "next": text(there) }))),
        (
            "customers.html",
            each(|there| {
                let q = text(there).unwrap_or_default();
                json!({ "rows": list(there, each(listed)), "q": q, "is_behind": there, "searches": there, "next": text(there) })
            }),
        ),
        ("customer.html", customers),
        (
            "deliveries.html",
            each(
                |there| json!({ "state": text(there).unwrap_or_default(), "sections": list(there, sections.clone()) }),
            ),
        ),
        ("delivery.html", deliveries),
        (
            "report.html",
            each(report).iter().flat_map(|report| each(|links| json!({ "report": report, "links": links }))).collect(),
        ),
        ("health.html", healths.into_iter().map(|health| json!({ "health": health, "version": "1.0.0" })).collect()),
        ("missing.html", vec![json!({ "words": "There is no such page." })]),
        (
            "feed.xml",
            each(
                |there| json!({ "verdicts": list(there, each(verdict)), "updated": iso(true), "base": text(there).unwrap_or_default() }),
            ),
        ),
    ]
}

#[test]
fn every_template_renders_with_each_optional_value_and_without_it() {
    let all = values();
    let known = super::super::render::SOURCES.map(|(name, _)| name);
    let rendered = all.iter().map(|(name, _)| *name).chain(["frame.html", "macros.html"]);
    assert_eq!(rendered.collect::<std::collections::BTreeSet<_>>(), known.into_iter().collect());
    for (name, values) in all {
        for values in values {
            for frame in each(frame) {
                let shown = render(name, &[values.clone(), frame.clone()]);
                assert!(shown.is_ok(), "{name}: {}\n{values:#}\n{frame:#}", shown.unwrap_err());
            }
        }
    }
}
