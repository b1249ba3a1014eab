//! Partner Center's customer list: read to its end in every form, applied only if complete. It loses no customer.

mod baseline;
mod leaving;

use std::sync::atomic::{AtomicUsize, Ordering};

use vetwatch::customer_sync::{Error, Summary};
use vetwatch::sandbox::response_options::{Continuation, LastPage, LinkUri};
use vetwatch::sandbox::{Bulk, Fault, FaultRule, Kind, Operation, PaginationOptions, Quirk, QuirkRule};

use vetwatch::time::Clock as _;

use crate::world::{World, hours, minutes, seconds};

const DAY: u64 = 24;

/// A synced partner whose baseline was reported.
async fn known() -> World {
    let world = World::synced().await;
    crate::world::tell_baseline(&world.config.database).await;
    world
}

async fn sync(world: &World) -> Result<Summary, Error> {
    world.parts.partners[0].customer_sync.sync(|_| {}).await
}

async fn round(world: &World) {
    world.parts.partners[0].customer_sync.round().await.unwrap();
}

fn listing(world: &World, listing: PaginationOptions) {
    world.sandbox.clear_quirks();
    world.sandbox.quirk(QuirkRule::all(Quirk::Listing(listing)));
}

#[tokio::test]
async fn a_list_is_read_to_its_end_however_it_is_cut_and_wherever_its_links_lead() {
    let world = known().await;
    world.sandbox.add_customers(Bulk { count: 1200, ..Bulk::default() });
    let elsewhere = "https://elsewhere.example".to_owned();
    for (how, pages) in [
        (PaginationOptions::default(), 3),
        (PaginationOptions { continuation: Some(Continuation::Body), ..PaginationOptions::default() }, 3),
        (
            PaginationOptions {
                continuation: Some(Continuation::Link),
                uri: Some(LinkUri::V1),
                ..PaginationOptions::default()
            },
            3,
        ),
        (
            PaginationOptions {
                continuation: Some(Continuation::Link),
                uri: Some(LinkUri::Bare),
                ..PaginationOptions::default()
            },
            3,
        ),
        (
            PaginationOptions {
                continuation: Some(Continuation::Link),
                host: Some(elsewhere),
                ..PaginationOptions::default()
            },
            3,
        ),
        (PaginationOptions { page_size: Some(100), ..PaginationOptions::default() }, 12),
        (PaginationOptions { last_page: Some(LastPage::EmptyPage), ..PaginationOptions::default() }, 4),
        (PaginationOptions { last_page: Some(LastPage::Error), ..PaginationOptions::default() }, 4),
        (PaginationOptions { overlap: Some(3), twice: Some(0.1), ..PaginationOptions::default() }, 3),
    ] {
        listing(&world, how.clone());
        let (asked, seen) = (world.sandbox.count(Kind::Customers), AtomicUsize::new(0));
        let progress = |at: vetwatch::customer_sync::Progress| {
            assert!(at.customers > seen.swap(at.customers, Ordering::Relaxed) || at.pages == 4, "{how:?}");
        };
        let summary = world.parts.partners[0].customer_sync.sync(progress).await.unwrap();
        assert_eq!((summary.listed, summary.complete, summary.missing), (1200, true, 0), "{how:?}");
        assert_eq!(world.sandbox.count(Kind::Customers) - asked, pages, "{how:?}");
    }
    assert_eq!(world.rows("select count(*), count(distinct customer_id) from v_customers").await, ["1200 | 1200"]);
    let paths: Vec<_> = world.sandbox.requests().into_iter().filter(|asked| asked.kind == Kind::Customers).collect();
    assert!(paths.iter().all(|asked| asked.path.starts_with("/v1/customers?size=500")), "{paths:#?}");
}

