//! `template_file` and its keys, for a webhook in another format than ours.

use reqwest::header::HeaderValue;

use super::section::Section;
use super::values::{quote, read_text};
use crate::delivery::webhook::Template;

/// Larger than any template; a larger file is the wrong one.
const FILE_MAX_BYTES: u64 = 256 * 1024;

/// Returns `Some(None)` if the key is absent.
#[expect(clippy::option_option, reason = "whether it is there and whether it is good are two questions")]
pub(super) fn read(section: &mut Section<'_>) -> Option<Option<Template>> {
    if !section.has("template_file") {
        for key in ["content_type", "template_secret_file"] {
            section.reject(key, "has a use only with template_file");
        }
        return Some(None);
    }
    let path = section.path("template_file");
    let source = path.and_then(|path| {
        let source = read_text(&path, FILE_MAX_BYTES, "a template");
        source.map_err(|problem| section.problem("template_file", format!("{} {problem}", path.display()))).ok()
    });
    if let Some(source) = &source {
        section.note_file("template_file", source);
    }
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

fn content_type(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(text).ok().filter(|_| text.contains('/') && text.is_ascii());
    value.ok_or_else(|| format!("{} is not a content type such as application/json", quote(text)))
}
