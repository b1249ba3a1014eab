//! `vetwatch status`: one screen for a person, and an exit code for a script.

mod screen;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::attention::{Need, Reason};
use crate::cli::args::CONFIG;
use crate::cli::lookup::{self, Customer, Scope};
use crate::cli::output::{self, Output};
use crate::cli::{Context, Exit, Failure};
use crate::config::{self, PublicConfig};
use crate::forecast::Forecasts;
use crate::overview::{InReview, Overview, Seen, overview};
use crate::standby::host_state::{self, HostState, Role};
use crate::store::Store;
use crate::store::reports::{CustomerRow, PendingRow, TransitionFilter, TransitionRow};
use crate::time::Timestamp;

const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Wide enough that nothing is cut.
const WIDE: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub who: Who,
    /// Show it again every two seconds, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

/// `history` has these arguments, too.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Who {
    /// A tenant id, a domain or a name
    pub customer: Option<String>,
    /// Only this partner of the configuration
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

/// What is shown, of all or of one customer.
enum Screen {
    /// With `[standby]`, a host that does not lead: it has no database to show.
    StandingBy(Box<StandingBy>),
    All(Box<Overview>),
    One(Box<OneCustomer>),
}

impl Screen {
    fn text(&self, out: &Output, now: Timestamp) -> String {
        match self {
            Self::StandingBy(host) => screen::of_standby(out, host),
            Self::All(overview) => screen::of_all(out, overview),
            Self::One(customer) => screen::of_one(out, customer, now),
        }
    }

    fn json(&self, out: &Output) -> Result<(), Failure> {
        match self {
            Self::StandingBy(host) => out.json(host),
            Self::All(overview) => out.json(overview),
            Self::One(customer) => out.json(customer),
        }
    }

    fn exit(&self) -> Exit {
        let well = match self {
            Self::StandingBy(host) => host.attention.is_empty(),
            Self::All(overview) => overview.health.attention.is_empty(),
            Self::One(one) => one.customer.unreadable_since.is_none() || one.customer.paused,
        };
        if well { Exit::Done } else { Exit::Attention }
    }
}

pub(super) async fn status(context: &Context, args: Args) -> Result<Exit, Failure> {
    let outline = match context.outline() {
        Ok(outline) => outline,
        Err(failure) => return Err(and_the_daemon(context, failure).await),
    };
    if args.watch {
        return watch(context, &outline, &args.who).await;
    }
    let screen = look(context, &outline, &args.who).await?;
    if context.json {
        screen.json(&context.out)?;
    } else {
        context.out.write(&screen.text(&context.out, context.now()))?;
    }
    Ok(screen.exit())
}

/// Adds to a file that cannot be read that the daemon goes on without it.
async fn and_the_daemon(context: &Context, failure: Failure) -> Failure {
    let database = config::default_database();
    // Of another file the daemon knows nothing.
    if context.config_path != Path::new(CONFIG) || crate::instance_lock::daemon_runs(database) != Some(true) {
        return failure;
    }
    let state = match context.reading_store(database).await {
        Ok(store) => store.configuration().await.ok().flatten(),
        Err(_) => None,
    };
    let read = state.map(|state| format!(" of {}", state.loaded_at_in_words())).unwrap_or_default();
    failure.because(format!("the daemon goes on with the configuration{read}, and its next start would fail"))
}

