//! Renders the templates. Whatever they show is escaped, and cut where it may be long.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;
use minijinja::value::Serde;
use minijinja::{Environment, State, UndefinedBehavior, Value};
use vetwatch_core::message::time_format;
use vetwatch_core::page::{self, encoded};
use vetwatch_core::text;

use crate::time::Timestamp;

pub(crate) const STYLE: &str = include_str!("templates/style.css");

/// Longer texts of others are cut, unless a template says how long.
const TEXT_MAX: usize = 120;

static TEMPLATES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    // The extension `.html` turns on escaping.
    for (name, source) in SOURCES {
        templates.add_template(name, source)?;
    }
    templates.add_filter("short", short);
    templates.add_filter("block", block);
    templates.add_filter("time", time);
    templates.add_filter("day", day);
    templates.add_filter("clock", clock);
    templates.add_filter("ago", ago);
    templates.add_filter("hours", hours);
    templates.add_filter("percent", |number: f64| number.to_string());
    templates.add_filter("page", page);
    templates.add_filter("customer", customer);
    templates.add_filter("delivery", delivery);
    Ok(templates)
});

pub(super) const SOURCES: [(&str, &str); 12] = [
    ("frame.html", include_str!("templates/frame.html")),
    ("macros.html", include_str!("templates/macros.html")),
    ("index.html", include_str!("templates/index.html")),
    ("decided.html", include_str!("templates/decided.html")),
    ("customers.html", include_str!("templates/customers.html")),
    ("customer.html", include_str!("templates/customer.html")),
    ("deliveries.html", include_str!("templates/deliveries.html")),
    ("delivery.html", include_str!("templates/delivery.html")),
    ("report.html", include_str!("templates/report.html")),
    ("health.html", include_str!("templates/health.html")),
    ("missing.html", include_str!("templates/missing.html")),
    ("feed.xml", include_str!("templates/feed.xml")),
];

/// Renders a template with the keys of these objects.
///
/// # Errors
/// If the program is at fault.
pub(crate) fn render(name: &str, objects: &[serde_json::Value]) -> Result<String, String> {
    let templates = TEMPLATES.as_ref().map_err(ToString::to_string)?;
    let values: serde_json::Map<_, _> =
        objects.iter().filter_map(|object| object.as_object().cloned()).flatten().collect();
    let rendered = templates.get_template(name).and_then(|template| template.render(Value::from(Serde(&values))));
    rendered.map_err(|error| format!("{error:#}"))
}

/// One line of another's text, without what hides or turns it.
fn short(text: &str, max: Option<usize>) -> String {
    text::line(text, max.unwrap_or(TEXT_MAX))
}

/// The same, of several lines.
fn block(text: &str, max: usize) -> String {
    text::lines(text, max)
}

fn instant(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc().into())
}

fn zone(state: &State<'_, '_>) -> Tz {
    state.lookup("zone").and_then(|zone| zone.as_str()?.parse().ok()).unwrap_or(chrono_tz::UTC)
}

fn local(state: &State<'_, '_>, at: Timestamp, format: &str) -> String {
    at.to_utc().with_timezone(&zone(state)).format(format).to_string()
}

/// `21 Nov 2026, 10:14`, in the page's zone.
fn time(state: &State<'_, '_>, text: &str) -> Value {
    let Some(at) = instant(text) else { return Value::from(text) };
    let (shown, exact) = (local(state, at, "%-d %b %Y, %H:%M"), at.to_utc().format("%Y-%m-%dT%H:%M:%SZ"));
    Value::from_safe_string(format!("<time datetime=\"{exact}\">{shown}</time>"))
}

/// `21 Nov 2026`, of a time in the page's zone, or of a day.
fn day(state: &State<'_, '_>, text: &str) -> String {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|day| day.format("%-d %b %Y").to_string());
    day.unwrap_or_else(|_| instant(text).map_or_else(|| text.to_owned(), |at| local(state, at, "%-d %b %Y")))
}

/// `10:14:03 CET`.
fn clock(state: &State<'_, '_>, text: &str) -> String {
    instant(text).map_or_else(|| text.to_owned(), |at| local(state, at, "%H:%M:%S"))
}

/// How long ago: `3 days`.
fn ago(state: &State<'_, '_>, text: &str) -> Value {
    let now = state.lookup("now").and_then(|now| instant(now.as_str()?));
    let (Some(at), Some(now)) = (instant(text), now) else { return Value::from(text) };
    let exact = at.to_utc().format("%Y-%m-%dT%H:%M:%SZ");
    let since = local(state, at, "%-d %b %Y, %H:%M");
    let length = time_format::length(now.since(at));
    Value::from_safe_string(format!("<time datetime=\"{exact}\" title=\"since {since}\">{length}</time>"))
}

fn hours(hours: f64) -> String {
    Duration::try_from_secs_f64(hours * 3600.0).map(time_format::length).unwrap_or_default()
}

fn root(state: &State<'_, '_>) -> String {
    state.lookup("root").and_then(|root| root.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The ending of files: a page that is written into a folder is opened without a server.
fn ending(state: &State<'_, '_>) -> &'static str {
    if state.lookup("is_file").is_some_and(|is_file| is_file.is_true()) { ".html" } else { "" }
}

/// The address of a page.
fn page(state: &State<'_, '_>, name: &str) -> Value {
    let (root, ending) = (root(state), ending(state));
    Value::from_safe_string(match name {
        "index" if ending.is_empty() && root.is_empty() => "./".to_owned(),
        "index" if ending.is_empty() => root,
        _ => format!("{root}{name}{ending}"),
    })
}

/// The address of a customer's page.
fn customer(state: &State<'_, '_>, row: &Value) -> Result<Value, minijinja::Error> {
    let (partner, id) = (row.get_attr("partner")?, row.get_attr("customer_id")?);
    let path = page::customer(partner.as_str().unwrap_or_default(), id.as_str().unwrap_or_default());
    Ok(Value::from_safe_string(format!("{}{path}{}", root(state), ending(state))))
}

/// The address of a message's page.
fn delivery(state: &State<'_, '_>, row: &Value) -> Result<Value, minijinja::Error> {
    let id = row.get_attr("delivery_id")?;
    let address = format!("{}delivery/{}", root(state), encoded(id.as_str().unwrap_or_default()));
    Ok(Value::from_safe_string(address))
}
