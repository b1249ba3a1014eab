//! `vetwatch customers add`.

use serde::Serialize;
use uuid::Uuid;

use crate::cli::lookup::{self, Scope};
use crate::cli::{Context, Exit, Failure};
use crate::delivery::email::address::Contact;
use crate::store::customers::{Added, NewCustomer};
use crate::store::reports::CustomerRow;
use crate::text;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The customer's tenant id, a GUID
    #[arg(value_name = "ID")]
    pub id: String,
    /// The customer's name, as messages show it
    #[arg(long)]
    pub name: Option<String>,
    /// The tenant's domain
    #[arg(long)]
    pub domain: Option<String>,
    /// For routes and lists; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Mail addresses of the customer's contact, for endpoints with `to_contact`; separated by `;`
    #[arg(long, value_name = "ADDRESS")]
    pub contact: Option<String>,
    /// The partner of the configuration; needed where there are several
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

/// The output of `add --json`.
#[derive(Serialize)]
struct AddResult {
    /// `added` or `updated`.
    result: &'static str,
    customer: Option<CustomerRow>,
}

pub(super) async fn add(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    let partner = lookup::configured_partner(&outline.partners, args.partner.as_deref())?;
    let id = tenant_id(&args.id)?;
    let tags = tags(&args.tags)?;
    let contact = args.contact.as_deref().map(str::trim);
    if let Some((part, why)) = contact.and_then(|contact| Contact::parse(contact).unusable.into_iter().next()) {
        return Err(Failure::new(Exit::Usage, format!("\"{part}\" {why}"))
            .advise("--contact takes one or several addresses, separated by semicolons"));
    }
    let store = context.store(&outline.database).await?;
    let new = NewCustomer {
        partner,
        id: &id,
        name: args.name.as_deref().map(str::trim),
        domain: args.domain.as_deref().map(str::trim),
        tags: (!tags.is_empty()).then_some(tags.as_slice()),
        contact,
    };
    let mut tx = store.begin().await?;
    let added = tx.add_customer(new, context.now()).await?;
    tx.commit().await?;

    let who = lookup::customers(&store, &[id], Some(partner), Scope::Watched).await?.remove(0);
    if context.json {
        let row = store.customers(&who.rows).await?.pop();
        context
            .out
            .json(&AddResult { result: if added == Added::New { "added" } else { "updated" }, customer: row })?;
        return Ok(Exit::Done);
    }
    let label = text::terminal(who.label());
    context.out.line(&match added {
        Added::New => format!("{label} ({partner}) is watched from now on."),
        Added::Known { paused: false } => {
            format!("{label} ({partner}) was watched already; what you gave is set.")
        }
        Added::Known { paused: true } => format!(
            "{label} ({partner}) was watched already; what you gave is set. \
             It is paused: `vetwatch customers resume {}` goes on.",
            who.id
        ),
    })?;
    Ok(Exit::Done)
}

/// Checks a tenant id.
fn tenant_id(text: &str) -> Result<String, Failure> {
    let id = text.trim();
    if let Some(guid) = guid(id) {
        return Ok(spelled(id, guid));
    }
    Err(Failure::new(Exit::Usage, format!("\"{id}\" is not a tenant id"))
        .because(format!("it is a GUID, such as {EXAMPLE_ID}"))
        .advise("Partner Center shows it on the customer's account page as \"Microsoft ID\""))
}

pub(super) const EXAMPLE_ID: &str = "8a2c4f6e-1b3d-4c5a-9e7f-0123456789ab";

/// Parses a GUID: with hyphens, in braces, or as bare digits, as other programs write it.
pub(in crate::cli) fn guid(text: &str) -> Option<Uuid> {
    let is_urn = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("urn:"));
    (!is_urn).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// A tenant id as it is kept: as spelled, with hyphens and without braces.
pub(in crate::cli) fn spelled(text: &str, guid: Uuid) -> String {
    let bare = text.trim_matches(['{', '}']);
    if bare.contains('-') { bare.to_owned() } else { guid.to_string() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_a_guid_and_kept_as_spelled() {
        let id = "8A2c4f6e-1b3d-4c5a-9e7f-0123456789ab";
        assert_eq!(tenant_id(&format!(" {id} ")).unwrap(), id);
        assert_eq!(tenant_id(&format!("{{{id}}}")).unwrap(), id);
        assert_eq!(tenant_id("8A2c4f6e1b3d4c5a9e7f0123456789ab").unwrap(), id.to_lowercase());
        for wrong in ["", "contoso.onmicrosoft.com", "8A2c4f6e1b3d4c5a9e7f0123456789a"] {
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
