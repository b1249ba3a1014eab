//! `vetwatch test-send`: sends a marked test message through outbox, dispatcher and transport.
//!
//! The event and its delivery are ordinary rows. If a daemon runs, it sends the message and this command watches; else
//! the command holds the lock and lets the endpoint's dispatcher make the one attempt.

use std::fs::Metadata;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::cli::{Context, Exit, Failure, context, time_args};
use crate::config::{Config, closest};
use crate::delivery::message::sample;
use crate::delivery::route::{ContactPolicy, Target};
use crate::event::{Event, EventType};
use crate::store::{Store, TestDelivery};
use crate::text;

/// Longer than any attempt, except at a mail server that is slow after the final dot.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(100);
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An endpoint of the configuration
    #[arg(value_name = "ENDPOINT", required_unless_present = "all")]
    pub endpoint: Option<String>,
    /// Every endpoint, one after the other
    #[arg(long, conflicts_with = "endpoint")]
    pub all: bool,
    /// The message's event: any type that a route or the operators may get
    #[arg(long, value_name = "TYPE", default_value = "vetting.denied", value_parser = event_type)]
    pub event: EventType,
}

fn event_type(text: &str) -> Result<EventType, String> {
    EventType::parse(text).ok_or_else(|| {
        let names = EventType::ALL.iter().map(|event| event.as_str());
        match closest(text, names.clone()) {
            Some(meant) => format!("there is no such event; did you mean {meant}?"),
            None => format!("there is no such event; there are {}", names.collect::<Vec<_>>().join(", ")),
        }
    })
}

pub(super) async fn test_send(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = context.config()?;
    let names: Vec<&str> = match &args.endpoint {
        Some(name) => vec![known(&config, name)?],
        None => config.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect(),
    };
    let (mut sent, failure) = send_to(context, &config, &names, args.event, args.all).await?;
    if context.json {
        context.out.json(&if args.all { json!(sent) } else { sent.remove(0) })?;
    }
    failure.map_or(Ok(Exit::Done), Err)
}

/// Sends a test to each of `names`, as the command does. Returns what became of each, and the failure if one failed.
pub(super) async fn send(
    context: &Context,
    config: &Config,
    names: &[&str],
) -> Result<(Vec<serde_json::Value>, Option<Failure>), Failure> {
    send_to(context, config, names, EventType::Denied, true).await
}

async fn send_to(
    context: &Context,
    config: &Config,
    names: &[&str],
    event: EventType,
    all: bool,
) -> Result<(Vec<serde_json::Value>, Option<Failure>), Failure> {
    let store = context.store(&config.database).await?;
    // Taken before anything is queued: otherwise a daemon that starts in between would send it as well.
    let held = context::lock(&config.database)?;
    if held.is_none() && !context.json && has_changed_since_loaded(context, &store).await? {
        let file = text::terminal(&context.config_path.to_string_lossy()).into_owned();
        context.out.line(&format!(
            "{file} has changed since the daemon read it. `vetwatch reload` loads it; until then a test goes by the older one."
        ))?;
    }
    let (mut sent, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        let by_contacts = config.routes.profiles.get(*name).is_some_and(|way| way.contact == ContactPolicy::Only);
        if by_contacts && all {
            if !context.json {
                context.out.line(&format!("{name} is not tested: its mails go to the contacts of customers."))?;
            }
            sent.push(json!({"endpoint": name, "outcome": "not tested"}));
            continue;
        }
        match test(context, config, &store, held.is_some(), event, name).await {
            Ok(json) => sent.push(json),
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) => {
                if !context.json {
                    context.out.line(&format!("FAILED: {}", text::terminal(&failure.message())))?;
                }
                sent.push(json!({"endpoint": name, "outcome": "failed", "response": failure.message()}));
                failures.push((failure.exit, *name));
            }
        }
    }
    if !context.json && failures.len() < names.len() {
        context.out.line("Whether somebody reads it, look there: it is marked as a test.")?;
    }
    // Each was printed when it failed.
    let Some((exit, _)) = failures.first() else { return Ok((sent, None)) };
    let count = format!("{} of {} endpoints did not take the test", failures.len(), names.len());
    let failed: Vec<_> = failures.iter().map(|(_, name)| *name).collect();
    Ok((sent, Some(Failure::new(*exit, count).because(failed.join(", ")))))
}

/// Sends one test and returns its JSON.
async fn test(
    context: &Context,
    config: &Config,
    store: &Store,
    has_lock: bool,
    kind: EventType,
    name: &str,
) -> Result<serde_json::Value, Failure> {
    if config.routes.profiles.get(name).is_some_and(|way| way.contact == ContactPolicy::Only) {
        return Err(Failure::new(Exit::Usage, format!("{name} cannot be tested"))
            .because(
                "it has no recipient of its own: its mails go to the contacts of customers, who are to get no test",
            )
            .advise("test another endpoint on the same mail server; `vetwatch check --live` tries the server"));
    }
    let (event, delivery) = queue(context, config, store, kind, name).await?;
    if !context.json {
        context.out.line(&format!("A test of {kind} is queued for {name}, as message {delivery}."))?;
        if !has_lock {
            context.out.line("The running daemon sends it, with the configuration that it has in force.")?;
        }
    }
    let trial = if has_lock {
        here(context, config, store, name, &delivery).await?
    } else {
        watch(context, store, &delivery).await?
    };
    report(context, name, &event, &delivery, trial.as_ref())
}

