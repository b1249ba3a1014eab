//! The activity log: customers with a submission are polled sooner, and only their own response counts.

use serde_json::{Value, json};
use vetwatch::activity_log::ScanOutcome;
use vetwatch::sandbox::{AuditLogOptions, Fault, FaultRule, Kind, Order, Quirk, QuirkRule};
use vetwatch::store::CustomerId;
use vetwatch::time::{Clock, Timestamp};

use crate::world::{World, hours, minutes};

const DAY: u64 = 24;

/// Scans the log as the daemon does, until no scan is due.
async fn look(world: &World) -> ScanOutcome {
    let mut all = ScanOutcome::default();
    loop {
        let look = world.parts.partners[0].activity_log.round().await.unwrap();
        all = ScanOutcome {
            pages: all.pages + look.pages,
            expected: all.expected + look.expected,
            added: all.added + look.added,
            next: look.next,
        };
        if look.next.is_none_or(|next| next > world.clock.now()) {
            return all;
        }
    }
}

/// Five minutes later.
async fn look_later(world: &World) -> ScanOutcome {
    world.pass(minutes(5));
    look(world).await
}

fn write(world: &World, auditing: AuditLogOptions) {
    world.sandbox.clear_quirks();
    world.sandbox.quirk(QuirkRule::all(Quirk::Auditing(auditing)));
}

/// This many irrelevant operations, a minute apart, the last one at `until`.
fn noise(world: &World, count: u64, until: Timestamp) {
    for n in (0..count).rev() {
        let at = until.before(minutes(n)).to_string();
        world.sandbox.add_record(json!({"id": format!("noise {at}"), "operationType": "update_subscription",
            "operationDate": at, "operationStatus": "succeeded", "customerId": "", "resourceNewValue": "{}"}));
    }
}

async fn class(world: &World, id: &str) -> String {
    world.rows(&format!("select poll_class from customer where customer_id = '{id}'")).await.remove(0)
}

/// A world that was polled and whose log was scanned, with a long-standing customer.
async fn known() -> (World, String) {
    let mut world = World::new().await;
    let school = world.customer("Contoso School").await;
    world.pass(hours(20 * DAY));
    world.poll().await;
    look(&world).await;
    world.pass(hours(1));
    world.poll().await;
    look(&world).await;
    (world, school)
}

#[tokio::test]
async fn a_submission_of_an_unqualified_customer_is_noticed_by_the_next_look_and_one_question() {
    let (world, school) = known().await;
    let asked = world.sandbox.count_of(&school);
    world.pass(hours(40));
    world.poll().await;
    assert_eq!(world.sandbox.count_of(&school), asked, "asked once a week");
    look(&world).await;
    world.sandbox.submit(&school).unwrap();
    let found = look_later(&world).await;
    assert_eq!((found.expected, found.pages), (1, 1));
    // The log notifies nothing.
    assert_eq!(world.rows("select count(*) from transition").await, ["0"]);
    assert_eq!(world.poll().await, 1);
    assert_eq!(world.sandbox.count_of(&school), asked + 1);
    assert_eq!(world.rows("select event_type from v_transitions").await, ["vetting.submitted"]);
    world.sandbox.approve(&school).unwrap();
    world.pass(minutes(15));
    world.poll().await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.approved Contoso School -"]);
    // Its effect was seen: the same record causes nothing more.
    for _ in 0..12 {
        assert_eq!(look_later(&world).await.expected, 0);
    }
    world.poll().await;
    assert_eq!(class(&world, &school).await, "settled");
}

