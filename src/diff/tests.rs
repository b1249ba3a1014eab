use proptest::prelude::*;

use super::*;

const WATCHING: Timestamp = Timestamp::from_millis(1_000_000_000);

fn at(second: u64) -> Timestamp {
    WATCHING.after(Duration::from_secs(second))
}

fn entry(status: &str, reason: Option<&str>, created: Option<Timestamp>) -> Entry {
    Entry {
        qualification: "Education".to_owned(),
        vetting_status: (!status.is_empty()).then(|| status.to_owned()),
        vetting_reason: reason.map(str::to_owned),
        created_at: created,
    }
}

/// A customer that is looked at once an hour. Each step is an answer in short: `-` no entry, `S` an entry without
/// status, else the status, then `@n` a create date n days after watching began (negative: before), then `:reason`.
fn news(answers: &str) -> Vec<String> {
    let (mut beliefs, mut last_seen_at, mut seen) = (Vec::new(), None, Vec::new());
    for (hour, answer) in answers.split_whitespace().enumerate() {
        let (answer, reason) = answer.split_once(':').map_or((answer, None), |(a, r)| (a, Some(r)));
        let (word, date) = answer.split_once('@').map_or((answer, None), |(w, d)| (w, Some(d.parse::<i64>().unwrap())));
        let created = date.map(|day| Timestamp::from_millis(WATCHING.as_millis() + day * 86_400_000));
        let status = if word == "S" { "" } else { word };
        let entries = (word != "-").then(|| entry(status, reason, created));
        let now = at(3600 * (u64::try_from(hour).unwrap() + 1));
        let look = Look {
            now,
            last_seen_at,
            news_since: Some(WATCHING),
            second_look: Duration::from_mins(2),
            third_look: Duration::from_mins(59),
        };
        let steps = compare(&beliefs, &Snapshot::of(entries), &look);
        for (_, change) in &steps {
            if let Some(change) = change {
                seen.push(format!("{}#{}", change.event.as_str().replace("vetting.", ""), change.review.attempt));
            }
        }
        beliefs = steps.into_iter().map(|(belief, _)| belief).collect();
        last_seen_at = Some(now);
    }
    seen
}

#[test]
fn answers_and_their_news() {
    let table = [
        ("the first sight is silent", "InReview@-1 InReview@-1", ""),
        ("a verdict that was there before us is silent", "Approved@-9 Approved@-9", ""),
        ("without a date it may be old, so it is silent", "Denied:x Denied:x", ""),
        ("a verdict on a review that began on our watch is news at first sight", "Denied@1:x", "denied#1"),
        ("a review ends well", "- InReview@1 Approved@1", "submitted#1 approved#1"),
        ("an approval may have no date", "InReview@-1 Approved Approved", "approved#1"),
        ("a review ends badly", "InReview@-1 Denied@-1:x", "denied#1"),
        ("InReview need not have been seen", "- Approved", "approved#1"),
        ("…nor for a denial", "- Denied:x", "denied#1"),
        ("a status without review", "- S S", "changed#0"),
        ("an unknown word is no verdict", "InReview@-1 Approvedish@-1 Approved@-1", "changed#1 approved#1"),
        ("status words have no case", "INREVIEW@-1 approved@-1 APPROVED@-1", "approved#1"),
        ("a manual review denies again", "InReview Denied:x Denied:x-After-Review", "denied#1 denied#1"),
        ("a reason in other letters is no news", "InReview Denied:Not-An Denied:not-an", "denied#1"),
        (
            "a second attempt with dates",
            "InReview@-1 Denied@-1:x InReview@2 Approved@2",
            "denied#1 submitted#2 approved#2",
        ),
        ("a second attempt without dates", "InReview Denied:x InReview Denied:x", "denied#1 submitted#2 denied#2"),
        (
            "a verdict with a later date counts its unseen review",
            "InReview@-1 Denied@-1:x Denied@2:x",
            "denied#1 denied#2",
        ),
        ("a denial disappears from the page", "InReview@-1 Denied@-1:x - - -", "denied#1 changed#1"),
        ("…and comes back", "InReview@-1 Denied@-1:x - - Denied@-1:x", "denied#1 changed#1 changed#1"),
        ("…before the second look", "InReview@-1 Denied@-1:x - Denied@-1:x", "denied#1"),
        (
            "the whole story",
            "- InReview@1 Denied@1:x - - InReview@3 Approved",
            "submitted#1 denied#1 changed#1 submitted#2 approved#2",
        ),
        ("a review vanishes", "InReview@-1 - - -", "vanished#1"),
        ("…and was not gone", "InReview@-1 - - InReview@-1 Approved@-1", "vanished#1 changed#1 approved#1"),
        ("…without dates it is a new one", "InReview - - InReview", "vanished#1 submitted#2"),
        ("one empty answer is nothing", "InReview@-1 - InReview@-1 - InReview@-1", ""),
        ("an approval is revoked", "InReview@-1 Approved@-1 Denied@-1:No-longer", "approved#1 revoked#1"),
        ("…one that was there before us, too", "Approved@-9 Denied@-9:No-longer", "revoked#1"),
        ("…and given back", "Approved@-9 Denied@-9:x Approved@-9", "revoked#1 approved#1"),
        ("an approval is gone at the third look", "Approved@-9 - - - -", "revoked#1"),
        ("…not at the second", "Approved@-9 - - Approved@-9", ""),
        ("…and when it comes back that is told", "Approved@-9 - - - Approved@-9", "revoked#1 approved#1"),
        (
            "an answer from the past is no news",
            "InReview@1 Approved@1 InReview@1 Approved@1",
            "approved#1 changed#1 changed#1",
        ),
        (
            "…nor a denial from the past",
            "Denied@-9:x InReview@1 Approved@1 Denied@-9:x Approved@1",
            "submitted#2 approved#2 changed#2 changed#2",
        ),
        ("a date that appears is no news", "InReview InReview@-1 Denied@-1:x Denied:x", "denied#1"),
        (
            "a stale review without its date begins nothing",
            "InReview@-1 Denied@-1:x InReview@-1 InReview Denied@-1:x",
            "denied#1 changed#1 changed#1",
        ),
        ("a date written otherwise is no news", "Approved@-1 Approved Approved@-1", ""),
    ];
    for (name, answers, expected) in table {
        assert_eq!(news(answers).join(" "), expected, "{name}: {answers}");
    }
}

