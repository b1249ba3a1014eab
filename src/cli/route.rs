//! `vetwatch route test`: who would be told, when, why, and the exact message. Nothing is sent.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::mime::DecodedMail;
use crate::cli::output::Style;
use crate::cli::time_args::Since;
use crate::cli::{Context, Exit, Failure, lookup, text, time_args};
use crate::config::{Config, EndpointKind};
use crate::daemon;
use crate::delivery::RenderInput;
use crate::delivery::email::contact_address;
use crate::delivery::message::sample;
use crate::delivery::route::{RoutingInput, Target};
use crate::event::{CustomerRef, Event, EventPayload, EventType};
use crate::time::Timestamp;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What happens
    #[arg(long, value_name = "TYPE", default_value = "vetting.denied", value_parser = event_type)]
    pub event: EventType,
    /// To whom: a customer of the roster by tenant id, domain or name; without it, one that does not exist
    #[arg(long)]
    pub customer: Option<String>,
    /// For which qualification
    #[arg(long, default_value = "Education")]
    pub qualification: String,
    /// Microsoft's reason
    #[arg(long)]
    pub reason: Option<String>,
    /// Which attempt it was
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// The partner of the configuration; the first one, if it matters to nobody
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// When, such as `2026-12-24T20:00:00Z`; without it, now
    #[arg(long, value_name = "TIME")]
    pub at: Option<Since>,
}

/// For clap: an event type, or what was meant.
pub(super) fn event_type(name: &str) -> Result<EventType, String> {
    EventType::parse(name).ok_or_else(|| {
        let names: Vec<_> = EventType::ALL.iter().map(|event| event.as_str()).collect();
        format!("the events are {}", names.join(", "))
    })
}

/// As JSON it is what `route test --json` prints.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    event: &'static str,
    at: Timestamp,
    /// The customer is muted then: nobody is told.
    muted: bool,
    routes: Vec<Taken<'a>>,
    told: Vec<Shown<'a>>,
}

#[derive(Debug, Serialize)]
struct Taken<'a> {
    route: &'a str,
    takes: bool,
    /// The key that keeps it from taking the event.
    refused_by: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    endpoint: &'a str,
    why: &'a str,
    due_at: Timestamp,
    /// Why it is not due at once.
    waits_for: Option<&'static str>,
    recipients: Vec<String>,
    /// As it would be sent.
    message: String,
    #[serde(skip)]
    readable: String,
}

pub(super) async fn test(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = context.config()?;
    let now = args.at.map_or_else(|| context.now(), |at| at.at(context.now()));
    let Asked { event, contact, muted } = event(context, &config, &args, now).await?;
    let matter = RoutingInput::from(&event);
    let routes = config.routes.routes.iter().map(|route| {
        let refused_by = route.filter.first_mismatch(&matter);
        Taken { route: &route.name, takes: refused_by.is_none(), refused_by }
    });
    let told =
        if muted { Vec::new() } else { config.routes.targets_for(&matter, contact_address(&contact).as_deref(), now) };
    let answer = Answer {
        event: event.kind.as_str(),
        at: now,
        muted,
        routes: routes.collect(),
        told: told.iter().filter_map(|told| shown(context, &config, told, &event, now)).collect(),
    };
    if context.json {
        context.out.json(&answer)?;
    } else {
        context.out.write(&page(context.out.style, &config, &answer))?;
    }
    Ok(Exit::Done)
}

/// The event that is asked about, and what the roster says of its customer.
struct Asked {
    event: Event,
    contact: String,
    muted: bool,
}

