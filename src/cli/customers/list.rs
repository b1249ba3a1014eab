//! `vetwatch customers list`.

use std::collections::BTreeMap;

use crate::cli::output::{Column, Output};
use crate::cli::{Context, Exit, Failure, lookup, time_args};
use crate::config::closest;
use crate::qualification::key;
use crate::store::Store;
use crate::store::reports::{CurrentRow, CustomerRow, Page};
use crate::time::Timestamp;

/// What `--status` mostly is.
const STATUSES: [&str; 4] = ["approved", "denied", "in-review", "none"];
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
    let mut rows = listed(&store, partner, args.tag.as_deref(), query).await?;
    if let Some(status) = &args.status {
        rows.retain(|row| has_status(row, status));
        let is_known = STATUSES.iter().any(|known| plain(known) == plain(status));
        if rows.is_empty() && !is_known {
            let failure = Failure::new(Exit::NotFound, format!("no customer has a qualification of status {status:?}"))
                .because(format!("usual are {}", STATUSES.join(", ")));
            return Err(match closest(status, STATUSES) {
                Some(meant) => failure.advise(format!("did you mean {meant}?")),
                None => failure,
            });
        }
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
    context.out.write(&table(&context.out, &rows, context.now()))?;
    Ok(Exit::Done)
}

fn table(out: &Output, rows: &[Listed], now: Timestamp) -> String {
    let several = rows.iter().any(|row| row.customer.partner != rows[0].customer.partner);
    let mut columns = vec![
        Column::cut("CUSTOMER", 26),
        Column::cut("STATUS", 24),
        Column::whole("NEXT POLL (UTC)").optional(1),
        Column::cut("TAGS", 6).optional(2),
        Column::whole("TENANT ID").optional(3),
    ];
    if several {
        columns.insert(1, Column::whole("PARTNER"));
    }
    let cells = rows.iter().map(|row| {
        let status = status(row, now);
        let row = &row.customer;
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
        let mut cells = vec![name, status, next, row.tags.replace(',', " "), row.customer_id.clone()];
        if several {
            cells.insert(1, row.partner.clone());
        }
        cells
    });
    out.table_with_note(&columns, cells.collect())
}

async fn listed(store: &Store, partner: Option<&str>, tag: Option<&str>, page: Page) -> Result<Vec<Listed>, Failure> {
    let rows = store.customer_page(partner, tag, page).await?;
    let few = rows.len() <= PAGE_ROWS;
    let of: Vec<_> = rows.iter().filter(|_| few).map(|row| row.row).collect();
    let mut held: BTreeMap<(String, String), Vec<CurrentRow>> = BTreeMap::new();
    for row in store.current(few.then_some(&of)).await? {
        held.entry((row.partner.clone(), row.customer_id.clone())).or_default().push(row);
    }
    let rows = rows.into_iter().map(|customer| {
        let of = (customer.partner.clone(), customer.customer_id.clone());
        Listed { qualifications: held.remove(&of).unwrap_or_default(), customer }
    });
    Ok(rows.collect())
}

/// Compared without case, blanks, hyphens and underscores.
/// As it is compared.
fn plain(status: &str) -> String {
    key(status).replace([' ', '-'], "")
}

fn has_status(row: &Listed, status: &str) -> bool {
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
        parts.push(
            match customer.last_seen_at {
                Some(_) => "no qualification",
                None if customer.poll_failures > 0 => "no answer yet",
                None => "not polled yet",
            }
            .to_owned(),
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output;
    use crate::store::reports::fixture;

    #[tokio::test]
    async fn a_row_says_what_a_customer_holds() {
        let filled = fixture::filled().await;
        let rows = listed(&filled.store, None, None, Page::default()).await.unwrap();
        insta::assert_snapshot!(output::on_screens(|out| table(out, &rows, fixture::now())));
    }
}
