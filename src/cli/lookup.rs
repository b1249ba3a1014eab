//! Resolves what people type: a customer by tenant id, domain or name; a partner by name; an id by its beginning.

use std::collections::BTreeMap;

use crate::cli::customers::{guid, spelled};
use crate::cli::{Exit, Failure};
use crate::config::Config;
use crate::store::reports::FoundCustomer;
use crate::store::{self, CustomerId, Store};

/// An unambiguous customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Customer {
    pub partner: String,
    /// As spelled; `key` is for comparison.
    pub id: String,
    pub key: String,
    pub name: String,
    /// Its rows of `customer`, oldest first: one for each `add`.
    pub rows: Vec<CustomerId>,
    /// The current row, unless it was removed.
    pub watched: Option<CustomerId>,
    pub paused: bool,
}

impl Customer {
    /// The name or, if it has none, the id.
    pub(super) fn label(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }
}

/// A customer's name or, if it has none, its id.
pub(super) fn name_or_id(name: &str, id: &str) -> String {
    if name.is_empty() { id } else { name }.to_owned()
}

/// Which customers to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Watched,
    /// Removed customers as well: their history stays.
    Ever,
}

/// Resolves each of `texts`, in this order, without duplicates.
///
/// # Errors
/// [`Exit::NotFound`] if one matches no customer, or several; the candidates are listed.
pub(super) async fn customers(
    store: &Store,
    texts: &[String],
    partner: Option<&str>,
    among: Scope,
) -> Result<Vec<Customer>, Failure> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let known = store.known_customers().await?;
    let mut found: Vec<Customer> = Vec::new();
    for text in texts {
        let customer = resolve(&known, text, partner, among)?;
        if !found.contains(&customer) {
            found.push(customer);
        }
    }
    Ok(found)
}

/// Checks `--partner` against the configuration, and the database's earlier partners.
pub(super) async fn partner(configured: &[String], store: &Store, name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else { return Ok(()) };
    let is_named = |names: &[String]| names.iter().any(|known| known == name);
    if is_named(configured) || is_named(&store.partner_names().await?) {
        return Ok(());
    }
    Err(no_such_partner(configured, name))
}

/// Checks `--partner` against the configuration alone.
pub(super) fn check_partner(config: &Config, name: Option<&str>) -> Result<(), Failure> {
    name.map_or(Ok(()), |_| configured_partner(&config.partner_names(), name).map(drop))
}

/// The configured partner for a change: the one that `--partner` names, or the only one.
pub(super) fn configured_partner<'a>(configured: &'a [String], name: Option<&str>) -> Result<&'a str, Failure> {
    match (name, configured) {
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::new(Exit::Configuration, "the configuration names no partner")
            .advise("`vetwatch check` says what a [[partner]] needs")),
        (None, several) => Err(Failure::new(Exit::Usage, "several partners are configured: say which one")
            .listing(several.iter().map(|partner| format!("--partner {partner}")))),
        (Some(name), partners) => match partners.iter().find(|partner| *partner == name) {
            Some(partner) => Ok(partner),
            None => Err(no_such_partner(configured, name)),
        },
    }
}

fn no_such_partner(configured: &[String], name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no partner \"{name}\""))
        .because("the configuration has")
        .listing(configured.iter().cloned())
}

/// The first ids that begin with `prefix` or, if it is a whole id, that one; as `search` finds them.
pub(super) async fn ids(
    prefix: &str,
    search: impl AsyncFnOnce(&str, u32) -> Result<Vec<String>, store::Error>,
) -> Result<Vec<String>, Failure> {
    const SHOWN: u32 = 6;
    let wanted = prefix.trim().to_lowercase();
    if wanted.is_empty() || !wanted.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return Ok(Vec::new());
    }
    let ids = search(&wanted, SHOWN).await?;
    Ok(if ids.contains(&wanted) { vec![wanted] } else { ids })
}

/// Resolves the beginning of a message's id.
pub(super) async fn delivery(store: &Store, prefix: &str) -> Result<String, Failure> {
    let mut ids = ids(prefix, async |wanted, limit| store.delivery_ids(wanted, limit).await).await?;
    match ids.len() {
        1 => Ok(ids.remove(0)),
        0 => Err(Failure::new(Exit::NotFound, format!("there is no message \"{prefix}\""))
            .advise("`vetwatch deliveries list` shows the newest")),
        _ => Err(Failure::new(Exit::NotFound, format!("several messages begin with \"{prefix}\""))
            .listing(ids)
            .advise("write more of the id")),
    }
}

/// All rows of one customer, oldest first.
type Rows<'a> = Vec<&'a FoundCustomer>;

