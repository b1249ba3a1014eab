//! `vetwatch customers sync`: syncs Partner Center's list now.

use std::io::{IsTerminal as _, Write as _};

use serde_json::json;

use crate::cli::failure::error_chain;
use crate::cli::{Context, Exit, Failure, backoff, lookup};
use crate::customer_sync::{self, CustomerSync, Progress, Summary};
use crate::text;

/// Syncs the list of `partner`, or of every partner with `customers = "synced"`.
pub(super) async fn sync(context: &Context, partner: Option<&str>) -> Result<Exit, Failure> {
    let config = context.config()?;
    lookup::check_partner(&config, partner)?;
    let store = context.store(&config.database).await?;
    let mut done = Vec::new();
    for part in context.assemble(&config, &store).await?.partners {
        let list = part.customer_sync;
        if partner.map_or(list.synced, |wanted| wanted == list.name) {
            let summary = one(&list).await?;
            done.push((list.name, summary));
        }
    }
    if context.json {
        let done = done.iter().map(|(name, summary)| {
            let mut object = json!(summary);
            object["partner"] = json!(name);
            object
        });
        context.out.json(&done.collect::<Vec<_>>())?;
    } else if done.is_empty() {
        context.out.line(
            "No partner is watched as a whole (`customers = \"synced\"`); `--partner NAME` syncs one all the same.",
        )?;
    } else {
        for (name, summary) in done {
            context.out.write(&render(&name, &summary))?;
        }
    }
    Ok(Exit::Done)
}

/// Syncs one partner's list, and shows the progress on a terminal.
pub(super) async fn one(list: &CustomerSync) -> Result<Summary, Failure> {
    let shows = std::io::stderr().is_terminal();
    let progress = |at: Progress| {
        if shows {
            // A failure to show the progress is ignored.
            let _ = write!(std::io::stderr(), "\r{}: {} customers, page {}", list.name, at.customers, at.pages);
        }
    };
    let outcome = list.sync(progress).await;
    if shows {
        let _ = write!(std::io::stderr(), "\r\u{1b}[K");
    }
    outcome.map_err(|error| failure(&list.name, error))
}

/// Renders the summary for people.
fn render(partner: &str, summary: &Summary) -> String {
    use std::fmt::Write as _; // writing to a `String` does not fail

    let Summary { listed, added, returned, missing, left, .. } = summary;
    let mut page = format!("{partner}: {listed} customers listed, {added} of them new.\n");
    if *returned > 0 {
        let _ = writeln!(page, "{returned} who were missing from the last list are back.");
    }
    if !summary.complete {
        let expected = summary.expected.unwrap_or(0);
        let _ = writeln!(
            page,
            "The last complete list held {expected}, so this one does not count as complete: nobody is taken for \
             missing. If customers really left, the next list a day from now says the same, and counts."
        );
    }
    if *missing > 0 {
        let names: Vec<_> = summary.missing_names.iter().map(|name| text::terminal(name)).collect();
        let more = missing.saturating_sub(u64::try_from(names.len()).unwrap_or(u64::MAX));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(page, "Missing: {}{more}.", names.join(", "));
    }
    if *left > 0 {
        let _ = writeln!(page, "{left} of the missing have been so for a day: polled rarely from now on, for 90 days.");
    }
    page
}

fn failure(partner: &str, error: customer_sync::Error) -> Failure {
    match error {
        customer_sync::Error::Store(error) => error.into(),
        customer_sync::Error::BackingOff(backoff) => {
            let what = format!("the customer list of {partner} is not read for now; nothing was changed");
            backoff::failure(Exit::TryAgain, what, &backoff, "try again then")
        }
        customer_sync::Error::PartnerCenter { source, read } => {
            let outcome = match read {
                0 => "nothing was changed".to_owned(),
                read => format!("the {read} customers read until then are watched, and nobody counts as missing"),
            };
            Failure::new(Exit::from(&source), format!("cannot read the customer list of {partner}; {outcome}"))
                .because(error_chain(&source))
        }
    }
}
