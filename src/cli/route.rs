//! `vetwatch route test`: shows where an event would be sent, when, why, and the exact message. Nothing is sent.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::customers::is_muted;
use crate::cli::mime::DecodedMail;
use crate::cli::output::Style;
use crate::cli::time_args::Since;
use crate::cli::{Context, Exit, Failure, lookup};
use crate::config::{Config, EndpointKind};
use crate::daemon;
use crate::delivery::email::address::Contact;
use crate::delivery::message::sample;
use crate::delivery::route::{RoutingInput, Target};
use crate::event::{CustomerRef, Event, EventPayload, EventType};
use crate::store::UnrenderedDelivery;
use crate::text;
use crate::time::Timestamp;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show where an event would be sent, when and why, and with `--show` the exact messages; nothing is sent
    #[command(after_help = "Examples:\n  vetwatch route test\n  \
                            vetwatch route test --event vetting.denied --customer \"Contoso School\" --reason \"Not an Academic Domain\"\n  \
                            vetwatch route test --event vetting.revoked --at 2026-12-24T20:00:00Z")]
    Test(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What happens
    #[arg(long, value_name = "TYPE", default_value = "vetting.denied", value_parser = event_type)]
    pub event: EventType,
    /// A watched customer by tenant id, domain or name; without it, an invented one
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
    /// The partner of the configuration; the first one by default
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// When, such as `2026-12-24T20:00:00Z`; without it, now
    #[arg(long, value_name = "TIME")]
    pub at: Option<Since>,
    /// Print the messages as they would be sent
    #[arg(long)]
    pub show: bool,
}

/// Parses an event type for clap.
fn event_type(name: &str) -> Result<EventType, String> {
    EventType::parse(name).ok_or_else(|| {
        let names: Vec<_> = EventType::ALL.iter().map(|event| event.as_str()).collect();
        format!("the events are {}", names.join(", "))
    })
}

/// Serialized, it is what `route test --json` prints.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    event: &'static str,
    at: Timestamp,
    /// The customer is muted then: nothing is sent.
    muted: bool,
    routes: Vec<Taken<'a>>,
    targets: Vec<Shown<'a>>,
}

#[derive(Debug, Serialize)]
struct Taken<'a> {
    route: &'a str,
    takes: bool,
    /// The key that does not match the event.
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
    let RoutedEvent { event, contact, muted } = event(context, &config, &args, now).await?;
    let matter = RoutingInput::from(&event);
    let routes = config.routes.routes.iter().map(|route| {
        let refused_by = route.filter.first_mismatch(&matter);
        Taken { route: &route.name, takes: refused_by.is_none(), refused_by }
    });
    let targets = if muted {
        Vec::new()
    } else if event.kind == EventType::Summary {
        let endpoints = config.summary.iter().flat_map(|summary| &summary.endpoints);
        endpoints.map(|name| config.routes.direct_target(name, "summary".to_owned(), String::new())).collect()
    } else {
        config.routes.targets_for(&matter, Contact::parse(&contact).recipient().as_deref(), now)
    };
    let answer = Answer {
        event: event.kind.as_str(),
        at: now,
        muted,
        routes: routes.collect(),
        targets: targets.iter().filter_map(|target| shown(context, &config, target, &event, now)).collect(),
    };
    if context.json {
        context.out.json(&answer)?;
    } else {
        context.out.write(&page(context.out.style, &config, &answer, args.show))?;
    }
    Ok(Exit::Done)
}

/// The event to route, and its customer's settings.
struct RoutedEvent {
    event: Event,
    contact: String,
    muted: bool,
}

