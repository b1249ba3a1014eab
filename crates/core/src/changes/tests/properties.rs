//! Properties of every sequence of responses, one for each rule of what is notified.

use std::collections::BTreeMap;

use super::*;

/// A verdict as the page of rules defines it.
#[derive(Debug, Clone, Default)]
struct Verdicts {
    word: Option<Verdict>,
    reason: Option<String>,
    date: Option<Timestamp>,
    attempt: u32,
}

impl Verdicts {
    fn shown(state: &QualificationState, written: Option<&Entry>) -> Self {
        let Some((entry, Status::Verdict(word))) = written.map(|entry| (entry, entry.status())) else {
            return Self::default();
        };
        Self { word: Some(word), reason: entry.reason_key(), date: entry.created_at, attempt: state.review.attempt }
    }

    fn is_denied(&self) -> bool {
        self.word == Some(Verdict::Denied)
    }

    fn equals(&self, other: &Self) -> bool {
        let is_same_date = self.date.zip(other.date).map(|(a, b)| a.as_secs().abs_diff(b.as_secs()));
        let is_same = self.attempt == other.attempt;
        self.word.is_some()
            && self.word == other.word
            && (!self.is_denied() || self.reason == other.reason)
            && is_same_date.map_or(is_same, |apart| apart == 0 || (is_same && apart < 3600))
    }
}

fn any_verdict() -> impl Strategy<Value = Entry> {
    (any_entry(), any::<bool>()).prop_map(|(entry, good)| Entry {
        vetting_status: Some(if good { "Approved" } else { "Denied" }.to_owned()),
        ..entry
    })
}

/// One poll: seconds since the last, and the response, `None` if not understood.
type Step = (u64, Option<Vec<Entry>>);

/// A poll with the states before and after it.
struct Seen {
    ctx: EvalContext,
    answer: Snapshot,
    before: Vec<QualificationState>,
    after: Vec<(QualificationState, Option<Change>)>,
}

impl Seen {
    /// For each qualification: the state before (`None` if never seen), the state after, and the change.
    fn each(&self) -> impl Iterator<Item = (Option<&QualificationState>, &QualificationState, Option<&Change>)> {
        let before = self.before.iter().map(Some).chain(std::iter::repeat(None));
        before.zip(&self.after).map(|(before, (after, change))| (before, after, change.as_ref()))
    }
}

fn seen(steps: &[Step], policy: impl Fn(Timestamp) -> AbsencePolicy) -> Vec<Seen> {
    let (mut now, mut last_seen_at, mut before) = (at(0), None, Vec::new());
    let mut all: Vec<Seen> = Vec::new();
    for (seconds, answer) in steps {
        now = now.after(Duration::from_secs(*seconds));
        let Some(answer) = answer else { continue };
        let (answer, ctx) =
            (Snapshot::of(answer.clone()), EvalContext { absence_policy: policy(now), ..ctx_at(now, last_seen_at) });
        let after = compare(&before, &answer, &ctx);
        let states = after.iter().map(|(state, _)| state.clone()).collect();
        all.push(Seen { ctx, answer, before: std::mem::replace(&mut before, states), after });
        last_seen_at = Some(now);
    }
    all
}

fn usual(steps: &[Step]) -> Vec<Seen> {
    seen(steps, |_| AbsencePolicy::Confirm)
}