#[tokio::test]
async fn a_submission_that_does_not_show_yet_is_looked_for_until_it_does_or_ten_business_days_are_over() {
    let (world, school) = known().await;
    // A record without any submission behind it.
    world
        .sandbox
        .add_record(json!({"operationType": "UpdateCustomerQualification", "customerId": school.to_uppercase(),
        "operationStatus": "progress", "customerName": "x"}));
    assert_eq!(look_later(&world).await.expected, 1);
    let asked = world.sandbox.count_of(&school);
    for _ in 0..8 {
        world.pass(minutes(15));
        world.poll().await;
        assert_eq!(look(&world).await.expected, 0);
    }
    assert_eq!(world.sandbox.count_of(&school) - asked, 8 + 1 - 1);
    assert_eq!(class(&world, &school).await, "in_review");
    for (days, expected) in [(10, "in_review"), (5, "settled"), (60, "settled"), (40, "unqualified")] {
        world.pass(hours(DAY * days));
        world.poll().await;
        look(&world).await;
        assert_eq!(class(&world, &school).await, expected, "after {days} more days");
    }
}

#[tokio::test]
async fn only_what_was_done_counts_and_garbage_costs_only_itself() {
    let (world, school) = known().await;
    for (status, kind) in
        [("failed", "update_customer_qualification"), ("succeeded", "update_customer_spending_budget")]
    {
        let record = json!({"operationType": kind, "customerId": school, "operationStatus": status});
        world.sandbox.add_record(record);
    }
    for odd in
        [json!({}), json!({"operationType": 7}), json!({"operationType": "x", "operationDate": "2199-01-01T00:00:00Z"})]
    {
        world.sandbox.add_record(odd);
    }
    let decided = json!({"operationType": "update_customer_qualification", "customerId": school, "operationStatus": "decline",
        "resourceNewValue": "{\"Qualification\":\"Education\",\"VettingStatus\":\"Denied\"}"});
    world.sandbox.add_record(decided);
    assert_eq!(look_later(&world).await.expected, 0);
    world.sandbox.submit(&school).unwrap();
    assert_eq!(look_later(&world).await.expected, 1, "the others are read");
    assert_eq!(world.rows("select count(*) from transition").await, ["0"]);
    for body in ["null", "[]", "{}", "<html>", ""] {
        let headers = std::collections::BTreeMap::default();
        let fault = Fault::Custom { status: 200, headers, body: body.into() };
        world.sandbox.fault(FaultRule::on(Kind::AuditRecords, fault).times(1));
        world.pass(hours(1));
        look(&world).await;
        let state =
            world.rows("select activity_log_error is null, activity_log_counts, backoff_until from partner").await;
        assert_eq!(state, ["0 | 1 | null"], "{body}");
    }
    world.pass(hours(2));
    look(&world).await;
    assert_eq!(world.rows("select activity_log_error from partner").await, ["null"]);
}

#[tokio::test]
async fn no_record_is_lost_in_any_order_and_a_look_stops_where_everything_was_seen() {
    for (order, pages_allowed) in [(Order::NewestFirst, 1..=2), (Order::OldestFirst, 12..=24), (Order::None, 12..=24)] {
        let mut world = World::new().await;
        let mut schools = Vec::new();
        for n in 0..6 {
            schools.push(world.customer(&format!("School {n}")).await);
        }
        world.poll().await;
        write(
            &world,
            AuditLogOptions {
                order: Some(order),
                page_size: Some(50),
                without_ids: true,
                ..AuditLogOptions::default()
            },
        );
        world.pass(hours(14)); // past midnight, and beyond this morning's customers
        noise(&world, 600, world.clock.now());
        let first = look(&world).await;
        assert!(first.pages >= 12, "{order:?}: {first:?}");
        for (n, school) in schools.iter().enumerate() {
            world.sandbox.submit(school).unwrap();
            if n == 3 {
                world.restart().await;
            }
            let found = look_later(&world).await;
            assert_eq!(found.expected, 1, "{order:?}");
            assert!(pages_allowed.contains(&found.pages), "{order:?}: {found:?}");
        }
    }
}

#[tokio::test]
async fn an_operation_that_appears_late_is_found_though_newer_ones_were_seen() {
    let mut world = World::new().await;
    let school = world.customer("Contoso School").await;
    world.poll().await;
    write(&world, AuditLogOptions { page_size: Some(50), ..AuditLogOptions::default() });
    world.pass(hours(8));
    noise(&world, 400, world.clock.now());
    for _ in 0..3 {
        look(&world).await;
        world.pass(minutes(5));
    }
    let early = world.clock.now().before(hours(5)).to_string();
    world.sandbox.add_record(json!({"operationType": "update_customer_qualification", "customerId": school,
        "operationStatus": "succeeded", "operationDate": early}));
    let mut found = 0;
    for _ in 0..13 {
        found += look(&world).await.expected;
        world.pass(minutes(5));
    }
    assert_eq!(found, 1, "within the hour");
}

