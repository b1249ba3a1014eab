//! Reading the configuration for a command. A stub: just enough of it to try the commands.

use std::path::Path;
use std::time::Duration;

use crate::cli::{Exit, Failure};
use crate::config::{Config, Schedule};
use crate::partner_center::{Credential, Customers, PartnerSettings};

/// The configuration with its secrets, or every problem at once.
pub(super) fn load_config(path: &Path) -> Result<Config, Failure> {
    let failed = |why: String| {
        Failure::new(Exit::Configuration, format!("cannot use {}", path.display()))
            .because(why)
            .advise("`--config FILE` or VETWATCH_CONFIG names another file")
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let raw: toml::Table = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let database = raw.get("database").and_then(|section| section.get("path")).and_then(toml::Value::as_str);
    let names = raw.get("partner").and_then(toml::Value::as_array).into_iter().flatten();
    let url = url::Url::parse("https://api.partnercenter.microsoft.com").map_err(|error| failed(error.to_string()))?;
    let partners = names.filter_map(|partner| partner.get("name")?.as_str()).map(|name| PartnerSettings {
        name: name.into(),
        tenant: String::new(),
        client_id: String::new(),
        api_url: url.clone(),
        login_url: url.clone(),
        credential: Credential::ClientSecret(String::new().into()),
        requests_per_minute: 300,
        max_in_flight: 8,
        customers: Customers::All,
    });
    Ok(Config {
        database: database.unwrap_or("/var/lib/vetwatch/vetwatch.db").into(),
        partners: partners.collect(),
        schedule: Schedule {
            in_review: Duration::from_mins(15),
            settled: Duration::from_hours(24),
            unqualified: Duration::from_hours(7 * 24),
            activity_log: Duration::from_mins(5),
            second_look: Duration::from_mins(2),
            third_look: Duration::from_hours(1),
            customer_sync: "0 0 3 * * *".into(),
            timezone: chrono_tz::UTC,
        },
        retry: crate::delivery::retry::Policy::default(),
        endpoints: Vec::new(),
        routes: crate::delivery::route::Routes::default(),
        web: None,
        keep_attempts: Duration::from_hours(180 * 24),
        warnings: Vec::new(),
    })
}
