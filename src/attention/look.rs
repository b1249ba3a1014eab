//! Finds late work in the database. Index lookups only: the daemon does this every 20 seconds.

use super::{Late, Reason, delivery_late, list_failing_since, polling_late};
use crate::backup::Times;
use crate::schedule::Intervals;
use crate::standby::host_state::{self, HostState, Role};
use crate::store::{self, Store};
use crate::time::Timestamp;

/// The partners, endpoints and intervals of the configuration.
#[derive(Debug, Clone)]
pub struct Scope {
    pub partners: Vec<String>,
    pub endpoints: Vec<String>,
    pub intervals: Intervals,
    /// When backups are due; `None` without `[backup]`.
    pub backup: Option<Times>,
}

#[derive(Debug, Default)]
pub struct Lateness {
    pub late: Vec<Late>,
    /// Failing partners. Their customers are late because of that, which has an alert of its own.
    pub failing: Vec<String>,
}

/// Finds late work of the configured partners and endpoints.
///
/// # Errors
/// When the database cannot be read.
pub async fn late(store: &Store, scope: &Scope, now: Timestamp) -> Result<Lateness, store::Error> {
    let mut found = Lateness::default();
    // Nothing has run yet, so nothing is late.
    let Some(alive_since) = store.alive_since().await?.map(|at| at.min(now)) else { return Ok(found) };
    if let Some(since) = store.alive_at().await?.filter(|until| now.since(*until) >= Reason::CannotWrite.after()) {
        found.late.push(Late { reason: Reason::CannotWrite, about: String::new(), since, interval: None, why: None });
    }
    found.late.extend(store.damaged_since().await?.map(damaged));
    if let Some(times) = &scope.backup {
        found.late.extend(backup(store, times, alive_since, now).await?);
    }
    found.late.extend(host_state::read(store.path()).iter().flat_map(|report| of_standby(report, now)));
    for partner in store.watched_partners().await? {
        if !scope.partners.contains(&partner.name) {
            continue;
        }
        if let Some(since) = list_failing_since(partner.list_failing_since, now) {
            let about = partner.name.clone();
            found.late.push(Late { reason: Reason::CustomerListFailing, about, since, interval: None, why: None });
        }
        if partner.failing {
            found.failing.push(partner.name);
            continue;
        }
        let due = store.oldest_due(partner.row, now).await?;
        let intervals = Intervals { log_is_read: partner.log_is_read, ..scope.intervals };
        if let Some((since, interval)) = polling_late(&due, &intervals, alive_since, now) {
            let interval = Some(interval);
            found.late.push(Late { reason: Reason::PollingLate, about: partner.name, since, interval, why: None });
        }
    }
    for endpoint in &scope.endpoints {
        // A failing or paused endpoint has an alert of its own.
        let due_at = store.open_delivery_due_at(endpoint).await?;
        if let Some(since) = due_at.and_then(|due_at| delivery_late(due_at, alive_since, now)) {
            let about = endpoint.clone();
            found.late.push(Late { reason: Reason::DeliveryLate, about, since, interval: None, why: None });
        }
    }
    Ok(found)
}

#[must_use]
pub fn damaged(since: Timestamp) -> Late {
    Late { reason: Reason::DatabaseDamaged, about: String::new(), since, interval: None, why: None }
}

/// What keeps another host from taking over with everything, as the leader reports it.
#[must_use]
pub fn of_standby(report: &HostState, now: Timestamp) -> Vec<Late> {
    if report.role != Role::Leader {
        return Vec::new();
    }
    let replica = report.replica.failing_since.map(|since| (Reason::ReplicaLate, since, report.replica.error.clone()));
    let unable = Some(report.unable.join("; ")).filter(|why| !why.is_empty());
    let alone = report.alone_since.map(|since| (Reason::NoStandby, since, unable));
    let late = [replica, alone].into_iter().flatten().filter(|(reason, since, _)| now.since(*since) >= reason.after());
    late.map(|(reason, since, why)| Late { reason, about: String::new(), since, interval: None, why }).collect()
}

/// A backup that failed, or is missing though two were due since.
async fn backup(
    store: &Store,
    times: &Times,
    alive_since: Timestamp,
    now: Timestamp,
) -> Result<Option<Late>, store::Error> {
    let state = store.backup_state().await?;
    let last = state.at.filter(|at| *at <= now);
    let too_old = times.too_old_at(last.map_or(alive_since, |last| last.max(alive_since))).filter(|at| *at <= now);
    let Some(noticed) = state.failing_since.or(too_old) else { return Ok(None) };
    let since = last.unwrap_or(noticed);
    Ok(Some(Late { reason: Reason::BackupFailed, about: String::new(), since, interval: None, why: state.error }))
}
