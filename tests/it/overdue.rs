//! Overdue reviews: reminders come in time, once, and never for a review that has ended.

use vetwatch::sandbox::{Fault, FaultRule};

use crate::world::{START, World, hours, minutes};

/// A world whose CRM gets reminders.
async fn world() -> World {
    World::edited("", "", overdue_is_routed).await
}

#[expect(clippy::needless_pass_by_value, reason = "that is how a world is edited")]
fn overdue_is_routed(text: String) -> String {
    text.replace("\"vetting.vanished\"]", "\"vetting.vanished\", \"vetting.overdue\"]")
}

impl World {
    /// Type, customer, business days and number of each reminder.
    fn reminders(&self) -> Vec<String> {
        let hooks = self.hook.hooks().into_iter().map(|hook| hook.json());
        let overdue = hooks.filter(|json| json["type"] == "vetting.overdue").map(|json| {
            let data = &json["data"];
            let name = data["customer"]["name"].as_str().unwrap().to_owned();
            format!("{name}: {} days, {}", data["overdue"]["business_days"], data["overdue"]["reminder"])
        });
        overdue.collect()
    }

    /// Runs the daemon's checks after this long of polling only.
    async fn look_after(&self, time: std::time::Duration) {
        self.pass(time);
        self.poll().await;
        self.look().await;
    }

    async fn look(&self) {
        self.watch().await;
        self.deliver().await;
    }
}

#[tokio::test]
async fn a_review_is_told_after_three_and_five_business_days_and_then_every_week() {
    let mut world = world().await;
    let id = world.customer("Contoso School").await;
    world.poll().await;
    world.sandbox.submit(&id).unwrap();
    world.execute("update customer set next_poll_at = 0").await;
    world.poll().await;
    let mut days = Vec::new();
    for day in 1..=30 {
        let before = world.reminders().len();
        world.look_after(hours(24)).await;
        if world.reminders().len() > before {
            days.push(day);
        }
    }
    // It began on a Monday: Thursday, the Monday after, and each Monday from then on.
    assert_eq!(days, [3, 7, 14, 21, 28]);
    assert_eq!(
        world.reminders()[..3],
        ["Contoso School: 3 days, 1", "Contoso School: 5 days, 2", "Contoso School: 10 days, 3"]
    );
    let json = world.hook.hooks().pop().unwrap().json();
    assert_eq!((&json["data"]["from"], &json["data"]["to"]), (&"InReview".into(), &"InReview".into()));
    assert!(json["data"]["correlation_id"].is_string(), "support asks for it: {json}");
    assert_eq!(world.rows("select count(*) from v_decisions").await, ["0"], "a reminder is no verdict");
}

#[tokio::test]
async fn weekends_and_holidays_are_no_business_days() {
    let folder = tempfile::tempdir().unwrap();
    let holidays = folder.path().join("holidays.txt");
    // START is a Monday; Wednesday and Friday are free.
    let free = |days: u64| START.after(hours(24 * days)).to_utc().date_naive();
    std::fs::write(&holidays, format!("{}\n{}\n2999-12-25\n", free(2), free(4))).unwrap();
    let schedule = format!("holidays_file = \"{}\"", holidays.display());
    let mut world = World::edited(&schedule, "", overdue_is_routed).await;
    world.in_review("Contoso School").await;
    for _ in 0..6 {
        world.look_after(hours(24)).await;
    }
    assert!(world.reminders().is_empty(), "{:?}", world.reminders());
    world.look_after(hours(24)).await;
    assert_eq!(world.reminders(), ["Contoso School: 3 days, 1"], "Tuesday, Thursday and the Monday after");
}

#[tokio::test]
async fn who_was_down_over_several_reminders_tells_the_last_one_and_only_after_looking() {
    let mut world = world().await;
    world.in_review("Contoso School").await;
    world.pass(hours(24 * 16));
    world.restart().await;
    world.look().await;
    assert!(world.reminders().is_empty(), "nobody has looked whether it is still going on");
    world.look_after(minutes(1)).await;
    world.look_after(minutes(1)).await;
    assert_eq!(world.reminders(), ["Contoso School: 12 days, 3"]);
}

#[tokio::test]
async fn a_verdict_ends_the_reminders_and_a_new_attempt_begins_anew() {
    let mut world = world().await;
    let id = world.in_review("Contoso School").await;
    world.look_after(hours(24 * 3)).await;
    assert_eq!(world.reminders().len(), 1);
    world.sandbox.deny(&id, "Not an Academic Domain").unwrap();
    world.look_after(hours(24 * 11)).await;
    world.sandbox.submit(&id).unwrap();
    world.look_after(hours(24)).await;
    world.look_after(hours(24)).await;
    assert_eq!(world.reminders().len(), 1, "a new review is not late");
    world.look_after(hours(24)).await;
    assert_eq!(world.reminders()[1..], ["Contoso School: 3 days, 1"]);
}

