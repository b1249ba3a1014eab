//! Which events a route matches. An empty list matches everything; a pattern may contain `*`; a leading `!` excludes.

use std::ops::RangeInclusive;

use super::RoutingInput;
use crate::event::EventType;
use crate::qualification;

/// The conditions of a route, all of which an event must meet.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub events: Vec<EventType>,
    pub partners: Patterns,
    pub qualifications: Patterns,
    /// The status that the event leads to: `Approved`, `Denied`, `absent`.
    pub outcomes: Patterns,
    pub tags: Patterns,
    /// Tenant ids, domains or names.
    pub customers: Patterns,
    /// Microsoft's reasons.
    pub reasons: Patterns,
    pub attempts: Vec<RangeInclusive<u32>>,
}

/// Patterns, compared without case, underscores and repeated spaces.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    /// As they were written.
    pub written: Vec<String>,
    /// Matches one of these (anything, if there are none)…
    included: Vec<String>,
    /// …and none of these.
    excluded: Vec<String>,
}

impl Patterns {
    #[must_use]
    pub fn of(written: Vec<String>) -> Self {
        let (excluded, included): (Vec<_>, Vec<_>) = written.iter().partition(|word| word.starts_with('!'));
        let included = included.into_iter().map(|word| key(word)).collect();
        let excluded = excluded.into_iter().map(|word| key(&word[1..])).collect();
        Self { written, included, excluded }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Whether something with all of these names matches.
    fn match_any<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> bool {
        let names: Vec<String> = names.into_iter().map(key).collect();
        let any = |patterns: &[String]| patterns.iter().any(|pattern| names.iter().any(|name| matches(pattern, name)));
        (self.included.is_empty() || any(&self.included)) && !any(&self.excluded)
    }
}

impl Filter {
    #[must_use]
    pub fn matches(&self, input: &RoutingInput<'_>) -> bool {
        self.first_mismatch(input).is_none()
    }

