mod properties;

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

#[derive(serde::Deserialize)]
struct Sequences {
    sequence: Vec<Sequence>,
}

/// As the head of the file explains.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sequence {
    shows: String,
    answers: String,
    news: String,
    #[serde(default)]
    joined: bool,
}

const NAMES: [(&str, &str); 3] = [("GCC", "GovernmentCommunityCloud"), ("SOE", "StateOwnedEntity"), ("None", "None")];

impl Sequence {
    fn play(&self) -> String {
        let (mut states, mut last_seen_at, mut seen) = (Vec::new(), None, Vec::new());
        let (mut now, mut pause) = (at(0), Duration::from_hours(1));
        for word in self.answers.split_whitespace() {
            if let Some(wait) = word.strip_prefix('>') {
                pause = humantime::parse_duration(wait).unwrap();
                continue;
            }
            now = now.after(std::mem::replace(&mut pause, Duration::from_hours(1)));
            if word == "?" {
                continue;
            }
            let entries = word.split('+').filter(|entry| *entry != "-").map(written);
            let ctx = EvalContext { notify_since: (!self.joined).then_some(WATCHING), ..ctx_at(now, last_seen_at) };
            let steps = compare(&states, &Snapshot::of(entries), &ctx);
            for change in steps.iter().filter_map(|(_, change)| change.as_ref()) {
                let name = NAMES.iter().find(|(_, long)| *long == change.qualification);
                let name = name.map(|(short, _)| format!("{short}/")).unwrap_or_default();
                let event = change.event.as_str().replace("vetting.", "");
                seen.push(format!("{name}{event}#{}", change.review.attempt));
            }
            states = steps.into_iter().map(|(state, _)| state).collect();
            last_seen_at = Some(now);
        }
        seen.join(" ")
    }
}

fn written(word: &str) -> Entry {
    let (name, word) = word.split_once('/').unwrap_or(("Education", word));
    let (word, reason) = word.split_once(':').map_or((word, None), |(word, reason)| (word, Some(reason)));
    let (status, date) = word.split_once('@').map_or((word, None), |(status, date)| (status, Some(date)));
    let created = date.map(|date| {
        let (day, by) = date.find(['<', '>']).map_or((date, ""), |n| date.split_at(n));
        let day = Timestamp::from_millis(WATCHING.as_millis() + day.parse::<i64>().unwrap() * 86_400_000);
        match by.split_at_checked(1) {
            Some(("<", by)) => day.before(humantime::parse_duration(by).unwrap()),
            Some((_, by)) => day.after(humantime::parse_duration(by).unwrap()),
            None => day,
        }
    });
    let name = NAMES.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
    Entry { qualification: name.to_owned(), ..entry(if status == "S" { "" } else { status }, reason, created) }
}

