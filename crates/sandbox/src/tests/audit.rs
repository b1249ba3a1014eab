//! The activity log in every order and spelling.

use super::*;

/// `operationType` of the records that a query finds, over all pages; or the status.
async fn log(setup: &Setup, token: &str, query: &str) -> Result<Vec<String>, u16> {
    let mut found = Vec::new();
    let mut next = Value::Null;
    loop {
        let seek = if next.is_null() { "" } else { "&seekOperation=Next" };
        let mut request = setup.request(&format!("v1/auditrecords?size=500&{query}{seek}"), token);
        if let Some(value) = next.as_str() {
            request = request.header("MS-ContinuationToken", value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let page: Value = answer.json().await.unwrap();
        let Some(items) = page["items"].as_array() else { return Err(status) };
        let text = |item: &Value, key: &str| item[key].as_str().unwrap_or("-").to_owned();
        found
            .extend(items.iter().map(|item| format!("{} {}", text(item, "operationType"), text(item, "customerName"))));
        next = page["links"]["next"]["headers"][0]["value"].clone();
        if next.is_null() {
            return Ok(found);
        }
    }
}

#[tokio::test]
async fn the_log_holds_what_people_did_in_the_order_and_spelling_that_is_wanted() {
    let setup = Setup::new().await;
    let id = setup.customer();
    setup.clock.advance(SECOND);
    setup.sandbox.submit(&id).unwrap();
    setup.clock.advance(SECOND);
    setup.sandbox.approve(&id).unwrap();
    setup.sandbox.end_relationship(&id).unwrap();
    let (status, _) = setup.control("POST", "records", &json!({"operationType": "brand_new"})).await;
    assert_eq!(status, 200);
    let token = setup.token().await;
    let university = |words: [&str; 3]| words.map(|word| format!("{word} Contoso University")).to_vec();
    let newest = [
        vec!["brand_new -".to_owned()],
        university(["remove_partner_customer_relationship", "update_customer_qualification", "add_customer"]),
    ]
    .concat();
    let oldest: Vec<_> = newest.iter().rev().cloned().collect();
    let today = "startDate=2026-11-21";
    for (quirk, expected) in [
        (json!({}), &newest),
        (json!({"order": "oldest_first", "page_size": 3}), &oldest),
        (json!({"page_size": 1, "without_ids": true}), &newest),
    ] {
        setup.sandbox.clear_quirks();
        let mut rule = quirk.clone();
        rule["quirk"] = "auditing".into();
        assert_eq!(setup.control("POST", "quirks", &rule).await.0, 200, "{rule}");
        assert_eq!(log(&setup, &token, today).await.as_ref(), Ok(expected), "{quirk}");
    }
    setup.sandbox.clear_quirks();
    let lag = Some(Duration::from_mins(5));
    let auditing =
        AuditLogOptions { words: Some(Keys::Pascal), order: Some(Order::None), lag, ..AuditLogOptions::default() };
    setup.sandbox.quirk(QuirkRule::all(Quirk::Auditing(auditing)));
    assert_eq!(log(&setup, &token, today).await, Ok(Vec::new()), "it lags behind");
    setup.clock.advance(Duration::from_mins(5));
    let mut found = log(&setup, &token, today).await.unwrap();
    found.sort();
    let pascal = ["AddCustomer", "RemovePartnerCustomerRelationship", "UpdateCustomerQualification"];
    assert_eq!(found, [university(pascal), vec!["brand_new -".to_owned()]].concat());
    assert_eq!(setup.sandbox.violations(), []);
}

#[tokio::test]
async fn the_log_is_asked_for_in_pieces_of_thirty_days_and_no_further_back_than_ninety() {
    let setup = Setup::new().await;
    let token = setup.token().await;
    for (query, expected) in [
        ("startDate=2026-08-23&endDate=2026-09-22", Ok(Vec::new())),
        ("startDate=2026-08-22&endDate=2026-09-20", Err(400)),
        ("startDate=2026-10-01&endDate=2026-11-01", Err(400)),
        ("startDate=2026-10-21", Err(400)),
        ("startDate=2026-11-22&endDate=2026-11-21", Err(400)),
        // The SDK's form, the documentation's, and ISO 8601.
        ("startDate=08/23/2026%2000:00:00&endDate=09/22/2026+00:00:00", Ok(Vec::new())),
        ("startDate=8/23/2026%2012:00:00%20AM&endDate=9/22/2026%2011:59:59%20PM", Ok(Vec::new())),
        ("startDate=2026-08-23T00:00:00Z&endDate=2026-09-22T00:00:00.0000000", Ok(Vec::new())),
        ("StartDate=08/22/2026%2000:00:00&endDate=09/20/2026", Err(400)),
        // In UTC this is the day after, or it would be too early.
        ("startDate=2026-08-22T23:00:00-02:00&endDate=2026-09-20", Ok(Vec::new())),
        ("startDate=23/08/2026%2000:00:00", Err(400)),
        ("startDate=yesterday", Err(400)),
    ] {
        assert_eq!(log(&setup, &token, query).await, expected, "{query}");
    }
}