async fn event(context: &Context, config: &Config, args: &Args, now: Timestamp) -> Result<RoutedEvent, Failure> {
    lookup::check_partner(config, args.partner.as_deref())?;
    let first = || config.partners.first().map(|partner| partner.name.clone());
    let mut partner = args.partner.clone().or_else(first).unwrap_or_default();
    let mut found = None;
    if let Some(name) = &args.customer {
        let store = context.reading_store(&config.database).await?;
        let one = std::slice::from_ref(name);
        let customer = lookup::customers(&store, one, args.partner.as_deref(), lookup::Scope::Watched).await?.remove(0);
        customer.partner.clone_into(&mut partner);
        found = store.customers(&customer.rows).await?.pop();
    }
    let mut event = sample::event(args.event, Uuid::now_v7(), &partner, now);
    event.data.test = false;
    if let EventPayload::Vetting(vetting) = &mut event.data.subject {
        vetting.qualification.clone_from(&args.qualification);
        if args.reason.is_some() {
            vetting.vetting_reason.clone_from(&args.reason);
        }
        vetting.attempt = args.attempt.unwrap_or(vetting.attempt);
        if let Some(row) = &found {
            vetting.customer = CustomerRef {
                id: row.customer_id.clone(),
                name: row.name.clone(),
                domain: row.domain.clone(),
                tags: row.tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            };
        }
    }
    let muted = found.as_ref().is_some_and(|row| is_muted(row, now));
    // Operational events ignore muting.
    let muted = muted && matches!(event.data.subject, EventPayload::Vetting(_));
    Ok(RoutedEvent { event, contact: found.map(|row| row.contact).unwrap_or_default(), muted })
}

fn shown<'a>(
    context: &Context,
    config: &Config,
    target: &'a Target<'_>,
    event: &Event,
    now: Timestamp,
) -> Option<Shown<'a>> {
    let kind = &config.endpoints.iter().find(|endpoint| endpoint.name == target.endpoint)?.kind;
    let draft = UnrenderedDelivery::new(Uuid::now_v7(), vec![event.clone()], config.routes.zone);
    let public_url = config.routes.public_url.clone();
    let draft = UnrenderedDelivery { recipient: target.recipient.clone(), public_url, ..draft };
    let message = daemon::channel(kind, &context.clock).render(&draft, now).message;
    let (recipients, readable) = match kind {
        EndpointKind::Email(email) => {
            let to = email.to.iter().map(|to| to.email.to_string()).chain(target.recipient.clone());
            let mail = DecodedMail::read(&message);
            (to.collect(), format!("Subject: {}\n\n{}", mail.subject, mail.text))
        }
        EndpointKind::Webhook(_) | EndpointKind::Chat(_) => (Vec::new(), indented(&message)),
    };
    let due_at = target.due_at(now);
    let waits_for = match target.group_wait {
        _ if due_at <= now => None,
        Some(wait) if due_at <= now.after(wait) => Some("group_wait"),
        _ => Some("quiet hours"),
    };
    Some(Shown { endpoint: target.endpoint, why: &target.why, due_at, waits_for, recipients, message, readable })
}

/// Indents JSON, and returns anything else unchanged.
fn indented(message: &str) -> String {
    let json: Option<Value> = serde_json::from_str(message).ok();
    json.and_then(|json| serde_json::to_string_pretty(&json).ok()).unwrap_or_else(|| message.to_owned())
}

fn page(style: Style, config: &Config, answer: &Answer<'_>, with_messages: bool) -> String {
    let zone = config.calendar.zone;
    let local = |at: Timestamp| {
        let at = at.to_utc().with_timezone(&zone);
        format!("{} ({})", at.format("%a %Y-%m-%d %H:%M %Z"), at.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    let mut page = format!("{} at {}\n\n", style.heading(answer.event), local(answer.at));
    // Writing to a `String` does not fail.
    for Taken { route, refused_by, .. } in &answer.routes {
        let _ = match refused_by {
            None => writeln!(page, "{}: takes it", text::terminal(route)),
            Some(key) => writeln!(page, "{}: does not take it ({key})", text::terminal(route)),
        };
    }
    if answer.muted {
        page += "\nNobody is told, because the customer is muted; it is recorded.\n";
    } else if answer.targets.is_empty() {
        page += "\nNobody is told; it is recorded.\n";
    }
    if !answer.targets.is_empty() && !with_messages {
        page += "\n";
    }
    for shown in &answer.targets {
        let when = match shown.waits_for {
            None => "at once".to_owned(),
            Some(reason) => format!("{}, because of {reason}", local(shown.due_at)),
        };
        let to =
            if shown.recipients.is_empty() { String::new() } else { format!("; to {}", shown.recipients.join(", ")) };
        let _ = writeln!(
            page,
            "{}{}  {when}; {}{}",
            if with_messages { "\n" } else { "" },
            style.heading(&text::terminal(shown.endpoint)),
            text::terminal(shown.why),
            text::terminal(&to)
        );
        if !with_messages {
            continue;
        }
        for line in text::terminal_lines(&shown.readable).lines() {
            let _ = writeln!(page, "  {line}");
        }
    }
    page
}