#[tokio::test]
async fn a_list_that_goes_in_a_circle_or_begins_with_an_error_is_none() {
    let world = known().await;
    world.sandbox.add_customers(Bulk { count: 1200, ..Bulk::default() });
    world.sandbox.fault(FaultRule::on(Kind::Customers, Fault::error(400, 2000)).times(1));
    assert!(matches!(sync(&world).await, Err(Error::PartnerCenter { read: 0, .. })));
    assert_eq!(world.rows("select count(*) from v_customers").await, ["0"]);

    listing(&world, PaginationOptions { last_page: Some(LastPage::Again), ..PaginationOptions::default() });
    let error = sync(&world).await.unwrap_err();
    let Error::PartnerCenter { source, read: 1200 } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("in a circle"), "{source}");
    assert!(world.sandbox.count(Kind::Customers) < 10);
    assert_eq!(world.rows("select last_synced_at, list_failures from partner").await, ["null | 2"]);
    assert_eq!(world.rows("select count(*) from v_customers").await, ["1200"], "who was in it is a customer");
}

#[tokio::test]
async fn a_list_that_breaks_off_adds_who_is_new_and_counts_nobody_as_missing() {
    let mut world = known().await;
    let school = world.unwatched_customer("Contoso School");
    world.sandbox.add_customers(Bulk { count: 1000, ..Bulk::default() });
    sync(&world).await.unwrap();
    world.sandbox.apply(&school, Operation::Unlist).unwrap();
    world.sandbox.add_customers(Bulk { count: 50, ..Bulk::default() });
    let before = world.rows("select last_synced_at from partner").await;
    world.pass(hours(DAY));
    world.sandbox.fault(FaultRule::on(Kind::Customers, Fault::status(502)).skip(1).times(1));
    assert!(matches!(sync(&world).await, Err(Error::PartnerCenter { read: 500, .. })));
    assert_eq!(world.rows("select last_synced_at from partner").await, before);
    assert_eq!(world.rows("select count(*) from customer where missing_from_list_since is not null").await, ["0"]);
    let summary = sync(&world).await.unwrap();
    assert_eq!((summary.missing, summary.missing_names), (1, vec!["Contoso School".to_owned()]));
}

#[tokio::test]
async fn a_list_that_is_much_shorter_adds_who_is_new_and_nobody_is_missing_by_it_until_another_agrees_a_day_later() {
    let mut world = known().await;
    world.sandbox.add_customers(Bulk { count: 100, ..Bulk::default() });
    sync(&world).await.unwrap();
    let complete = world.rows("select last_synced_at from partner").await;
    world.pass(hours(DAY));
    world.unwatched_customer("Contoso School"); // sorts first
    listing(&world, PaginationOptions { ends_after: Some(60), ..PaginationOptions::default() });
    let summary = sync(&world).await.unwrap();
    assert_eq!((summary.listed, summary.expected, summary.added), (60, Some(100), 1));
    assert!(!summary.complete && summary.missing == 0, "{summary:?}");
    assert_eq!(world.rows("select last_synced_at from partner").await, complete);
    // Half a day later the same customer is missing; a day later another; then that one again.
    for (later, size, complete) in [(12, 61, false), (12, 40, false), (12, 40, false), (12, 41, true)] {
        world.pass(hours(later));
        listing(&world, PaginationOptions { ends_after: Some(size), ..PaginationOptions::default() });
        let summary = sync(&world).await.unwrap();
        assert_eq!((summary.listed, summary.complete), (size as u64, complete), "{size}");
        assert_eq!(summary.missing, if complete { 60 } else { 0 });
    }
    assert_eq!(world.rows("select list_size, list_short_since from partner").await, ["41 | null"]);
    assert_eq!(world.rows("select count(*) from v_customers where departed_since is not null").await, ["0"]);
    // The list was incomplete after all.
    world.sandbox.clear_quirks();
    let summary = sync(&world).await.unwrap();
    assert_eq!((summary.listed, summary.returned, summary.missing), (101, 60, 0));
}

