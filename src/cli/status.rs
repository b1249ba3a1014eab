//! `vetwatch status`: one screen for a person, and an exit code for a script.

mod screen;

use std::time::Duration;

use serde::Serialize;

use crate::cli::args::CustomerArgs;
use crate::cli::which::{self, Among, Customer};
use crate::cli::{Context, Exit, Failure, when};
use crate::config::Outline;
use crate::store::Store;
use crate::store::reports::{
    CurrentRow, CustomerRow, DecisionRow, DeliveryFilter, DeliveryRow, EndpointState, PartnerState, TransitionFilter,
    TransitionRow,
};
use crate::time::Timestamp;

/// How far back `decided` looks.
const LATELY: Duration = Duration::from_hours(7 * 24);

/// A credential that ends so soon needs attention.
const SOON: Duration = Duration::from_hours(24 * 14);

/// A gate that closed so many times in a row had no good answer in between: more than a throttled minute.
const CLOSURES_THAT_BLIND: i64 = 2;

/// Everything on the screen, and what `--json` prints.
#[derive(Debug, Serialize)]
struct Overview {
    now: Timestamp,
    /// Null: this user may not know.
    daemon_running: Option<bool>,
    /// Why the exit code is 3: a sentence each; empty: it is 0.
    attention: Vec<String>,
    in_review: Vec<CurrentRow>,
    decided: Vec<DecisionRow>,
    blind: Vec<CustomerRow>,
    partners: Vec<Partner>,
    endpoints: Vec<EndpointState>,
    /// The newest hundred.
    dead_letters: Vec<DeliveryRow>,
}

#[derive(Debug, Serialize)]
struct Partner {
    #[serde(flatten)]
    state: PartnerState,
    /// The budget; null: the configuration does not name this partner any more.
    requests_per_minute: Option<u32>,
    /// What the schedule asks for, on average.
    scheduled_per_minute: f64,
}

pub(super) async fn status(context: &Context, args: CustomerArgs) -> Result<Exit, Failure> {
    let outline = context.outline()?;
    let store = context.reading_store(&outline.database).await?;
    let partner = args.partner.as_deref();
    which::partner(&outline.partners, &store, partner).await?;
    let who = which::customers(&store, args.customer.as_slice(), partner, Among::Watched).await?;
    if let [customer] = who.as_slice() {
        return of_one(context, &store, customer).await;
    }
    let running = crate::lock::daemon_runs(&outline.database);
    let overview = overview(&outline, &store, running, context.now(), partner).await?;
    if context.json {
        context.out.json(&overview)?;
    } else {
        context.out.write(&screen::of_all(&context.out, &overview))?;
    }
    Ok(if overview.attention.is_empty() { Exit::Done } else { Exit::Attention })
}

async fn overview(
    outline: &Outline,
    store: &Store,
    daemon_running: Option<bool>,
    now: Timestamp,
    partner: Option<&str>,
) -> Result<Overview, Failure> {
    let shown = |name: &str| partner.is_none_or(|wanted| wanted == name);
    let budget = |name: &str| outline.budgets.get(name).copied();
    let states = store.partner_states(now).await?.into_iter().filter(|state| shown(&state.partner));
    let partners: Vec<Partner> = states
        .map(|state| Partner {
            requests_per_minute: budget(&state.partner),
            scheduled_per_minute: scheduled_per_minute(outline, &state),
            state,
        })
        .collect();
    let mut in_review = store.in_review().await?;
    in_review.retain(|row| shown(&row.partner));
    let mut decided = store.decisions(now.before(LATELY)).await?;
    decided.retain(|row| shown(&row.partner));
    let mut blind = store.blind_customers().await?;
    // Nobody asks for a partner that left the configuration.
    blind.retain(|row| shown(&row.partner) && budget(&row.partner).is_some());
    let endpoints = store.endpoint_states().await?;
    let dead =
        DeliveryFilter { state: Some("dead"), limit: Some(100), without_redirected: true, ..DeliveryFilter::default() };
    let dead_letters = store.deliveries(dead).await?;
    let attention = attention(now, outline, &partners, &blind, &endpoints);
    Ok(Overview { now, daemon_running, attention, in_review, decided, blind, partners, endpoints, dead_letters })
}

/// What a person must know of: where vetwatch is blind, and what it could not tell.
fn attention(
    now: Timestamp,
    outline: &Outline,
    partners: &[Partner],
    blind: &[CustomerRow],
    endpoints: &[EndpointState],
) -> Vec<String> {
    let mut said = Vec::new();
    for Partner { state, .. } in partners.iter().filter(|partner| partner.requests_per_minute.is_some()) {
        let why = state.closed_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        if let Some(since) = state.blind_since {
            said.push(format!("{}: blind since {}{why}", state.partner, when::minute(&since.to_string())));
        } else if let Some(since) = state.implausible_since {
            said.push(format!(
                "{0}: implausible answers since {1}: {2} customers lost an entry at once, so none is believed to be gone \
                 until two looks an hour apart agree, or `vetwatch poll --accept --partner {0}`",
                state.partner,
                when::minute(&since.to_string()),
                state.missing
            ));
        } else if state.closures >= CLOSURES_THAT_BLIND {
            said.push(format!("{}: no good answer after {} pauses{why}", state.partner, state.closures));
        }
    }
    for Partner { state, .. } in partners {
        for end in state.credentials.iter().filter(|end| end.at <= now.after(SOON)) {
            let when = when::minute(&end.at.to_string());
            said.push(format!(
                "{}: its {} {} {when}",
                state.partner,
                end.of,
                if end.at <= now { "ended" } else { "ends" }
            ));
        }
    }
    match blind.len() {
        0 => {}
        1 => said.push("1 customer cannot be read".into()),
        n => said.push(format!("{n} customers cannot be read")),
    }
    for endpoint in endpoints.iter().filter(|state| outline.endpoints.contains(&state.endpoint)) {
        if endpoint.paused_at.is_some() {
            let name = &endpoint.endpoint;
            said.push(format!(
                "{name} says that it is gone: nothing is sent until its configuration changes or \
                 `vetwatch notifications redrive --endpoint {name}`"
            ));
        }
    }
    let is_forgotten = |state: &&EndpointState| state.pending > 0 && !outline.endpoints.contains(&state.endpoint);
    for EndpointState { endpoint, pending, .. } in endpoints.iter().filter(is_forgotten) {
        let wait = if *pending == 1 { "message waits" } else { "messages wait" };
        said.push(format!("{pending} {wait} for {endpoint}, which is not configured: was it renamed?"));
    }
    match endpoints.iter().map(|endpoint| endpoint.dead).sum::<i64>() {
        0 => {}
        1 => said.push("1 message was given up: `vetwatch notifications list --state dead`".into()),
        n => said.push(format!("{n} messages were given up: `vetwatch notifications list --state dead`")),
    }
    said
}

