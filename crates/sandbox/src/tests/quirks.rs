//! Responses that are correct but unusual, or well-formed but wrong.

use super::*;
use crate::response_options::{DateFormat, DateName, Keys, Shape, Unqualified, Words};

#[tokio::test]
async fn qualifications_are_written_in_every_way_that_was_seen() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    setup.sandbox.deny(&id, "Not an Academic Domain").unwrap();
    let text = async || setup.request(&about(&id), &token).send().await.unwrap().text().await.unwrap();
    for (quirk, expected) in [
        (
            json!({"shape": "wrapper", "date": "seconds", "date_name": "create"}),
            r#"{"qualifications":[{"qualification":"Education","vettingStatus":"Denied","vettingReason":"Not an Academic Domain","vettingCreateDate":"2026-11-21T09:14:03Z"}]}"#,
        ),
        (
            json!({"shape": "object", "keys": "pascal", "date": "preview"}),
            r#"{"Qualification":"Education","VettingStatus":"Denied","VettingReason":"Not an Academic Domain","VettingCreatedDate":"11/21/2026: 09:14:03"}"#,
        ),
        (
            json!({"words": "snake", "keys": "upper", "date": "ticks", "date_name": "both"}),
            r#"[{"QUALIFICATION":"education","VETTINGSTATUS":"denied","VETTINGREASON":"Not an Academic Domain","VETTINGCREATEDDATE":"2026-11-21T09:14:03.1202021+00:00","VETTINGCREATEDATE":"2026-11-21T09:14:03.1202021+00:00"}]"#,
        ),
        (
            json!({"no_status": true, "absent": "null", "date": "no_offset"}),
            r#"[{"qualification":"Education","vettingStatus":null,"vettingReason":"Not an Academic Domain","vettingCreatedDate":"2026-11-21T09:14:03"}]"#,
        ),
        (
            json!({"words": "mixed", "date": "offset"}),
            r#"[{"qualification":"eDuCaTiOn","vettingStatus":"dEnIeD","vettingReason":"Not an Academic Domain","vettingCreatedDate":"2026-11-21T11:14:03.120+02:00"}]"#,
        ),
    ] {
        let mut rule = quirk.clone();
        (rule["quirk"], rule["times"], rule["customer"]) = ("writing".into(), 1.into(), id.to_uppercase().into());
        assert_eq!(setup.control("POST", "quirks", &rule).await.0, 200, "{rule}");
        assert_eq!(text().await, expected);
    }
    assert_eq!(setup.control("GET", "quirks", &Value::Null).await.1["quirks"], json!([]), "each was met once");

    for (status, created) in [("InReview", Some(Created::Ago(2 * SECOND))), ("Manual-Review", None)] {
        let (qualification, status, beside) = (entry::EDUCATION.into(), Some(status.into()), Some(Place::Last));
        setup.sandbox.apply(&id, Operation::Set { qualification, status, reason: None, created, beside }).unwrap();
    }
    let object = BodyOptions { shape: Some(Shape::Object), words: Some(Words::Upper), ..BodyOptions::default() };
    let rule = setup.sandbox.quirk(QuirkRule::all(Quirk::Writing(object)));
    let several: Value = serde_json::from_str(&text().await).unwrap();
    assert_eq!(several[1]["vettingStatus"], "INREVIEW", "several entries are no single object: {several}");
    assert_eq!(several[1]["vettingCreatedDate"], "2026-11-21T09:14:01.120Z");
    assert_eq!(several[2], json!({"qualification": "EDUCATION", "vettingStatus": "MANUAL-REVIEW"}));
    assert!(setup.sandbox.end_quirk(rule) && !setup.sandbox.end_quirk(rule));

    let other = setup.customer();
    for (unqualified, status, expected) in [
        (Unqualified::None, 200, r#"[{"qualification":"None"}]"#),
        (Unqualified::Null, 200, "null"),
        (Unqualified::Braces, 200, "{}"),
        (Unqualified::Empty, 200, ""),
        (Unqualified::NoContent, 204, ""),
        (Unqualified::NotFound, 404, r#"{"code":"1000","#),
    ] {
        let writing = BodyOptions { unqualified: Some(unqualified), ..BodyOptions::default() };
        setup.sandbox.quirk(QuirkRule::about(&other, Quirk::Writing(writing)).times(1));
        let answer = setup.request(&about(&other), &token).send().await.unwrap();
        assert_eq!(answer.status(), status);
        let text = answer.text().await.unwrap();
        assert!(text.starts_with(expected) && (status == 404 || text == expected), "{text}");
    }
    assert_eq!(setup.sandbox.violations(), []);
}

#[test]
fn every_date_format_is_what_its_name_says() {
    let entry = entry::Entry {
        qualification: "Education".into(),
        vetting: entry::Vetting::Approved { created_at: Timestamp::from_millis(1_594_252_800_885) },
    };
    for (format, expected) in [
        (DateFormat::Millis, json!("2020-07-09T00:00:00.885Z")),
        (DateFormat::TicksZ, json!("2020-07-09T00:00:00.8852021Z")),
        (DateFormat::Preview, json!("07/09/2020: 00:00:00")),
        (DateFormat::PreviewDayFirst, json!("09/07/2020: 00:00:00")),
        (DateFormat::DateOnly, json!("2020-07-09")),
        (DateFormat::Minimum, json!("0001-01-01T00:00:00")),
        (DateFormat::Number, json!(1_594_252_800_885_i64)),
        (DateFormat::Absent, Value::Null),
    ] {
        let date_name = Some(DateName::Create);
        let style = BodyOptions { date: Some(format), date_name, keys: Some(Keys::Lower), ..BodyOptions::default() };
        let body: Value = serde_json::from_slice(&body::body(std::slice::from_ref(&entry), &style)).unwrap();
        assert_eq!(body[0]["vettingcreatedate"], expected, "{format:?}");
    }
}

#[tokio::test]
async fn a_replica_that_lags_behind_answers_with_what_was_true() {
    let setup = Setup::new().await;
    let (id, token) = (setup.customer(), setup.token().await);
    let minute = Duration::from_mins(1);
    setup.clock.advance(minute);
    let steps = [
        Step::after(Duration::ZERO, Operation::submit()),
        Step::after(10 * minute, Operation::approve()),
        Step::after(10 * minute, Operation::EndRelationship),
    ];
    setup.sandbox.timeline(&id, steps.into()).unwrap();
    setup.clock.advance(25 * minute);
    let status = async || {
        let (status, body) = setup.get(&about(&id), &token).await;
        body[0]["vettingStatus"].as_str().map_or_else(|| format!("{status} {body}"), str::to_owned)
    };
    for (ago_min, expected) in [(5, "Approved"), (10, "Approved"), (15, "InReview"), (24, "InReview"), (25, "200 []")] {
        setup.sandbox.quirk(QuirkRule::all(Quirk::Past { ago: ago_min * minute + SECOND }).times(1));
        assert_eq!(status().await, expected, "{ago_min} minutes ago");
    }
    assert_eq!(status().await.split(' ').next(), Some("403"));
    let shown: Vec<_> = setup.sandbox.requests_about(&id).iter().map(|record| record.shown).collect();
    assert_eq!(shown, [[Shown::Past; 5].as_slice(), &[Shown::Present]].concat());

    setup.sandbox.quirk(QuirkRule::all(Quirk::Past { ago: 16 * minute }).share(0.3));
    let mut stale = 0;
    for _ in 0..200 {
        stale += u32::from(status().await == "InReview");
    }
    assert!((40..80).contains(&stale), "{stale} of 200");
}

#[tokio::test]
async fn a_storm_takes_all_entries_and_gives_them_back() {
    let setup = Setup::new().await;
    let ids = setup.sandbox.add_customers(Bulk { count: 1000, in_review: 100, settled: 0 });
    let token = setup.token().await;
    let without = async || {
        let mut without = Vec::new();
        for id in &ids[..100] {
            if setup.get(&about(id), &token).await == (200, json!([])) {
                without.push(id);
            }
        }
        without
    };
    setup.sandbox.quirk(QuirkRule::all(Quirk::Nothing).lasts(Duration::from_mins(30)));
    assert_eq!(without().await.len(), 100);
    setup.sandbox.end_relationship(&ids[0]).unwrap();
    assert_eq!(setup.get(&about(&ids[0]), &token).await.0, 403, "only entries are gone");
    setup.sandbox.apply(&ids[0], Operation::RestoreRelationship).unwrap();
    setup.clock.advance(Duration::from_mins(30));
    assert_eq!(without().await.len(), 0);
    assert_eq!(setup.control("GET", "quirks", &Value::Null).await.1["quirks"], json!([]));

    setup.sandbox.quirk(QuirkRule::all(Quirk::Nothing).of_customers(0.2));
    let some = without().await;
    assert!((10..30).contains(&some.len()), "{}", some.len());
    assert_eq!(without().await, some, "the same ones each time");
    setup.sandbox.clear_quirks();
    assert_eq!(without().await.len(), 0);
}

#[tokio::test]
async fn calls_are_counted_by_the_hour_of_the_clock() {
    let setup = Setup::with(Options { log_capacity: 0, ..Options::default() }).await;
    let (path, token) = (about(&setup.customer()), setup.token().await);
    for minutes in [0, 45, 1, 60, 180] {
        setup.clock.advance(Duration::from_mins(minutes));
        setup.get(&path, &token).await;
    }
    let hours = setup.sandbox.hours();
    let counted: Vec<_> = hours.iter().map(|hour| (hour.starts_at.to_string(), hour.calls())).collect();
    let expected = [("2026-11-21T09", 2), ("2026-11-21T10", 1), ("2026-11-21T11", 1), ("2026-11-21T14", 1)];
    assert_eq!(counted, expected.map(|(hour, calls)| (format!("{hour}:00:00.000Z"), calls)));
    assert_eq!(hours[0].requests[&Kind::Token], 1);
    let (_, seen) = setup.control("GET", "hours?limit=1", &json!({})).await;
    assert_eq!(seen, json!({"hours": [{"starts_at": "2026-11-21T14:00:00.000Z", "requests": {"qualifications": 1}}]}));
}