#[tokio::test]
async fn an_empty_list_is_never_applied_where_there_was_a_customer() {
    let mut world = known().await;
    world.unwatched_customer("Contoso School");
    sync(&world).await.unwrap();
    listing(&world, PaginationOptions { ends_after: Some(0), ..PaginationOptions::default() });
    for _ in 0..3 {
        world.pass(hours(DAY));
        assert!(!sync(&world).await.unwrap().complete);
    }
    assert_eq!(world.rows("select count(*) from customer where missing_from_list_since is not null").await, ["0"]);
}

#[tokio::test]
async fn who_was_added_by_hand_is_not_missing_from_any_list() {
    let mut world = World::new().await; // only those added by hand
    let school = world.customer("Contoso School").await;
    world.poll().await;
    world.sandbox.apply(&school, Operation::Unlist).unwrap();
    for _ in 0..3 {
        assert_eq!(sync(&world).await.unwrap().missing, 0);
        world.pass(hours(DAY));
    }
    let mut world = known().await; // and beside the list
    let school = world.customer("Contoso School").await;
    world.unwatched_customer("Fabrikam College");
    world.sandbox.apply(&school, Operation::Unlist).unwrap();
    for _ in 0..3 {
        assert_eq!(sync(&world).await.unwrap().missing, 0);
        world.pass(hours(DAY));
    }
}

#[tokio::test]
async fn a_throttled_list_closes_the_gate_for_everybody_even_over_a_restart() {
    let mut world = known().await;
    world.customer("Contoso School").await;
    world.sandbox.fault(FaultRule::on(Kind::Customers, Fault::throttled(seconds(600))).times(1));
    round(&world).await;
    world.restart().await;
    world.poll().await;
    round(&world).await;
    let Err(Error::BackingOff(backoff)) = sync(&world).await else { panic!("polled during the backoff") };
    assert!(backoff.reason.contains("429"), "{}", backoff.reason);
    assert_eq!((world.sandbox.count(Kind::Customers), world.sandbox.count(Kind::Qualifications)), (1, 0));
    world.pass(seconds(601));
    round(&world).await;
    world.poll().await;
    assert_eq!((world.sandbox.count(Kind::Customers), world.sandbox.count(Kind::Qualifications)), (2, 1));
    assert_eq!(world.rows("select backoff_until, list_failures from partner").await, ["null | 0"]);
}

#[tokio::test]
async fn a_list_in_trouble_is_left_alone_longer_and_longer_and_polls_go_on() {
    let mut world = known().await;
    world.customer("Contoso School").await;
    world.sandbox.fault(FaultRule::on(Kind::Customers, Fault::status(500)));
    for n in 0..6 * 60 {
        world.pass(minutes(1));
        if n % 20 == 0 {
            world.restart().await;
        }
        round(&world).await;
        world.poll().await;
    }
    let asked = world.sandbox.count(Kind::Customers);
    assert!((6..=10).contains(&asked), "{asked} times in six hours");
    assert_eq!(world.rows("select backoff_until from partner").await, ["null"]);
    // Once, and again at its own time within the first day.
    assert!((1..=2).contains(&world.sandbox.count(Kind::Qualifications)));
    world.sandbox.clear_faults();
    world.pass(hours(1));
    round(&world).await;
    assert_eq!(world.rows("select list_failures, list_error from partner").await, ["0 | null"]);
}

#[tokio::test]
async fn a_start_before_the_network_is_up_asks_again_within_seconds() {
    let world = World::synced().await;
    world.sandbox.add_customers(Bulk { count: 3, ..Bulk::default() });
    world.sandbox.stop().await.unwrap();
    let partner = &world.parts.partners[0];
    for pause in [5, 15, 60] {
        let now = world.clock.now();
        partner.poller.round().await.unwrap();
        let next = partner.customer_sync.round().await.unwrap().unwrap();
        assert_eq!(next.since(now), seconds(pause), "the list");
        let next = partner.activity_log.round().await.unwrap().next.unwrap();
        assert!(next.since(now) <= seconds(pause), "the activity log: {next}");
        world.pass(seconds(pause));
    }
    world.sandbox.start_again().await.unwrap();
    round(&world).await;
    assert_eq!(world.rows("select count(*) from customer").await, ["3"]);
}
