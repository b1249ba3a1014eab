//! `vetwatch customers`: the customers that are watched.

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::cli::args::{AddArgs, CustomersCommand, SomeCustomers};
use crate::cli::lookup::{self, Customer, Scope};
use crate::cli::{Context, Exit, Failure, import, sync, time_args};
use crate::config::PublicConfig;
use crate::store::Store;
use crate::store::customers::{Added, NewCustomer};
use crate::store::reports::CustomerRow;
use crate::text;
use crate::time::Timestamp;

pub(super) async fn customers(context: &Context, command: CustomersCommand) -> Result<Exit, Failure> {
    let (who, change) = match command {
        CustomersCommand::Sync { partner } => return sync::sync(context, partner.as_deref()).await,
        CustomersCommand::List { tag, partner } => {
            return list(context, &context.outline()?, tag.as_deref(), partner.as_deref()).await;
        }
        CustomersCommand::Import(args) => return import::import(context, &args).await,
        CustomersCommand::Add(args) => return add(context, &context.outline()?, &args).await,
        CustomersCommand::Remove(who) => (who, Change::Remove),
        CustomersCommand::Pause(who) => (who, Change::Pause),
        CustomersCommand::Resume(who) => (who, Change::Resume),
        CustomersCommand::Mute(args) => {
            (args.who, Change::Mute { until: args.time.map(|time| context.now().after(time)) })
        }
        CustomersCommand::Unmute(who) => (who, Change::Unmute),
    };
    apply_to(context, &context.outline()?, &who, change).await
}

async fn list(
    context: &Context,
    outline: &PublicConfig,
    tag: Option<&str>,
    partner: Option<&str>,
) -> Result<Exit, Failure> {
    let store = context.reading_store(&outline.database).await?;
    lookup::partner(&outline.partners, &store, partner).await?;
    let rows = store.customers(None, partner, tag).await?;
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
pub(super) fn is_muted(row: &CustomerRow, now: Timestamp) -> bool {
    let until = row.muted_until.as_deref().and_then(time_args::instant);
    row.muted_since.is_some() && until.is_none_or(|until| now < until)
}

/// The output of `add --json`.
#[derive(Serialize)]
struct AddResult {
    /// `added` or `updated`.
    result: &'static str,
    customer: Option<CustomerRow>,
}

async fn add(context: &Context, outline: &PublicConfig, args: &AddArgs) -> Result<Exit, Failure> {
    let partner = lookup::configured_partner(&outline.partners, args.partner.as_deref())?;
    let id = tenant_id(&args.id)?;
    let tags = tags(&args.tags)?;
    let store = context.store(&outline.database).await?;
    let new = NewCustomer {
        partner,
        id,
        name: args.name.as_deref().map(str::trim),
        domain: args.domain.as_deref().map(str::trim),
        tags: (!tags.is_empty()).then_some(tags.as_slice()),
    };
    let mut tx = store.begin().await?;
    let added = tx.add_customer(new, context.now()).await?;
    tx.commit().await?;

    let who = lookup::customers(&store, &[id.to_owned()], Some(partner), Scope::Watched).await?.remove(0);
    if context.json {
        let row = store.customers(Some(&who.rows), None, None).await?.pop();
        context
            .out
            .json(&AddResult { result: if added == Added::New { "added" } else { "updated" }, customer: row })?;
        return Ok(Exit::Done);
    }
    let label = text::terminal(who.label());
    context.out.line(&match added {
        Added::New => format!("{label} ({partner}) is watched from now on."),
        Added::Known { paused: false } => {
            format!("{label} ({partner}) was watched already; name, domain and tags are as you said.")
        }
        Added::Known { paused: true } => format!(
            "{label} ({partner}) was watched already; name, domain and tags are as you said. \
             It is paused: `vetwatch customers resume {}` goes on.",
            who.id
        ),
    })?;
    Ok(Exit::Done)
}

/// Checks a tenant id; kept as spelled.
fn tenant_id(text: &str) -> Result<&str, Failure> {
    let id = text.trim();
    if guid(id).is_some() {
        return Ok(id);
    }
    Err(Failure::new(Exit::Usage, format!("\"{id}\" is not a tenant id"))
        .because(format!("it is a GUID, such as {EXAMPLE_ID}"))
        .advise("Partner Center shows it on the customer's account page as \"Microsoft ID\""))
}

pub(super) const EXAMPLE_ID: &str = "8a2c4f6e-1b3d-4c5a-9e7f-0123456789ab";

/// Parses a GUID with hyphens. `Uuid` also reads braces, URNs and bare digits, which Partner Center does not.
pub(super) fn guid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// Checks a tag: the view joins tags with commas, so they hold none.
pub(super) fn is_tag(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c == ',' || c.is_control())
}

