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
        let (mut beliefs, mut last_seen_at, mut seen) = (Vec::new(), None, Vec::new());
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
            let look = Look { news_since: (!self.joined).then_some(WATCHING), ..look(now, last_seen_at) };
            let steps = compare(&beliefs, &Snapshot::of(entries), &look);
            for change in steps.iter().filter_map(|(_, change)| change.as_ref()) {
                let name = NAMES.iter().find(|(_, long)| *long == change.qualification);
                let name = name.map(|(short, _)| format!("{short}/")).unwrap_or_default();
                let event = change.event.as_str().replace("vetting.", "");
                seen.push(format!("{name}{event}#{}", change.review.attempt));
            }
            beliefs = steps.into_iter().map(|(belief, _)| belief).collect();
            last_seen_at = Some(now);
        }
        seen.join(" ")
    }
}

fn written(word: &str) -> Entry {
    let (name, word) = word.split_once('/').unwrap_or(("Education", word));
    let (word, reason) = word.split_once(':').map_or((word, None), |(word, reason)| (word, Some(reason)));
    let (status, day) = word.split_once('@').map_or((word, None), |(status, day)| (status, Some(day)));
    let day: Option<i64> = day.map(|day| day.parse().unwrap());
    let created = day.map(|day| Timestamp::from_millis(WATCHING.as_millis() + day * 86_400_000));
    let name = NAMES.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
    Entry { qualification: name.to_owned(), ..entry(if status == "S" { "" } else { status }, reason, created) }
}

#[test]
fn answers_and_their_news() {
    let table: Sequences = toml::from_str(include_str!("../../tests/data/sequences.toml")).unwrap();
    assert!(table.sequence.len() >= 60);
    let wrong = table.sequence.iter().filter(|sequence| sequence.play() != sequence.news);
    let wrong: Vec<_> = wrong.map(|s| format!("{}: {} → {} (not {})", s.shows, s.answers, s.play(), s.news)).collect();
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
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

#[test]
fn a_create_date_that_is_rounded_or_written_as_a_day_costs_no_verdict() {
    let day = Timestamp::from_millis(10 * 86_400_000);
    let submitted = day.after(Duration::from_hours(15));
    let dates = [submitted.before(Duration::from_secs(1)), day];
    for created in dates {
        let review = compare(&[], &Snapshot::of([entry("InReview", None, Some(submitted))]), &look(at(0), None));
        let beliefs: Vec<_> = review.into_iter().map(|(belief, _)| belief).collect();
        let denied = Snapshot::of([entry("Denied", Some("x"), Some(created))]);
        let change = compare(&beliefs, &denied, &look(at(900), Some(at(0)))).remove(0).1.expect("a change");
        assert_eq!((change.event, change.review.attempt), (EventType::Denied, 1), "{created}");
    }
}

fn look(now: Timestamp, last_seen_at: Option<Timestamp>) -> Look {
    let second_look = Duration::from_mins(2);
    Look {
        now,
        last_seen_at,
        submitted_at: None,
        news_since: Some(WATCHING),
        second_look,
        third_look: Duration::from_hours(1),
        doubt: Doubt::Usual,
    }
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
