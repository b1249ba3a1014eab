//! Pages of the customer list.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::engine::Call;
use super::errors::{self, Reply};
use super::response_options::{Continuation, LastPage, LinkUri, PaginationOptions};
use super::rule::in_share;
use super::world::{Customer, World};

/// Partner Center's maximum page size.
pub const LARGEST_PAGE: usize = 500;

/// Prefix of continuation tokens, so that no other text is accepted as one.
const TOKEN_MARK: &str = "after:";

/// Salts: customers that are left out and listed twice are drawn independently.
const MISSED: u64 = u64::MAX;
const TWICE: u64 = u64::MAX - 1;

pub(super) fn size(call: &Call) -> Option<usize> {
    call.parameter("size")?.parse().ok().filter(|size| (1..=LARGEST_PAGE).contains(size))
}

fn seeks_next(call: &Call) -> bool {
    call.parameter("seekOperation").is_some_and(|value| value.eq_ignore_ascii_case("next"))
}

/// `None` without `seekOperation=next`: the header alone yields the first page again.
pub(super) fn token(call: &Call) -> Option<&str> {
    call.header("ms-continuationtoken").filter(|_| seeks_next(call))
}

pub(super) fn problems(call: &Call) -> Option<String> {
    match (size(call), seeks_next(call), call.header("ms-continuationtoken")) {
        (None, ..) => Some(format!("size must be 1 to {LARGEST_PAGE}")),
        (_, true, None) => Some("seekOperation=Next without MS-ContinuationToken".into()),
        (_, false, Some(_)) => Some("MS-ContinuationToken without seekOperation=Next".into()),
        _ => None,
    }
}

pub(super) fn answer(world: &World, call: &Call, listing: &PaginationOptions) -> Reply {
    // Microsoft's own SDK leaves it out.
    let asked = if call.parameter("size").is_none() { Some(LARGEST_PAGE) } else { size(call) };
    let Some(asked) = asked else {
        let text = format!("The property size is invalid: it must be between 1 and {LARGEST_PAGE}.");
        return errors::standard(StatusCode::BAD_REQUEST, 3000, &text);
    };
    let token = token(call);
    let begin = match token.map(Place::read) {
        Some(None) => {
            return errors::standard(StatusCode::BAD_REQUEST, 3000, "The continuation token is invalid.");
        }
        Some(Some(place)) => place,
        None => Place::default(),
    };
    let page = cut(world, &begin, asked, listing);
    let last_page = listing.last_page.unwrap_or_default();
    if page.customers.is_empty() && token.is_some() && last_page == LastPage::Error {
        return errors::standard(StatusCode::BAD_REQUEST, 2000, "There are no more items.");
    }
    let following = |last: &&Customer| Place { seen: page.seen, after: last.details.id.to_lowercase() };
    let next = match last_page {
        _ if page.more => page.customers.last().map(following),
        LastPage::Clean => None,
        LastPage::EmptyPage | LastPage::Error => page.customers.last().map(following),
        LastPage::Again => Some(Place::default()),
    };
    let next = next.map(|place| place.token());
    Reply::json(StatusCode::OK, &written(&page.customers, asked, call, next, listing))
}

struct Cut<'a> {
    customers: Vec<&'a Customer>,
    /// Number of customers listed so far.
    seen: usize,
    more: bool,
}

fn cut<'a>(world: &'a World, begin: &Place, asked: usize, listing: &PaginationOptions) -> Cut<'a> {
    let size = asked.min(listing.page_size.unwrap_or(asked)).max(1);
    let shown =
        |customer: &&Customer| !listing.misses.is_some_and(|share| in_share(&customer.details.id, share, MISSED));
    let mut customers = Vec::with_capacity(size);
    if begin.seen > 0 {
        // At least one customer is new, or the list would never end.
        let again = listing.overlap.unwrap_or(0).min(size - 1);
        customers.extend(world.listed_down_from(&begin.after).filter(shown).take(again));
        customers.reverse();
    }
    let left = listing.ends_after.map_or(usize::MAX, |end| end.saturating_sub(begin.seen));
    let new = (size - customers.len()).min(left);
    let after = (begin.seen > 0).then_some(begin.after.as_str());
    let mut following = world.listed(after).filter(shown);
    let repeated = customers.len();
    customers.extend(following.by_ref().take(new));
    let added = customers.len() - repeated;
    if added == 0 {
        customers.clear();
    }
    Cut { customers, seen: begin.seen + added, more: added < left && following.next().is_some() }
}

fn written(
    customers: &[&Customer],
    size: usize,
    call: &Call,
    next: Option<String>,
    listing: &PaginationOptions,
) -> Value {
    let mut items = Vec::with_capacity(customers.len());
    for Customer { details, .. } in customers {
        let item = |id: &str| {
            json!({
                "id": id,
                "companyProfile": {"tenantId": id, "domain": details.domain, "companyName": details.name},
                "relationshipToPartner": details.relationship,
                "attributes": {"objectType": "Customer"},
            })
        };
        items.push(item(&details.id));
        if listing.twice.is_some_and(|share| in_share(&details.id, share, TWICE)) {
            items.push(item(&details.id.to_uppercase()));
        }
    }
    let prefix = match listing.uri.unwrap_or_default() {
        LinkUri::V1 => "/v1",
        LinkUri::Bare => "",
    };
    let this = json!({"uri": format!("{prefix}/customers?{}", call.query), "method": "GET", "headers": []});
    let mut page = json!({
        // Number of items on this page: the service does not count all.
        "totalCount": items.len(), "items": items, "links": {"self": this}, "attributes": {"objectType": "Collection"},
    });
    let Some(token) = next else { return page };
    let place = listing.continuation.unwrap_or_default();
    if place != Continuation::Body {
        let host = listing.host.as_deref().unwrap_or_default();
        let uri = format!("{host}{prefix}/customers?size={size}&seekOperation=Next");
        let headers = json!([{"key": "MS-ContinuationToken", "value": token}]);
        page["links"]["next"] = json!({"uri": uri, "method": "GET", "headers": headers});
    }
    if place != Continuation::Link {
        page["continuationToken"] = token.into();
    }
    page
}

/// The start of a page.
#[derive(Debug, Default)]
struct Place {
    /// Number of customers listed on earlier pages.
    seen: usize,
    /// The last of these customers.
    after: String,
}

impl Place {
    fn token(&self) -> String {
        BASE64_STANDARD.encode(format!("{TOKEN_MARK}{}:{}", self.seen, self.after))
    }

    fn read(token: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64_STANDARD.decode(token).ok()?).ok()?;
        let (seen, after) = text.strip_prefix(TOKEN_MARK)?.split_once(':')?;
        Some(Self { seen: seen.parse().ok()?, after: after.to_owned() })
    }
}