#[tokio::test]
async fn a_look_that_breaks_off_keeps_what_it_found_and_forgets_nothing() {
    let (world, school) = known().await;
    write(
        &world,
        AuditLogOptions { page_size: Some(50), order: Some(Order::OldestFirst), ..AuditLogOptions::default() },
    );
    noise(&world, 200, world.clock.now().before(minutes(1)));
    world.sandbox.submit(&school).unwrap();
    noise(&world, 1, world.clock.now());
    for (skip, expected) in [(1, 0), (2, 0)] {
        world.sandbox.fault(FaultRule::on(Kind::AuditRecords, Fault::status(502)).skip(skip).times(1));
        world.pass(minutes(30));
        assert_eq!(look(&world).await.expected, expected);
    }
    world.pass(hours(1));
    let found = look(&world).await;
    assert_eq!(found.expected, 1, "{found:?}");

    // A failed commit rolls back the cursor as well.
    let (world, school) = known().await;
    let cursor = world.rows("select activity_log_cursor from partner").await;
    world.sandbox.submit(&school).unwrap();
    world
        .execute("create trigger t before update of submitted_at on customer begin select raise(abort, 'no'); end")
        .await;
    world.pass(minutes(5));
    world.parts.partners[0].activity_log.round().await.unwrap_err();
    assert_eq!(world.rows("select activity_log_cursor from partner").await, cursor);
    assert_eq!(class(&world, &school).await, "unqualified");
    world.execute("drop trigger t").await;
    assert_eq!(look(&world).await.expected, 1);
}

#[tokio::test]
async fn after_an_outage_the_log_is_read_in_pieces_that_partner_center_allows() {
    for (days, exclusive, expected) in [(40, false, 1), (40, true, 1), (85, true, 1), (120, false, 0)] {
        let (mut world, school) = known().await;
        write(&world, AuditLogOptions { end_is_exclusive: exclusive, ..AuditLogOptions::default() });
        world.execute("update customer set next_poll_at = next_poll_at + 1000000000000").await;
        world.sandbox.submit(&school).unwrap();
        world.pass(hours(DAY * days));
        world.restart().await;
        let before = world.sandbox.count(Kind::AuditRecords);
        assert_eq!(look(&world).await.expected, expected, "{days} days");
        let asked = world.sandbox.count(Kind::AuditRecords) - before;
        assert!((days.min(89) / 28 + 1..=days.min(89) / 28 + 2).contains(&asked), "{asked} questions for {days} days");
        let refused = world.sandbox.counts()[&Kind::AuditRecords].statuses.get(&400).copied();
        assert_eq!(refused, None, "{days} days");
        assert_eq!(look_later(&world).await.pages, 1, "and then what is new");
    }
}

#[tokio::test]
async fn a_log_that_may_not_be_read_is_said_once_tried_once_a_day_and_everybody_is_asked_as_before() {
    for status in [403, 404] {
        let (world, school) = known().await;
        assert_eq!(world.rows("select activity_log_counts from partner").await, ["1"]);
        let refusal = world.sandbox.fault(FaultRule::on(Kind::AuditRecords, Fault::status(status)));
        let (before, asked) = (world.sandbox.count(Kind::AuditRecords), world.sandbox.count_of(&school));
        for _ in 0..3 * DAY * 2 {
            world.pass(minutes(30));
            look(&world).await;
            world.poll().await;
        }
        assert!((3..=4).contains(&(world.sandbox.count(Kind::AuditRecords) - before)), "once a day");
        assert!((2..=4).contains(&(world.sandbox.count_of(&school) - asked)), "once a day");
        let state = "select activity_log_counts, activity_log_refused, backoff_until from partner";
        assert_eq!(world.rows(state).await, ["0 | 1 | null"], "nobody else is kept waiting");
        world.sandbox.release(refusal);
        world.pass(hours(DAY));
        look(&world).await;
        world.poll().await;
        assert_eq!(world.rows(state).await, ["1 | 0 | null"]);
    }
}

