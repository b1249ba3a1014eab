//! `vetwatch poll`: ask now.

use std::fs::File;

use serde_json::json;

use crate::cli::args::PollArgs;
use crate::cli::which::{self, Among, Customer};
use crate::cli::{Context, Exit, Failure, lock, text};
use crate::config::Config;
use crate::store::Store;

pub(super) async fn poll(context: &Context, args: PollArgs) -> Result<Exit, Failure> {
    let config = context.config()?;
    let store = context.existing_store(&config).await?;
    let partner = args.partner.as_deref();
    which::partner(&config, &store, partner).await?;
    let named = which::customers(&store, &args.customers, partner, Among::Watched).await?;
    if let Some(paused) = named.iter().find(|customer| customer.paused) {
        return Err(Failure::new(Exit::Failed, format!("{} is not asked about", paused.label()))
            .because("it is paused")
            .advise(format!("`vetwatch customers resume {}` goes on with it, now", paused.id)));
    }
    let rows: Vec<i64> = named.iter().filter_map(|customer| customer.watched).collect();
    let rows = (!named.is_empty()).then_some(rows.as_slice());

    // A daemon that starts while we ask is refused, and we are while it runs: one budget, one who records.
    let held = lock::take(&config.database)?;
    // Either way they are due: a process that dies on the way leaves them to the next one.
    let mut tx = store.begin().await?;
    let due = tx.make_due(rows, partner, context.now()).await?;
    tx.commit().await?;
    match held {
        Some(held) => poll_now(context, &config, &store, held, rows, partner).await,
        None => told_daemon(context, &named, due),
    }
}

fn told_daemon(context: &Context, named: &[Customer], due: u64) -> Result<Exit, Failure> {
    if context.json {
        context.out.json(&json!({ "asked_by": "daemon", "due": due }))?;
        return Ok(Exit::Done);
    }
    let who = match named {
        [customer] => format!("{} is", text::clean(customer.label())),
        _ if due == 1 => "1 customer is".into(),
        _ => format!("{due} customers are"),
    };
    context
        .out
        .line(&format!("{who} due now; the running daemon asks within its budget. `vetwatch status` shows it."))?;
    Ok(Exit::Done)
}

/// Asks about what is due, once, as the daemon would: `rows` of `customer`, or everybody (of `partner`). They were made
/// due before. `held` is the database's lock; it lasts until this ends.
///
/// A stub: the lead fills it in.
#[expect(clippy::unused_async)]
pub async fn poll_now(
    _context: &Context,
    _config: &Config,
    _store: &Store,
    held: File,
    _rows: Option<&[i64]>,
    _partner: Option<&str>,
) -> Result<Exit, Failure> {
    drop(held);
    Err(Failure::new(Exit::Failed, "`vetwatch poll` without a daemon is not built yet"))
}
