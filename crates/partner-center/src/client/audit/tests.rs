use serde_json::{Value, json};

use super::OperationKind::{Departure, NewCustomer, Other, Submission};
use super::*;

const SCHOOL: &str = "b1d50000-0000-4000-8000-000000000001";

fn record() -> Value {
    json!({
        "id": "9f1c", "partnerId": "p", "customerId": SCHOOL, "customerName": "Contoso\r\nSchool",
        "userPrincipalName": "sales@contoso.example", "resourceType": "customer", "resourceOldValue": "",
        "resourceNewValue": "{\"Qualification\":\"Education\",\"VettingStatus\":\"Approved\"}",
        "operationType": "update_customer_qualification", "operationDate": "2026-11-21T09:14:03.1234567Z",
        "operationStatus": "succeeded", "customizedData": [{"key": "VettingStatus", "value": "Denied"}],
    })
}

fn page(items: &[Value]) -> Operations {
    operations(json!({"totalCount": items.len(), "items": items}).to_string().as_bytes(), 500).unwrap()
}

#[test]
fn a_submission_is_known_in_every_spelling_and_never_says_more_than_that_it_was_made() {
    for word in [
        "update_customer_qualification",
        "UpdateCustomerQualification",
        "updateCustomerQualification",
        "UPDATE CUSTOMER QUALIFICATION",
    ] {
        let mut record = record();
        record["operationType"] = word.into();
        let page = page(&[record]);
        let [operation] = page.read.as_slice() else { panic!("{page:?}") };
        assert_eq!((operation.kind, operation.is_done), (Submission, true), "{word}");
        assert_eq!(operation.at.to_string(), "2026-11-21T09:14:03.123Z");
        assert_eq!((operation.customer_id.as_str(), operation.customer_name.as_str()), (SCHOOL, "Contoso School"));
    }
    for (status, is_done) in
        [("Succeeded", true), ("progress", true), ("failed", false), ("decline", false), ("", false)]
    {
        let mut record = record();
        record["operationStatus"] = status.into();
        assert_eq!(page(&[record]).read[0].is_done, is_done, "{status}");
    }
}

#[test]
fn an_odd_record_costs_itself_and_a_type_that_nobody_knows_costs_nothing() {
    let with = |key: &str, value: Value| {
        let mut record = record();
        record[key] = value;
        record
    };
    let page = page(&[
        json!(null),
        json!("text"),
        json!([]),
        json!({}),
        with("operationDate", json!("yesterday")),
        with("operationDate", json!(1_600_000_000)),
        with("operationType", json!(7)),
        with("operationType", json!("mind_transfer")),
        with("customerId", json!({"not": "a text"})),
        with("operationType", json!("add_customer")),
        with("operationType", json!("remove_partner_customer_relationship")),
        record(),
    ]);
    let kinds: Vec<_> = page.read.iter().map(|operation| operation.kind).collect();
    assert_eq!((page.skipped, page.next), (7, None));
    assert_eq!(kinds, [Other, Submission, NewCustomer, Departure, Submission]);
}

#[test]
fn a_record_without_an_id_is_told_from_others_by_what_it_says() {
    let without = |key: &str, value: &str| {
        let mut record = record();
        record.as_object_mut().unwrap().remove("id");
        record[key] = value.into();
        page(&[record]).read[0].digest
    };
    let same = without("userPrincipalName", "sales@contoso.example");
    assert_eq!(same, without("partnerId", "another"));
    for (key, value) in [
        ("customerId", "b1d50000-0000-4000-8000-000000000002"),
        ("operationDate", "2026-11-21T09:14:03.1234568Z"),
        ("operationStatus", "failed"),
        ("resourceNewValue", "{}"),
    ] {
        assert_ne!(same, without(key, value), "{key}");
    }
}

#[test]
fn the_next_page_is_where_the_customer_list_has_it_and_a_page_that_is_none_is_not_understood() {
    let link =
        json!({"items": [record()], "links": {"next": {"headers": [{"key": "ms-continuationtoken", "value": "t"}]}}});
    let body = json!({"items": [record()], "continuationToken": "t"});
    for page in [&link, &body] {
        assert_eq!(operations(page.to_string().as_bytes(), 500).unwrap().next.as_deref(), Some("t"));
    }
    let empty = json!({"items": [], "continuationToken": "t"});
    assert_eq!(operations(empty.to_string().as_bytes(), 500).unwrap().next, None, "an empty page is the last one");
    let lost = json!({"items": [record()], "links": {"next": {"uri": "/auditrecords"}}});
    assert!(operations(lost.to_string().as_bytes(), 1).is_err());
    for body in ["", "null", "[]", "{}", r#"{"items":{}}"#, r#"{"items":[],"items":[]}"#, "<html>"] {
        assert!(operations(body.as_bytes(), 500).is_err(), "{body}");
    }
}