#[tokio::test]
async fn what_was_late_already_at_first_sight_is_not_told_one_by_one() {
    let mut world = World::without_baseline("", "", overdue_is_routed).await;
    let id = world.customer("Contoso School").await;
    world.sandbox.submit(&id).unwrap();
    world.pass(hours(24 * 3));
    world.look_after(hours(1)).await;
    world.look_after(hours(1)).await;
    assert!(world.reminders().is_empty(), "the first look lists it: {:?}", world.reminders());
    let baseline = world.hook.hooks().remove(0).json();
    assert_eq!(baseline["data"]["figures"]["overdue"], 1);
    world.look_after(hours(24 * 4)).await;
    assert_eq!(world.reminders(), ["Contoso School: 5 days, 2"], "what becomes due later is told");
}

#[tokio::test]
async fn a_review_that_began_while_vetwatch_was_down_is_told_once_it_is_found_late() {
    let mut world = world().await;
    let id = world.customer("Contoso School").await;
    world.poll().await;
    world.sandbox.submit(&id).unwrap();
    world.pass(hours(24 * 4));
    world.restart().await;
    world.look_after(minutes(1)).await;
    assert_eq!(world.reminders(), ["Contoso School: 4 days, 1"]);
}

#[tokio::test]
async fn customers_that_cannot_be_read_cause_no_reminder_until_they_can() {
    let mut world = world().await;
    let id = world.in_review("Contoso School").await;
    world.sandbox.fault(FaultRule::about(&id, Fault::status(403)));
    for _ in 0..4 {
        world.look_after(hours(24)).await;
    }
    assert!(world.reminders().is_empty(), "nobody knows how it stands: {:?}", world.reminders());
    world.sandbox.clear_faults();
    world.look_after(hours(24)).await;
    assert_eq!(world.reminders(), ["Contoso School: 4 days, 1"]);
}

#[tokio::test]
async fn who_was_removed_or_paused_is_not_told_of() {
    let mut world = world().await;
    for (name, sql) in [("Removed", "removed_at = 1"), ("Paused", "paused_at = 1"), ("Gone", "departed_since = 1")] {
        world.in_review(name).await;
        world.execute(&format!("update customer set {sql} where name = '{name}'")).await;
    }
    world.in_review("Contoso School").await;
    for _ in 0..3 {
        world.look_after(hours(24)).await;
    }
    assert_eq!(world.reminders(), ["Contoso School: 3 days, 1"]);
}

#[tokio::test]
async fn a_reminder_that_could_not_be_queued_is_not_marked_as_told() {
    let mut world = world().await;
    world.in_review("Contoso School").await;
    world.pass(hours(24 * 3));
    world.poll().await;
    world.execute("create trigger full before insert on delivery begin select raise(abort, 'disk full'); end").await;
    world.parts.alerts.round().await.expect_err("the database fails");
    world.execute("drop trigger full").await;
    world.restart().await;
    world.look().await;
    world.look().await;
    assert_eq!(world.reminders(), ["Contoso School: 3 days, 1"], "once");
}

#[tokio::test]
async fn a_clock_that_was_set_back_tells_nothing_twice() {
    let mut world = world().await;
    world.in_review("Contoso School").await;
    world.look_after(hours(24 * 3)).await;
    world.clock.set(START.after(hours(24 * 2)));
    for _ in 0..3 {
        world.look_after(hours(12)).await;
    }
    assert_eq!(world.reminders(), ["Contoso School: 3 days, 1"]);
}

#[tokio::test]
async fn an_empty_list_switches_it_off() {
    let mut world = World::edited("", "[overdue]\nbusiness_days = []", overdue_is_routed).await;
    world.in_review("Contoso School").await;
    world.look_after(hours(24 * 14)).await;
    assert!(world.reminders().is_empty());
}

#[tokio::test]
async fn a_stale_copy_of_a_review_that_is_decided_reminds_nobody() {
    let mut world = world().await;
    let id = world.customer("Contoso School").await;
    world.poll().await;
    let entry = |status: &str| {
        let created = START.to_string();
        serde_json::json!({ "qualification": "Education", "vettingStatus": status, "vettingCreateDate": created })
    };
    for status in ["InReview", "Approved"] {
        world.sandbox.set_entry(&id, entry(status)).unwrap();
        world.poll_later().await;
    }
    world.pass(hours(24 * 5));
    world.sandbox.set_entry(&id, entry("InReview")).unwrap();
    world.poll().await;
    assert_eq!(world.rows("select vetting_status from v_current").await, ["InReview"], "the copy is shown");
    world.look_after(hours(1)).await;
    assert!(world.reminders().is_empty(), "{:?}", world.reminders());
}
