//! The configuration as a support bundle shows it: keys, and the values that are known to be harmless.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;
use toml::{Table, Value};
use url::Url;

use crate::config::CredentialDirs;
use crate::redact;

const HIDDEN: &str = "[hidden]";

const SCHEMA: &str = include_str!("../../../schemas/vetwatch.toml.schema.json");

/// Keys of the schema whose values say who somebody is, or are as good as a password.
const PERSONAL: [&str; 4] = ["topic", "username", "login", "authorization"];

/// Keys whose values name customers.
const OF_CUSTOMERS: [&str; 2] = ["customers", "tags"];

/// The file's content without comments and secrets, and the mail addresses in it. What looks like a secret in it is also
/// registered, so that it is redacted wherever else it shows.
///
/// # Errors
/// If it is not TOML: then nothing of it can be shown.
pub(super) fn redacted(
    path: &Path,
    credentials: &CredentialDirs,
    with_customers: bool,
) -> Result<(String, Vec<String>), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let mut table: Table = text.parse().map_err(|_| {
        format!(
            "{} is not TOML, so nothing of it is shown: it may hold secrets. `check` names the place",
            path.display()
        )
    })?;
    let mut view = View {
        known: schema_keys(),
        directory: path.parent().unwrap_or(Path::new("")),
        credentials,
        with_customers,
        addresses: Vec::new(),
    };
    view.table(&mut table, "");
    let text = toml::to_string(&table).map_err(|error| error.to_string())?;
    Ok((text, view.addresses))
}

struct View<'a> {
    /// Every key that the configuration can have.
    known: BTreeSet<String>,
    /// The file's.
    directory: &'a Path,
    credentials: &'a CredentialDirs,
    with_customers: bool,
    addresses: Vec<String>,
}

impl View<'_> {
    fn table(&mut self, table: &mut Table, parent: &str) {
        for (key, value) in table.iter_mut() {
            // Mail servers have names of the administrator's choice.
            let known = parent == "smtp" || self.known.contains(key);
            self.value(value, key, known);
        }
    }

    fn value(&mut self, value: &mut Value, key: &str, known: bool) {
        match value {
            Value::Table(table) => self.table(table, key),
            Value::Array(all) => all.iter_mut().for_each(|one| self.value(one, key, known)),
            Value::String(text) => *text = self.shown(text, key, known),
            _ if known => {}
            other => {
                redact::learn(&other.to_string());
                *other = Value::String(HIDDEN.to_owned());
            }
        }
    }

    fn shown(&mut self, text: &str, key: &str, known: bool) -> String {
        if key.ends_with("_file") && known {
            // A relative name that is no file may be the secret itself.
            let is_file = Path::new(text).is_absolute() && Path::new(text).exists()
                || self.credentials.find(text).is_ok_and(|path| path.exists())
                || self.directory.join(text).exists();
            return if is_file { text.to_owned() } else { hidden(text) };
        }
        if !known || PERSONAL.contains(&key) {
            return hidden(text);
        }
        // `customers = "synced"` of a partner is a choice; a route has a list of patterns.
        if OF_CUSTOMERS.contains(&key) && !self.with_customers && !matches!(text, "synced" | "manual") {
            return HIDDEN.to_owned();
        }
        if text.contains("://") {
            let Ok(url) = Url::parse(text) else { return hidden(text) };
            redact::learn_url(&url);
            let origin = url.origin().ascii_serialization();
            let bare =
                url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.fragment().is_none();
            return if bare { format!("{origin}/") } else { format!("{origin}/{HIDDEN}") };
        }
        if self.with_customers || !text.contains('@') {
            return text.to_owned();
        }
        // `a@x.example`, or `Name <a@x.example>`.
        let address = text.rsplit_once('<').map_or(text, |(_, address)| address.trim_end_matches('>'));
        self.addresses.push(address.to_owned());
        hidden_address(address)
    }
}

pub(super) fn hidden_address(address: &str) -> String {
    format!("{HIDDEN}@{}", address.rsplit_once('@').map_or("", |(_, domain)| domain))
}

fn hidden(text: &str) -> String {
    redact::learn(text);
    HIDDEN.to_owned()
}

/// All names of properties in the configuration's schema.
fn schema_keys() -> BTreeSet<String> {
    fn collect(schema: &Json, keys: &mut BTreeSet<String>) {
        match schema {
            Json::Object(object) => {
                for (name, inner) in object {
                    if name == "properties"
                        && let Json::Object(properties) = inner
                    {
                        keys.extend(properties.keys().cloned());
                    }
                    collect(inner, keys);
                }
            }
            Json::Array(all) => all.iter().for_each(|inner| collect(inner, keys)),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    collect(&serde_json::from_str(SCHEMA).expect("the schema is JSON"), &mut keys);
    keys
}
