//! Webhook bodies from an administrator's minijinja template, for receivers with a format of their own.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;

use chrono_tz::UTC;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use uuid::Uuid;

use super::{TypedEvent, typed};
use crate::delivery::message::{DIGEST, Message, markup, sample};
use crate::event::EventType;
use crate::redact;
use crate::store::UnrenderedDelivery;
use crate::text;
use crate::time::Timestamp;

pub mod trial;

/// The longest output. Receivers take less, and it is stored.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Of samples: what a template does with a link is tried, too.
const PUBLIC_URL: &str = "https://vetting.contoso.example/";

/// The name within the engine; people see the file's name.
const NAME: &str = "template";

/// The most steps of a template. The shipped ones take some thousands; one that never ends would hold up every message,
/// because rendering happens in a write transaction.
const MAX_STEPS: u64 = 1_000_000;

/// A parsed template. Rendering may still fail; [`Template::problems`] tries it.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    content_type: HeaderValue,
    format: Format,
    /// The template's `secret`. It is inserted when a message is sent: the database never holds it.
    secret: Option<SecretString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Html,
    Text,
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// The template's line, from 1.
    pub line: Option<usize>,
    pub text: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

/// The variables of a template.
#[derive(Serialize)]
struct Context<'a> {
    message: &'a Message,
    events: Vec<TypedEvent<'a>>,
    r#type: &'static str,
    id: Uuid,
    test: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl Template {
    /// # Errors
    /// If it is not a valid template.
    pub fn parse(
        source: String,
        content_type: HeaderValue,
        secret: Option<SecretString>,
    ) -> Result<Self, TemplateError> {
        let format = format(&content_type);
        let mut environment = Environment::new();
        // A misspelt name must not become an empty text.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_auto_escape_callback(move |_| match format {
            Format::Json => AutoEscape::Json,
            Format::Html => AutoEscape::Html,
            Format::Text => AutoEscape::None,
        });
        environment.add_filter("short", |text: String, most: usize| text::line(&text, most));
        environment.add_filter("markdown", |text: String| markup::no_mentions(&markup::markdown(&text)));
        environment.add_filter("html", |text: String| markup::html(&text));
        environment.add_template_owned(NAME, source).map_err(|error| flaw(&error))?;
        Ok(Self { environment: Arc::new(environment), content_type, format, secret })
    }

    #[must_use]
    pub fn content_type(&self) -> HeaderValue {
        self.content_type.clone()
    }

    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The text that it was parsed from.
    #[must_use]
    pub fn source(&self) -> String {
        self.environment.get_template(NAME).map(|template| template.source().to_owned()).unwrap_or_default()
    }

    pub(super) fn secret(&self) -> Option<&SecretString> {
        self.secret.as_ref()
    }

    /// Renders the body of a message, with a placeholder for the secret.
    ///
    /// # Errors
    /// If the template uses an unknown name, or the output is not what `content_type` says.
    pub fn render(&self, delivery: &UnrenderedDelivery) -> Result<String, TemplateError> {
        let id = delivery.id;
        let message = delivery.message();
        let context = Context {
            message: &message,
            events: typed(delivery),
            r#type: message.kind,
            id,
            test: message.test,
            secret: self.secret.as_ref().map(|_| placeholder(id)),
        };
        let template = self.environment.get_template(NAME).map_err(|error| flaw(&error))?;
        let mut output = Bounded(Vec::new());
        template.render_captured_to(Value::from(Serde(&context)), &mut output).map_err(|error| flaw(&error))?;
        let body = String::from_utf8_lossy(&output.0).trim().to_owned();
        match serde_json::from_str::<serde::de::IgnoredAny>(&body) {
            Err(error) if self.is_json() => Err(invalid_json(&error, &body)),
            _ => Ok(body),
        }
    }

    /// Inserts the secret into a rendered body.
    #[must_use]
    pub fn complete(&self, id: Uuid, body: &str) -> String {
        let Some(secret) = &self.secret else { return body.to_owned() };
        let secret = secret.expose_secret();
        let written = match serde_json::to_string(secret) {
            Ok(json) if self.is_json() => json[1..json.len() - 1].to_owned(),
            _ => secret.to_owned(),
        };
        body.replace(&placeholder(id), &written)
    }

    /// Renders a sample of each event type and a digest. Returns each problem once, with the events that show it.
    #[must_use]
    pub fn problems(&self) -> Vec<TemplateError> {
        let source =
            self.environment.get_template(NAME).map(|template| template.source().to_owned()).unwrap_or_default();
        if let Some(flaw) = trial::fails(&source, &self.content_type, self.secret.is_some()) {
            return vec![flaw];
        }
        self.rendered_samples()
    }

    fn rendered_samples(&self) -> Vec<TemplateError> {
        // Any time will do.
        let event = |kind| sample::event(kind, Uuid::nil(), "sample", Timestamp::from_millis(1_763_974_800_000));
        let singles = EventType::ALL.iter().map(|kind| (kind.as_str(), vec![event(*kind)]));
        let digest = [EventType::Denied, EventType::Approved, EventType::PartnerFailing].map(event).to_vec();
        let mut found: Vec<(TemplateError, Vec<&str>)> = Vec::new();
        for (name, events) in singles.chain([(DIGEST, digest)]) {
            let draft = UnrenderedDelivery::new(Uuid::nil(), events, UTC);
            let linked = UnrenderedDelivery { public_url: Some(PUBLIC_URL.to_owned()), ..draft.clone() };
            let rendered = self.render(&draft).and_then(|_| self.render(&linked));
            let Err(flaw) = rendered else { continue };
            // Invalid JSON gives a different text for each event.
            let same =
                |known: &TemplateError| known.line == flaw.line && (flaw.line.is_none() || known.text == flaw.text);
            match found.iter_mut().find(|(known, _)| same(known)) {
                Some((_, names)) => names.push(name),
                None => found.push((flaw, vec![name])),
            }
        }
        found
            .into_iter()
            .map(|(flaw, names)| TemplateError { text: format!("{} ({})", flaw.text, with(&names)), ..flaw })
            .collect()
    }
}

