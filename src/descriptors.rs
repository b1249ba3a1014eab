//! The limit of open files (connections, the database's files): raised at the start, and shared out.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::web;

/// At most what the process holds open before it connects to anybody: the log, the runtime, the database and its locks.
const BASE: u64 = 30;
/// Connections of an endpoint, and of a partner beside its polls: sign-in, customer list, activity log.
const EACH: u64 = 2;
/// The page's connections, and its readers with three files each.
const OF_PAGE: u64 = web::CONNECTIONS_MAX as u64 + 15;
/// A connection that is closing while the next one opens.
const EACH_POLL: u64 = 2;

/// Raises the soft limit to the hard one, and returns it.
pub fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// The least limit with which this many partners and endpoints work, and the page's connections.
#[must_use]
pub fn needed(config: &Config) -> u64 {
    let page = if config.web.is_some() { OF_PAGE } else { 0 };
    of_work(config.partners.len(), config.endpoints.len()) + page
}

fn of_work(partners: usize, endpoints: usize) -> u64 {
    BASE + EACH * (partners as u64 + endpoints as u64) + EACH_POLL * partners as u64
}

/// How many polls of one partner may be in flight at once, at most `wanted`.
#[must_use]
pub fn polls(wanted: usize, config: &Config) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let fits = fitting(limit, config.partners.len(), needed(config));
    if fits < wanted {
        warn!(
            "only {limit} files may be open, so at most {fits} polls of a partner are in flight, not {wanted}: raise LimitNOFILE="
        );
    }
    wanted.min(fits)
}

fn fitting(limit: u64, partners: usize, needed: u64) -> usize {
    let left = limit.saturating_sub(needed) / EACH_POLL / partners.max(1) as u64;
    usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polls_of_all_partners_fit_the_limit() {
        for (partners, endpoints) in [(1, 2), (3, 7), (12, 20)] {
            let least = of_work(partners, endpoints) + OF_PAGE;
            assert_eq!(fitting(least, partners, least), 1);
            assert_eq!(fitting(least + 7 * 2 * partners as u64, partners, least), 8);
            assert!(fitting(1024, partners, least) >= 8);
        }
        assert_eq!(fitting(u64::MAX, 1, 1).min(8), 8);
    }
}
