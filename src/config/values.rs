//! Parses single values, reads the files that some name, and words what is wrong with them.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::section::Section;
use crate::text;

/// Checks a name for use in logs, routes and file names.
pub(super) fn name(text: &str) -> Result<String, String> {
    let has_one = text.chars().any(|c| c.is_ascii_alphanumeric());
    let fit =
        has_one && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if fit {
        Ok(text.into())
    } else {
        Err(format!(
            "{} is not a name: use up to 64 letters, digits, dots, hyphens and underscores, and no blanks",
            quote(text)
        ))
    }
}

/// Checks a GUID or a domain. It becomes a path segment of a URL.
pub(super) fn word(text: &str) -> Result<String, String> {
    name(text).map_err(|_| format!("{} is neither a GUID nor a domain such as contoso.onmicrosoft.com", quote(text)))
}

/// Parses a duration of more than zero and at most ten years.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const MAX_DURATION: Duration = Duration::from_hours(10 * 365 * 24);
    let is_number = !text.is_empty() && text.trim().chars().all(|c| c.is_ascii_digit());
    match humantime::parse_duration(text) {
        _ if is_number && text.contains(|c| c != '0') => {
            Err(format!("{0} has no unit: write {0}s, {0}m, {0}h or {0}d", text.trim()))
        }
        // Never meant: three of the letters that people try for minutes are m, min and M.
        Ok(_) if text.trim().ends_with('M') => {
            Err(format!("{} would be months: minutes are m, days are d", quote(text)))
        }
        Err(_) => Err(format!("{} is not a duration such as 15m, 24h or 7d", quote(text))),
        Ok(Duration::ZERO) => Err(format!("{} must be more than zero", quote(text))),
        Ok(time) if time > MAX_DURATION => Err(format!("{} is longer than ten years", quote(text))),
        Ok(time) => Ok(time),
    }
}

/// Checks that a path is written as it is meant: nobody expands it, as a shell would.
pub(super) fn plain_path(text: &str) -> Result<(), &'static str> {
    match text {
        _ if text.starts_with(['~', '$', '%']) => Err("~, $ and % are not expanded: write the whole path"),
        _ if text.contains("://") => Err("this is a URL: write the path of a file"),
        _ if text.starts_with(['\'', '"']) => Err("there are quotes inside the quotes: delete the inner ones"),
        _ => Ok(()),
    }
}

/// Parses a time zone's name.
pub(super) fn timezone(text: &str) -> Result<chrono_tz::Tz, String> {
    text.parse().map_err(|_| {
        let suggestion = did_you_mean(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        format!("{} is not a time zone: write a region and a city, such as Europe/Berlin{suggestion}", quote(text))
    })
}

/// Checks an application's id. A test may call it anything; Entra ID would not know it.
pub(super) fn client_id(section: &mut Section<'_>, is_loopback: bool) -> Option<String> {
    // Not repeated: it may be the secret.
    const NO_ID: &str = "is not a GUID: copy the Application (client) ID from the application's page in Entra ID";
    let id = section.parsed("client_id", |text| word(text).map_err(|_| NO_ID.to_owned()))?;
    if !is_loopback && id.chars().all(|c| matches!(c, '0' | '-')) {
        let text = "is the example's: copy your application's from its page in Entra ID, where it is the Application (client) ID";
        section.warning("client_id", text);
    } else if !is_loopback && uuid::Uuid::try_parse(&id).is_err() {
        section.warning("client_id", NO_ID);
    }
    Some(id)
}

/// Parses a URL. The problem does not repeat the text, which may be secret.
pub(super) fn url(text: &str) -> Result<Url, &'static str> {
    if text.contains(char::is_whitespace) {
        return Err("is not a URL: there is a blank in it");
    }
    // `crm.example:8443/hook` would be a URL of the scheme crm.example.
    if !text.contains("://") {
        return Err("is not a URL: it does not begin with https://");
    }
    Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => "is not a URL: it does not begin with https://",
        url::ParseError::EmptyHost => "is not a URL: there is no host in it",
        url::ParseError::InvalidPort => "is not a URL: its port is not a number up to 65535",
        _ => "is not a URL such as https://crm.contoso.example/hook",
    })
}