/// As [`Intervals`](crate::record::Intervals) has it: who holds nothing is asked as often as the settled, unless the
/// activity log tells of submissions.
fn scheduled_per_minute(outline: &Outline, state: &PartnerState) -> f64 {
    let rate = |customers: i64, every: Duration| {
        let customers = u32::try_from(customers).unwrap_or(u32::MAX);
        f64::from(customers) / (every.as_secs_f64().max(1.0) / 60.0)
    };
    let unqualified = if state.activity_log_counts { outline.unqualified } else { outline.settled };
    rate(state.in_review, outline.in_review)
        + rate(state.settled, outline.settled)
        + rate(state.unqualified, unqualified)
}

/// One customer: what `--json` prints.
#[derive(Debug, Serialize)]
struct OneCustomer {
    customer: CustomerRow,
    qualifications: Vec<CurrentRow>,
    /// The newest ten.
    transitions: Vec<TransitionRow>,
}

async fn of_one(context: &Context, store: &Store, who: &Customer) -> Result<Exit, Failure> {
    let gone = || Failure::new(Exit::NotFound, format!("{} was removed just now", who.label()));
    let customer = store.customers(Some(&who.rows), None, None).await?.pop().ok_or_else(gone)?;
    let qualifications = store.current(Some((&who.partner, &who.key))).await?;
    let filter = TransitionFilter { customers: Some(&who.rows), limit: Some(10), ..TransitionFilter::default() };
    let transitions = store.transitions(filter).await?;
    let blind = customer.blind_since.is_some() && !customer.paused;
    let one = OneCustomer { customer, qualifications, transitions };
    if context.json {
        context.out.json(&one)?;
    } else {
        context.out.write(&screen::of_one(&context.out, &one, context.now()))?;
    }
    Ok(if blind { Exit::Attention } else { Exit::Done })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Output;
    use crate::store::reports::fixture;

    /// A configuration that names both partners, and one endpoint of those in the database.
    fn outline() -> Outline {
        Outline {
            database: "vetwatch.db".into(),
            partners: vec!["emea".into(), "amer".into()],
            endpoints: vec!["crm".into()],
            budgets: [("emea".to_owned(), 300), ("amer".to_owned(), 300)].into(),
            in_review: Duration::from_mins(15),
            settled: Duration::from_hours(24),
            unqualified: Duration::from_hours(7 * 24),
        }
    }

    #[tokio::test]
    async fn the_screen_shows_what_matters_oldest_review_first() {
        let filled = fixture::filled().await;
        let overview = overview(&outline(), &filled.store, Some(true), fixture::now(), None).await.unwrap();
        let shown = screen::of_all(&Output::plain(100), &overview);
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        insta::assert_snapshot!(shown);
    }

    #[tokio::test]
    async fn nothing_wrong_needs_no_attention() {
        let empty = fixture::empty().await;
        let overview = overview(&outline(), &empty.store, Some(false), fixture::now(), None).await.unwrap();
        assert_eq!(overview.attention, Vec::<String>::new());
        insta::assert_snapshot!(screen::of_all(&Output::plain(100), &overview));
    }

    #[tokio::test]
    async fn a_partner_narrows_the_screen_to_its_own() {
        let filled = fixture::filled().await;
        let overview = overview(&outline(), &filled.store, None, fixture::now(), Some("emea")).await.unwrap();
        assert_eq!(overview.partners.len(), 1);
        assert!(overview.in_review.iter().all(|row| row.partner == "emea"));
        assert!(!overview.attention.iter().any(|said| said.contains("amer")), "{:?}", overview.attention);
    }

    #[tokio::test]
    async fn one_customer_shows_state_error_and_history() {
        let filled = fixture::filled().await;
        let who = which::customers(&filled.store, &["ecole.example".into()], None, Among::Watched).await.unwrap();
        let customer = filled.store.customers(Some(&who[0].rows), None, None).await.unwrap().remove(0);
        let qualifications = filled.store.current(Some((&who[0].partner, &who[0].key))).await.unwrap();
        let filter = TransitionFilter { customers: Some(&who[0].rows), ..TransitionFilter::default() };
        let transitions = filled.store.transitions(filter).await.unwrap();
        let one = OneCustomer { customer, qualifications, transitions };
        insta::assert_snapshot!(screen::of_one(&Output::plain(100), &one, fixture::now()));
    }
}