#[test]
fn answers_and_their_news() {
    let table: Sequences = toml::from_str(include_str!("../../../../tests/data/sequences.toml")).unwrap();
    assert!(table.sequence.len() >= 60);
    let wrong = table.sequence.iter().filter(|sequence| sequence.play() != sequence.news);
    let wrong: Vec<_> = wrong.map(|s| format!("{}: {} → {} (not {})", s.shows, s.answers, s.play(), s.news)).collect();
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn a_confirmation_that_comes_too_early_does_not_count() {
    let before = compare(&[], &Snapshot::of([entry("InReview", None, None)]), &ctx_at(at(0), None));
    let mut states: Vec<_> = before.into_iter().map(|(state, _)| state).collect();
    for second in [10, 20, 30, 129] {
        let steps = compare(&states, &Snapshot::default(), &ctx_at(at(second), Some(at(0))));
        assert!(steps.iter().all(|(_, change)| change.is_none()), "at {second} s");
        states = steps.into_iter().map(|(state, _)| state).collect();
    }
    let steps = compare(&states, &Snapshot::default(), &ctx_at(at(130), Some(at(129))));
    let change = steps[0].1.as_ref().expect("the second confirmation");
    assert_eq!((change.event, change.last_seen_before_at), (EventType::Vanished, Some(at(0))));
    let state = &steps[0].0;
    assert_eq!((&state.entry, &state.pending, state.since), (&None, &None, at(130)));
}

/// Two minutes until the first confirmation, and an hour until the second.
#[test]
fn what_is_pending_has_a_time_for_its_next_confirmation_and_its_end() {
    let times = |confirmations, last_confirmed, absence_policy, needed, now| {
        let pending = Pending {
            shows: None,
            since: at(0),
            last_other_at: None,
            confirmations,
            last_confirmed_at: at(last_confirmed),
            until: at(0),
        };
        let ctx = EvalContext { absence_policy, ..ctx_at(at(now), Some(at(0))) };
        (pending.next_confirmation_at(&ctx), pending.until(needed, &ctx))
    };
    for policy in [AbsencePolicy::Confirm, AbsencePolicy::AcceptedAt(at(0))] {
        assert_eq!(times(1, 0, policy, 2, 0), (at(120), at(120)));
        assert_eq!(times(1, 0, policy, 3, 0), (at(120), at(120 + 3600)));
        assert_eq!(times(2, 120, policy, 3, 120), (at(120 + 3600), at(120 + 3600)));
    }
    // In a mass absence what was confirmed in its first hour does not count, and an hour is between two confirmations.
    let mass = AbsencePolicy::MassAbsence;
    assert_eq!(times(2, 120, mass(at(100)), 3, 200), (at(100 + 3600), at(100 + 7200)));
    assert_eq!(times(1, 3599, mass(at(0)), 3, 3599), (at(3600), at(7200)));
    assert_eq!(times(1, 3600, mass(at(0)), 3, 3600), (at(7200), at(7200)));
    // Before the control sample was polled: after as long as it has been pending, at least two minutes, at most an hour.
    for (now, next) in [(60, 180), (1000, 2000), (9000, 9000 + 3600)] {
        assert_eq!(times(1, 0, AbsencePolicy::SampleMissing, 3, now), (at(next), at(next)));
    }
}

#[test]
fn a_status_that_is_not_documented_is_named() {
    let unknown = |status| {
        let steps = compare(&[], &Snapshot::of([entry(status, None, None)]), &ctx_at(at(0), None));
        steps[0].0.unknown_status().map(str::to_owned)
    };
    assert_eq!(unknown("Expired").as_deref(), Some("Expired"));
    assert_eq!([unknown("Denied"), unknown("InReview"), unknown("")], [None, None, None]);
    assert_eq!(QualificationState::unseen("Education", at(0)).unknown_status(), None);
}

/// The states after these responses, each at its second after `at(0)`, and every change with its time.
fn after(answers: &[(u64, Entry)]) -> (Vec<QualificationState>, Vec<(u64, Change)>) {
    let (mut states, mut changes, mut last_seen_at) = (Vec::new(), Vec::new(), None);
    for (second, entry) in answers {
        let steps = compare(&states, &Snapshot::of([entry.clone()]), &ctx_at(at(*second), last_seen_at));
        changes.extend(steps.iter().filter_map(|(_, change)| Some((*second, change.clone()?))));
        states = steps.into_iter().map(|(state, _)| state).collect();
        last_seen_at = Some(at(*second));
    }
    (states, changes)
}

/// What a mass absence counts.
#[test]
fn an_entry_is_lost_if_it_is_missing_or_an_older_one_is_in_its_place() {
    let created = |hours: u64| Some(at(hours * 3600));
    let (states, _) = after(&[(36_000, entry("InReview", None, created(10)))]);
    assert!(states[0].loses(None) && !QualificationState::unseen("Education", at(0)).loses(None));
    assert!(!states[0].loses(Some(&entry("InReview", None, created(10)))));
    assert!(!states[0].loses(Some(&entry("Denied", Some("a"), created(10)))), "a verdict is none");
    assert!(states[0].loses(Some(&entry("InReview", None, created(8)))), "an older review");
    // Without dates: the last verdict again, though a review has begun since.
    let undated = [("Denied", Some("a")), ("InReview", None)].map(|(status, reason)| entry(status, reason, None));
    let (states, _) =
        after(&[(0, entry("InReview", None, None)), (3600, undated[0].clone()), (7200, undated[1].clone())]);
    assert!(states[0].loses(Some(&undated[0])) && !states[0].loses(Some(&entry("Denied", Some("b"), None))));
}

/// Dates are hours (and seconds) after `at(0)`, and each response comes an hour after the last one.
mod rules_of_a_review {
    use super::*;

    fn created(hours: u64, seconds: u64) -> Timestamp {
        at(hours * 3600 + seconds)
    }

    /// The state after these responses, the first of them at this hour.
    fn state(hour: u64, answers: &[Entry]) -> QualificationState {
        let answers: Vec<_> = (hour..).map(|hour| hour * 3600).zip(answers.iter().cloned()).collect();
        after(&answers).0.remove(0)
    }

    fn in_review(created: impl Into<Option<Timestamp>>) -> Entry {
        entry("InReview", None, created.into())
    }

    fn denied(created: impl Into<Option<Timestamp>>) -> Entry {
        entry("Denied", Some("a"), created.into())
    }

    /// Partner Center shows this some time after a denial.
    fn none() -> Entry {
        entry("", None, None)
    }

    fn needed(state: &QualificationState, entry: &Entry) -> u32 {
        state.confirmations_needed(Some(entry), &ctx_at(at(999 * 3600), None))
    }

    #[test]
    fn a_known_verdict_is_believed_at_once() {
        // Of the review that seemed to start since, nothing has a date; the verdict's is written by another program.
        let undone = state(20, &[in_review(created(10, 0)), denied(created(10, 0)), in_review(None)]);
        assert_eq!(undone.review.attempt, 2);
        assert_eq!(needed(&undone, &denied(created(9, 3590))), 1);
        assert!(!undone.undoes_undated_review(&denied(created(5, 0))), "that is an earlier verdict");
        let at_once =
            [(36_000, in_review(created(10, 0))), (36_002, denied(created(10, 0))), (36_010, in_review(None))];
        let at_once = after(&at_once).0.remove(0);
        assert!(at_once.undoes_undated_review(&denied(created(10, 1))));
        assert!(!at_once.undoes_undated_review(&denied(created(10, 2))), "dated when the other one had been seen");
        // Of this attempt, without a date, and with another one of this attempt.
        assert_eq!(needed(&state(20, &[in_review(None), denied(None), none()]), &denied(None)), 1);
        let dated = state(20, &[in_review(created(10, 0)), denied(created(10, 0)), none()]);
        assert_eq!(needed(&dated, &denied(created(9, 1800))), 1);
        let again = [in_review(created(10, 0)), denied(created(9, 1800)), in_review(created(10, 0))];
        assert_eq!(needed(&state(20, &again), &denied(created(9, 1800))), 1);
    }

    #[test]
    fn a_review_that_begins_after_a_verdict_is_another_one() {
        let decided = state(20, &[in_review(created(10, 0)), denied(created(10, 0))]);
        assert!(decided.starts_review(&in_review(created(10, 5))), "no program writes a review after its verdict");
        assert!(!decided.starts_review(&entry("Denied", Some("b"), Some(created(10, 5)))));
        let at_once = after(&[(36_001, in_review(created(10, 0))), (36_002, denied(created(10, 0)))]).0.remove(0);
        assert!(at_once.starts_review(&entry("Denied", Some("b"), Some(created(10, 5)))), "dated after it was seen");
        let later = state(20, &[in_review(created(10, 0)), denied(created(10, 1800))]);
        assert!(!later.starts_review(&entry("Denied", Some("b"), Some(created(10, 1805)))));
        assert!(state(20, &[in_review(None), denied(None), none()]).starts_review(&in_review(None)));
    }

    #[test]
    fn a_verdict_takes_the_first_date_that_may_be_its_own() {
        let told = |entry| state(20, &[in_review(created(10, 0)), entry]);
        let date = |state: &QualificationState, entry: &Entry| {
            let last = state.last_notified.clone().unwrap().with_date(entry, &state.review);
            (last.created_at, last.review_created_at)
        };
        let mut undated = told(denied(None));
        undated.last_notified.as_mut().unwrap().review_created_at = None;
        let its_own = (Some(created(12, 0)), Some(created(10, 0)));
        assert_eq!(date(&undated, &denied(created(12, 0))), its_own);
        let other = entry("Denied", Some("b"), Some(created(12, 0)));
        for entry in [other, in_review(created(12, 0)), denied(created(8, 0))] {
            assert_eq!(date(&undated, &entry), (None, None), "{entry:?}");
        }
        let dated = told(denied(created(10, 1800)));
        let first = (Some(created(10, 1800)), Some(created(10, 0)));
        assert_eq!(date(&dated, &denied(created(10, 2400))), first, "the first one stays");
    }

    #[test]
    fn a_date_of_the_verdict_before_is_none_of_the_review() {
        let date = |state: &QualificationState, created| state.review_with(&in_review(created)).created_at;
        let begun = state(20, &[in_review(created(10, 0)), denied(created(10, 0)), in_review(None)]);
        assert_eq!(date(&begun, created(10, 0)), None);
        assert_eq!(date(&begun, created(11, 0)), Some(created(11, 0)));
        assert_eq!(begun.review_with(&in_review(created(11, 0))).submitted_at, Some(created(11, 0)));
        let undated = state(20, &[in_review(None), denied(None), in_review(None)]);
        assert_eq!(date(&undated, created(11, 0)), Some(created(11, 0)));
        // Decided with a date before that of the last verdict, which several polls confirm.
        let early = entry("Denied", Some("b"), Some(created(5, 0)));
        let answers = [in_review(created(10, 0)), denied(created(10, 0)), in_review(None)];
        let decided = state(20, &[&answers[..], &[early.clone(), early.clone(), early.clone()]].concat());
        assert_eq!((decided.review.attempt, decided.review.created_at), (2, None));
        assert_eq!(decided.last_notified.as_ref().map(|last| last.attempt), Some(2));
        assert_eq!(date(&decided, created(5, 0)), Some(created(5, 0)));
    }
}

#[test]
fn a_create_date_that_is_rounded_or_written_as_a_day_or_in_another_zone_costs_no_verdict() {
    let day = Timestamp::from_millis(10 * 86_400_000);
    let submitted = day.after(Duration::from_hours(15));
    let earlier = |seconds: u64| submitted.before(Duration::from_secs(seconds));
    // Polls needed if the review was first seen minutes ago, and if longer ago.
    let dates =
        [(1, 0, 0), (10, 0, 0), (3599, 0, 0), (3600, 3, 2), (2 * 3600, 3, 2), (15 * 3600, 3, 2), (400 * 86_400, 3, 2)];
    for (seconds, young, known) in dates {
        for (seen_for, polls) in [(900, young), (4000, known)] {
            let review = (0, entry("InReview", None, Some(submitted)));
            let denied = |second: u64| (seen_for + second, entry("Denied", Some("x"), Some(earlier(seconds))));
            let answers = [review, denied(0), denied(120), denied(3720), denied(7320)];
            let changes = after(&answers).1;
            let [(second, change)] = changes.as_slice() else { panic!("{seconds} s early: {changes:?}") };
            let expected = seen_for + [0, 0, 120, 3720][polls];
            assert_eq!(
                (*second, change.event),
                (expected, EventType::Denied),
                "{seconds} s early, seen for {seen_for}"
            );
            assert_eq!((change.review.attempt, change.last_seen_before_at), (1, Some(at(0))));
        }
    }
}

#[test]
fn a_pending_verdict_says_until_when_and_anything_else_drops_it() {
    let review = entry("InReview", None, Some(at(0)));
    let denied = entry("Denied", Some("x"), Some(at(0).before(Duration::from_hours(2))));
    let (states, changes) = after(&[(0, review.clone()), (60, denied.clone())]);
    let pending = states[0].pending.clone().expect("it waits");
    assert_eq!((pending.since, pending.until), (at(60), at(60 + 120 + 3600)));
    assert_eq!((states[0].status(), changes.len()), (Some(Status::InReview), 0));
    let (states, _) = after(&[(0, review.clone()), (60, denied.clone()), (180, denied.clone())]);
    assert_eq!(
        states[0].pending.as_ref().map(|pending| (pending.confirmations, pending.until)),
        Some((2, at(180 + 3600)))
    );
    for other in [review.clone(), entry("Denied", Some("y"), denied.created_at), entry("Expired", None, None)] {
        let answers = [(0, review.clone()), (60, denied.clone()), (180, other.clone()), (4000, denied.clone())];
        let (states, changes) = after(&answers);
        let denials = changes.iter().filter(|(_, change)| change.event == EventType::Denied);
        assert_eq!(denials.count(), 0, "{other:?}");
        assert_eq!(states[0].pending.as_ref().map(|pending| pending.confirmations), Some(1), "{other:?}");
    }
}

fn ctx_at(now: Timestamp, last_seen_at: Option<Timestamp>) -> EvalContext {
    let first_confirmation = Duration::from_mins(2);
    EvalContext {
        now,
        last_seen_at,
        submitted_at: None,
        notify_since: Some(WATCHING),
        first_confirmation,
        second_confirmation: Duration::from_hours(1),
        absence_policy: AbsencePolicy::Confirm,
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let name = prop::sample::select(vec!["Education", "government_community_cloud", "StateOwnedEntity"]);
    let status = prop::sample::select(vec!["", "InReview", "Approved", "Denied", "Expired"]);
    let reason = prop::option::of("[a-c]");
    (name, status, reason, any_date()).prop_map(|(name, status, reason, created_at)| Entry {
        qualification: name.to_owned(),
        vetting_status: (!status.is_empty()).then(|| status.to_owned()),
        vetting_reason: reason,
        created_at,
    })
}

/// No date, or one of five days as different programs write it: seconds or half an hour apart, or in another zone.
fn any_date() -> impl Strategy<Value = Option<Timestamp>> {
    let by = prop::sample::select(vec![0_i64, 0, 0, 3, -10, 1800, -1800, -3600, -7200, 7200]);
    let date = (-1_i64..5, by).prop_map(|(day, by)| WATCHING.as_millis() + day * 86_400_000 + by * 1000);
    prop::option::weighted(0.8, date.prop_map(Timestamp::from_millis))
}

#[test]
fn a_change_ends_a_review_only_if_the_end_was_seen() {
    use EventType::{Approved, Changed, Denied, Overdue, Revoked, Submitted, Vanished};
    let outcome = |event, from: &str, to: &str, first_seen| {
        let (from, to) = (Some(from.to_owned()), Some(to.to_owned()));
        let state = QualificationState::unseen("Education", at(0));
        let change = Change { from, to, first_seen, ..state.change(event, None, state.review, None) };
        change.outcome().map(Outcome::as_str)
    };
    for (event, from, to, ended) in [
        (Approved, "InReview", "Approved", Some("Approved")),
        (Approved, "Denied", "Approved", Some("Approved")),
        (Denied, "in_review", "DENIED", Some("Denied")),
        (Vanished, "InReview", ABSENT, Some("Vanished")),
        (Vanished, "InReview", "Denied", Some("Vanished")),
        // Denied after an approval: with a review in between, and without.
        (Revoked, "InReview", "Denied", Some("Denied")),
        (Revoked, "Approved", "Denied", Some("Revoked")),
        (Revoked, "Approved", ABSENT, Some("Revoked")),
        (Submitted, ABSENT, "InReview", None),
        (Changed, "InReview", "Denied", None),
        (Overdue, "InReview", "InReview", None),
    ] {
        assert_eq!(outcome(event, from, to, false), ended, "{event} {from} {to}");
        assert_eq!(outcome(event, from, to, true), None, "{event} {from} {to}, first seen");
    }
}

#[test]
fn an_outcome_is_read_back_from_its_word_and_only_a_decision_on_a_review_is_a_verdict() {
    for (outcome, word, is_verdict) in [
        (Outcome::Approved, "Approved", true),
        (Outcome::Denied, "Denied", true),
        (Outcome::Revoked, "Revoked", false),
        (Outcome::Vanished, "Vanished", false),
    ] {
        assert_eq!((outcome.as_str(), outcome.is_verdict()), (word, is_verdict));
        assert_eq!(Outcome::parse(word), Some(outcome));
    }
    assert_eq!(Outcome::parse("Expired"), None);
}

#[test]
fn an_entry_is_replaced_by_another_one_and_not_by_none() {
    let state = QualificationState::unseen("Education", at(0));
    let denied = entry("Denied", Some("x"), None);
    assert!(state.change(EventType::Vanished, Some(&denied), state.review, None).is_replaced());
    assert!(!state.change(EventType::Vanished, None, state.review, None).is_replaced());
}

#[test]
fn a_mass_absence_holds_back_neither_a_verdict_nor_what_was_absent_before() {
    let (states, _) = after(&[(0, entry("InReview", None, Some(at(0))))]);
    let denied = Snapshot::of([entry("Denied", Some("x"), Some(at(0)))]);
    for absence_policy in [AbsencePolicy::SampleMissing, AbsencePolicy::MassAbsence(at(0))] {
        let ctx = EvalContext { absence_policy, ..ctx_at(at(60), Some(at(0))) };
        let (state, change) = compare(&states, &denied, &ctx).remove(0);
        assert_eq!((change.map(|change| change.event), state.pending), (Some(EventType::Denied), None));
        let absent = QualificationState::unseen("Education", at(0));
        let (state, change) = compare(&[absent], &Snapshot::default(), &ctx).remove(0);
        assert_eq!((change, state.pending), (None, None));
    }
}

#[test]
fn after_a_clock_that_was_set_back_a_confirmation_is_due_one_interval_later() {
    let (mut states, _) = after(&[(0, entry("InReview", None, None))]);
    for (second, is_confirmed) in [(1000, false), (500, false), (619, false), (620, true)] {
        let (state, change) = compare(&states, &Snapshot::default(), &ctx_at(at(second), Some(at(0)))).remove(0);
        assert_eq!(change.is_some(), is_confirmed, "at {second} s");
        if second == 500 {
            let pending = state.pending.as_ref().map(|pending| (pending.since, pending.until));
            assert_eq!(pending, Some((at(500), at(620))));
        }
        states = vec![state];
    }
}

#[test]
fn the_first_response_after_a_submission_is_news_and_what_was_before_is_unknown() {
    let submitted = [QualificationState::unseen("Education", at(0))];
    let review = Snapshot::of([entry("InReview", None, Some(at(0)))]);
    let change = |last_seen_at| {
        let (_, change) = compare(&submitted, &review, &ctx_at(at(60), last_seen_at)).remove(0);
        change.map(|change| (change.event, change.from, change.first_seen))
    };
    assert_eq!(change(None), Some((EventType::Submitted, None, true)));
    assert_eq!(change(Some(at(30))), Some((EventType::Submitted, Some(ABSENT.to_owned()), false)));
}

#[test]
fn a_mass_absence_counts_the_looks_anew_and_keeps_since_when_the_entry_is_missing() {
    let (states, _) = after(&[(0, entry("InReview", None, None))]);
    let (state, _) = compare(&states, &Snapshot::default(), &ctx_at(at(1000), Some(at(0)))).remove(0);
    let ctx = ctx_at(at(5600), Some(at(1000)));
    let ctx = EvalContext { absence_policy: AbsencePolicy::MassAbsence(at(2000)), ..ctx };
    let pending = compare(&[state], &Snapshot::default(), &ctx).remove(0).0.pending.expect("it waits");
    assert_eq!((pending.confirmations, pending.last_confirmed_at), (1, at(5600)));
    assert_eq!((pending.since, pending.last_other_at), (at(1000), Some(at(0))));
}

#[test]
fn a_first_verdict_is_news_if_its_request_was_logged_within_a_day_of_its_date() {
    let is_told = |submitted: Timestamp, hours| {
        let denied = entry("Denied", Some("x"), Some(submitted.before(Duration::from_hours(hours))));
        let ctx = EvalContext { submitted_at: Some(submitted), ..ctx_at(at(60), None) };
        compare(&[], &Snapshot::of([denied]), &ctx).remove(0).1.is_some()
    };
    assert_eq!([3, 23, 24, 25].map(|hours| is_told(at(1), hours)), [true, true, false, false]);
    // Logged before vetwatch began to watch.
    assert!(!is_told(at(0), 3));
}

#[test]
fn a_review_that_was_seen_to_begin_was_submitted_then_and_one_of_the_baseline_at_an_unknown_time() {
    let review = entry("InReview", None, None);
    let (baseline, _) = after(&[(0, review.clone())]);
    assert_eq!(baseline[0].review.submitted_at, None);
    let (seen, _) = after(&[(0, entry("Denied", None, None)), (60, review)]);
    assert_eq!(seen[0].review.submitted_at, Some(at(60)));
}

#[test]
fn an_entry_without_a_date_keeps_that_of_its_review() {
    let (states, _) = after(&[(0, entry("InReview", None, Some(at(0)))), (60, entry("Approved", None, None))]);
    assert_eq!(states[0].entry.as_ref().and_then(|entry| entry.created_at), Some(at(0)));
}

#[test]
fn a_status_counts_from_when_it_began_and_from_a_new_review_on_again() {
    let since = |answers: &[(u64, Entry)]| after(answers).0[0].since;
    let review = (0, entry("InReview", None, Some(at(0))));
    assert_eq!(since(&[review.clone(), (60, entry("Denied", Some("x"), None))]), at(60));
    assert_eq!(since(&[(0, entry("Denied", Some("x"), None)), (60, entry("Denied", Some("y"), None))]), at(0));
    assert_eq!(since(&[review, (8000, entry("InReview", None, Some(at(7500))))]), at(8000));
}

#[test]
fn an_entry_that_is_still_absent_drops_a_pending_verdict() {
    let denied = entry("Denied", Some("x"), Some(at(0).before(Duration::from_hours(2))));
    let (states, _) = after(&[(0, entry("InReview", None, Some(at(0)))), (60, denied)]);
    let pending = states[0].pending.clone();
    assert!(pending.is_some());
    let absent = QualificationState { pending, ..QualificationState::unseen("Education", at(0)) };
    let (state, change) = compare(&[absent], &Snapshot::default(), &ctx_at(at(120), Some(at(60)))).remove(0);
    assert_eq!((change, state.pending), (None, None));
}