/// The output, up to its most.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other(format!("what comes out is larger than {} KiB", MAX_OUTPUT_BYTES / 1024)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `with vetting.denied and 3 more`.
fn with(names: &[&str]) -> String {
    let mut text = "with ".to_owned();
    match names {
        names if names.len() > EventType::ALL.len() => text.push_str("every event"),
        [first, rest @ ..] if rest.len() > 2 => {
            let _ = write!(text, "{first} and {} more", rest.len()); // writing to a String does not fail
        }
        names => text.push_str(&names.join(", ")),
    }
    text
}

fn format(content_type: &HeaderValue) -> Format {
    let text = content_type.to_str().unwrap_or_default().to_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence {
        "application/json" => Format::Json,
        essence if essence.ends_with("+json") => Format::Json,
        "text/html" | "text/xml" | "application/xml" => Format::Html,
        essence if essence.ends_with("+xml") => Format::Html,
        _ => Format::Text,
    }
}

/// Stands for the secret in a stored body. Holds the message's id, so that no name can contain it in advance.
fn placeholder(id: Uuid) -> String {
    format!("vetwatch-secret-{}", id.simple())
}

fn flaw(error: &minijinja::Error) -> TemplateError {
    let kind = error.kind();
    if let Some(error) = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>()) {
        return TemplateError { line: None, text: error.to_string() };
    }
    let text = error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
    TemplateError { line: error.line(), text: redact::words(&text::line(&text, 300)) }
}

fn invalid_json(error: &serde_json::Error, body: &str) -> TemplateError {
    let wrong = body.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before: Vec<char> = wrong.chars().take(error.column()).collect();
    let near: String = before[before.len().saturating_sub(60)..].iter().collect();
    TemplateError {
        line: None,
        text: format!("what comes out is no JSON: {error}, after `{}`", redact::words(&text::line(&near, 100))),
    }
}

#[cfg(test)]
mod tests;