/// True if the configuration's file is newer than what the daemon has in force.
async fn has_changed_since_loaded(context: &Context, store: &Store) -> Result<bool, Failure> {
    // A file that was moved or copied here may have an old time of modification.
    let times = |found: Metadata| [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())];
    let loaded_at = store.configuration().await?.map(|state| state.loaded_at.as_millis());
    let is_later = |(seconds, nanoseconds): (i64, i64)| loaded_at < Some(seconds * 1000 + nanoseconds / 1_000_000);
    Ok(loaded_at.is_some() && context.config_path.metadata().is_ok_and(|found| times(found).into_iter().any(is_later)))
}

fn known<'c>(config: &'c Config, name: &str) -> Result<&'c str, Failure> {
    let names = || config.endpoints.iter().map(|endpoint| endpoint.name.as_str());
    if let Some(known) = names().find(|known| *known == name) {
        return Ok(known);
    }
    let failure = Failure::new(Exit::NotFound, format!("there is no endpoint \"{name}\""));
    Err(match closest(name, names()) {
        Some(meant) => failure.advise(format!("did you mean {meant}?")),
        None => failure.because("the configuration has").listing(names().map(str::to_owned)),
    })
}

/// Stores event and delivery in one transaction, and resumes a paused endpoint.
async fn queue(
    context: &Context,
    config: &Config,
    store: &Store,
    kind: EventType,
    endpoint: &str,
) -> Result<(Event, String), Failure> {
    // The event needs a partner, no matter which.
    let Some(partner) = config.partners.first() else {
        return Err(Failure::new(Exit::Configuration, "the configuration names no partner"));
    };
    let now = context.now();
    let event = sample::event(kind, Uuid::now_v7(), &partner.name, now);
    let mut tx = store.begin().await?;
    let partner = tx.partner(&partner.name, now).await?;
    tx.insert_event(&event, partner.id, None, None).await?;
    // Ungrouped: real messages must not wait for it or share its fate.
    let target = Target { group: None, ..config.routes.direct_target(endpoint, "test-send".to_owned(), String::new()) };
    tx.enqueue(&event, &target, now).await?;
    tx.force_probe(endpoint, now).await?;
    let delivery = tx.delivery_of(&event, endpoint).await?.unwrap_or_default();
    tx.commit().await?;
    Ok((event, delivery))
}

/// Makes one attempt with the endpoint's dispatcher. Other messages are left to the daemon.
async fn here(
    context: &Context,
    config: &Config,
    store: &Store,
    endpoint: &str,
    delivery: &str,
) -> Result<Option<TestDelivery>, Failure> {
    let parts = context.assemble(config, store).await?;
    let dispatcher = parts.endpoints.iter().map(|part| &part.dispatcher).find(|part| part.endpoint() == endpoint);
    if let Some(dispatcher) = dispatcher {
        dispatcher.try_one(delivery).await?;
    }
    Ok(store.test_delivery(delivery).await?)
}

/// Waits until the daemon's first attempt has ended.
async fn watch(context: &Context, store: &Store, delivery: &str) -> Result<Option<TestDelivery>, Failure> {
    let began = tokio::time::Instant::now();
    let shows = !context.json && std::io::stderr().is_terminal();
    loop {
        let trial = store.test_delivery(delivery).await?;
        let ended = trial.as_ref().is_none_or(|trial| trial.attempt.is_some() || trial.state != "pending");
        if ended || began.elapsed() >= ATTEMPT_TIMEOUT {
            if shows {
                let _ = std::io::stderr().write_all(b"\r\x1b[K");
            }
            return Ok(trial);
        }
        if shows {
            let waited = began.elapsed().as_secs();
            let _ = write!(std::io::stderr(), "\rthe running daemon sends it … {waited} s");
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

fn report(
    context: &Context,
    endpoint: &str,
    event: &Event,
    delivery: &str,
    trial: Option<&TestDelivery>,
) -> Result<serde_json::Value, Failure> {
    let outcome = trial.and_then(|trial| trial.outcome.as_deref());
    let response = trial.and_then(|trial| trial.response.as_deref()).unwrap_or_default();
    if outcome == Some("accepted") {
        if !context.json {
            context.out.line(&format!("accepted: {}", text::terminal(response)))?;
        }
        return Ok(json!({
            "endpoint": endpoint, "event_id": event.data.event_id, "event_type": event.kind.as_str(),
            "delivery_id": delivery, "outcome": outcome, "response": response,
        }));
    }
    let gone = trial.is_some_and(|trial| trial.gone && trial.outcome.is_some());
    let next = trial.and_then(|trial| trial.next_attempt_at).map(time_args::minute);
    let show = format!("`vetwatch explain {delivery}` shows what comes of it");
    Err(match (outcome, next) {
        (Some(_), Some(_)) if gone => Failure::new(Exit::Failed, format!("{endpoint} says that it is gone for good"))
            .because(response)
            .listing([format!("message {delivery}")])
            .advise(format!(
                "nothing more is sent there until its configuration changes, `vetwatch deliveries redrive` is run, or \
                 another test; {show}"
            )),
        (_, None) => Failure::new(Exit::Failed, format!("{endpoint} refused the test for good"))
            .because(response)
            .listing([format!("message {delivery}")])
            .advise("correct the endpoint in the configuration (`vetwatch check`), `vetwatch reload`, and test again"),
        (Some(_), Some(next)) => Failure::new(Exit::TryAgain, format!("{endpoint} did not take the test this time"))
            .because(response)
            .listing([format!("message {delivery}")])
            .advise(format!("it stays queued, and the daemon tries it again, at {next} UTC at the earliest; {show}")),
        (None, Some(_)) => Failure::new(Exit::TryAgain, "the test was not tried yet")
            .because(format!("the running daemon has not got to it, or still waits for {endpoint}"))
            .listing([format!("message {delivery}")])
            .advise(format!("it stays queued; {show}. The daemon knows a new endpoint after `vetwatch reload`")),
    })
}
