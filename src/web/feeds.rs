//! The feeds: verdicts as Atom, expected decisions as a calendar. Programs ask for them again and again, so an answer that
//! they have already is not sent.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono_tz::Tz;
use ring::digest::{SHA256, digest};
use serde_json::json;
use url::Url;
use vetwatch_core::page::{self, encoded};
use vetwatch_core::text;

use super::Site;
use super::pages;
use super::readers::Unread;
use super::render::render;
use crate::forecast::Forecasts;
use crate::overview::InReview;
use crate::time::Timestamp;

/// The names of the feeds.
pub const ATOM: &str = "feed.atom";
pub const CALENDAR: &str = "expected.ics";

/// Verdicts in the feed.
const VERDICTS: u32 = 50;
/// Reviews in the calendar.
const REVIEWS: u32 = 1000;
/// A line of a calendar is folded after so many bytes.
const LINE_MAX: usize = 73;

pub(super) async fn atom(State(site): State<Arc<Site>>, headers: HeaderMap, uri: Uri) -> Result<Response, Unread> {
    let verdicts = site.readers.read(async |store| store.verdicts(None, VERDICTS).await).await?;
    let updated = verdicts.first().map_or("2026-01-01T00:00:00Z".to_owned(), |it| it.row.decided_before.clone());
    let values = json!({ "verdicts": verdicts, "updated": updated, "base": base(&site, &uri) });
    let frame = json!({ "root": "", "is_file": false, "zone": site.zone().name(), "now": site.now() });
    match render("feed.xml", &[values, frame]) {
        Ok(xml) => Ok(answer(xml, "application/atom+xml; charset=utf-8", &headers)),
        Err(why) => Ok(pages::unrendered(&why)),
    }
}

pub(super) async fn calendar(State(site): State<Arc<Site>>, headers: HeaderMap, uri: Uri) -> Result<Response, Unread> {
    let (calendar, now) = (site.calendar(), site.now());
    let read = site.readers.read(async |store| {
        let forecasts = Forecasts::read(store, &calendar, now).await?;
        let reviews = store.reviews(None, None, REVIEWS).await?.into_iter();
        Ok(reviews.map(|it| InReview { expected: forecasts.of_row(&it.row), row: it.row }).collect::<Vec<_>>())
    });
    let text = calendar_of(&read.await?, &base(&site, &uri), calendar.zone, now);
    Ok(answer(text, "text/calendar; charset=utf-8", &headers))
}

/// The same, by an address that holds a secret.
pub(super) async fn by_secret(
    state: State<Arc<Site>>,
    Path((_, feed)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Unread> {
    match feed.as_str() {
        ATOM => atom(state, headers, uri).await,
        CALENDAR => calendar_feed(state, headers, uri).await,
        _ => pages::no_page(state, uri).await,
    }
}

use calendar as calendar_feed;

/// What links begin with: the address that people open, or else the way from the feed to the first page.
fn base(site: &Site, uri: &Uri) -> String {
    let depth = uri.path().trim_start_matches('/').matches('/').count();
    site.public_url().map_or_else(|| "../".repeat(depth), String::from)
}

fn answer(body: String, kind: &'static str, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&digest(&SHA256, body.as_bytes()).as_ref()[..12]));
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| {
        known.to_str().is_ok_and(|known| known.split(',').any(|it| it.trim().trim_start_matches("W/") == tag))
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, kind)], body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.extend(HeaderValue::from_str(&tag).map(|tag| (ETAG, tag)));
    response
}

/// RFC 5545. A review without an expected date has no place in it.
fn calendar_of(reviews: &[InReview], base: &str, zone: Tz, now: Timestamp) -> String {
    let mut calendar = Lines::default();
    calendar.add("BEGIN", "VCALENDAR");
    calendar.add("VERSION", "2.0");
    calendar.add("PRODID", "-//vetwatch//expected decisions//EN");
    calendar.add("X-WR-CALNAME", "Expected vetting decisions");
    calendar.add("REFRESH-INTERVAL;VALUE=DURATION", "PT1H");
    for InReview { row, expected } in reviews {
        let Some((expected, by)) = expected.as_ref().and_then(|it| Some((it, it.by?))) else { continue };
        let since = row.vetting_created_at.as_deref().unwrap_or(&row.status_since);
        let Ok(since) = chrono::DateTime::parse_from_rfc3339(since) else { continue };
        let since = Timestamp::from(since.to_utc());
        let day = by.to_utc().with_timezone(&zone).date_naive();
        let name = if text::line(&row.customer_name, 80).is_empty() { &row.customer_id } else { &row.customer_name };
        let ids = [&*row.partner, &row.customer_id, &row.qualification, &row.attempt.to_string()].map(encoded);
        calendar.add("BEGIN", "VEVENT");
        calendar.add("UID", &format!("{}@vetwatch", ids.join("/")));
        calendar.add("DTSTAMP", &since.to_utc().format("%Y%m%dT%H%M%SZ").to_string());
        // Rises by the hour: a date that moved since then is newer.
        calendar.add("SEQUENCE", &(now.since(since).as_secs() / 3600).to_string());
        calendar.add("DTSTART;VALUE=DATE", &day.format("%Y%m%d").to_string());
        calendar.add("SUMMARY", &escaped(&format!("{name}: decision on {} expected", row.qualification)));
        calendar.add("DESCRIPTION", &escaped(&expected.text));
        if Url::parse(base).is_ok() {
            calendar.add("URL", &format!("{base}{}", page::customer(&row.partner, &row.customer_id)));
        }
        calendar.add("TRANSP", "TRANSPARENT");
        calendar.add("END", "VEVENT");
    }
    calendar.add("END", "VCALENDAR");
    calendar.0
}

fn escaped(value: &str) -> String {
    let line = text::line(value, 200);
    line.replace('\\', "\\\\").replace(';', "\\;").replace(',', "\\,")
}

#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    /// Adds a line, folded between characters.
    fn add(&mut self, name: &str, value: &str) {
        let mut length = 0;
        for c in format!("{name}:{value}").chars() {
            if length + c.len_utf8() > LINE_MAX {
                self.0 += "\r\n ";
                length = 1;
            }
            length += c.len_utf8();
            self.0.push(c);
        }
        let _ = write!(self.0, "\r\n"); // a String takes everything
    }
}
