//! Times for people, in UTC: the readers of one mail may be in several zones.

use std::time::Duration;

use crate::time::Timestamp;

/// With a longer gap between polls the text says how late the event may be.
const MAX_PROMPT_GAP: Duration = Duration::from_hours(1);

/// `21 November 2026, 09:14 UTC`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    at.to_utc().format("%-d %B %Y, %H:%M UTC").to_string()
}

/// `between 08:59 and 09:14 UTC on 21 November 2026`, and how late the event may be if that is over an hour.
#[must_use]
pub fn span(after: Option<Timestamp>, until: Timestamp) -> String {
    let Some(after) = after.filter(|after| *after <= until) else {
        return format!("not known; vetwatch saw it on {}", moment(until));
    };
    let (from, to) = (after.to_utc(), until.to_utc());
    let day = to.format("%-d %B %Y");
    let span = if from.date_naive() != to.date_naive() {
        format!("between {} and {}", from.format("%-d %B %Y, %H:%M"), to.format("%-d %B %Y, %H:%M UTC"))
    } else if from.format("%H:%M").to_string() == to.format("%H:%M").to_string() {
        format!("at {} UTC on {day}", to.format("%H:%M"))
    } else {
        format!("between {} and {} UTC on {day}", from.format("%H:%M"), to.format("%H:%M"))
    };
    let gap = until.since(after);
    if gap > MAX_PROMPT_GAP { format!("{span}; this news may be up to {} late", length(gap)) } else { span }
}

/// The same, shorter: `21 Nov 2026, 09:14 UTC`, or a range if it spans over an hour.
#[must_use]
pub fn brief(after: Option<Timestamp>, until: Timestamp) -> String {
    let to = until.to_utc();
    let end = to.format("%H:%M UTC");
    match after.filter(|after| *after <= until && until.since(*after) > MAX_PROMPT_GAP).map(Timestamp::to_utc) {
        None => format!("{}, {end}", to.format("%-d %b %Y")),
        Some(from) if from.date_naive() == to.date_naive() => {
            format!("{}, {} to {end}", to.format("%-d %b %Y"), from.format("%H:%M"))
        }
        Some(from) => format!("{} to {}, {end}", from.format("%-d %b %Y, %H:%M"), to.format("%-d %b %Y")),
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
    use super::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn a_span_says_no_more_than_is_known() {
        let until = at("2026-11-21T09:14:03Z");
        let cases = [
            ("2026-11-21T08:59:03Z", "between 08:59 and 09:14 UTC on 21 November 2026"),
            ("2026-11-21T09:14:01Z", "at 09:14 UTC on 21 November 2026"),
            (
                "2026-11-21T06:14:00Z",
                "between 06:14 and 09:14 UTC on 21 November 2026; this news may be up to 3 hours late",
            ),
            (
                "2026-11-18T09:00:00Z",
                "between 18 November 2026, 09:00 and 21 November 2026, 09:14 UTC; this news may be up to 3 days late",
            ),
            ("2026-11-21T09:15:00Z", "not known; vetwatch saw it on 21 November 2026, 09:14 UTC"), // clock set back
        ];
        for (after, expected) in cases {
            assert_eq!(span(Some(at(after)), until), expected);
        }
        let few_words =
            ["2026-11-21T08:59:03Z", "2026-11-21T06:14:00Z", "2026-11-18T09:00:00Z", "2026-11-21T09:15:00Z"];
        assert_eq!(
            few_words.map(|after| brief(Some(at(after)), until)),
            [
                "21 Nov 2026, 09:14 UTC",
                "21 Nov 2026, 06:14 to 09:14 UTC",
                "18 Nov 2026, 09:00 to 21 Nov 2026, 09:14 UTC",
                "21 Nov 2026, 09:14 UTC"
            ]
        );
        assert_eq!(span(None, until), "not known; vetwatch saw it on 21 November 2026, 09:14 UTC");
    }
}
