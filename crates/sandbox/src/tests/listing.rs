//! The customer list, with every pagination quirk.

use std::collections::BTreeSet;

use super::*;

/// What a client sees that follows tokens, wherever they are, for at most 20 pages.
struct Seen {
    ids: Vec<String>,
    pages: Vec<usize>,
    uris: BTreeSet<String>,
    /// Status of the last response.
    status: u16,
}

async fn list(setup: &Setup, token: &str, quirk: &Value) -> Seen {
    setup.sandbox.clear_quirks();
    let mut rule = quirk.clone();
    rule["quirk"] = "listing".into();
    assert_eq!(setup.control("POST", "quirks", &rule).await.0, 200, "{rule}");
    let mut seen = Seen { ids: Vec::new(), pages: Vec::new(), uris: BTreeSet::new(), status: 0 };
    let mut next = Value::Null;
    for _ in 0..20 {
        let path = if next.is_null() { "v1/customers?size=100" } else { "v1/customers?size=100&seekOperation=next" };
        let mut request = setup.request(path, token);
        if let Some(value) = next.as_str() {
            request = request.header("MS-ContinuationToken", value);
        }
        let answer = request.send().await.unwrap();
        seen.status = answer.status().as_u16();
        let page: Value = answer.json().await.unwrap();
        let Some(items) = page["items"].as_array() else {
            assert_eq!(page["code"], "2000");
            return seen;
        };
        seen.pages.push(items.len());
        seen.ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        if let Some(uri) = page["links"]["next"]["uri"].as_str() {
            seen.uris.insert(uri.to_owned());
        }
        let in_link = page["links"]["next"]["headers"][0]["value"].clone();
        let in_body = page.get("continuationToken").cloned().unwrap_or_default();
        match quirk["continuation"].as_str() {
            Some("body") => assert!(in_link.is_null(), "{page}"),
            Some("link") => assert!(in_body.is_null(), "{page}"),
            _ => assert_eq!(in_link, in_body),
        }
        next = if in_body.is_null() { in_link } else { in_body };
        if next.is_null() {
            return seen;
        }
    }
    seen
}

#[tokio::test]
async fn the_list_is_cut_and_ends_in_every_way() {
    let setup = Setup::new().await;
    let mut all = setup.sandbox.add_customers(Bulk { count: 250, ..Bulk::default() });
    all.sort();
    let token = setup.token().await;
    for (quirk, pages, status) in [
        (json!({}), vec![100, 100, 50], 200),
        (json!({"continuation": "body"}), vec![100, 100, 50], 200),
        (json!({"continuation": "link", "uri": "bare"}), vec![100, 100, 50], 200),
        (json!({"page_size": 90}), vec![90, 90, 70], 200),
        (json!({"last_page": "empty_page"}), vec![100, 100, 50, 0], 200),
        (json!({"last_page": "error"}), vec![100, 100, 50], 400),
    ] {
        let seen = list(&setup, &token, &quirk).await;
        assert_eq!((seen.pages, seen.status), (pages, status), "{quirk}");
        assert!(seen.ids == all, "{quirk}");
        let prefix = if quirk["uri"] == "bare" { "/customers?" } else { "/v1/customers?" };
        assert!(quirk["continuation"] == "body" || seen.uris.iter().all(|uri| uri.starts_with(prefix)), "{quirk}");
    }
    let elsewhere = list(&setup, &token, &json!({"host": "https://elsewhere.example"})).await;
    assert!(elsewhere.uris.iter().all(|uri| uri.starts_with("https://elsewhere.example/v1/customers?")));
    assert_eq!(list(&setup, &token, &json!({"last_page": "again"})).await.pages.len(), 20, "it never ends");
    assert_eq!(setup.sandbox.violations(), []);
}

#[tokio::test]
async fn a_list_can_lie() {
    let setup = Setup::new().await;
    let mut all = setup.sandbox.add_customers(Bulk { count: 250, ..Bulk::default() });
    all.sort();
    let token = setup.token().await;
    for end in [0, 100, 130] {
        let short = list(&setup, &token, &json!({"ends_after": end})).await;
        assert!(short.ids == all[..end] && short.status == 200, "{end}: {:?}", short.pages);
    }
    let misses = list(&setup, &token, &json!({"misses": 0.1})).await.ids;
    assert!((215..240).contains(&misses.len()) && misses.iter().all(|id| all.contains(id)), "{}", misses.len());
    assert_eq!(list(&setup, &token, &json!({"misses": 0.1})).await.ids, misses, "always the same ones");

    let twice = list(&setup, &token, &json!({"twice": 0.1})).await.ids;
    assert!((260..285).contains(&twice.len()), "{}", twice.len());
    let different: BTreeSet<_> = twice.iter().map(|id| id.to_lowercase()).collect();
    assert!(different.into_iter().eq(all.clone()));

    let overlap = list(&setup, &token, &json!({"overlap": 3})).await;
    assert_eq!(overlap.pages, [100, 100, 56]);
    assert_eq!(overlap.ids[100..103], all[97..100]);

    setup.sandbox.apply(&all[7], Operation::Unlist).unwrap();
    let without = list(&setup, &token, &json!({})).await.ids;
    assert!(without.len() == 249 && !without.contains(&all[7]));
    assert_eq!(setup.get(&about(&all[7]), &token).await.0, 200, "answered for as ever");
}

/// As Partner Center does: its own SDK leaves `size` out, and paths have no case.
#[tokio::test]
async fn the_list_is_given_without_a_size_and_by_a_path_in_any_case() {
    let setup = Setup::new().await;
    setup.sandbox.add_customers(Bulk { count: LARGEST_PAGE + 1, ..Bulk::default() });
    let token = setup.token().await;
    for (path, status, items) in [
        ("v1/customers", 200, LARGEST_PAGE),
        ("V1/Customers/?Size=3", 200, 3),
        ("v1.0/customers?size=3", 200, 3),
        ("v1/customers?size=0", 400, 0),
        ("v1/customers?size=501", 400, 0),
        ("v1/customers?size=many", 400, 0),
    ] {
        let (seen, page) = setup.get(path, &token).await;
        assert_eq!((seen, page["items"].as_array().map_or(0, Vec::len)), (status, items), "{path}");
    }
    let id = setup.customer();
    let (status, _) = setup.get(&format!("V1/CUSTOMERS/{}/Qualifications", id.to_uppercase()), &token).await;
    assert_eq!(status, 200);
    assert_eq!(setup.sandbox.unknown_requests(), []);
    // A careful client says how much it wants.
    assert!(!setup.sandbox.violations().is_empty());
}
