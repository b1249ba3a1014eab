//! A body of the administrator's own, for receivers that want another form than ours: a minijinja template.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use uuid::Uuid;

use super::TypedEvent;
use crate::delivery::RenderInput;
use crate::delivery::message::{DIGEST, Message, markup, sample, sanitize};
use crate::event::EventType;
use crate::redact;
use crate::time::Timestamp;

/// The name within the engine; people know the file's.
const NAME: &str = "template";

/// How many steps a template may take. Those that are shipped take some thousands; one that never ends would hold up
/// every message, for it is rendered while the database is written.
const STEPS: u64 = 1_000_000;

/// A template that was understood. What it makes of a message may still fail; [`Template::problems`] tries it.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    content_type: HeaderValue,
    form: Form,
    /// What the template calls `secret`. It is put in when a message is sent: the database never sees it.
    secret: Option<SecretString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Html,
    Text,
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// Of the template; the first one is 1.
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

/// What a template can name.
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
    /// If it is no template.
    pub fn parse(
        source: String,
        content_type: HeaderValue,
        secret: Option<SecretString>,
    ) -> Result<Self, TemplateError> {
        let form = form(&content_type);
        let mut environment = Environment::new();
        // A name that is misspelt must not become an empty text.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(STEPS));
        environment.set_auto_escape_callback(move |_| match form {
            Form::Json => AutoEscape::Json,
            Form::Html => AutoEscape::Html,
            Form::Text => AutoEscape::None,
        });
        environment.add_filter("short", |text: String, most: usize| sanitize::line(&text, most));
        environment.add_filter("markdown", |text: String| markup::no_mentions(&markup::markdown(&text)));
        environment.add_filter("html", |text: String| markup::html(&text));
        environment.add_template_owned(NAME, source).map_err(|error| flaw(&error))?;
        Ok(Self { environment: Arc::new(environment), content_type, form, secret })
    }

    #[must_use]
    pub fn content_type(&self) -> HeaderValue {
        self.content_type.clone()
    }

    #[must_use]
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    pub(super) fn secret(&self) -> Option<&SecretString> {
        self.secret.as_ref()
    }

    /// The body of a message, with a placeholder where the secret is to stand.
    ///
    /// # Errors
    /// If the template names something that is not there, or what comes out is not what `content_type` says.
    pub fn render(&self, draft: &RenderInput<'_>) -> Result<String, TemplateError> {
        let (id, events) = (draft.id, draft.events);
        let message = Message::of(events).with_note(draft.note.unwrap_or_default());
        let context = Context {
            message: &message,
            events: events.iter().map(TypedEvent::of).collect(),
            r#type: message.kind,
            id,
            test: message.test,
            secret: self.secret.as_ref().map(|_| placeholder(id)),
        };
        let template = self.environment.get_template(NAME).map_err(|error| flaw(&error))?;
        let body = template.render(Value::from(Serde(&context))).map_err(|error| flaw(&error))?;
        let body = body.trim().to_owned();
        match serde_json::from_str::<serde::de::IgnoredAny>(&body) {
            Err(error) if self.is_json() => Err(no_json(&error, &body)),
            _ => Ok(body),
        }
    }

    /// The body as it is sent.
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

    /// Renders a sample of each event type and a digest, and says what is wrong with it: each flaw once.
    #[must_use]
    pub fn problems(&self) -> Vec<TemplateError> {
        // Any time will do.
        let event = |kind| sample::event(kind, Uuid::nil(), "sample", Timestamp::from_millis(1_763_974_800_000));
        let singles = EventType::ALL.iter().map(|kind| (kind.as_str(), vec![event(*kind)]));
        let digest = [EventType::Denied, EventType::Approved, EventType::PartnerFailing].map(event).to_vec();
        let mut found: Vec<(TemplateError, Vec<&str>)> = Vec::new();
        for (name, events) in singles.chain([(DIGEST, digest)]) {
            let Err(flaw) = self.render(&RenderInput::new(Uuid::nil(), &events)) else { continue };
            // One that is no JSON looks different with each event.
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

fn form(content_type: &HeaderValue) -> Form {
    let text = content_type.to_str().unwrap_or_default().to_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence {
        "application/json" => Form::Json,
        essence if essence.ends_with("+json") => Form::Json,
        "text/html" | "text/xml" | "application/xml" => Form::Html,
        essence if essence.ends_with("+xml") => Form::Html,
        _ => Form::Text,
    }
}

/// Stands for the secret in what is stored. Nobody who could put it into a name knows the id of a message to come.
fn placeholder(id: Uuid) -> String {
    format!("vetwatch-secret-{}", id.simple())
}

fn flaw(error: &minijinja::Error) -> TemplateError {
    let kind = error.kind();
    let text = error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
    TemplateError { line: error.line(), text: redact::words(&sanitize::line(&text, 300)) }
}

fn no_json(error: &serde_json::Error, body: &str) -> TemplateError {
    let wrong = body.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before: Vec<char> = wrong.chars().take(error.column()).collect();
    let near: String = before[before.len().saturating_sub(60)..].iter().collect();
    TemplateError {
        line: None,
        text: format!("what comes out is no JSON: {error}, after `{}`", redact::words(&sanitize::line(&near, 100))),
    }
}

#[cfg(test)]
mod tests;
