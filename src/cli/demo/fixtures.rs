//! An invented reseller's customers: organisations on reserved domains (RFC 2606).

use std::time::Duration;

use crate::cli::{Exit, Failure};
use crate::sandbox::{CustomerDetails, Operation, Sandbox, Step, WorldError};
use crate::time::Timestamp;

const NAMES: &[&str] = &[
    "Northwind",
    "Fabrikam",
    "Tailwind",
    "Contoso",
    "Litware",
    "Woodgrove",
    "Bellows",
    "Proseware",
    "Alpine",
    "Relecloud",
    "Lucerne",
    "Trey",
    "Munson",
    "Wingtip",
    "Adventure",
    "Coho",
];
const SCHOOLS: &[&str] = &["Library", "College", "Academy", "School", "University"];
const OFFICES: &[&str] = &["City Hall", "Town Council", "County"];

/// A customer of the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DemoCustomer {
    pub(super) id: String,
    pub(super) name: String,
}

/// The `n`-th school, from 0; the first 80 differ.
pub(super) fn school(n: usize) -> String {
    name(SCHOOLS, n)
}

/// The `n`-th public office, from 0; the first 48 differ.
pub(super) fn office(n: usize) -> String {
    name(OFFICES, n + 13) // a name unlike the schools of the same pass
}

/// The lengths are coprime, so both lists may simply wrap.
fn name(kinds: &[&str], n: usize) -> String {
    format!("{} {}", NAMES[n % NAMES.len()], kinds[n % kinds.len()])
}

fn domain(name: &str) -> String {
    format!("{}.example", name.to_lowercase().replace(' ', "-"))
}

/// Adds a customer and its past operations, each with its age in hours.
pub(super) fn add(
    sandbox: &Sandbox,
    name: String,
    now: Timestamp,
    past: impl IntoIterator<Item = (u64, Operation)>,
) -> Result<DemoCustomer, Failure> {
    let details = CustomerDetails::new("", &name, domain(&name));
    let at = |hours| now.before(Duration::from_hours(hours));
    let steps = past.into_iter().map(|(hours, operation)| Step::at(at(hours), operation)).collect();
    let added = sandbox.add_customer(details).and_then(|id| sandbox.timeline(&id, steps).map(|()| id));
    let failed = |error: WorldError| Failure::new(Exit::Failed, "cannot add a customer").because(error.to_string());
    added.map(|id| DemoCustomer { id, name }).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_customers_share_a_name_or_a_domain() {
        let names: HashSet<_> = (0..80).map(school).chain((0..48).map(office)).collect();
        let domains: HashSet<_> = names.iter().map(|name| domain(name)).collect();
        assert_eq!((names.len(), domains.len()), (128, 128));
        assert_eq!((school(3), office(0)), ("Contoso School".into(), "Wingtip Town Council".into()));
        assert_eq!(domain("Wingtip Town Council"), "wingtip-town-council.example");
    }
}