#[tokio::test]
async fn from_one_interval_to_the_other_nobody_is_asked_in_one_sweep_and_nobody_is_forgotten() {
    let mut world = World::new().await;
    for n in 0..300 {
        world.customer(&format!("School {n:03}")).await;
    }
    world.pass(hours(20 * DAY));
    world.poll().await;
    // Read, rejected, read…: pauses are never longer than the interval, and evenly spread.
    for (is_read, every) in [(true, 7 * DAY), (false, DAY), (true, 7 * DAY), (false, DAY)] {
        world.sandbox.clear_faults();
        if !is_read {
            world.sandbox.fault(FaultRule::on(Kind::AuditRecords, Fault::status(403)));
        }
        world.pass(hours(DAY));
        world.poll().await;
        look(&world).await;
        let before = world.sandbox.count(Kind::Qualifications);
        world.poll().await;
        assert!(world.sandbox.count(Kind::Qualifications) - before < 10, "no stampede");
        let now = world.clock.now().as_millis();
        let sql = format!(
            "select (next_poll_at - {now}) * 8 / {} as part, count(*) from customer group by 1",
            every * 3_600_000
        );
        let parts = world.rows(&sql).await;
        assert!((7..=9).contains(&parts.len()), "{parts:?}");
        for part in parts {
            let (part, count) = part.split_once(" | ").unwrap();
            assert!(
                (0..8).contains(&part.parse::<i64>().unwrap()) && count.parse::<u32>().unwrap() < 80,
                "{part}: {count}"
            );
        }
    }
}

#[tokio::test]
async fn what_stops_everything_closes_the_gate_and_a_closed_gate_stops_the_log() {
    let (world, _) = known().await;
    world.sandbox.fault(FaultRule::on(Kind::AuditRecords, Fault::throttled(minutes(10))).times(1));
    look_later(&world).await;
    let (asked, before) = (world.sandbox.count(Kind::Qualifications), world.sandbox.count(Kind::AuditRecords));
    assert_eq!(world.rows("select backoff_until is null from partner").await, ["0"]);
    world.execute("update customer set next_poll_at = 0").await;
    world.poll().await;
    world.pass(minutes(9));
    look(&world).await;
    assert_eq!((world.sandbox.count(Kind::Qualifications), world.sandbox.count(Kind::AuditRecords)), (asked, before));
    world.pass(minutes(1));
    look(&world).await;
    assert_eq!(world.rows("select backoff_until, activity_log_error from partner").await, ["null | null"]);
    // A 401 from the log does not stop the polls.
    for _ in 0..3 {
        world.sandbox.fault(FaultRule::on(Kind::AuditRecords, Fault::error(401, 400)).times(2));
        world.pass(hours(1));
        look(&world).await;
    }
    assert_eq!(world.rows("select backoff_until, activity_log_refused from partner").await, ["null | 1"]);
}

