//! What holds of every sequence of answers: a property for each rule of what counts as news.

use super::*;

/// One look at a customer: so long after the last, with this answer, or none that was understood.
type Step = (u64, Option<Vec<Entry>>);

/// A look with what was believed before, and what came of it.
struct Seen {
    look: Look,
    answer: Snapshot,
    before: Vec<Belief>,
    after: Vec<(Belief, Option<Change>)>,
}

impl Seen {
    /// Of each qualification: what was believed (`None`: it was never seen), what is now, and what changed.
    fn each(&self) -> impl Iterator<Item = (Option<&Belief>, &Belief, Option<&Change>)> {
        let before = self.before.iter().map(Some).chain(std::iter::repeat(None));
        before.zip(&self.after).map(|(before, (after, change))| (before, after, change.as_ref()))
    }
}

fn seen(steps: &[Step], doubt: impl Fn(Timestamp) -> Doubt) -> Vec<Seen> {
    let (mut now, mut last_seen_at, mut before) = (at(0), None, Vec::new());
    let mut all: Vec<Seen> = Vec::new();
    for (seconds, answer) in steps {
        now = now.after(Duration::from_secs(*seconds));
        let Some(answer) = answer else { continue };
        let (answer, look) = (Snapshot::of(answer.clone()), Look { doubt: doubt(now), ..look(now, last_seen_at) });
        let after = compare(&before, &answer, &look);
        let believed = after.iter().map(|(belief, _)| belief.clone()).collect();
        all.push(Seen { look, answer, before: std::mem::replace(&mut before, believed), after });
        last_seen_at = Some(now);
    }
    all
}

fn usual(steps: &[Step]) -> Vec<Seen> {
    seen(steps, |_| Doubt::Usual)
}

/// From seconds to hours; a sixth of the looks fails.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop::sample::select(vec![1, 60, 121, 900, 3601, 7200, 90_000]);
    let answer = prop::option::weighted(0.85, prop::collection::vec(any_entry(), 0..4));
    prop::collection::vec((pause, answer), 1..14)
}

