//! Refresh tokens are replaced at each redemption, whatever happens meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use vetwatch::partner_center::{Credential, PartnerSettings};
use vetwatch::sandbox::{Fault, FaultRule, Kind, MfaRefusal, Rotation, SignIns};
use vetwatch::time::Clock;
use vetwatch::token_keepalive;

use super::{Office, SCHOOL, refused};
use crate::process::{DaemonHarness, SOON, eventually};
use crate::world::hours;

fn rotating(rotation: Rotation) -> SignIns {
    SignIns { rotation, ..SignIns::default() }
}

#[tokio::test]
async fn a_user_stays_signed_in_however_the_server_rotates() {
    for rotation in [Rotation::Previous, Rotation::Strict, Rotation::Lenient, Rotation::Never] {
        let office = Office::new().await;
        office.sandbox.set_sign_ins(rotating(rotation));
        let first = office.sandbox.sign_in();
        office.keep(&first, None);
        let client = office.client(office.user());
        let mut seen = vec![first];
        // Two years of one redemption a week.
        for _ in 0..104 {
            client.qualifications(SCHOOL).await.expect("an answer");
            let (current, previous) = office.kept();
            if rotation == Rotation::Never {
                assert_eq!((current.as_str(), previous), (seen[0].as_str(), None));
            } else {
                assert_eq!(previous.as_ref(), seen.last());
                assert!(!seen.contains(&current));
                seen.push(current);
            }
            office.clock.advance(hours(7 * 24));
            // The server does not say when the same token ends.
            if rotation == Rotation::Never && office.token_requests() == 12 {
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_replacement_is_stored_before_the_access_token_is_used() {
    let office = Office::new().await;
    office.sandbox.set_sign_ins(rotating(Rotation::Strict));
    let mut before = office.sandbox.sign_in();
    office.keep(&before, None);
    for n in 1..=20 {
        // A new process each time: it dies when Partner Center gets its first poll.
        let client = office.client(office.user());
        let held = office.sandbox.fault(FaultRule::on(Kind::Qualifications, Fault::Hold { stale: false }).times(1));
        let question = async { client.qualifications(SCHOOL).await.map(drop) };
        tokio::select! {
            outcome = question => panic!("not asked: {outcome:?}"),
            arrived = office.sandbox.wait_for_requests(Kind::Qualifications, n, SOON) => arrived.unwrap(),
        }
        let (current, previous) = office.kept();
        assert_eq!(previous.as_deref(), Some(before.as_str()), "what was redeemed is kept beside its replacement");
        assert_ne!(current, before);
        before = current;
        office.sandbox.release(held);
    }
    office.client(office.user()).qualifications(SCHOOL).await.expect("still signed in");
}

#[tokio::test]
async fn when_the_new_token_is_worth_nothing_the_one_before_is_tried_once() {
    let office = Office::new().await;
    let good = office.sandbox.sign_in();
    office.keep("1.spoilt", Some(&good));
    office.client(office.user()).qualifications(SCHOOL).await.expect("an answer");
    assert_eq!(office.token_requests(), 2);
    let (current, previous) = office.kept();
    assert_eq!(previous.as_deref(), Some(good.as_str()));
    assert!(current != "1.spoilt" && current != good);
    office.clock.advance(hours(1));
    office.client(office.user()).qualifications(SCHOOL).await.expect("an answer");
    assert_eq!(office.token_requests(), 3, "and from then on the new one");

    let office = Office::new().await;
    office.sandbox.set_sign_ins(rotating(Rotation::Never));
    let good = office.sandbox.sign_in();
    office.keep("1.spoilt", Some(&good));
    office.client(office.user()).qualifications(SCHOOL).await.expect("an answer");
    assert_eq!(office.kept(), (good, None), "where there is no replacement, it takes the place of the spoilt one");
}

#[tokio::test]
async fn a_sign_in_that_is_over_is_told_with_what_to_do_and_not_tried_in_a_loop() {
    let office = Office::new().await;
    let said = refused(&office.client(office.user())).await;
    assert_eq!(said, "nobody has signed in for this partner; `vetwatch login PARTNER` signs in");
    assert_eq!(office.token_requests(), 0);

    office.keep("1.spoilt", Some("1.spoilt-too"));
    let said = refused(&office.client(office.user())).await;
    assert!(said.contains("AADSTS9002313"), "{said}");
    assert_eq!(office.token_requests(), 2, "each of them once");

    let token = office.sandbox.sign_in();
    office.keep(&token, None);
    office.sandbox.revoke_sign_ins();
    let said = refused(&office.client(office.user())).await;
    assert!(said.contains("AADSTS50173") && said.contains("`vetwatch login PARTNER`"), "{said}");
    assert_eq!(office.token_requests(), 3);

    let token = office.sandbox.sign_in();
    office.keep(&token, None);
    office.clock.advance(hours(91 * 24));
    let said = refused(&office.client(office.user())).await;
    assert!(said.contains("AADSTS700082") && said.contains("90 days"), "{said}");
}

/// A token whose replacement was lost: its use looks like reuse to the server.
#[tokio::test]
async fn the_sandbox_refuses_a_token_older_than_the_one_before() {
    let office = Office::new().await;
    let first = office.sandbox.sign_in();
    office.keep(&first, None);
    for _ in 0..2 {
        office.client(office.user()).qualifications(SCHOOL).await.expect("an answer");
    }
    office.keep(&first, None);
    assert!(refused(&office.client(office.user())).await.contains("AADSTS70000"));
}

#[tokio::test]
async fn a_missing_second_factor_is_explained_and_not_looped_on() {
    for mfa_refusal in [MfaRefusal::Header, MfaRefusal::Code] {
        let office = Office::new().await;
        office.sandbox.set_sign_ins(SignIns { mfa: false, mfa_refusal, ..SignIns::default() });
        office.keep(&office.sandbox.sign_in(), None);
        let client = office.client(office.user());
        for asked in 1..=3 {
            let said = refused(&client).await;
            assert!(said.contains("without a second factor") && said.contains("`vetwatch login PARTNER`"), "{said}");
            let questions = office.sandbox.count(Kind::Qualifications);
            assert_eq!((questions, office.token_requests()), (asked, asked), "one of each for each time it is asked");
        }
        office.sandbox.set_sign_ins(SignIns::default());
        office.keep(&office.sandbox.sign_in(), None);
        client.qualifications(SCHOOL).await.expect("a new sign-in is seen at once");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_user_is_not_blamed_on_the_token() {
    for (code, words) in [
        (50076, "second factor"),
        (50079, "second factor"),
        (65001, "consented"),
        (53003, "Conditional Access"),
        (50105, "assign the user"),
    ] {
        let office = Office::new().await;
        office.keep(&office.sandbox.sign_in(), Some("1.before"));
        let body = format!(
            r#"{{"error":"invalid_grant","error_description":"AADSTS{code}: No. Trace ID: x","error_codes":[{code}]}}"#
        );
        let headers = [("content-type".to_owned(), "application/json".to_owned())].into();
        office.sandbox.fault(FaultRule::on(Kind::Token, Fault::Custom { status: 400, headers, body }));
        let said = refused(&office.client(office.user())).await;
        assert!(said.contains(words), "{code}: {said}");
        assert_eq!(office.token_requests(), 1, "{code}: the one before would fare no better");
    }
}

#[tokio::test]
async fn nothing_is_redeemed_that_could_not_be_stored() {
    let office = Office::new().await;
    office.keep(&office.sandbox.sign_in(), None);
    // A directory where the replacement would be written.
    let in_the_way = office.tokens().path().with_file_name("emea~new");
    std::fs::create_dir(&in_the_way).unwrap();
    let said = refused(&office.client(office.user())).await;
    assert!(said.contains("that cannot be stored"), "{said}");
    assert_eq!(office.token_requests(), 0);
    std::fs::remove_dir(in_the_way).unwrap();
    office.client(office.user()).qualifications(SCHOOL).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_at_once_take_turns_and_lose_nothing() {
    let office = Office::new().await;
    office.sandbox.set_sign_ins(rotating(Rotation::Strict));
    office.keep(&office.sandbox.sign_in(), None);
    for _ in 0..5 {
        let clients: Vec<_> = (0..8).map(|_| office.client(office.user())).collect();
        for answer in join_all(clients.iter().map(|client| client.qualifications(SCHOOL))).await {
            answer.expect("an answer");
        }
    }
    assert_eq!(office.token_requests(), 40);
}

/// `VETWATCH_KILLS` kills.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_of_a_rotation_it_is_still_signed_in() {
    let kills = std::env::var("VETWATCH_KILLS").map_or(100, |count| count.parse().expect("VETWATCH_KILLS is a number"));
    let town = DaemonHarness::with_credential("kind = 'refresh-token'\nclient_secret_file = 'client-secret'").await;
    town.sandbox.set_sign_ins(rotating(Rotation::Strict));
    town.keep_sign_in();
    town.add_customers(3).await;
    let answered = |log: &vetwatch::sandbox::RequestLog, kind| {
        log.counts().get(&kind).map_or(0, |counts| counts.statuses.values().sum::<u64>())
    };
    for kill in 0..kills {
        // Not the daemon: a customer whose polls are interrupted again and again is deferred.
        let tokens = town.sandbox.log(|log| answered(log, Kind::Token));
        let (requests, pages) = (town.sandbox.count(Kind::Token), town.sandbox.count(Kind::Customers));
        if kill % 4 == 0 {
            town.sandbox.fault(FaultRule::on(Kind::Token, Fault::Hold { stale: true }).times(1));
        }
        let mut process = town.start_command(&["customers", "sync", "--partner", "emea"]);
        match kill % 4 {
            // The server has rotated, and vetwatch does not know yet.
            0 => {
                town.sandbox.wait_for_requests(Kind::Token, requests + 1, SOON).await.expect("a token request");
            }
            // The response is in flight, or is being stored.
            1 | 2 => {
                let answered = |log: &_| (answered(log, Kind::Token) > tokens).then_some(());
                town.sandbox.wait_for(SOON, answered).await.expect("a token");
                tokio::time::sleep(Duration::from_micros(fastrand::u64(..6000))).await;
            }
            // The access token is used.
            _ => town.sandbox.wait_for_requests(Kind::Customers, pages + 1, SOON).await.expect("a question"),
        }
        // SIGKILL
        process.kill().expect("a process");
        process.wait().expect("its end");
        town.sandbox.clear_faults();
    }
    let daemon = town.running().await;
    let questions = town.sandbox.count(Kind::Qualifications);
    town.sandbox.wait_for_requests(Kind::Qualifications, questions + 6, SOON).await.expect("questions");
    eventually("everybody is seen", SOON, async || {
        let seen = town.rows("select count(*) from v_customers where last_error is null").await;
        if seen == ["3"] { Ok(()) } else { Err(format!("{seen:?} {}", town.log())) }
    })
    .await;
    daemon.stop().await;
    let refused = town.sandbox.counts()[&Kind::Token].statuses.get(&400).copied().unwrap_or_default();
    assert_eq!(refused, 0, "what was redeemed was always the newest token or the one before");
}

#[tokio::test]
async fn a_sign_in_that_only_submitting_uses_is_used_once_a_week() {
    let office = Office::new().await;
    let first = office.sandbox.sign_in();
    office.keep(&first, None);
    let reading = Credential { proof: Office::secret(), user: None };
    let settings = PartnerSettings { user_credential: Some(office.user()), ..office.settings(reading) };
    let clock: Arc<dyn Clock> = office.clock.clone();
    let mut sign_ins = token_keepalive::SignIns::of(&[settings], &clock).unwrap();
    for _ in 0..200 * 24 {
        sign_ins.round().await;
        office.clock.advance(hours(1));
    }
    let times = office.token_requests();
    assert!((26..=30).contains(&times), "{times} times in 200 days");
    assert_ne!(office.kept().0, first);
    // A revoked token is not retried in a loop.
    office.sandbox.revoke_sign_ins();
    for _ in 0..20 * 24 {
        sign_ins.round().await;
        office.clock.advance(hours(1));
    }
    assert!(office.token_requests() - times <= 3 * 14, "{} times in 20 days", office.token_requests() - times);
}
