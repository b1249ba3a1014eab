//! Checks that the schedule fits the budget, in advance: the poller reports a shortage late.

use crate::cli::Context;
use crate::config::{Config, Problem};
use crate::partner_center::{Budget, PartnerSettings};
use crate::poller::{Every, Watched};
use crate::schedule::PollClass;
use crate::store::ClassCount;
use crate::text::short_duration;

/// How many customers of each class the budget allows.
pub(super) fn room(config: &Config, partner: &PartnerSettings) -> String {
    let (in_review, settled) = every(config).fitting(Budget::sustained(partner.requests_per_minute));
    format!("enough for {in_review} customers in review or {settled} settled")
}

/// Warns about each partner whose stored customers need more than its budget. Without a readable database there is no
/// warning.
pub(super) async fn warnings(context: &Context, config: &Config) -> Vec<Problem> {
    if !config.database.is_file() {
        return Vec::new();
    }
    let Ok(store) = context.reading_store(&config.database).await else { return Vec::new() };
    let counts = store.classes().await.unwrap_or_default();
    let partners = config.partners.iter().enumerate();
    partners.filter_map(|(n, partner)| warning(config, n, partner, &watched(&counts, &partner.name))).collect()
}

fn watched(counts: &[ClassCount], partner: &str) -> Watched {
    let mut watched = Watched::default();
    for count in counts.iter().filter(|count| count.partner == partner) {
        watched.log_is_read = count.log_is_read;
        *match count.class {
            PollClass::Confirming | PollClass::InReview => &mut watched.in_review,
            PollClass::Settled => &mut watched.settled,
            PollClass::Unseen | PollClass::Unqualified => &mut watched.unqualified,
        } += count.customers;
    }
    watched
}

fn warning(config: &Config, n: usize, partner: &PartnerSettings, watched: &Watched) -> Option<Problem> {
    let every = every(config);
    let (needed, has) =
        (watched.requests_per_minute(&every), f64::from(Budget::sustained(partner.requests_per_minute)));
    if needed <= has {
        return None;
    }
    let unqualified = if watched.log_is_read { every.unqualified } else { every.settled };
    let groups = [
        (watched.in_review, "in review", every.in_review),
        (watched.settled, "settled", every.settled),
        (watched.unqualified, "without a qualification", unqualified),
    ];
    let groups = groups.into_iter().filter(|(customers, ..)| *customers > 0);
    let groups: Vec<_> =
        groups.map(|(customers, kind, every)| format!("{customers} {kind} every {}", short_duration(every))).collect();
    let text = format!(
        "the schedule does not fit: it asks for {needed:.1} requests a minute ({}), and {} a minute allow {has} in the \
         long run, so customers are asked later than it says; raise requests_per_minute as far as Microsoft allows, or \
         the intervals of [schedule]",
        groups.join(", "),
        partner.requests_per_minute,
    );
    Some(Problem::new(&config.places, format!("partner[{n}].requests_per_minute"), text))
}

fn every(config: &Config) -> Every {
    let schedule = &config.schedule;
    Every {
        in_review: schedule.in_review,
        settled: schedule.settled,
        unqualified: schedule.unqualified,
        activity_log: schedule.activity_log,
    }
}