const NOT_TEXT: &str = "is not text in UTF-8: save it as UTF-8";

/// Words an I/O error for a problem whose subject is the file: `does not exist`.
pub(super) fn io_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".into(),
        io::ErrorKind::PermissionDenied => "may not be read by this user: run the command as root".into(),
        io::ErrorKind::NotADirectory => "does not exist: a part of the path is a file, not a directory".into(),
        io::ErrorKind::IsADirectory => "is a directory, not a file".into(),
        io::ErrorKind::InvalidData => NOT_TEXT.into(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Reads a text file of at most `max_bytes`. The problem has no subject; `what` is what the file should be.
pub(super) fn read_text(path: &Path, max_bytes: u64, what: &str) -> Result<String, String> {
    let unreadable = |error: io::Error| io_problem(&error);
    // Checked before opening: opening a pipe would wait for its writer.
    let found = fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        return Err(
            if found.is_dir() { "is a directory, not a file" } else { "is a pipe or a device, not a file" }.into()
        );
    }
    let mut text = Vec::new();
    File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > max_bytes {
        return Err(format!("is too large for {what}"));
    }
    String::from_utf8(text).map_err(|_| NOT_TEXT.into())
}

/// Formats a value for a problem: short, quoted if its end is in doubt, without control characters.
pub(super) fn quote(text: &str) -> String {
    let mut short: String = text::terminal(&text.chars().take(80).collect::<String>()).into_owned();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    if short.contains(' ') { format!("\"{short}\"") } else { short }
}

/// The problem for an unknown `kind`.
pub(super) fn unknown_kind(kind: &str, known: &[&str]) -> String {
    let suggestion = did_you_mean(kind, known.iter().copied());
    format!("there is no kind {}, only {}{suggestion}", quote(kind), known.join(", "))
}

/// Returns `; did you mean NAME?` if one of the names is close, else nothing.
pub(super) fn did_you_mean<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    suggestion(closest(word, names))
}

pub(super) fn suggestion(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// Names from before the first release, and today's.
const FORMER_NAMES: [(&str, &str); 9] = [
    ("all", "synced"),
    ("listed", "manual"),
    ("second_look", "confirm_absence"),
    ("third_look", "confirm_absence"),
    ("notifications", "deliveries"),
    ("vetting.unrecognized", "monitor.unknown_status"),
    ("monitor.baseline", "monitor.initial_sync"),
    ("monitor.blind", "monitor.partner_failing"),
    ("monitor.recovered", "monitor.partner_recovered"),
];

/// Words of other programs for ours.
const OTHER_WORDS: [(&str, &str); 8] = [
    ("mail", "smtp"),
    ("ssl", "implicit"),
    ("smtps", "implicit"),
    ("app_id", "client_id"),
    ("application_id", "client_id"),
    ("smtp", "email"),
    ("type", "kind"),
    ("proxy", "proxy_url"),
];

/// Today's name of something that was renamed before the first release.
#[must_use]
pub(crate) fn current_name(former: &str) -> Option<&'static str> {
    FORMER_NAMES.iter().find(|(name, _)| *name == former).map(|(_, now)| *now)
}

/// The closest name: the only one that holds the word or is held by it, or one that differs in at most a third of its letters.
pub(crate) fn closest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let word = word.to_lowercase();
    let now = current_name(&word);
    let names: Vec<&str> = names.into_iter().collect();
    if let Some(name) = names.iter().find(|name| Some(**name) == now) {
        return Some(name);
    }
    if let Some((_, name)) = OTHER_WORDS.iter().find(|(other, name)| *other == word && names.contains(name)) {
        return Some(name);
    }
    let mut holding = names.iter().filter(|name| word.len() >= 3 && name.to_lowercase().contains(&word));
    if let (Some(name), None) = (holding.next(), holding.next()) {
        return Some(name);
    }
    let mut held = names.iter().filter(|name| name.len() >= 5 && word.contains(&name.to_lowercase()));
    if let (Some(name), None) = (held.next(), held.next()) {
        return Some(name);
    }
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
