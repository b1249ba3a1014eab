//! `vetwatch customers list`.

use crate::cli::{Context, Exit, Failure, lookup, time_args};
use crate::store::reports::CustomerRow;
use crate::time::Timestamp;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those with this tag
    #[arg(long)]
    pub tag: Option<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

pub(super) async fn list(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    let store = context.reading_store(&outline.database).await?;
    let partner = args.partner.as_deref();
    lookup::partner(&outline.partners, &store, partner).await?;
    let rows = store.customers(None, partner, args.tag.as_deref()).await?;
    if context.json {
        context.out.json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        context.out.line("No customers yet. `vetwatch customers add` or `vetwatch customers sync` adds them.")?;
        return Ok(Exit::Done);
    }
    let several = rows.iter().any(|row| row.partner != rows[0].partner);
    let mut header = vec!["TENANT ID", "CUSTOMER", "TAGS", "STATE"];
    if several {
        header.insert(2, "PARTNER");
    }
    let now = context.now();
    let cells = rows.into_iter().map(|row| {
        let mut state = state(&row).to_owned();
        if is_muted(&row, now) {
            state += ", muted";
        }
        let name = match (row.name.as_str(), row.domain.as_str()) {
            (name, "") => name.to_owned(),
            ("", domain) => domain.to_owned(),
            (name, domain) => format!("{name} ({domain})"),
        };
        let mut cells = vec![row.customer_id, name, row.tags.replace(',', " "), state];
        if several {
            cells.insert(2, row.partner);
        }
        cells
    });
    context.out.write(&context.out.table(&header, cells))?;
    Ok(Exit::Done)
}

/// A customer's state in a word or two.
fn state(row: &CustomerRow) -> &'static str {
    match row.poll_class.as_str() {
        _ if row.departed_since.is_some() && row.paused => "left, not asked",
        _ if row.departed_since.is_some() => "left",
        _ if row.paused => "paused",
        _ if row.unreadable_since.is_some() => "unreadable",
        "in_review" => "in review",
        "confirming" => "confirming",
        "unseen" => "not asked yet",
        "settled" => "settled",
        _ => "unqualified",
    }
}

/// True if the customer is muted now.
pub(in crate::cli) fn is_muted(row: &CustomerRow, now: Timestamp) -> bool {
    let until = row.muted_until.as_deref().and_then(time_args::instant);
    row.muted_since.is_some() && until.is_none_or(|until| now < until)
}
