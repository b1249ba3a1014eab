//! `vetwatch customers sync`: takes over Partner Center's list now.

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::failure::chain;
use crate::cli::{Context, Exit, Failure, run, which};
use crate::daemon;
use crate::partner_center;
use crate::roster;

/// Takes over the list of `partner`, or of every partner that is watched as a whole.
pub(super) async fn sync(context: &Context, partner: Option<&str>) -> Result<Exit, Failure> {
    let config = context.config()?;
    let configured: Vec<String> = config.partners.iter().map(|partner| partner.name.clone()).collect();
    if partner.is_some() {
        which::configured_partner(&configured, partner)?;
    }
    let store = context.store(&config.database).await?;
    let parts =
        daemon::assemble(&config, &store, &context.clock, &CancellationToken::new()).await.map_err(run::failure)?;
    let mut done = Vec::new();
    for part in parts.partners {
        let roster = part.roster;
        if partner.map_or(part.synced, |wanted| wanted == roster.name) {
            let summary = roster.sync().await.map_err(|error| failure(&roster.name, error))?;
            done.push((roster.name, summary));
        }
    }
    if context.json {
        let done = done.iter().map(|(name, s)| json!({ "partner": name, "listed": s.listed, "added": s.added }));
        context.out.json(&done.collect::<Vec<_>>())?;
    } else if done.is_empty() {
        context.out.line(
            "No partner is watched as a whole (`customers = \"all\"`); `--partner NAME` syncs one all the same.",
        )?;
    } else {
        for (name, summary) in done {
            context
                .out
                .line(&format!("{name}: {} customers listed, {} of them new.", summary.listed, summary.added))?;
        }
    }
    Ok(Exit::Done)
}

pub(super) fn failure(partner: &str, error: roster::Error) -> Failure {
    match error {
        roster::Error::Store(error) => error.into(),
        roster::Error::PartnerCenter(error) => {
            let exit = exit_of(&error);
            Failure::new(exit, format!("cannot read the customer list of {partner}; nothing was changed"))
                .because(chain(&error))
        }
    }
}

/// What a script is told of a refusal.
pub(super) fn exit_of(error: &partner_center::Error) -> Exit {
    use partner_center::Error;
    match error {
        Error::Throttled { .. }
        | Error::NoToken(_)
        | Error::Server(_)
        | Error::TimedOut { .. }
        | Error::Unreachable(_) => Exit::TryAgain,
        Error::Unreadable { .. } => Exit::Failed,
        Error::Credential(_)
        | Error::Forbidden(_)
        | Error::NoRelationship(_)
        | Error::NotFound(_)
        | Error::Refused(_) => Exit::Refused,
    }
}