/// Removes duplicates.
fn tags(texts: &[String]) -> Result<Vec<String>, Failure> {
    let mut tags: Vec<String> = Vec::new();
    for tag in texts.iter().map(|tag| tag.trim()) {
        if !is_tag(tag) {
            return Err(Failure::new(Exit::Usage, format!("\"{tag}\" is not a tag"))
                .because("a tag is a word or two without commas; repeat --tag for several"));
        }
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    Ok(tags)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Remove,
    Pause,
    Resume,
    /// `None` means until it is unmuted.
    Mute {
        until: Option<Timestamp>,
    },
    Unmute,
}

/// Applies the change to all named customers or, if one name is unknown, to none.
async fn apply_to(
    context: &Context,
    outline: &PublicConfig,
    who: &SomeCustomers,
    change: Change,
) -> Result<Exit, Failure> {
    let store = context.existing_store(&outline.database).await?;
    lookup::partner(&outline.partners, &store, who.partner.as_deref()).await?;
    let found = lookup::customers(&store, &who.customers, who.partner.as_deref(), Scope::Watched).await?;
    let changed = apply(context, &store, &found, change).await?;
    if context.json {
        let results = found.iter().zip(&changed).map(|(customer, changed)| {
            json!({ "partner": customer.partner, "customer_id": customer.id, "name": customer.name, "changed": changed })
        });
        context.out.json(&results.collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    for (customer, changed) in found.iter().zip(changed) {
        context.out.line(&summary(customer, change, changed))?;
    }
    Ok(Exit::Done)
}

async fn apply(context: &Context, store: &Store, found: &[Customer], change: Change) -> Result<Vec<bool>, Failure> {
    let now = context.now();
    let mut changed = Vec::new();
    let mut tx = store.begin().await?;
    for row in found.iter().filter_map(|customer| customer.watched) {
        changed.push(match change {
            Change::Remove => tx.remove_customer(row, now).await?,
            Change::Pause => tx.pause(row, now).await?,
            Change::Resume => tx.resume(row, now).await?,
            Change::Mute { until } => tx.mute(row, until, now).await?,
            Change::Unmute => tx.unmute(row, now).await?,
        });
    }
    tx.commit().await?;
    Ok(changed)
}

fn summary(customer: &Customer, change: Change, changed: bool) -> String {
    let label = text::terminal(customer.label());
    match (change, changed) {
        (Change::Remove, _) => format!(
            "{label} is not watched any more; its history stays. No sync brings it back: \
             `vetwatch customers add {}` does, and begins anew.",
            customer.id
        ),
        (Change::Pause, true) => format!("{label} is paused: nothing is asked about it."),
        (Change::Pause, false) => format!("{label} was paused already."),
        (Change::Resume, true) => format!("{label} is asked about again, now."),
        (Change::Resume, false) => format!("{label} was not paused."),
        (Change::Mute { until: Some(until) }, _) => format!(
            "{label} is muted until {} UTC: what happens is recorded and told to nobody. What is queued is still sent.",
            time_args::minute(until)
        ),
        (Change::Mute { until: None }, true) => {
            format!("{label} is muted: what happens is recorded and told to nobody. What is queued is still sent.")
        }
        (Change::Mute { until: None }, false) => format!("{label} was muted already."),
        (Change::Unmute, true) => {
            format!("{label} is told of again from now on. `vetwatch history {}` shows what happened.", customer.id)
        }
        (Change::Unmute, false) => format!("{label} was not muted."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_a_guid_and_kept_as_spelled() {
        let id = "8A2c4f6e-1b3d-4c5a-9e7f-0123456789ab";
        assert_eq!(tenant_id(&format!(" {id} ")).unwrap(), id);
        for wrong in [
            "",
            "contoso.onmicrosoft.com",
            "{8A2c4f6e-1b3d-4c5a-9e7f-0123456789ab}",
            "8A2c4f6e1b3d4c5a9e7f0123456789ab",
        ] {
            let failure = tenant_id(wrong).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.why.unwrap().contains("GUID"));
        }
    }

    #[test]
    fn tags_hold_no_comma_and_are_kept_once() {
        assert_eq!(tags(&["north".into(), " vip ".into(), "north".into()]).unwrap(), ["north", "vip"]);
        assert_eq!(tags(&["a,b".into()]).unwrap_err().exit, Exit::Usage);
    }
}
