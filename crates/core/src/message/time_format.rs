//! Times for people, in the configuration's zone, which is always named: readers may be in several.

use std::time::Duration;

use chrono::{DateTime, MappedLocalTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use crate::time::Timestamp;

/// With a longer gap between polls the text says how late the event may be.
const MAX_PROMPT_GAP: Duration = Duration::from_hours(1);

/// `21 Nov 2026`.
#[must_use]
pub fn day(at: Timestamp, zone: Tz) -> String {
    local(at, zone).format("%-d %b %Y").to_string()
}

/// `21 Nov 2026, 10:14 CET`.
#[must_use]
pub fn moment(at: Timestamp, zone: Tz) -> String {
    format!("{}, {}", day(at, zone), hour(at, zone))
}

/// `21 Nov 2026, 10:14 CET (09:14 UTC)`, for what is compared with a log.
#[must_use]
pub fn with_utc(at: Timestamp, zone: Tz) -> String {
    let (there, utc) = (local(at, zone), at.to_utc());
    let moment = moment(at, zone);
    if there.offset().fix().local_minus_utc() == 0 {
        moment
    } else if there.date_naive() == utc.date_naive() {
        format!("{moment} ({})", utc.format("%H:%M UTC"))
    } else {
        format!("{moment} ({})", utc.format("%-d %b, %H:%M UTC"))
    }
}

/// `21 Nov 2026, 09:14:03 UTC`, for what is compared with Partner Center.
#[must_use]
pub fn utc(at: Timestamp) -> String {
    at.to_utc().format("%-d %b %Y, %H:%M:%S UTC").to_string()
}

/// `between 09:59 and 10:14 CET on 21 Nov 2026`, and how late the event may be if that is over an hour.
#[must_use]
pub fn span(after: Option<Timestamp>, until: Timestamp, zone: Tz) -> String {
    let Some(after) = after.filter(|after| *after <= until) else {
        return format!("not known; vetwatch saw it on {}", moment(until, zone));
    };
    let (first, last) = (day(after, zone), day(until, zone));
    let span = if first != last {
        format!("between {first}, {} and {last}, {}", hour_before(after, until, zone), hour(until, zone))
    } else if minute(after) == minute(until) {
        format!("at {} on {last}", hour(until, zone))
    } else {
        format!("between {} and {} on {last}", hour_before(after, until, zone), hour(until, zone))
    };
    let gap = until.since(after);
    if gap > MAX_PROMPT_GAP { format!("{span}; this news may be up to {} late", length(gap)) } else { span }
}

/// The same, shorter: `21 Nov 2026, 10:14 CET`, or a range if it spans over an hour.
#[must_use]
pub fn brief(after: Option<Timestamp>, until: Timestamp, zone: Tz) -> String {
    let Some(after) = after.filter(|after| *after <= until && until.since(*after) > MAX_PROMPT_GAP) else {
        return moment(until, zone);
    };
    let (first, last) = (day(after, zone), day(until, zone));
    let (from, to) = (hour_before(after, until, zone), hour(until, zone));
    if first == last { format!("{last}, {from} to {to}") } else { format!("{first}, {from} to {last}, {to}") }
}

fn local(at: Timestamp, zone: Tz) -> DateTime<Tz> {
    at.to_utc().with_timezone(&zone)
}

fn minute(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(60)
}

/// `10:14 CET`.
fn hour(at: Timestamp, zone: Tz) -> String {
    let at = local(at, zone);
    format!("{} {}", at.format("%H:%M"), zone_name(&at))
}

/// `09:59`; with the zone's name if clocks were changed before `until`.
fn hour_before(at: Timestamp, until: Timestamp, zone: Tz) -> String {
    let (from, to) = (local(at, zone), local(until, zone));
    if from.offset().fix() == to.offset().fix() { from.format("%H:%M").to_string() } else { hour(at, zone) }
}

/// `CET`, or `UTC+03:00` where the zone has no name.
fn zone_name(at: &DateTime<Tz>) -> String {
    let (name, offset) = (at.format("%Z").to_string(), at.offset().fix());
    if name.starts_with(['+', '-']) {
        return format!("UTC{offset}");
    }
    match at.timezone().from_local_datetime(&at.naive_local()) {
        // The hour that clocks repeat, in a zone that keeps its name.
        MappedLocalTime::Ambiguous(one, other) if one.format("%Z").to_string() == other.format("%Z").to_string() => {
            format!("{name} (UTC{offset})")
        }
        _ => name,
    }
}

/// `15 minutes`, `4 hours`, `3 days`: the largest unit with a count of at least two, rounded down.
#[must_use]
pub fn length(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    let (count, unit) = match minutes {
        0..120 => (minutes, "minute"),
        120..2880 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use chrono_tz::America::{New_York, Sao_Paulo};
    use chrono_tz::Asia::Kolkata;
    use chrono_tz::Europe::{Amsterdam, London, Moscow};

    use super::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn a_span_says_no_more_than_is_known() {
        let until = at("2026-11-21T09:14:03Z");
        let cases = [
            ("2026-11-21T08:59:03Z", "between 09:59 and 10:14 CET on 21 Nov 2026"),
            ("2026-11-21T09:14:01Z", "at 10:14 CET on 21 Nov 2026"),
            ("2026-11-21T06:14:00Z", "between 07:14 and 10:14 CET on 21 Nov 2026; this news may be up to 3 hours late"),
            (
                "2026-11-18T09:00:00Z",
                "between 18 Nov 2026, 10:00 and 21 Nov 2026, 10:14 CET; this news may be up to 3 days late",
            ),
            ("2026-11-21T09:15:00Z", "not known; vetwatch saw it on 21 Nov 2026, 10:14 CET"), // clock set back
        ];
        for (after, expected) in cases {
            assert_eq!(span(Some(at(after)), until, Amsterdam), expected);
        }
        let few_words =
            ["2026-11-21T08:59:03Z", "2026-11-21T06:14:00Z", "2026-11-18T09:00:00Z", "2026-11-21T09:15:00Z"];
        assert_eq!(
            few_words.map(|after| brief(Some(at(after)), until, Amsterdam)),
            [
                "21 Nov 2026, 10:14 CET",
                "21 Nov 2026, 07:14 to 10:14 CET",
                "18 Nov 2026, 10:00 to 21 Nov 2026, 10:14 CET",
                "21 Nov 2026, 10:14 CET"
            ]
        );
        assert_eq!(span(None, until, Amsterdam), "not known; vetwatch saw it on 21 Nov 2026, 10:14 CET");
    }

    #[test]
    fn a_time_is_local_its_zone_is_named_and_the_day_is_the_readers() {
        let late = at("2026-11-21T23:30:00Z");
        for (zone, expected) in [
            (Amsterdam, "22 Nov 2026, 00:30 CET (21 Nov, 23:30 UTC)"),
            (New_York, "21 Nov 2026, 18:30 EST (23:30 UTC)"),
            (Kolkata, "22 Nov 2026, 05:00 IST (21 Nov, 23:30 UTC)"),
            (Sao_Paulo, "21 Nov 2026, 20:30 UTC-03:00 (23:30 UTC)"),
            (London, "21 Nov 2026, 23:30 GMT"),
            (chrono_tz::UTC, "21 Nov 2026, 23:30 UTC"),
        ] {
            assert_eq!(with_utc(late, zone), expected);
            assert!(expected.starts_with(&moment(late, zone)) && expected.starts_with(&day(late, zone)), "{zone}");
        }
        assert_eq!(utc(late), "21 Nov 2026, 23:30:00 UTC");
    }

    #[test]
    fn the_hour_that_clocks_repeat_or_leave_out_is_unambiguous() {
        let (first, second) = (at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"));
        assert_eq!(moment(first, Amsterdam), "25 Oct 2026, 02:30 CEST");
        assert_eq!(moment(second, Amsterdam), "25 Oct 2026, 02:30 CET");
        assert_eq!(span(Some(first), second, Amsterdam), "between 02:30 CEST and 02:30 CET on 25 Oct 2026");
        assert_eq!(
            brief(Some(at("2026-10-25T00:10:00Z")), second, Amsterdam),
            "25 Oct 2026, 02:10 CEST to 02:30 CET",
            "twenty minutes on the clock, and over an hour"
        );
        let (before, after) = (at("2026-03-29T00:59:00Z"), at("2026-03-29T01:01:00Z"));
        assert_eq!(span(Some(before), after, Amsterdam), "between 01:59 CET and 03:01 CEST on 29 Mar 2026");
        let moscow = ["2014-10-25T21:30:00Z", "2014-10-25T22:30:00Z"].map(|text| moment(at(text), Moscow));
        assert_eq!(moscow, ["26 Oct 2014, 01:30 MSK (UTC+04:00)", "26 Oct 2014, 01:30 MSK (UTC+03:00)"]);
    }
}
