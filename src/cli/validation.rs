//! `vetwatch validation-codes`: lists the codes for submissions of `GovernmentCommunityCloud`.

use serde_json::json;

use crate::cli::failure::error_chain;
use crate::cli::output::Column;
use crate::cli::{Context, Exit, Failure, backoff, lookup};
use crate::partner_center::ValidationCode;
use crate::poller::Poller;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

/// Prints the codes of every partner; if one fails, the command fails afterwards.
pub(super) async fn codes(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = context.config()?;
    lookup::check_partner(&config, args.partner.as_deref())?;
    let store = context.store(&config.database).await?;
    let (mut found, mut failure) = (Vec::new(), None);
    for part in context.assemble(&config, &store).await?.partners {
        let poller = part.poller;
        if args.partner.as_deref().is_some_and(|name| name != poller.partner.name) {
            continue;
        }
        match of_partner(context, &poller).await {
            Ok(codes) => found.extend(codes.into_iter().map(|code| (poller.partner.name.clone(), code))),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(failure) if found.is_empty() => return Err(failure),
        _ => show(context, &found)?,
    }
    failure.map_or(Ok(Exit::Done), Err)
}

async fn of_partner(context: &Context, poller: &Poller) -> Result<Vec<ValidationCode>, Failure> {
    let what = format!("cannot read the validation codes of {}", poller.partner.name);
    let backoffs = backoff::wait(context, poller, what.clone(), "try again then").await?;
    match poller.client.validation_codes().await {
        Ok(codes) => Ok(codes),
        Err(error) => {
            backoff::start(context, poller, backoffs, &error).await?;
            Err(Failure::new(Exit::from(&error), what).because(error_chain(&error)))
        }
    }
}

fn show(context: &Context, found: &[(String, ValidationCode)]) -> Result<(), Failure> {
    if context.json {
        let codes = found.iter().map(|(partner, code)| {
            let mut object = json!(code);
            object["partner"] = json!(partner);
            object
        });
        return context.out.json(&codes.collect::<Vec<_>>());
    }
    if found.is_empty() {
        return context.out.line(
            "There are no validation codes. Microsoft gives one for a customer whose eligibility form for \
             GovernmentCommunityCloud was approved.",
        );
    }
    let number = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let rows = found.iter().map(|(partner, code)| {
        let organization = code.organization_name.clone().unwrap_or_default();
        let (left, most) = (number(code.remaining_creates), number(code.max_creates));
        vec![partner.clone(), code.validation_id.clone(), organization, left, most]
    });
    let columns = [
        Column::whole("PARTNER"),
        Column::whole("CODE"),
        Column::cut("ORGANIZATION", 12),
        Column::whole("LEFT"),
        Column::whole("OF"),
    ];
    context.out.write(&context.out.table(&columns, rows))
}
