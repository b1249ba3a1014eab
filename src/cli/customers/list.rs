//! `vetwatch customers list`.

use std::collections::BTreeMap;

use crate::cli::{Context, Exit, Failure, lookup, time_args};
use crate::qualification::key;
use crate::store::reports::{CurrentRow, CustomerRow, Page};
use crate::time::Timestamp;

/// Up to this many customers are looked up one by one; of more, all are read.
const PAGE_ROWS: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those with this tag
    #[arg(long)]
    pub tag: Option<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// Only those with a qualification of this status: `denied`, `in-review`, `approved`; `none` without any
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
    /// Leave out this many before
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u32,
}

/// A customer, and what it holds.
struct Listed {
    customer: CustomerRow,
    qualifications: Vec<CurrentRow>,
}

pub(super) async fn list(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    let store = context.reading_store(&outline.database).await?;
    let partner = args.partner.as_deref();
    lookup::partner(&outline.partners, &store, partner).await?;
    // A status is compared here, so its page is cut off here, too.
    let page = Page { limit: args.limit, skip: args.skip };
    let query = if args.status.is_some() { Page::default() } else { page };
    let rows = store.customer_page(partner, args.tag.as_deref(), query).await?;
    let shown = rows.len() <= PAGE_ROWS;
    let of: Vec<_> = rows.iter().filter(|_| shown).map(|row| row.row).collect();
    let mut held: BTreeMap<(String, String), Vec<CurrentRow>> = BTreeMap::new();
    for row in store.current(shown.then_some(&of)).await? {
        held.entry((row.partner.clone(), row.customer_id.clone())).or_default().push(row);
    }
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|customer| {
            let of = (customer.partner.clone(), customer.customer_id.clone());
            Listed { qualifications: held.remove(&of).unwrap_or_default(), customer }
        })
        .collect();
    if let Some(status) = &args.status {
        rows.retain(|row| has_status(row, status));
        rows = rows.into_iter().skip(page.skip as usize).take(page.limit.map_or(usize::MAX, |n| n as usize)).collect();
    }
    if context.json {
        // The view's columns; what a customer holds is in `status CUSTOMER --json`.
        context.out.json(&rows.iter().map(|row| &row.customer).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        let text = if args.tag.is_some() || args.status.is_some() {
            "No such customers."
        } else {
            "No customers yet. `vetwatch customers add` or `vetwatch customers sync` adds them."
        };
        context.out.line(text)?;
        return Ok(Exit::Done);
    }
    let several = rows.iter().any(|row| row.customer.partner != rows[0].customer.partner);
    let mut header = vec!["TENANT ID", "CUSTOMER", "TAGS", "STATUS", "NEXT POLL (UTC)"];
    if several {
        header.insert(2, "PARTNER");
    }
    let now = context.now();
    let cells = rows.into_iter().map(|row| {
        let status = status(&row, now);
        let row = row.customer;
        let name = match (row.name.as_str(), row.domain.as_str()) {
            (name, "") => name.to_owned(),
            ("", domain) => domain.to_owned(),
            (name, domain) => format!("{name} ({domain})"),
        };
        let next = match row.next_poll_at.as_deref().and_then(time_args::instant) {
            Some(next) if next <= now => "now".to_owned(),
            Some(next) => time_args::minute(next),
            None => "-".to_owned(),
        };
        let mut cells = vec![row.customer_id, name, row.tags.replace(',', " "), status, next];
        if several {
            cells.insert(2, row.partner);
        }
        cells
    });
    context.out.write(&context.out.table(&header, cells))?;
    Ok(Exit::Done)
}

/// Compared without case, blanks, hyphens and underscores.
fn has_status(row: &Listed, status: &str) -> bool {
    let plain = |text: &str| key(text).replace([' ', '-'], "");
    let wanted = plain(status);
    let mut statuses = row.qualifications.iter().map(|held| plain(held.vetting_status.as_deref().unwrap_or_default()));
    if wanted == "none" { row.qualifications.is_empty() } else { statuses.any(|status| status == wanted) }
}

/// `Education: Denied; left`: what the customer holds, and what else is to be known of it.
fn status(row: &Listed, now: Timestamp) -> String {
    let held = row.qualifications.iter().map(|held| match &held.vetting_status {
        Some(status) => format!("{}: {status}", held.qualification),
        None => held.qualification.clone(),
    });
    let mut parts: Vec<String> = held.collect();
    let customer = &row.customer;
    if parts.is_empty() {
        parts.push(if customer.last_seen_at.is_none() { "not polled yet" } else { "no qualification" }.to_owned());
    }
    parts.extend(state(customer).map(str::to_owned));
    if is_muted(customer, now) {
        parts.push("muted".to_owned());
    }
    parts.join("; ")
}

/// What keeps the customer from being polled as usual.
fn state(row: &CustomerRow) -> Option<&'static str> {
    match row.poll_class.as_str() {
        _ if row.departed_since.is_some() && row.paused => Some("left, not polled"),
        _ if row.departed_since.is_some() => Some("left"),
        _ if row.paused => Some("paused"),
        _ if row.unreadable_since.is_some() => Some("unreadable"),
        "confirming" => Some("to be confirmed"),
        _ => None,
    }
}

/// True if the customer is muted now.
pub(in crate::cli) fn is_muted(row: &CustomerRow, now: Timestamp) -> bool {
    let until = row.muted_until.as_deref().and_then(time_args::instant);
    row.muted_since.is_some() && until.is_none_or(|until| now < until)
}