#[test]
fn a_look_that_comes_too_early_does_not_count() {
    let before = compare(&[], &Snapshot::of([entry("InReview", None, None)]), &look(at(0), None));
    let mut beliefs: Vec<_> = before.into_iter().map(|(belief, _)| belief).collect();
    for second in [10, 20, 30, 129] {
        let steps = compare(&beliefs, &Snapshot::default(), &look(at(second), Some(at(0))));
        assert!(steps.iter().all(|(_, change)| change.is_none()), "at {second} s");
        beliefs = steps.into_iter().map(|(belief, _)| belief).collect();
    }
    let steps = compare(&beliefs, &Snapshot::default(), &look(at(130), Some(at(129))));
    let change = steps[0].1.as_ref().expect("the second look");
    assert_eq!((change.event, change.last_seen_before_at), (EventType::Vanished, Some(at(0))));
}

fn look(now: Timestamp, last_seen_at: Option<Timestamp>) -> Look {
    let second_look = Duration::from_mins(2);
    Look { now, last_seen_at, news_since: Some(WATCHING), second_look, third_look: Duration::from_hours(1) }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let name = prop::sample::select(vec!["Education", "government_community_cloud", "StateOwnedEntity"]);
    let status = prop::sample::select(vec!["", "InReview", "Approved", "Denied", "Expired"]);
    let reason = prop::option::of("[a-c]");
    (name, status, reason, prop::option::of(0_i64..5)).prop_map(|(name, status, reason, day)| Entry {
        qualification: name.to_owned(),
        vetting_status: (!status.is_empty()).then(|| status.to_owned()),
        vetting_reason: reason,
        created_at: day.map(|day| Timestamp::from_millis(WATCHING.as_millis() + day * 86_400_000)),
    })
}

proptest! {
    #[test]
    fn the_same_answer_twice_is_never_news(answers in prop::collection::vec(prop::collection::vec(any_entry(), 1..4), 1..8)) {
        let (mut beliefs, mut last) = (Vec::new(), None);
        for (hour, answer) in answers.iter().enumerate() {
            for again in [false, true] {
                let now = at(3600 * u64::try_from(hour).unwrap() + u64::from(again));
                let steps = compare(&beliefs, &Snapshot::of(answer.clone()), &look(now, last));
                prop_assert!(!again || steps.iter().all(|(_, change)| change.is_none()));
                beliefs = steps.into_iter().map(|(belief, _)| belief).collect();
                last = Some(now);
            }
        }
    }

    #[test]
    fn attempts_only_go_up_and_only_by_one(answers in prop::collection::vec(prop::collection::vec(any_entry(), 0..4), 1..12)) {
        let (mut beliefs, mut last): (Vec<Belief>, _) = (Vec::new(), None);
        for (hour, answer) in answers.into_iter().enumerate() {
            let now = at(7200 * u64::try_from(hour).unwrap());
            let after: Vec<_> = compare(&beliefs, &Snapshot::of(answer), &look(now, last)).into_iter().map(|(b, _)| b).collect();
            for (old, new) in beliefs.iter().zip(&after) {
                prop_assert!(new.review.attempt == old.review.attempt || new.review.attempt == old.review.attempt + 1);
            }
            prop_assert!(after.len() >= beliefs.len());
            beliefs = after;
            last = Some(now);
        }
    }
}
