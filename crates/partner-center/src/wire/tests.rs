//! The documented shapes, and what only resembles them.

use proptest::prelude::*;

use super::*;

/// `Education InReview 2020-12-03T10:37:38.885Z (reason) | …`, or why it was not understood.
fn parsed(body: &[u8]) -> String {
    match qualifications(body) {
        Err(ParseError(why)) => format!("! {why}"),
        Ok(snapshot) => {
            let entry = |e: &Entry| {
                let status = e.vetting_status.as_deref().unwrap_or("-");
                let date = e.created_at.map(|at| format!(" {at}")).unwrap_or_default();
                let reason = e.vetting_reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
                format!("{} {status}{date}{reason}", e.qualification)
            };
            snapshot.entries().iter().map(entry).collect::<Vec<_>>().join(" | ")
        }
    }
}

#[test]
fn every_documented_shape_is_understood() {
    for (body, expected) in [
        ("[]", ""),
        (r#"[{"qualification":"Education","vettingStatus":"Approved"}]"#, "Education Approved"),
        (r#"{"qualifications":[{"qualification":"Education","vettingStatus":"Approved"}]}"#, "Education Approved"),
        (r#"{"Qualifications":[],"totalCount":0}"#, ""),
        (
            r#"{"Qualification":"Education","VettingStatus":"Denied","VettingReason":"Not an education customer","VettingCreatedDate":"07/09/2020: 00:00:00"}"#,
            "Education Denied (Not an education customer)",
        ),
        (
            r#"{"qualification":"Education","vettingStatus":"InReview","vettingCreateDate":"2020-12-04T20:54:24Z"}"#,
            "Education InReview 2020-12-04T20:54:24.000Z",
        ),
        (
            r#"[{"qualification":"Education","vettingStatus":"InReview","vettingCreatedDate":"2020-12-03T10:37:38.885Z"}]"#,
            "Education InReview 2020-12-03T10:37:38.885Z",
        ),
        (
            r#"[{"qualification":"GovernmentCommunityCloud","vettingStatus":"Approved","vettingCreateDate":"2021-05-06T19:59:56.6832021+00:00"},{"qualification":"StateOwnedEntity"}]"#,
            "GovernmentCommunityCloud Approved 2021-05-06T19:59:56.683Z | StateOwnedEntity -",
        ),
        (r#"[{"qualification":"None"}]"#, ""),
        (r#"{"qualification":"None","vettingStatus":null}"#, ""),
        (
            r#"[{"qualification":"Education","vettingStatus":"AwaitingDocuments","new":{"a":[1]}}]"#,
            "Education AwaitingDocuments",
        ),
    ] {
        assert_eq!(parsed(body.as_bytes()), expected, "{body}");
        assert_eq!(parsed(format!("\u{FEFF}\r\n{body}\n").as_bytes()), expected, "with a byte order mark: {body}");
    }
}

#[test]
fn a_missing_status_is_none_and_an_odd_date_costs_only_itself() {
    for odd in [r#""""#, "null", "0", "true", "[1]", "{}", r#""soon""#, r#""0001-01-01T00:00:00""#] {
        let body = format!(r#"[{{"qualification":"Education","vettingStatus":"Denied","vettingCreateDate":{odd}}}]"#);
        assert_eq!(parsed(body.as_bytes()), "Education Denied", "{odd}");
    }
    let both = |a: &str, b: &str| {
        parsed(format!(r#"{{"qualification":"E","vettingCreateDate":{a},"vettingCreatedDate":{b}}}"#).as_bytes())
    };
    let (one, two) = (r#""2020-12-03T10:37:38Z""#, r#""2020-12-04T10:37:38Z""#);
    assert_eq!(both(one, one), "E - 2020-12-03T10:37:38.000Z");
    assert_eq!(both("null", one), "E - 2020-12-03T10:37:38.000Z");
    assert_eq!(both(one, two), "E -", "it is ambiguous which one is meant");
    for unreadable in [r#""soon""#, "17", "[]", r#""07/09/2020: 00:00:00""#, r#""0001-01-01T00:00:00""#] {
        assert_eq!(both(unreadable, one), "E - 2020-12-03T10:37:38.000Z", "{unreadable} costs only itself");
        assert_eq!(both(one, unreadable), "E - 2020-12-03T10:37:38.000Z", "{unreadable} costs only itself");
    }
    let twice = r#"{"qualification":"E","vettingStatus":"Denied","vettingCreateDate":1,"VettingCreateDate":"x"}"#;
    assert_eq!(parsed(twice.as_bytes()), "E Denied", "not even a date that is there twice costs the status");
    for blank in [r#""""#, r#""  ""#, "null"] {
        assert_eq!(parsed(format!(r#"[{{"qualification":"E","vettingStatus":{blank}}}]"#).as_bytes()), "E -");
    }
}

#[test]
fn what_is_not_an_answer_is_never_half_an_answer() {
    for body in [
        "",
        " \r\n",
        "\u{FEFF}",
        "null",
        "{}",
        "true",
        "1",
        r#""education""#,
        "[null]",
        "[[]]",
        "[1]",
        r#"["Education"]"#,
        "[{}]",
        "[",
        "[] []",
        "[],",
        "<html></html>",
        r#"[{"qualification":"Education","vettingStatus":"Approved"},]"#,
        r#"[{"qualification":"Education","vettingStatus":"Approved"} // UTC
        ]"#,
        r#"[{"qualification":"Education","vettingStatus":"Approved"}"#,
        r#"[{"qualification":"Education","vettingStatus":"Approved"},null]"#,
        r#"[{"qualification":"Education","vettingStatus":"Approved"},{"vettingStatus":"Denied"}]"#,
        r#"[{"qualification":"","vettingStatus":"Approved"}]"#,
        r#"[{"qualification":null,"vettingStatus":"Approved"}]"#,
        r#"[{"qualification":1,"vettingStatus":"Approved"}]"#,
        r#"[{"qualification":"Education","vettingStatus":1}]"#,
        r#"[{"qualification":"Education","vettingStatus":{"value":"Approved"}}]"#,
        r#"[{"qualification":"Education","vettingStatus":"Approved","vettingStatus":"Denied"}]"#,
        r#"[{"qualification":"Education","vettingStatus":"Approved","VettingStatus":"Approved"}]"#,
        r#"{"qualification":"Education","Qualification":"None"}"#,
        r#"{"qualifications":null}"#,
        r#"{"qualifications":{"qualification":"Education"}}"#,
        r#"{"qualifications":[],"qualification":"Education"}"#,
        r#"{"items":[{"qualification":"Education","vettingStatus":"Approved"}]}"#,
        r#"{"code":400072,"description":"an error in a 200","data":[]}"#,
        r#"{"vettingStatus":"Approved"}"#,
    ] {
        assert!(parsed(body.as_bytes()).starts_with("! "), "{body}: {}", parsed(body.as_bytes()));
    }
    assert!(parsed(b"[{\"qualification\":\"\xff\"}]").starts_with("! "));
    let many = format!("[{}]", vec![r#"{"qualification":"Education"}"#; 101].join(","));
    assert!(parsed(many.as_bytes()).starts_with("! "));
    assert!(parsed("[".repeat(100_000).as_bytes()).starts_with("! "));
}

#[test]
fn a_page_gives_its_customers_and_the_way_to_the_next() {
    let page = |rest: &str| {
        let body = format!(
            r#"{{"totalCount":1,"items":[{{"id":"a-1","companyProfile":{{"tenantId":"t","domain":"contoso.example","companyName":"Contoso\r\nSchool"}},"relationshipToPartner":"reseller"}}]{rest}}}"#
        );
        customers(body.as_bytes(), 1).map(|page| page.next)
    };
    assert_eq!(page(""), Ok(None));
    assert_eq!(page(r#","links":{"self":{"uri":"/v1/customers?size=1","headers":[]}}"#), Ok(None));
    assert_eq!(page(r#","continuationToken":"tok""#), Ok(Some("tok".into())));
    assert_eq!(page(r#","continuationToken":"""#), Ok(None));
    let link = |headers: &str| {
        page(&format!(r#","links":{{"next":{{"uri":"https://evil.example/v1//v1/x","headers":[{headers}]}}}}"#))
    };
    assert_eq!(
        link(r#"{"key":"X","value":"no"},{"key":"ms-continuationtoken","value":"tok"}"#),
        Ok(Some("tok".into()))
    );
    assert!(link("").is_err(), "a full page that says there is more is not the last one");
    assert!(link(r#"{"key":"MS-ContinuationToken","value":null}"#).is_err());

    let body = r#"{"items":[{"id":null,"companyProfile":{"tenantId":"t-1"}},{"id":"a","x":1}],"links":{"next":{}}}"#;
    let listed = customers(body.as_bytes(), 500).unwrap();
    let nameless =
        |id: &str| ListedCustomer { id: id.into(), name: String::new(), domain: String::new(), relationship: None };
    assert_eq!(listed, Listed { customers: vec![nameless("t-1"), nameless("a")], next: None });
    assert_eq!(
        customers(br#"{"items":[],"continuationToken":"tok"}"#, 500),
        Ok(Listed { customers: vec![], next: None }),
        "an empty page is the last one, whatever it says"
    );
    let not_objects = [
        "[[],null,null]",
        r#"{"items":[["a",null,null]]}"#,
        r#"{"items":[{"id":"a","companyProfile":["t","Contoso",null]}]}"#,
        r#"{"items":[{"id":"a"}],"links":[null]}"#,
    ];
    for body in not_objects {
        assert!(customers(body.as_bytes(), 500).is_err(), "a list in place of an object: {body}");
    }
    for body in ["", "null", "[]", "{}", r#"{"items":null}"#, r#"{"items":[{}]}"#, r#"{"items":[{"id":""}]}"#] {
        assert!(customers(body.as_bytes(), 500).is_err(), "{body}");
    }
}

#[test]
fn names_arrive_in_one_line() {
    let body = r#"{"items":[{"id":"a","companyProfile":{"companyName":" Contoso\r\nBcc: x\u001b[31m\u202e "}}]}"#;
    assert_eq!(customers(body.as_bytes(), 500).unwrap().customers[0].name, "Contoso Bcc: x [31m");
}

/// Words that make random text resemble a response.
fn near_json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "\"qualification\"",
        "\"vettingStatus\"",
        "\"Education\"",
        "\"None\"",
        "null",
        "1",
        "\"items\"",
        "\"id\"",
        "\"links\"",
        "\"next\"",
        "\"vettingCreateDate\"",
        "\"0/0/0: 1\"",
        "\u{FEFF}",
        "é",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(bytes: Vec<u8>, text in near_json(), date in "[0-9TZ:/+. -]{0,30}") {
        for body in [bytes.as_slice(), text.as_bytes()] {
            let _ = qualifications(body);
            let _ = customers(body, 1);
        }
        let _ = date::parse(&date);
    }

    #[test]
    fn a_cut_answer_is_never_understood(at in 0_usize..=130) {
        let body = br#"[{"qualification":"Education","vettingStatus":"Approved"},{"qualification":"StateOwnedEntity","vettingCreateDate":"x"}] "#;
        let cut = &body[..at.min(body.len() - 2)];
        prop_assert!(qualifications(cut).is_err());
    }
}
