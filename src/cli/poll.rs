//! `vetwatch poll`: polls customers now.

use serde_json::json;

use crate::cli::lookup::{self, Customer, Scope};
use crate::cli::{Context, Exit, Failure, backoff, context, sync};
use crate::config::Config;
use crate::poller::PollRound;
use crate::store::{Backoff, CustomerId, Store};
use crate::text;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenant ids, domains or names; without any, all customers
    #[arg(value_name = "CUSTOMER")]
    pub customers: Vec<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
    /// Accept that the entries missing from the responses are gone, however many: polls those customers
    #[arg(long, conflicts_with = "customers")]
    pub accept: bool,
}

pub(super) async fn poll(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = context.config()?;
    let partner = args.partner.as_deref();
    lookup::check_partner(&config, partner)?;
    let store = context.store(&config.database).await?;
    let named = lookup::customers(&store, &args.customers, partner, Scope::Watched).await?;
    if let Some(paused) = named.iter().find(|customer| customer.paused) {
        return Err(Failure::new(Exit::Failed, format!("{} is not polled", paused.label()))
            .because("it is paused")
            .advise(format!("`vetwatch customers resume {}` goes on with it, now", paused.id)));
    }
    let rows: Vec<_> = named.iter().filter_map(|customer| customer.watched).collect();
    let rows = (!named.is_empty()).then_some(rows.as_slice());

    // The lock excludes a daemon: one budget, one process that records.
    let held = context::lock(&config.database)?;
    // Made due in any case: if this process dies, the next one polls them.
    let mut tx = store.begin().await?;
    let (accepted, due);
    let rows = if args.accept {
        accepted = tx.accept_absence(partner, context.now()).await?;
        due = u64::try_from(accepted.len()).unwrap_or(u64::MAX);
        Some(accepted.as_slice())
    } else {
        due = tx.make_due(rows, partner, context.now()).await?;
        rows
    };
    tx.commit().await?;
    match held {
        // Held until all are polled.
        Some(_held) => poll_now(context, &config, &store, rows, partner).await,
        None => left_to_daemon(context, &store, &named, due, partner).await,
    }
}

async fn left_to_daemon(
    context: &Context,
    store: &Store,
    named: &[Customer],
    due: u64,
    partner: Option<&str>,
) -> Result<Exit, Failure> {
    let now = context.now();
    let concerned = |name: &str| {
        partner.is_none_or(|wanted| wanted == name)
            && (named.is_empty() || named.iter().any(|customer| customer.partner == name))
    };
    for state in store.partner_states(now).await?.into_iter().filter(|state| due > 0 && concerned(&state.partner)) {
        let Some(until) = state.backoff_until.filter(|until| *until > now) else { continue };
        let backoff = Backoff {
            backoff_until: until,
            reason: state.backoff_reason.unwrap_or_default(),
            backoffs: u32::try_from(state.backoffs).unwrap_or(u32::MAX),
        };
        let what = format!("{} is backing off", state.partner);
        return Err(backoff::failure(Exit::TryAgain, what, &backoff, "the daemon polls what is due then"));
    }
    if context.json {
        context.out.json(&json!({ "polled_by": "daemon", "due": due }))?;
        return Ok(Exit::Done);
    }
    let who = match named {
        [customer] => format!("{} is", text::terminal(customer.label())),
        _ if due == 1 => "1 customer is".into(),
        _ => format!("{due} customers are"),
    };
    context
        .out
        .line(&format!("{who} due now; the running daemon polls within its budget. `vetwatch status` shows it."))?;
    Ok(Exit::Done)
}

/// Polls each of `rows` once, like the daemon. `None` polls all customers (of `partner`).
async fn poll_now(
    context: &Context,
    config: &Config,
    store: &Store,
    rows: Option<&[CustomerId]>,
    partner: Option<&str>,
) -> Result<Exit, Failure> {
    let mut tx = store.begin().await?;
    tx.recover_polls(context.now()).await?;
    tx.commit().await?;
    let mut done = PollRound::default();
    let (mut stopped, mut held) = (None, 0);
    let parts = context.assemble(config, store).await?;
    for part in parts.partners.into_iter().filter(|part| partner.is_none_or(|name| name == part.poller.partner.name)) {
        if rows.is_none() && part.poller.synced && store.list_state(part.poller.partner.id).await?.complete_at.is_none()
        {
            // The customers are not known before the first sync.
            sync::one(&part.customer_sync).await?;
        }
        let watched = store.watched(part.poller.partner.id).await?;
        let rows: Vec<_> = match rows {
            Some(rows) => rows.iter().copied().filter(|row| watched.contains(row)).collect(),
            None => watched,
        };
        if rows.is_empty() {
            continue;
        }
        let (partner, polled) = (part.poller.partner.clone(), rows.clone());
        // On a worker of the runtime, which starts the polls without waking another thread.
        let polling = tokio::spawn(async move { part.poller.poll_now(&polled).await }).await;
        done.add(&polling.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))?);
        held += store.pending_verdicts(Some(&rows)).await?.len();
        let backoff = store.backoff(partner.id).await?.filter(|backoff| backoff.backoff_until > context.now());
        if let Some(backoff) = backoff {
            stopped = Some((partner.name, backoff));
        }
    }
    report(context, &done, held, stopped)
}

/// `held` verdicts of these customers wait for confirmation.
fn report(
    context: &Context,
    done: &PollRound,
    held: usize,
    stopped: Option<(String, Backoff)>,
) -> Result<Exit, Failure> {
    let polled = done.unchanged + done.changed + done.failed;
    if context.json {
        context.out.json(&json!({
            "polled_by": "this command", "polled": polled, "transitions": done.transitions,
            "failed": done.failed, "skipped": done.released,
            "to_be_confirmed": held,
        }))?;
    } else {
        let transitions = match done.transitions {
            0 => "nothing changed".to_owned(),
            1 => "1 change recorded".to_owned(),
            n => format!("{n} changes recorded"),
        };
        let customers = if polled == 1 { "1 customer".to_owned() } else { format!("{polled} customers") };
        context.out.line(&format!("Polled {customers}: {transitions}, {} failed.", done.failed))?;
        if held > 0 {
            let verdicts = if held == 1 { "1 verdict is".to_owned() } else { format!("{held} verdicts are") };
            context.out.line(&format!("{verdicts} to be confirmed by later polls: `vetwatch status` shows when."))?;
        }
        if done.transitions > 0 {
            context.out.line("What is to be told of it is queued; the daemon (`vetwatch run`) sends it.")?;
        }
    }
    if let Some((partner, backoff)) = stopped {
        let exit = if done.refused { Exit::Refused } else { Exit::TryAgain };
        let left = match done.released {
            0 => None,
            1 => Some("1 customer was not polled".to_owned()),
            n => Some(format!("{n} customers were not polled")),
        };
        let what = format!("{partner} is backing off");
        return Err(backoff::failure(exit, what, &backoff, "customers that are due are polled then").listing(left));
    }
    if done.failed > 0 {
        return Err(Failure::new(Exit::Failed, format!("{} of {polled} customers could not be polled", done.failed))
            .advise("`vetwatch customers list` and `vetwatch status CUSTOMER` show why"));
    }
    Ok(Exit::Done)
}