fn resolve(known: &[FoundCustomer], text: &str, partner: Option<&str>, among: Scope) -> Result<Customer, Failure> {
    let mut all: BTreeMap<(&str, &str), Rows<'_>> = BTreeMap::new();
    for customer in known.iter().filter(|customer| partner.is_none_or(|name| name == customer.partner)) {
        if among == Scope::Ever || !customer.removed {
            all.entry((&customer.partner, &customer.customer_key)).or_default().push(customer);
        }
    }
    let wanted = text.trim();
    let wanted = guid(wanted).map_or_else(|| wanted.to_owned(), |id| spelled(wanted, id)).to_lowercase();
    let by: [fn(&FoundCustomer) -> &str; 3] = [|c| &c.customer_key, |c| &c.domain, |c| &c.name];
    for field in by {
        let is_meant = |customer: &&FoundCustomer| !wanted.is_empty() && field(customer).to_lowercase() == wanted;
        let mut meant: Vec<_> = all.values().filter(|rows| rows.iter().any(is_meant)).collect();
        if meant.len() > 1 && meant.iter().any(|rows| is_watched(rows)) {
            meant.retain(|rows| is_watched(rows));
        }
        match meant.as_slice() {
            [] => {}
            [rows] => return Ok(customer(rows)),
            several => {
                return Err(Failure::new(Exit::NotFound, format!("\"{text}\" names {} customers", several.len()))
                    .listing(several.iter().filter_map(|rows| rows.last()).map(|c| candidate(c)))
                    .advise("name one by its tenant id, and with --partner if two partners have it"));
            }
        }
    }
    let mut failure = Failure::new(Exit::NotFound, format!("cannot find the customer \"{text}\""))
        .because("no customer has this tenant id, domain or name");
    if among == Scope::Watched && known.iter().any(|c| c.removed && by.iter().any(|f| f(c).to_lowercase() == wanted)) {
        failure = failure.because("it was removed; `vetwatch history` still shows what was seen");
    }
    Err(failure.listing(similar(&all, &wanted)).advise("`vetwatch customers list` shows who is watched"))
}

fn is_watched(rows: &Rows<'_>) -> bool {
    rows.iter().any(|row| !row.removed)
}

fn customer(rows: &Rows<'_>) -> Customer {
    let watched = rows.iter().rfind(|row| !row.removed);
    let shown = watched.or(rows.last()).expect("a customer has at least one row");
    Customer {
        partner: shown.partner.clone(),
        id: shown.customer_id.clone(),
        key: shown.customer_key.clone(),
        name: shown.name.clone(),
        rows: rows.iter().map(|row| row.row).collect(),
        watched: watched.map(|row| row.row),
        paused: watched.is_some_and(|row| row.paused),
    }
}

fn candidate(customer: &FoundCustomer) -> String {
    let FoundCustomer { partner, customer_id, name, domain, .. } = customer;
    let removed = if customer.removed { ", removed" } else { "" };
    format!("{customer_id}  {name} ({domain}, {partner}{removed})")
}

/// At most five customers with a name or domain that contains `wanted`, or is close to it.
fn similar(all: &BTreeMap<(&str, &str), Rows<'_>>, wanted: &str) -> Vec<String> {
    let is_close = |field: &str| {
        let field = field.to_lowercase();
        !wanted.is_empty() && (field.contains(wanted) || strsim::jaro_winkler(&field, wanted) > 0.85)
    };
    let latest = all.values().filter_map(|rows| rows.last());
    latest.filter(|c| is_close(&c.name) || is_close(&c.domain)).take(5).map(|c| candidate(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reports::fixture;

    async fn find(text: &str, partner: Option<&str>, among: Scope) -> Result<Customer, Failure> {
        let filled = fixture::filled().await;
        customers(&filled.store, &[text.to_owned()], partner, among).await.map(|mut found| found.remove(0))
    }

    #[tokio::test]
    async fn a_customer_is_found_by_id_domain_or_name_in_any_case() {
        for text in [
            "c0000000-0000-4000-8000-000000000003",
            "C0000000-0000-4000-8000-000000000003",
            "ecole.EXAMPLE",
            " ÉCOLE élémentaire",
        ] {
            let found = find(text, None, Scope::Watched).await.unwrap();
            assert_eq!(
                (found.rows.as_slice(), found.label()),
                ([CustomerId(3)].as_slice(), "École Élémentaire"),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_two_customers_have_lists_them_and_the_partner_decides() {
        let failure = find("contoso school", None, Scope::Watched).await.unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!(failure.list.len(), 2, "{failure:?}");
        assert!(failure.list.iter().any(|line| line.contains("d0000000-0000-4000-8000-000000000006")), "{failure:?}");
        assert_eq!(find("contoso school", Some("amer"), Scope::Watched).await.unwrap().rows, [CustomerId(6)]);
    }

    #[tokio::test]
    async fn a_removed_customer_is_found_for_its_history_only() {
        assert_eq!(find("northwind college", None, Scope::Ever).await.unwrap().watched, None);
        let failure = find("northwind college", None, Scope::Watched).await.unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        assert!(failure.why.unwrap().contains("was removed"));
    }

    #[tokio::test]
    async fn a_typing_mistake_gets_a_suggestion() {
        let failure = find("Fabrikam Univresity", None, Scope::Watched).await.unwrap_err();
        assert!(failure.list[0].contains("Fabrikam University"), "{failure:?}");
        assert!(find("", None, Scope::Watched).await.unwrap_err().list.is_empty());
    }
    #[tokio::test]
    async fn enough_of_the_beginning_of_an_id_names_a_message() {
        let filled = fixture::filled().await;
        assert_eq!(delivery(&filled.store, "0193C").await.unwrap(), "0193c000-0000-7000-8000-000000000005");
        let whole = "0193b000-0000-7000-8000-000000000001";
        assert_eq!(delivery(&filled.store, whole).await.unwrap(), whole);
        let several = delivery(&filled.store, "0193b").await.unwrap_err();
        assert_eq!((several.exit, several.list.len()), (Exit::NotFound, 4));
        for nothing in ["", "ffff", "%", "0193b000' or 1=1"] {
            assert_eq!(delivery(&filled.store, nothing).await.unwrap_err().exit, Exit::NotFound, "{nothing}");
        }
    }
}
