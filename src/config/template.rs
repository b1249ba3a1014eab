//! `template_file` and its keys, for a webhook in another format than ours.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use reqwest::header::HeaderValue;

use super::section::{Section, quote};
use crate::delivery::webhook::Template;

/// Larger than any template; a larger file is the wrong one.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// Returns `Some(None)` if the key is absent.
#[expect(clippy::option_option, reason = "whether it is there and whether it is good are two questions")]
pub(super) fn read(section: &mut Section<'_>) -> Option<Option<Template>> {
    if !section.has("template_file") {
        for key in ["content_type", "template_secret_file"] {
            section.reject(key, "goes with template_file");
        }
        return Some(None);
    }
    let directory = section.context().directory;
    let source = section.parsed("template_file", |name| text(&directory.join(name)));
    let content_type = if section.has("content_type") {
        section.parsed("content_type", content_type)
    } else {
        Some(HeaderValue::from_static("application/json"))
    };
    let with_secret = section.has("template_secret_file");
    let secret = section.secret("template_secret_file");
    if with_secret && secret.is_none() {
        return None;
    }
    let template = Template::parse(source?, content_type?, secret);
    let template = template.map_err(|flaw| section.problem("template_file", flaw.to_string())).ok()?;
    let flaws = template.problems();
    for flaw in &flaws {
        section.problem("template_file", flaw.to_string());
    }
    flaws.is_empty().then_some(Some(template))
}

fn text(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", path.display());
    // Checked before opening: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{} is no ordinary file", path.display()));
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("{} is too large for a template", path.display()));
    }
    Ok(text)
}

fn content_type(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(text).ok().filter(|_| text.contains('/') && text.is_ascii());
    value.ok_or_else(|| format!("{} is no content type such as application/json", quote(text)))
}