/// Shows the screen again and again, as much of it as the terminal has lines for.
async fn watch(context: &Context, outline: &PublicConfig, who: &Who) -> Result<Exit, Failure> {
    if output::height().is_none() {
        return Err(Failure::new(Exit::Usage, "--watch needs a terminal")
            .advise("for a program: `vetwatch status --json`, or `vetwatch history --follow --format ndjson`"));
    }
    loop {
        // The terminal may have another size by now, and the database be another file.
        let (out, height) = (Output::stdout(), output::height().unwrap_or(24));
        let screen = look(context, outline, who).await?;
        context.close().await;
        out.write_exact(&output::screenful(&screen.text(&out, context.now()), out.width, height))?;
        if out.is_closed() {
            return Ok(screen.exit());
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn look(context: &Context, outline: &PublicConfig, who: &Who) -> Result<Screen, Failure> {
    if let Some(report) = host_state::read(&outline.database).filter(|report| report.role != Role::Leader) {
        return Ok(Screen::StandingBy(Box::new(StandingBy::new(report, context.now()))));
    }
    let store = context.reading_store(&outline.database).await?;
    let partner = who.partner.as_deref();
    lookup::partner(&outline.partners, &store, partner).await?;
    let customers = lookup::customers(&store, who.customer.as_slice(), partner, Scope::Watched).await?;
    if let [customer] = customers.as_slice() {
        return Ok(Screen::One(Box::new(one_customer(outline, &store, customer, context.now()).await?)));
    }
    let seen = Seen::by_command(&store).await;
    Ok(Screen::All(Box::new(overview(outline, &store, seen, context.now(), partner).await?)))
}

/// A host that does not lead; the output of `--json`.
#[derive(Debug, Serialize)]
struct StandingBy {
    now: Timestamp,
    attention: Vec<String>,
    reasons: Vec<Need>,
    standby: HostState,
}

impl StandingBy {
    fn new(standby: HostState, now: Timestamp) -> Self {
        let need = |reason, since, text: String| Need { reason, about: String::new(), since, text };
        let why = standby.error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let reasons = if standby.is_old(now) {
            let text = "no daemon runs on this host, so it could not take over (`systemctl start vetwatch`)";
            vec![need(Reason::NotRunning, Some(standby.at), text.to_owned())]
        } else if standby.leader.is_none() && standby.role == Role::Standby {
            let text = format!("no host leads, so nothing is polled and nothing is delivered{why}");
            vec![need(Reason::NoLeader, standby.failing_since, text)]
        } else if standby.error.is_some() {
            vec![need(Reason::NoStandby, standby.failing_since, format!("this host could not take over{why}"))]
        } else {
            Vec::new()
        };
        Self { now, attention: reasons.iter().map(|need| need.text.clone()).collect(), reasons, standby }
    }
}

/// What `status` and `status --json` print, whatever the width.
pub(super) async fn page_and_json(
    outline: &PublicConfig,
    store: &Store,
    now: Timestamp,
) -> Result<(String, serde_json::Value), Failure> {
    let overview = overview(outline, store, Seen::by_command(store).await, now, None).await?;
    let json = serde_json::to_value(&overview)
        .map_err(|error| Failure::new(Exit::Failed, "cannot show the status").because(error.to_string()))?;
    Ok((screen::of_all(&Output::plain(WIDE), &overview), json))
}

/// One customer; the output of `--json`.
#[derive(Debug, Serialize)]
struct OneCustomer {
    customer: CustomerRow,
    qualifications: Vec<InReview>,
    /// Verdicts that wait for confirmation.
    pending: Vec<PendingRow>,
    /// The newest ten.
    transitions: Vec<TransitionRow>,
}

async fn one_customer(
    outline: &PublicConfig,
    store: &Store,
    who: &Customer,
    now: Timestamp,
) -> Result<OneCustomer, Failure> {
    let gone = || Failure::new(Exit::NotFound, format!("{} was removed just now", who.label()));
    let customer = store.customers(&who.rows).await?.pop().ok_or_else(gone)?;
    let forecasts = Forecasts::read(store, &outline.calendar, now).await?;
    let held = store.current(Some(&who.rows)).await?.into_iter();
    let qualifications = held.map(|row| InReview { expected: forecasts.of_row(&row), row }).collect();
    let pending = store.pending_verdicts(Some(&who.rows)).await?;
    let filter = TransitionFilter { customers: Some(&who.rows), limit: Some(10), ..TransitionFilter::default() };
    let transitions = store.transitions(filter).await?;
    Ok(OneCustomer { customer, qualifications, pending, transitions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Reason;
    use crate::store::reports::fixture;

    const SEEN: Seen = Seen { daemon_running: Some(true), database_held: false };

    /// A configuration with both partners, and one of the database's endpoints.
    fn outline() -> PublicConfig {
        PublicConfig {
            database: "vetwatch.db".into(),
            partners: vec!["emea".into(), "amer".into()],
            endpoints: vec!["crm".into()],
            budgets: [("emea".to_owned(), 300), ("amer".to_owned(), 300)].into(),
            in_review: Duration::from_mins(15),
            settled: Duration::from_hours(24),
            unqualified: Duration::from_hours(7 * 24),
            first_confirmation: Duration::from_mins(2),
            activity_log: Duration::from_mins(5),
            backup: None,
            calendar: crate::calendar::Calendar::default(),
        }
    }

    #[tokio::test]
    async fn the_screen_shows_what_matters_oldest_review_first() {
        let filled = fixture::filled().await;
        let overview = overview(&outline(), &filled.store, SEEN, fixture::now(), None).await.unwrap();
        insta::assert_snapshot!(output::on_screens(|out| screen::of_all(out, &overview)));
    }

    #[tokio::test]
    async fn a_verdict_that_is_not_believed_yet_is_shown_with_its_times() {
        let filled = fixture::filled().await;
        let sql = "update qualification_state set pending_status = 'Denied', pending_confirmations = 1, pending_since = 1795252440000,
                       pending_until = 1795256160000
                   where id = (select min(id) from qualification_state)";
        sqlx::raw_sql(sql).execute(&filled.store.write).await.unwrap();
        let overview = overview(&outline(), &filled.store, SEEN, fixture::now(), None).await.unwrap();
        let shown = screen::of_all(&Output::plain(120), &overview);
        assert!(shown.contains("Denied seen at 09:14, to be confirmed by 10:16"), "{shown}");
        assert!(!overview.pending[0].qualification.is_empty());
    }

    #[tokio::test]
    async fn nothing_wrong_needs_no_attention() {
        let empty = fixture::empty().await;
        let overview = overview(&outline(), &empty.store, SEEN, fixture::now(), None).await.unwrap();
        assert_eq!(overview.health.attention, Vec::<String>::new());
        let shown = screen::of_all(&Output::plain(80), &overview);
        insta::assert_snapshot!(shown);
    }

    #[tokio::test]
    async fn a_partner_narrows_the_screen_to_its_own() {
        let filled = fixture::filled().await;
        let overview =
            overview(&outline(), &filled.store, Seen { daemon_running: None, ..SEEN }, fixture::now(), Some("emea"))
                .await
                .unwrap();
        assert_eq!(overview.health.partners.len(), 1);
        assert!(overview.in_review.iter().all(|row| row.row.partner == "emea"));
        assert!(!overview.health.attention.iter().any(|line| line.contains("amer")), "{:?}", overview.health.attention);
    }

    #[tokio::test]
    async fn a_partner_alone_does_not_hide_what_concerns_all() {
        let filled = fixture::filled().await;
        // The daemon has noted nothing for longer than three minutes.
        let tick = "insert into daemon (id, alive_at, alive_since) values (1, 1, 1) on conflict (id) do update set alive_at = 1, alive_since = 1";
        sqlx::raw_sql(tick).execute(&filled.store.write).await.unwrap();
        let overview = overview(&outline(), &filled.store, SEEN, fixture::now(), Some("emea")).await.unwrap();
        assert!(
            overview.health.reasons.iter().any(|need| need.reason == Reason::CannotWrite),
            "{:?}",
            overview.health.attention
        );
    }

    #[tokio::test]
    async fn one_customer_shows_state_error_and_history() {
        let filled = fixture::filled().await;
        let who = lookup::customers(&filled.store, &["ecole.example".into()], None, Scope::Watched).await.unwrap();
        let customer = filled.store.customers(&who[0].rows).await.unwrap().remove(0);
        let current = filled.store.current(Some(&who[0].rows)).await.unwrap();
        let qualifications = current.into_iter().map(|row| InReview { row, expected: None }).collect();
        let filter = TransitionFilter { customers: Some(&who[0].rows), ..TransitionFilter::default() };
        let transitions = filled.store.transitions(filter).await.unwrap();
        let one = OneCustomer { customer, qualifications, pending: Vec::new(), transitions };
        insta::assert_snapshot!(output::on_screens(|out| screen::of_one(out, &one, fixture::now())));
    }
}