    /// The first condition that an event does not meet; `None` if it matches. A condition on what the event lacks is
    /// ignored (an alert has no qualification), except `tags` and `customers`: an alert belongs to no customer.
    #[must_use]
    pub fn first_mismatch(&self, input: &RoutingInput<'_>) -> Option<&'static str> {
        let first =
            |conditions: &[(&'static str, bool)]| conditions.iter().find(|(_, met)| !met).map(|(name, _)| *name);
        let general =
            [("events", self.events.contains(&input.event)), ("partners", self.partners.match_any([input.partner]))];
        let Some(change) = input.vetting else {
            let customer_conditions = [("tags", self.tags.is_empty()), ("customers", self.customers.is_empty())];
            return first(&general).or_else(|| first(&customer_conditions));
        };
        let customer = &change.customer;
        let attempts = &self.attempts;
        let attempt = attempts.is_empty() || attempts.iter().any(|attempt| attempt.contains(&change.attempt));
        let names = [customer.id.as_str(), customer.domain.as_str(), customer.name.as_str()];
        let special = [
            ("qualifications", self.qualifications.match_any([change.qualification.as_str()])),
            ("outcomes", self.outcomes.match_any([change.to.as_deref().unwrap_or_default()])),
            ("tags", self.tags.match_any(customer.tags.iter().map(String::as_str))),
            ("customers", self.customers.match_any(names)),
            ("reasons", self.reasons.match_any([change.vetting_reason.as_deref().unwrap_or_default()])),
            ("attempts", attempt),
        ];
        first(&general).or_else(|| first(&special))
    }

    /// The conditions in words, for `check` and `explain`; `None` if only the event types are restricted.
    #[must_use]
    pub fn conditions(&self) -> Option<String> {
        let lists = [
            ("partners", &self.partners),
            ("qualifications", &self.qualifications),
            ("outcomes", &self.outcomes),
            ("tags", &self.tags),
            ("customers", &self.customers),
            ("reasons", &self.reasons),
        ];
        let mut spelled: Vec<String> = lists
            .into_iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| format!("{name}: {}", in_words(&list.written)))
            .collect();
        if !self.attempts.is_empty() {
            let attempts: Vec<_> = self.attempts.iter().map(range).collect();
            spelled.push(format!("attempts: {}", attempts.join(" or ")));
        }
        (!spelled.is_empty()).then(|| spelled.join(", "))
    }
}

/// Formats `["*School*", "!*Test*"]` as `*School*, not *Test*`.
fn in_words(written: &[String]) -> String {
    let (excluded, included): (Vec<&str>, Vec<&str>) =
        written.iter().map(String::as_str).partition(|entry| entry.starts_with('!'));
    let excluded = excluded.iter().map(|entry| format!("not {}", &entry[1..]));
    let included = (!included.is_empty()).then(|| included.join(" or "));
    included.into_iter().chain(excluded).collect::<Vec<_>>().join(", ")
}

/// Formats `2`, `2-3` or `3+`.
fn range(attempts: &RangeInclusive<u32>) -> String {
    match (*attempts.start(), *attempts.end()) {
        (from, u32::MAX) => format!("{from}+"),
        (from, to) if from == to => from.to_string(),
        (from, to) => format!("{from}-{to}"),
    }
}

/// Parses `2`, `2-3` and `3+`; never an empty range.
pub fn parse_range(text: &str) -> Option<RangeInclusive<u32>> {
    let text = text.trim();
    let (from, to) = match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(from), _) => (from.trim().parse().ok()?, u32::MAX),
        (None, Some((from, to))) => (from.trim().parse().ok()?, to.trim().parse().ok()?),
        (None, None) => {
            let only = text.parse().ok()?;
            (only, only)
        }
    };
    (1..=to).contains(&from).then_some(from..=to)
}

fn key(text: &str) -> String {
    qualification::key(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether `pattern`, in which `*` stands for any text, matches all of `name`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(written: &[&str], name: &str) -> bool {
        Patterns::of(written.iter().map(|word| (*word).to_owned()).collect()).match_any([name])
    }

    #[test]
    fn patterns_are_whole_names_with_stars() {
        assert!(matches(&[], "anything") && matches(&["*"], "") && matches(&["Education"], "education"));
        assert!(matches(&["Government_Community_Cloud"], "GovernmentCommunityCloud"));
        assert!(matches(&["Contoso*"], "contoso school") && !matches(&["Contoso*"], "The Contoso School"));
        assert!(matches(&["*- After Review"], "Not an Education Customer - After Review"));
        assert!(matches(&["a*b*b"], "abb") && !matches(&["a*b*b"], "ab"));
        assert!(matches(&["not  an academic*"], "Not an Academic Domain"));
        assert!(!matches(&["Education"], "Education2") && !matches(&["Education"], ""));
    }

    #[test]
    fn an_exclamation_mark_takes_out() {
        assert!(matches(&["!Education"], "Nonprofit") && !matches(&["!Education"], "Education"));
        assert!(
            matches(&["Contoso*", "!*Test*"], "Contoso School") && !matches(&["Contoso*", "!*Test*"], "Contoso Test")
        );
        let tags = |tags: &[&str]| Patterns::of(vec!["!north".to_owned()]).match_any(tags.iter().copied());
        assert!(tags(&[]) && tags(&["south"]) && !tags(&["south", "North"]), "one excluded tag is enough");
    }

    #[test]
    fn attempts_are_numbers_and_ranges() {
        for (text, shown) in [("2", "2"), ("2-3", "2-3"), (" 3+ ", "3+"), ("2 - 4", "2-4")] {
            assert_eq!(parse_range(text).map(|attempts| range(&attempts)).as_deref(), Some(shown));
        }
        for text in ["", "+", "0", "3-2", "-1", "x", "99999999999"] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_matches_itself_and_itself_with_any_part_replaced_by_a_star(name in "[a-z ]{0,12}", from in 0_usize..12, to in 0_usize..12) {
            let (from, to) = (from.min(to).min(name.len()), from.max(to).min(name.len()));
            prop_assert!(super::matches(&name, &name));
            let pattern = format!("{}*{}", &name[..from], &name[to..]);
            prop_assert!(super::matches(&pattern, &name));
        }
    }
}