/// Seconds to hours apart; 15 % of the polls fail.
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
                    (Some(old), Some(new)) => !is_equivalent(old, new) || before.review.attempt != after.review.attempt,
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
        let ctx = EvalContext { notify_since: (!joined).then_some(WATCHING), ..ctx_at(at(0), None) };
        for (state, change) in compare(&[], &Snapshot::of(entries), &ctx) {
            let is_verdict = matches!(state.status(), Some(Status::Verdict(_)));
            let is_ours = joined || state.entry.as_ref().and_then(|e| e.created_at).is_some_and(|at| at > WATCHING);
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
                    EventType::Vanished => prop_assert!(matches!(word, None | Some("Approved" | "Denied"))),
                    EventType::Submitted => prop_assert_eq!(word, Some("InReview")),
                    event => prop_assert_eq!(event, EventType::Changed),
                }
            }
        }
    }

    #[test]
    fn what_equals_the_last_notified_verdict_is_not_notified_again(steps in steps()) {
        let mut last: BTreeMap<String, Verdicts> = BTreeMap::new();
        for seen in usual(&steps) {
            for (before, after, change) in seen.each() {
                let about = key(&after.qualification);
                let Some(change) = change else {
                    // The first response is stored silently.
                    let known = last.entry(about.clone()).or_insert_with(|| Verdicts::shown(after, after.entry.as_ref()));
                    // A date that appears is the verdict's.
                    let now = Verdicts::shown(after, seen.answer.get(&about));
                    if known.date.is_none() && known.equals(&now) {
                        known.date = now.date;
                    }
                    continue;
                };
                if change.event == EventType::Revoked && after.entry.is_none() {
                    last.insert(about.clone(), Verdicts::default());
                }
                let (EventType::Approved | EventType::Denied | EventType::Revoked) = change.event else { continue };
                let Some(written) = seen.answer.get(&about) else { continue };
                let now = Verdicts::shown(after, Some(written));
                let last = last.insert(about, now.clone()).unwrap_or_default();
                prop_assert!(!last.equals(&now), "twice: {:?} after {:?}", now, last);
                let is_revoked = change.event == EventType::Revoked;
                let was_approved = before.and_then(|before| before.last_notified.as_ref()).is_some_and(|last| last.verdict == Verdict::Approved);
                prop_assert_eq!(is_revoked, was_approved && now.is_denied(), "after an approval a denial is a revocation");
            }
        }
    }

    #[test]
    fn a_verdict_that_stays_is_notified_once_within_three_polls_unless_it_equals_the_last_notified(
        steps in steps(), verdict in any_verdict(), pauses in prop::collection::vec(3600_u64..100_000, 5)
    ) {
        let about = verdict.key();
        let stays = pauses.iter().map(|pause| (*pause, Some(vec![verdict.clone()])));
        let all: Vec<Step> = steps.iter().cloned().chain(stays).collect();
        let all = usual(&all);
        let last_polls = all.split_at(all.len() - 5).1;
        let of = |seen: &Seen| seen.after.iter().find(|(state, _)| key(&state.qualification) == about).cloned().expect("it is known");
        let last = last_polls[0].before.iter().find(|state| key(&state.qualification) == about).and_then(|state| state.last_notified.clone());
        let changes: Vec<(usize, EventType)> = last_polls.iter().map(of).enumerate().filter_map(|(n, (_, change))| Some((n, change?.event))).collect();
        let loud = changes.iter().filter(|(_, event)| *event != EventType::Changed).count();
        prop_assert!(changes.len() <= 1 && changes.iter().all(|(n, _)| *n < 3), "{:?}", changes);
        let (state, _) = of(&last_polls[2]);
        prop_assert!(state.entry.as_ref().is_some_and(|entry| is_equivalent(entry, &verdict)) && state.pending.is_none());
        if loud == 0 && last_polls[0].ctx.last_seen_at.is_some() {
            // Then it was notified before.
            let last = last.expect("last before");
            let now = Verdicts::shown(&state, Some(&verdict));
            let before = Verdicts {
                word: Some(last.verdict), reason: last.reason_key, date: last.created_at, attempt: last.attempt,
            };
            prop_assert!(before.equals(&now), "{:?} is not notified after {:?}", now, before);
        }
    }

    #[test]
    fn a_verdict_of_the_past_that_is_shown_once_changes_nothing(
        steps in steps(), verdict in any_verdict(), pause in 1_u64..100_000
    ) {
        let all = usual(&steps);
        let Some(last) = all.last() else { return Ok(()) };
        let states: Vec<QualificationState> = last.after.iter().map(|(state, _)| state.clone()).collect();
        let Some(state) = states.iter().find(|state| key(&state.qualification) == verdict.key() && state.pending.is_none()) else { return Ok(()) };
        // Older than the stored entry and than its review.
        let is_older = |date: Option<Timestamp>| {
            date.zip(verdict.created_at).is_some_and(|(date, created)| date.as_secs() - created.as_secs() >= 3600)
        };
        prop_assume!(is_older(state.review.created_at) && is_older(state.entry.as_ref().and_then(|entry| entry.created_at)));
        prop_assume!(state.last_notified.as_ref().is_none_or(|last| is_older(last.created_at)));
        let now = last.ctx.now.after(Duration::from_secs(pause));
        let stale = compare(&states, &Snapshot::of([verdict.clone()]), &ctx_at(now, Some(last.ctx.now)));
        let of = |steps: &[(QualificationState, Option<Change>)]| steps.iter().find(|(state, _)| key(&state.qualification) == verdict.key()).cloned().expect("it is known");
        let (waits, change) = of(&stale);
        prop_assert!(change.is_none() && QualificationState { pending: None, ..waits.clone() } == *state, "{:?}", change);
        prop_assert!(waits.pending.is_some());
        let states: Vec<QualificationState> = stale.into_iter().map(|(state, _)| state).collect();
        let truth = Snapshot::of(state.entry.clone());
        let (goes_on, change) = of(&compare(&states, &truth, &ctx_at(now.after(Duration::from_hours(2)), Some(now))));
        prop_assert!(change.is_none() && goes_on.pending.is_none() && goes_on.entry == state.entry, "{:?}", change);
    }

    #[test]
    fn a_revocation_takes_back_an_approval(steps in steps()) {
        for seen in usual(&steps) {
            for (before, _, change) in seen.each() {
                if change.is_some_and(|change| change.event == EventType::Revoked) {
                    let before = before.expect("a state was stored");
                    let last = before.last_notified.as_ref().is_some_and(|last| last.verdict == Verdict::Approved);
                    prop_assert!(last || before.status() == Some(Status::Verdict(Verdict::Approved)));
                }
            }
        }
    }

    #[test]
    fn attempts_only_go_up_and_only_by_one_and_never_by_what_is_of_the_past(steps in steps()) {
        for seen in usual(&steps) {
            for (before, after, _) in seen.each() {
                let last = before.and_then(|before| before.last_notified.as_ref()).map(|last| last.attempt);
                let before = before.map_or_else(Review::default, |before| before.review);
                // The attempt of an undated stale copy is undone.
                let is_taken_back = before.created_at.is_none() && last == Some(after.review.attempt);
                prop_assert!((before.attempt..=before.attempt + 1).contains(&after.review.attempt) || is_taken_back);
                let written = after.entry.as_ref().and_then(|entry| entry.created_at);
                let known = before.created_at.zip(written);
                let is_past = known.is_some_and(|(known, written)| written.as_secs() <= known.as_secs());
                if is_past && before.attempt > 0 {
                    prop_assert_eq!(before.attempt, after.review.attempt);
                }
                prop_assert!(before.attempt != after.review.attempt || before.created_at.is_none() || before.created_at == after.review.created_at);
            }
        }
    }

    #[test]
    fn dates_less_than_an_hour_apart_are_one_review_until_a_verdict_or_an_absence(
        entries in prop::collection::vec((prop::sample::select(vec!["InReview", "Expired"]), 0_u64..3600), 1..8),
        verdict in prop::sample::select(vec!["Approved", "Denied"]), last in 0_u64..3600
    ) {
        let entry_at = |status: &str, second: u64| vec![entry(status, None, Some(at(second)))];
        let began = [(1, Some(vec![])), (3600, Some(entry_at("InReview", 0)))];
        let goes_on = entries.iter().map(|(status, second)| (3600, Some(entry_at(status, *second))));
        let ends = [(3600, Some(entry_at(verdict, last))), (3600, Some(entry_at(verdict, 0)))];
        let steps: Vec<Step> = began.into_iter().chain(goes_on).chain(ends).collect();
        let changes = usual(&steps).iter().flat_map(|seen| seen.each().filter_map(|(_, _, change)| change.cloned()).collect::<Vec<_>>()).collect::<Vec<_>>();
        prop_assert!(changes.iter().all(|change| change.review.attempt == 1 && change.review.created_at == Some(at(0))));
        let loud: Vec<_> = changes.iter().map(|change| change.event).filter(|event| *event != EventType::Changed).collect();
        let expected = if verdict == "Approved" { EventType::Approved } else { EventType::Denied };
        prop_assert_eq!(loud, [EventType::Submitted, expected]);
    }

    #[test]
    fn an_absence_is_accepted_at_the_second_poll_and_that_of_an_approval_at_the_third(steps in steps()) {
        let all = usual(&steps);
        for (n, now) in all.iter().enumerate() {
            for (before, after, _) in now.each() {
                let Some(old) = before.and_then(|before| before.entry.as_ref()) else { continue };
                if after.entry.is_some() {
                    continue;
                }
                // The polls since it was last there.
                let there = all[..n].iter().rposition(|seen| seen.answer.get(&old.key()).is_some()).expect("it was there");
                let polls = &all[there + 1..=n];
                let first = polls[0].ctx.now;
                let (least, wait) = match old.status() {
                    Status::Verdict(Verdict::Approved) => (3, now.ctx.first_confirmation + now.ctx.second_confirmation),
                    _ => (2, now.ctx.first_confirmation),
                };
                prop_assert!(polls.len() >= least && now.ctx.now.since(first) >= wait, "after {} polls", polls.len());
            }
        }
    }

    #[test]
    fn during_a_mass_absence_nothing_is_gone_before_two_polls_an_hour_apart(steps in steps(), since in 0_u64..20_000) {
        let since = at(since);
        for seen in seen(&steps, |_| AbsencePolicy::MassAbsence(since)) {
            for (before, after, _) in seen.each() {
                let Some(old) = before.and_then(|before| before.entry.as_ref()) else { continue };
                let written = seen.answer.get(&key(&after.qualification)).and_then(|entry| entry.created_at);
                let is_older = old.created_at.zip(written).is_some_and(|(old, new)| old.as_secs() - new.as_secs() >= 3600);
                let is_lost = after.entry.is_none() || (is_older && after.pending.is_none());
                prop_assert!(!is_lost || seen.ctx.now >= since.after(2 * MASS_ABSENCE_DELAY), "lost at {}", seen.ctx.now);
            }
        }
    }

    #[test]
    fn what_a_person_accepts_is_what_was_missing_then(steps in steps(), accepted in 0_u64..20_000) {
        let accepted = at(accepted);
        let accept = |now: Timestamp| if now < accepted { AbsencePolicy::Confirm } else { AbsencePolicy::AcceptedAt(accepted) };
        for seen in seen(&steps, accept) {
            for (before, after, _) in seen.each() {
                let missing = before.and_then(|before| before.pending.as_ref()).filter(|pending| pending.shows.is_none());
                let Some(missing) = missing else { continue };
                if seen.ctx.now >= accepted && missing.since <= accepted && seen.answer.entries().is_empty() {
                    prop_assert!(after.entry.is_none());
                }
            }
        }
    }

    #[test]
    fn a_change_fell_between_the_last_poll_that_saw_it_otherwise_and_this_one(steps in steps()) {
        let mut there: BTreeMap<String, Timestamp> = BTreeMap::new();
        for seen in usual(&steps) {
            for (before, after, change) in seen.each() {
                let Some(change) = change.filter(|change| !change.first_seen) else { continue };
                let expected = match (before, &after.entry) {
                    (_, None) => there.get(&key(&after.qualification)).copied(),
                    (Some(before), Some(_)) => {
                        let pending = before.pending_as(seen.answer.get(&key(&after.qualification)));
                        pending.map_or(seen.ctx.last_seen_at, |pending| pending.last_other_at)
                    }
                    (None, Some(_)) => seen.ctx.last_seen_at,
                };
                prop_assert_eq!(change.last_seen_before_at, expected);
            }
            there.extend(seen.answer.entries().iter().map(|entry| (entry.key(), seen.ctx.now)));
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
