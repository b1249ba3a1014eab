//! Create dates. Microsoft's documentation has five formats, and a date is never guessed: a wrong one would start a new
//! attempt or hide one, an unknown one does neither.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime};

use vetwatch_core::time::Timestamp;

/// Parses a create date. `None` if it is ambiguous or unreadable.
///
/// Accepted: RFC 3339 with any number of decimals and any offset (`+00:00`, `+0000`, `Z`), the same without an offset
/// (UTC, as documented for `validationStatus`), and `07/25/2020: 00:00:00` (UTC) if day and month cannot be confused.
/// `0001-01-01` and the like are .NET's "no date".
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let instant = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
        .map(|instant| instant.naive_utc())
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f"))
        .ok()
        .or_else(|| with_slashes(text))?;
    (2000..2200).contains(&instant.year()).then(|| instant.and_utc().into())
}

/// `07/09/2020: 00:00:00`, seen once, may be July or September: `None`. `07/25/2020` and `25/07/2020` are clear.
fn with_slashes(text: &str) -> Option<NaiveDateTime> {
    let (date, time) = text.split_once(' ')?;
    let time = NaiveTime::parse_from_str(time.trim(), "%H:%M:%S").ok()?;
    let date = date.strip_suffix(':').unwrap_or(date);
    let month_first = NaiveDate::parse_from_str(date, "%m/%d/%Y").ok();
    let day_first = NaiveDate::parse_from_str(date, "%d/%m/%Y").ok();
    let date = match (month_first, day_first) {
        (Some(a), Some(b)) if a != b => return None,
        (a, b) => a.or(b)?,
    };
    Some(date.and_time(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_spelling_is_read_and_nothing_is_guessed() {
        for (text, expected) in [
            ("2020-12-03T10:37:38.885Z", Some("2020-12-03T10:37:38.885Z")),
            ("2020-12-04T20:54:24Z", Some("2020-12-04T20:54:24.000Z")),
            ("2021-05-06T19:59:56.6832021+00:00", Some("2021-05-06T19:59:56.683Z")),
            ("2021-05-06T19:59:56.683202112345+02:00", Some("2021-05-06T17:59:56.683Z")),
            ("2021-05-06T19:59:56-0700", Some("2021-05-07T02:59:56.000Z")),
            ("2021-07-14T18:02:00", Some("2021-07-14T18:02:00.000Z")),
            (" 2021-07-14T18:02:00.1234567 ", Some("2021-07-14T18:02:00.123Z")),
            ("07/25/2020: 01:02:03", Some("2020-07-25T01:02:03.000Z")),
            ("25/07/2020: 01:02:03", Some("2020-07-25T01:02:03.000Z")),
            ("07/07/2020 00:00:00", Some("2020-07-07T00:00:00.000Z")),
            ("07/09/2020: 00:00:00", None),
            ("25/25/2020: 00:00:00", None),
            ("0001-01-01T00:00:00", None),
            ("0001-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59.9999999Z", None),
            ("2021-02-30T00:00:00Z", None),
            ("2021-07-14", None),
            ("1600000000", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(|at| at.to_string()).as_deref(), expected, "{text:?}");
        }
    }
}