#[tokio::test]
async fn a_new_customer_is_added_before_the_next_list_and_asked_at_once() {
    let mut world = World::synced().await;
    world.unwatched_customer("Contoso School");
    world.parts.partners[0].customer_sync.sync(|_| {}).await.unwrap();
    world.poll().await;
    look(&world).await;
    world.pass(hours(2));
    let new = world.unwatched_customer("Fabrikam College");
    let gone = world.unwatched_customer("Adatum Library");
    world.sandbox.submit(&new).unwrap();
    world.pass(minutes(1));
    world.sandbox.end_relationship(&gone).unwrap();
    for odd in ["../../x", "", "00000000-0000-0000-0000-000000000000"] {
        world
            .sandbox
            .add_record(json!({"operationType": "add_customer", "customerId": odd, "operationStatus": "succeeded"}));
    }
    let found = look_later(&world).await;
    assert_eq!((found.added, look_later(&world).await.added), (1, 0));
    let rows = world.rows("select name, source, was_in_list from customer order by id").await;
    assert_eq!(rows, ["Contoso School | synced | 1", "Fabrikam College | synced | 0"]);
    world.sandbox.deny(&new, "Not an Academic Domain").unwrap();
    world.poll().await;
    world.deliver().await;
    assert!(
        world.webhooks().contains(&"vetting.denied Fabrikam College Not an Academic Domain".to_owned()),
        "{:?}",
        world.webhooks()
    );

    // Removed customers stay removed; with manual customers, unlisted ones are ignored.
    let mut tx = world.store.begin().await.unwrap();
    tx.remove_customer(CustomerId(2), world.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    world.sandbox.submit(&new).unwrap();
    assert_eq!(look_later(&world).await.added, 0);
    let (mut world, _) = known().await;
    world.unwatched_customer("Fabrikam College");
    assert_eq!(look_later(&world).await.added, 0);
}

#[tokio::test]
async fn a_verdict_at_first_sight_is_news_if_the_log_saw_the_submission_on_our_watch() {
    for (submitted, told) in [(true, vec!["vetting.approved Contoso School -"]), (false, vec![])] {
        let mut world = World::new().await;
        world.execute("update partner set watching_since = 1").await;
        world.restart().await;
        let watching = world.clock.now().as_millis();
        world.execute(&format!("update partner set watching_since = {watching}")).await;
        world.restart().await;
        world.pass(minutes(5));
        let school = world.customer("Contoso School").await;
        if submitted {
            world.sandbox.submit(&school).unwrap();
        } else {
            world
                .sandbox
                .set_entry(&school, json!({"qualification": "Education", "vettingStatus": "InReview"}))
                .unwrap();
        }
        world.sandbox.approve(&school).unwrap(); // has no date
        look_later(&world).await;
        world.poll().await;
        world.deliver().await;
        assert_eq!(world.webhooks(), told);
    }
}

#[tokio::test]
async fn a_clock_that_was_wrong_does_not_put_the_log_out_of_reach() {
    let (world, school) = known().await;
    world.clock.set(world.clock.now().after(hours(50 * DAY)));
    look(&world).await;
    world.clock.set(world.theirs());
    world.sandbox.submit(&school).unwrap();
    let mut found = 0;
    for _ in 0..DAY * 12 {
        found += look_later(&world).await.expected;
    }
    assert_eq!(found, 1);
}

#[tokio::test]
async fn a_short_budget_is_not_overdrawn_by_a_long_log() {
    let mut world = World::new().await;
    world.config.partners[0].requests_per_minute = 60;
    world.restart().await;
    write(&world, AuditLogOptions { page_size: Some(1), ..AuditLogOptions::default() });
    world.pass(hours(12));
    noise(&world, 150, world.clock.now());
    let began = world.clock.now();
    loop {
        let look = world.parts.partners[0].activity_log.round().await.unwrap();
        let next = look.next.unwrap();
        if world.rows("select activity_log_read_at is null from partner").await == ["0"] {
            break;
        }
        world.pass(next.since(world.clock.now()).max(std::time::Duration::from_millis(1)));
    }
    assert_eq!(world.sandbox.count(Kind::AuditRecords), 150);
    assert!(world.clock.now().since(began) > minutes(2), "{:?}", world.clock.now().since(began));
}

#[tokio::test]
async fn status_says_whether_the_log_is_read() {
    let (world, _) = known().await;
    let state = async |world: &World| -> Value {
        let states = world.store.partner_states(world.clock.now()).await.unwrap();
        serde_json::to_value(&states[0]).unwrap()
    };
    assert_eq!(state(&world).await["activity_log_counts"], json!(true));
    world.sandbox.fault(FaultRule::on(Kind::AuditRecords, Fault::error(403, 2032)));
    look_later(&world).await;
    world.poll().await;
    let state = state(&world).await;
    assert_eq!(state["activity_log_counts"], json!(false));
    assert!(state["activity_log_error"].as_str().unwrap().contains("2032"), "{state}");
}
