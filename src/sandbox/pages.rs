//! The customer list, page by page.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::engine::Call;
use super::errors::{self, Reply};
use super::world::{Customer, World};

/// The service's largest page.
pub const LARGEST_PAGE: usize = 500;

/// Prefixes a continuation token, so that another text is not taken for one.
const TOKEN_MARK: &str = "after:";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    /// Of this page: the service does not count further.
    total_count: usize,
    items: Vec<Item<'a>>,
    links: Links<'a>,
    attributes: Attributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    id: &'a str,
    company_profile: CompanyProfile<'a>,
    relationship_to_partner: &'a str,
    attributes: Attributes,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CompanyProfile<'a> {
    tenant_id: &'a str,
    domain: &'a str,
    company_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    object_type: &'static str,
}

#[derive(Serialize)]
struct Links<'a> {
    #[serde(rename = "self")]
    this: Link<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Link<'a>>,
}

#[derive(Serialize)]
struct Link<'a> {
    uri: String,
    method: &'static str,
    headers: Vec<Header<'a>>,
}

#[derive(Serialize)]
struct Header<'a> {
    key: &'static str,
    value: &'a str,
}

/// What the query asks for.
#[derive(Debug, Default)]
struct Query {
    size: Option<String>,
    seeks_next: bool,
}

fn query(call: &Call) -> Query {
    let mut query = Query::default();
    for (name, value) in url::form_urlencoded::parse(call.query.as_bytes()) {
        match name.as_ref() {
            "size" => query.size = Some(value.into_owned()),
            "seekOperation" => query.seeks_next = value.eq_ignore_ascii_case("next"),
            _ => {}
        }
    }
    query
}

fn size(query: &Query) -> Option<usize> {
    query.size.as_ref().and_then(|size| size.parse().ok()).filter(|size| (1..=LARGEST_PAGE).contains(size))
}

pub(super) fn problems(call: &Call) -> Option<String> {
    let query = query(call);
    match (size(&query), query.seeks_next, call.header("ms-continuationtoken")) {
        (None, ..) => Some(format!("size must be 1 to {LARGEST_PAGE}")),
        (_, true, None) => Some("seekOperation=Next without MS-ContinuationToken".into()),
        (_, false, Some(_)) => Some("MS-ContinuationToken without seekOperation=Next".into()),
        _ => None,
    }
}

pub(super) fn answer(world: &World, call: &Call) -> Reply {
    let query = query(call);
    let Some(size) = size(&query) else {
        let text = format!("The property size is invalid: it must be between 1 and {LARGEST_PAGE}.");
        return errors::standard(StatusCode::BAD_REQUEST, 3000, &text);
    };
    // The header alone does not page: whoever forgets the operation gets the first page again.
    let token = call.header("ms-continuationtoken").filter(|_| query.seeks_next);
    let after = match token.map(read_token) {
        Some(None) => {
            return errors::standard(StatusCode::BAD_REQUEST, 3000, "The continuation token is invalid.");
        }
        Some(after) => after,
        None => None,
    };
    let mut customers: Vec<_> = world.listed(after.as_deref()).take(size + 1).collect();
    let more = customers.len() > size;
    customers.truncate(size);
    let next = customers.last().filter(|_| more).map(|last| token_after(&last.details.id));
    Reply::json(StatusCode::OK, &page(&customers, size, call, next.as_deref()))
}

fn page<'a>(customers: &[&'a Customer], size: usize, call: &Call, next: Option<&'a str>) -> Page<'a> {
    let link = |uri, headers| Link { uri, method: "GET", headers };
    let items = customers.iter().map(|customer| {
        let details = &customer.details;
        Item {
            id: &details.id,
            company_profile: CompanyProfile {
                tenant_id: &details.id,
                domain: &details.domain,
                company_name: &details.name,
            },
            relationship_to_partner: &details.relationship,
            attributes: Attributes { object_type: "Customer" },
        }
    });
    Page {
        total_count: customers.len(),
        items: items.collect(),
        links: Links {
            this: link(format!("/v1/customers?{}", call.query), Vec::new()),
            next: next.map(|value| {
                let headers = vec![Header { key: "MS-ContinuationToken", value }];
                link(format!("/v1/customers?size={size}&seekOperation=Next"), headers)
            }),
        },
        attributes: Attributes { object_type: "Collection" },
        continuation_token: next,
    }
}

fn token_after(id: &str) -> String {
    BASE64_STANDARD.encode(format!("{TOKEN_MARK}{}", id.to_lowercase()))
}

fn read_token(token: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(token).ok()?).ok()?;
    text.strip_prefix(TOKEN_MARK).map(str::to_owned)
}
