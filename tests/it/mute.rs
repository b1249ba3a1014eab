//! Muted customers: everything is recorded, nothing is sent.

use vetwatch::sandbox::{Fault, FaultRule};
use vetwatch::store::CustomerId;
use vetwatch::time::Timestamp;

use crate::world::{World, hours, minutes};

impl World {
    async fn mute(&self, name: &str, until: Option<Timestamp>) {
        let row = self.rows(&format!("select id from customer where name = '{name}'")).await.remove(0);
        let mut tx = self.store.begin().await.unwrap();
        assert!(
            tx.mute(CustomerId(row.parse().unwrap()), until, vetwatch::time::Clock::now(&*self.clock)).await.unwrap()
        );
        tx.commit().await.unwrap();
    }

    async fn unmute(&self, name: &str) -> bool {
        let row = self.rows(&format!("select id from customer where name = '{name}'")).await.remove(0);
        let mut tx = self.store.begin().await.unwrap();
        let was = tx.unmute(CustomerId(row.parse().unwrap()), vetwatch::time::Clock::now(&*self.clock)).await.unwrap();
        tx.commit().await.unwrap();
        was
    }
}

#[tokio::test]
async fn a_muted_customers_verdict_is_recorded_and_told_to_nobody_then_or_later() {
    let mut world = World::new().await;
    let (muted, other) = (world.in_review("Contoso School").await, world.in_review("Fabrikam").await);
    world.mute("Contoso School", None).await;
    world.sandbox.deny(&muted, "Not an Academic Domain").unwrap();
    world.sandbox.approve(&other).unwrap();
    world.poll_later().await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.approved Fabrikam -"]);
    let decided = "select customer_name, outcome from v_decisions order by 1";
    assert_eq!(world.rows(decided).await, ["Contoso School | Denied", "Fabrikam | Approved"]);
    assert_eq!(world.rows("select type from event where muted = 1").await, ["vetting.denied"]);

    assert!(world.unmute("Contoso School").await);
    world.poll_later().await;
    world.deliver().await;
    assert_eq!(world.webhooks().len(), 1, "what happened meanwhile is not told");
    world.sandbox.approve(&muted).unwrap();
    world.poll_later().await;
    world.deliver().await;
    assert_eq!(world.webhooks()[1..], ["vetting.approved Contoso School -"]);
    assert_eq!(world.mail_subjects().len(), 2);
}

#[tokio::test]
async fn a_mute_ends_by_itself_and_what_was_queued_before_it_is_sent() {
    let mut world = World::new().await;
    let id = world.in_review("Contoso School").await;
    world.sandbox.deny(&id, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    let end = vetwatch::time::Clock::now(&*world.clock).after(hours(24 * 7));
    world.mute("Contoso School", Some(end)).await;
    world.deliver().await;
    assert_eq!(world.webhooks(), ["vetting.denied Contoso School Not an Academic Domain"]);
    world.sandbox.submit(&id).unwrap();
    world.poll_later().await;
    world.sandbox.approve(&id).unwrap();
    world.poll_later().await;
    world.deliver().await;
    assert_eq!(world.webhooks().len(), 1);
    world.pass(hours(24 * 6));
    world.sandbox.deny(&id, "No longer an Education Customer").unwrap();
    world.poll_later().await;
    world.deliver().await;
    assert_eq!(world.webhooks()[1..], ["vetting.revoked Contoso School No longer an Education Customer"]);
    assert!(!world.unmute("Contoso School").await, "it is over");
}

#[tokio::test]
async fn a_long_review_of_a_muted_customer_is_nobodys_reminder() {
    let mut world = World::new().await;
    world.in_review("Contoso School").await;
    world.mute("Contoso School", None).await;
    world.pass(hours(24 * 3));
    world.poll().await;
    world.watch().await;
    world.unmute("Contoso School").await;
    world.watch().await;
    world.deliver().await;
    assert!(world.webhooks().is_empty() && world.mail_subjects().is_empty(), "{:?}", world.webhooks());
    assert_eq!(world.rows("select type, muted from event").await, ["vetting.overdue | 1"]);
}

#[tokio::test]
async fn that_a_muted_customer_cannot_be_read_is_told_all_the_same() {
    let mut world = World::new().await;
    let id = world.in_review("Contoso School").await;
    world.in_review("Fabrikam").await;
    world.mute("Contoso School", None).await;
    world.sandbox.fault(FaultRule::about(&id, Fault::status(500)));
    world.live(hours(5)).await;
    world.live(minutes(5)).await;
    assert!(
        world.webhooks().iter().any(|told| told.starts_with("monitor.customers_failing")),
        "{:?}",
        world.webhooks()
    );
}
