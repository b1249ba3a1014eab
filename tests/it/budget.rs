//! Polling when Microsoft allows less than the configured budget.

use std::time::Duration;

use vetwatch::sandbox::{CustomerDetails, Kind, RetryAfter, ThrottleSettings, Window};
use vetwatch::store::customers::{Imported, ImportedCustomer};
use vetwatch::time::Clock;

use crate::world::{World, minutes};

const LIMIT: u32 = 500;
const MINUTES: u32 = 8;

#[tokio::test]
async fn a_tenant_that_counts_by_the_minute_is_used_to_the_full_and_hardly_ever_refuses() {
    use_to_the_full(Window::Fixed).await;
}

#[tokio::test]
async fn a_tenant_that_counts_the_last_minute_is_used_to_the_full_and_hardly_ever_refuses() {
    use_to_the_full(Window::Sliding).await;
}

/// Twenty thousand customers are due, the budget is a thousand a minute, and Microsoft allows half of that.
async fn use_to_the_full(window: Window) {
    let faster = |text: String| text.replace("requests_per_minute = 60000", "requests_per_minute = 1000");
    let world = World::edited("", "", faster).await;
    let mut customers = Vec::new();
    for n in 0..20_000 {
        let id = format!("{n:08x}-0000-4000-8000-000000000000");
        world.sandbox.add_customer(CustomerDetails::new(&id, "School", "school.example")).unwrap();
        customers.push(ImportedCustomer { id, name: None, domain: None, tags: None, contact: None });
    }
    let mut tx = world.store.begin().await.unwrap();
    tx.import_customers("emea", &customers, world.clock.now(), &mut Imported::default()).await.unwrap();
    tx.commit().await.unwrap();
    world.sandbox.throttle(Some(ThrottleSettings {
        requests_per_minute: LIMIT,
        window,
        retry_after: RetryAfter::Seconds,
    }));
    let (poller, end) = (&world.parts.partners[0].poller, world.clock.now().after(minutes(u64::from(MINUTES))));
    let (mut backoff_until, mut behind_gate) = (None, 0);
    while world.clock.now() < end {
        let before = world.sandbox.count(Kind::Qualifications);
        let now = world.clock.now();
        let round = poller.round().await.unwrap();
        if backoff_until.is_some_and(|until| now < until) {
            behind_gate += world.sandbox.count(Kind::Qualifications) - before;
        }
        backoff_until = world.store.backoff(poller.partner.id).await.unwrap().map(|backoff| backoff.backoff_until);
        let next = round.next.unwrap_or(end).max(now.after(Duration::from_millis(1)));
        world.pass(next.since(now).min(Duration::from_secs(5)));
    }
    let (calls, refused) =
        (world.sandbox.count(Kind::Qualifications), world.sandbox.counts()[&Kind::Qualifications].throttled);
    let share = f64::from(u32::try_from(calls).unwrap()) / f64::from(MINUTES * LIMIT);
    eprintln!("{window:?}: {calls} calls, {refused} refused, {:.1} % of what is allowed", share * 100.0);
    assert_eq!(behind_gate, 0);
    assert!(refused * 100 < calls, "{refused} of {calls} were refused");
    assert!(share >= 0.85, "{calls} calls in {MINUTES} minutes");
    let shown = world.rows("select reduced_rate_limit from partner").await;
    assert!(shown[0].parse::<u32>().is_ok_and(|limit| (400..=550).contains(&limit)), "{shown:?}");
}