async fn event(context: &Context, config: &Config, args: &Args, now: Timestamp) -> Result<Asked, Failure> {
    let names: Vec<String> = config.partners.iter().map(|partner| partner.name.clone()).collect();
    let mut partner = names.first().cloned().unwrap_or_default();
    if args.partner.is_some() {
        lookup::configured_partner(&names, args.partner.as_deref())?.clone_into(&mut partner);
    }
    let mut found = None;
    if let Some(name) = &args.customer {
        let store = context.reading_store(&config.database).await?;
        let one = std::slice::from_ref(name);
        let customer = lookup::customers(&store, one, args.partner.as_deref(), lookup::Scope::Watched).await?.remove(0);
        customer.partner.clone_into(&mut partner);
        found = store.customers(Some(&customer.rows), None, None).await?.pop();
    }
    let mut event = sample::event(args.event, Uuid::now_v7(), &partner, now);
    event.data.test = false;
    if let EventPayload::Vetting(news) = &mut event.data.subject {
        news.qualification.clone_from(&args.qualification);
        if args.reason.is_some() {
            news.vetting_reason.clone_from(&args.reason);
        }
        news.attempt = args.attempt.unwrap_or(news.attempt);
        if let Some(row) = &found {
            news.customer = CustomerRef {
                id: row.customer_id.clone(),
                name: row.name.clone(),
                domain: row.domain.clone(),
                tags: row.tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            };
        }
    }
    let muted = found.as_ref().is_some_and(|row| {
        let until = row.muted_until.as_deref().and_then(time_args::instant);
        row.muted_since.is_some() && until.is_none_or(|until| now < until)
    });
    // News of vetwatch itself is told whoever is muted.
    let muted = muted && matches!(event.data.subject, EventPayload::Vetting(_));
    Ok(Asked { event, contact: found.map(|row| row.contact).unwrap_or_default(), muted })
}

fn shown<'a>(
    context: &Context,
    config: &Config,
    told: &'a Target<'_>,
    event: &Event,
    now: Timestamp,
) -> Option<Shown<'a>> {
    let kind = &config.endpoints.iter().find(|endpoint| endpoint.name == told.endpoint)?.kind;
    let events = std::slice::from_ref(event);
    let draft = RenderInput { recipient: told.recipient.as_deref(), ..RenderInput::new(Uuid::now_v7(), events) };
    let message = daemon::channel(kind, &context.clock).render(&draft, now);
    let (recipients, readable) = match kind {
        EndpointKind::Email(email) => {
            let to = email.to.iter().map(|to| to.email.to_string()).chain(told.recipient.clone());
            let letter = DecodedMail::read(&message);
            (to.collect(), format!("Subject: {}\n\n{}", letter.subject, letter.text))
        }
        EndpointKind::Webhook(_) | EndpointKind::Chat(_) => (Vec::new(), indented(&message)),
    };
    let due_at = told.due_at(now);
    let waits_for = match told.group_wait {
        _ if due_at <= now => None,
        Some(wait) if due_at <= now.after(wait) => Some("group_wait"),
        _ => Some("quiet hours"),
    };
    Some(Shown { endpoint: told.endpoint, why: &told.why, due_at, waits_for, recipients, message, readable })
}

/// JSON over several lines, and whatever else as it is.
fn indented(message: &str) -> String {
    let json: Option<Value> = serde_json::from_str(message).ok();
    json.and_then(|json| serde_json::to_string_pretty(&json).ok()).unwrap_or_else(|| message.to_owned())
}

fn page(style: Style, config: &Config, answer: &Answer<'_>) -> String {
    let zone = config.calendar.zone;
    let local = |at: Timestamp| {
        let at = at.to_utc().with_timezone(&zone);
        format!("{} ({})", at.format("%a %Y-%m-%d %H:%M %Z"), at.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    let mut page = format!("{} at {}\n\n", style.heading(answer.event), local(answer.at));
    // Writing to a String does not fail.
    for Taken { route, refused_by, .. } in &answer.routes {
        let _ = match refused_by {
            None => writeln!(page, "{}: takes it", text::clean(route)),
            Some(key) => writeln!(page, "{}: does not take it ({key})", text::clean(route)),
        };
    }
    if answer.muted {
        page += "\nNobody is told, because the customer is muted; it is recorded.\n";
    } else if answer.told.is_empty() {
        page += "\nNobody is told; it is recorded.\n";
    }
    for told in &answer.told {
        let when = match told.waits_for {
            None => "at once".to_owned(),
            Some(reason) => format!("{}, because of {reason}", local(told.due_at)),
        };
        let _ = writeln!(page, "\n{}  {when}; {}", style.heading(&text::clean(told.endpoint)), text::clean(told.why));
        if !told.recipients.is_empty() {
            let _ = writeln!(page, "  To: {}", text::clean(&told.recipients.join(", ")));
        }
        for line in text::clean_lines(&told.readable).lines() {
            let _ = writeln!(page, "  {line}");
        }
    }
    page
}