fn key(qualification: &str) -> String {
    crate::qualification::key(qualification)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_difference_is_one_event_and_nothing_else_is_one(steps in steps()) {
        for seen in usual(&steps) {
            for (before, after, change) in seen.each() {
                let Some(before) = before else { continue };
                let differs = match (&before.entry, &after.entry) {
                    (Some(old), Some(new)) => !says_the_same(old, new) || before.review.attempt != after.review.attempt,
                    (None, None) => false,
                    _ => true,
                };
                prop_assert_eq!(change.is_some(), differs, "{:?} -> {:?}", before, after);
            }
        }
    }

    #[test]
    fn the_same_answer_twice_is_never_news(steps in steps()) {
        let twice: Vec<Step> = steps.into_iter().flat_map(|(s, answer)| [(s, answer.clone()), (1, answer)]).collect();
        let answers: Vec<_> = usual(&twice);
        for pair in answers.chunks(2) {
            prop_assert!(pair[1].after.iter().all(|(_, change)| change.is_none()));
        }
    }

    #[test]
    fn the_first_sight_is_silent_but_for_a_verdict_on_a_review_that_began_on_our_watch(
        entries in prop::collection::vec(any_entry(), 0..4), joined: bool
    ) {
        let look = Look { news_since: (!joined).then_some(WATCHING), ..look(at(0), None) };
        for (belief, change) in compare(&[], &Snapshot::of(entries), &look) {
            let is_verdict = matches!(belief.status(), Some(Status::Verdict(_)));
            let is_ours = joined || belief.entry.as_ref().and_then(|e| e.created_at).is_some_and(|at| at > WATCHING);
            prop_assert_eq!(change.is_some(), is_verdict && is_ours);
            prop_assert!(change.is_none_or(|change| change.first_seen && change.from.is_none()));
        }
    }

    #[test]
    fn only_what_an_answer_says_is_a_verdict(steps in steps()) {
        for seen in usual(&steps) {
            for (_, _, change) in seen.each() {
                let Some(change) = change else { continue };
                let word = seen.answer.get(&key(&change.qualification)).and_then(|entry| entry.vetting_status.as_deref());
                match change.event {
                    EventType::Approved => prop_assert_eq!(word, Some("Approved")),
                    EventType::Denied => prop_assert_eq!(word, Some("Denied")),
                    EventType::Revoked => prop_assert!(matches!(word, None | Some("Denied"))),
                    EventType::Vanished => prop_assert_eq!(word, None),
                    EventType::Submitted => prop_assert_eq!(word, Some("InReview")),
                    event => prop_assert_eq!(event, EventType::Changed),
                }
            }
        }
    }

    #[test]
    fn an_approval_is_told_once_for_each_attempt_and_date_unless_it_was_taken_back(steps in steps()) {
        let mut last: std::collections::BTreeMap<String, (EventType, u32, Option<Timestamp>)> = std::collections::BTreeMap::new();
        for seen in usual(&steps) {
            for (_, _, change) in seen.each() {
                let Some(change) = change else { continue };
                let (EventType::Approved | EventType::Denied | EventType::Revoked) = change.event else { continue };
                let now = (change.event, change.review.attempt, change.created_at);
                let before = last.insert(key(&change.qualification), now);
                let is_same = |(event, attempt, date)| (event, attempt) == (now.0, now.1) && same_date(date, now.2);
                prop_assert!(change.event != EventType::Approved || !before.is_some_and(is_same), "twice: {:?}", change);
                prop_assert!(
                    change.event != EventType::Denied || before.is_none_or(|(event, ..)| event != EventType::Approved),
                    "after an approval a denial is a revocation"
                );
            }
        }
    }

    #[test]
    fn a_revocation_takes_back_an_approval(steps in steps()) {
        for seen in usual(&steps) {
            for (before, _, change) in seen.each() {
                if change.is_some_and(|change| change.event == EventType::Revoked) {
                    let before = before.expect("something was believed");
                    let told = before.told.as_ref().is_some_and(|told| told.verdict == Verdict::Approved);
                    prop_assert!(told || before.status() == Some(Status::Verdict(Verdict::Approved)));
                }
            }
        }
    }

    #[test]
    fn attempts_only_go_up_and_only_by_one_and_never_by_what_is_of_the_past(steps in steps()) {
        for seen in usual(&steps) {
            for (before, after, _) in seen.each() {
                let before = before.map_or_else(Review::default, |before| before.review);
                prop_assert!((before.attempt..=before.attempt + 1).contains(&after.review.attempt));
                let written = after.entry.as_ref().and_then(|entry| entry.created_at);
                let known = before.created_at.zip(written);
                let is_past = known.is_some_and(|(known, written)| written.as_secs() <= known.as_secs());
                if is_past && before.attempt > 0 {
                    prop_assert_eq!(before.attempt, after.review.attempt);
                }
            }
        }
    }

    #[test]
    fn absent_is_believed_at_the_second_look_and_of_an_approval_at_the_third(steps in steps()) {
        let all = usual(&steps);
        for (n, now) in all.iter().enumerate() {
            for (before, after, _) in now.each() {
                let Some(old) = before.and_then(|before| before.entry.as_ref()) else { continue };
                if after.entry.is_some() {
                    continue;
                }
                // The looks since it was there last.
                let there = all[..n].iter().rposition(|seen| seen.answer.get(&old.key()).is_some()).expect("it was there");
                let looks = &all[there + 1..=n];
                let first = looks[0].look.now;
                let (least, wait) = match old.status() {
                    Status::Verdict(Verdict::Approved) => (3, now.look.second_look + now.look.third_look),
                    _ => (2, now.look.second_look),
                };
                prop_assert!(looks.len() >= least && now.look.now.since(first) >= wait, "after {} looks", looks.len());
            }
        }
    }

    #[test]
    fn while_answers_are_implausible_nothing_is_gone_before_two_looks_an_hour_apart(steps in steps(), since in 0_u64..20_000) {
        let since = at(since);
        for seen in seen(&steps, |_| Doubt::ImplausibleSince(since)) {
            for (before, after, _) in seen.each() {
                let is_gone = before.is_some_and(|before| before.entry.is_some()) && after.entry.is_none();
                prop_assert!(!is_gone || seen.look.now >= since.after(2 * DOUBT), "gone at {}", seen.look.now);
            }
        }
    }

    #[test]
    fn what_a_person_accepts_is_what_was_missing_then(steps in steps(), accepted in 0_u64..20_000) {
        let accepted = at(accepted);
        let accept = |now: Timestamp| if now < accepted { Doubt::Usual } else { Doubt::AcceptedAt(accepted) };
        for seen in seen(&steps, accept) {
            for (before, after, _) in seen.each() {
                let Some(missing) = before.and_then(|before| before.missing) else { continue };
                if seen.look.now >= accepted && missing.since <= accepted && seen.answer.entries().is_empty() {
                    prop_assert!(after.entry.is_none());
                }
            }
        }
    }

    #[test]
    fn a_change_fell_between_the_last_look_that_saw_it_otherwise_and_this_one(steps in steps()) {
        let mut there: std::collections::BTreeMap<String, Timestamp> = std::collections::BTreeMap::new();
        for seen in usual(&steps) {
            for (before, after, change) in seen.each() {
                let Some(change) = change.filter(|change| !change.first_seen) else { continue };
                let expected = match (before, &after.entry) {
                    (_, None) => there.get(&key(&after.qualification)).copied(),
                    (_, Some(_)) => seen.look.last_seen_at,
                };
                prop_assert_eq!(change.last_seen_before_at, expected);
            }
            there.extend(seen.answer.entries().iter().map(|entry| (entry.key(), seen.look.now)));
        }
    }

    #[test]
    fn no_answer_makes_anything_forgotten(steps in steps()) {
        for seen in usual(&steps) {
            prop_assert!(seen.after.len() >= seen.before.len());
            for (before, after, _) in seen.each() {
                prop_assert!(before.is_none_or(|before| key(&before.qualification) == key(&after.qualification)));
            }
        }
    }
}
