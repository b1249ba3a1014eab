//! Notifies the service manager: readiness, status, watchdog.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::in_force::InForce;
use crate::store::Store;
use crate::time::Timestamp;
use crate::worker_loop::{Progress, hung};

/// How often the customers are counted: at first, so that a person who has just started it sees it work, and later.
const COUNT_EVERY: [Duration; 2] = [Duration::from_secs(3), Duration::from_mins(1)];
const AT_FIRST: Duration = Duration::from_mins(2);
const UPDATE_EVERY: Duration = Duration::from_secs(1);

/// Notifies the manager, if there is one. Never blocks.
pub(super) fn notify(state: &NotifyState<'_>) {
    send(&format!("{state}\n"));
}

/// Says that the configuration is being reloaded; [`NotifyState::Ready`] ends it.
pub(super) fn reloading() {
    // Both in one message: the manager takes the time for that of the reload.
    if let Ok(time) = NotifyState::monotonic_usec_now() {
        send(&format!("{}\n{time}\n", NotifyState::Reloading));
    }
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address)
    });
    // Best effort.
    drop(sent);
}

/// Extends the start-up timeout while another program holds the database.
pub(super) fn still_starting() {
    notify(&NotifyState::Status("waits for the database, which another program holds"));
    // The next notification comes well before that.
    notify(&NotifyState::ExtendTimeoutUsec(60_000_000));
}

/// Says that this host stands by, which is all that it is started for: it is ready, and its watchdog is fed.
pub(super) fn stands_by(status: &str) {
    notify(&NotifyState::Ready);
    notify(&NotifyState::Status(status));
    notify(&NotifyState::Watchdog);
}

/// Sends one sentence for `systemctl status` whenever it changes.
pub(super) async fn report_status(store: Store, mut in_force: watch::Receiver<Arc<InForce>>, stop: CancellationToken) {
    let (mut usual, mut sent_status, mut counted): (String, String, Option<Instant>) = Default::default();
    let began = Instant::now();
    let has_manager = std::env::var_os("NOTIFY_SOCKET").is_some();
    while has_manager && !stop.is_cancelled() {
        let now = in_force.borrow_and_update().clone();
        let every = COUNT_EVERY[usize::from(began.elapsed() > AT_FIRST)];
        if counted.is_none_or(|at| at.elapsed() >= every) {
            counted = Some(Instant::now());
            if let Ok((customers, answered)) = store.watching().await {
                usual = in_words(now.config.partners.len(), customers, answered);
            }
        }
        let status = match (store.waiting_since(), &now.refused) {
            (Some(since), _) => {
                format!("waits for the database, which another program holds since {} UTC", minute(since))
            }
            (None, Some(refused)) => format!("{usual}; {refused}"),
            (None, None) => usual.clone(),
        };
        if status != sent_status {
            notify(&NotifyState::Status(&status));
            sent_status = status;
        }
        tokio::select! {
            () = sleep(UPDATE_EVERY) => {}
            _ = in_force.changed() => counted = None,
            () = stop.cancelled() => {}
        }
    }
    stop.cancelled().await;
}

fn in_words(partners: usize, customers: i64, answered: Option<Timestamp>) -> String {
    let customers = if customers == 1 { "1 customer".to_owned() } else { format!("{customers} customers") };
    let partners = if partners == 1 { "1 partner".to_owned() } else { format!("{partners} partners") };
    let answered = answered.map_or("no answer yet".to_owned(), |at| format!("last answer {} UTC", minute(at)));
    format!("watches {customers} of {partners}; {answered}")
}

/// `14:03`
fn minute(at: Timestamp) -> String {
    at.to_utc().format("%H:%M").to_string()
}

/// Feeds the watchdog, if there is one.
pub(super) async fn watchdog(in_force: watch::Receiver<Arc<InForce>>, store: Store, stop: CancellationToken) {
    if let Some(patience) = sd_notify::watchdog_enabled() {
        let feed = || notify(&NotifyState::Watchdog);
        let waits = || store.waiting_since().is_some();
        let progress = || in_force.borrow().progress.clone();
        stop.run_until_cancelled(feed_watchdog(progress, patience / 4, feed, waits)).await;
    } else {
        stop.cancelled().await;
    }
}

/// Feeds while no loop hangs, see [`hung`]. An independent timer would feed for a process that does nothing
/// else any more.
async fn feed_watchdog(
    progress: impl Fn() -> Vec<Arc<Progress>>,
    every: Duration,
    feed: impl Fn(),
    waits_for_database: impl Fn() -> bool,
) {
    loop {
        sleep(every).await;
        match hung(&progress(), waits_for_database()) {
            Some(hung) => error!("{} has not come round for {} s", hung.name, hung.age().as_secs()),
            None => feed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;
    use crate::time::{Clock as _, SystemClock};
    use crate::worker_loop;

    /// Two loops, one of which hangs from its fifth round on. Returns how often the watchdog is fed `within` that time.
    async fn fed(hangs: bool, excused: bool, within: Duration) -> u32 {
        let stop = CancellationToken::new();
        let mut all = Vec::new();
        for hangs in [false, hangs] {
            let progress = Progress::new("a loop".to_owned(), Duration::from_millis(300));
            all.push(progress.clone());
            let mut rounds = 0;
            let round = move || {
                rounds += 1;
                async move {
                    if hangs && rounds >= 5 {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, std::io::Error>(Some(SystemClock.now().after(Duration::from_millis(20))))
                }
            };
            tokio::spawn(worker_loop::run(
                progress,
                Arc::new(Notify::new()),
                Arc::new(SystemClock),
                stop.clone(),
                round,
            ));
        }
        let times = AtomicU32::new(0);
        let feed = || {
            times.fetch_add(1, Ordering::Relaxed);
        };
        let feeding = feed_watchdog(|| all.clone(), Duration::from_millis(20), feed, || excused);
        let _ = tokio::time::timeout(within, feeding).await;
        stop.cancel();
        times.into_inner()
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_every_loop_makes_progress_and_not_when_one_hangs() {
        let within = Duration::from_secs(3);
        let (good, bad, excused) =
            tokio::join!(fed(false, false, within), fed(true, false, within), fed(true, true, within));
        // The hung one makes progress for 80 ms and is trusted for 300 more: some 20 times of 150.
        assert!(bad >= 1 && bad < good / 2, "fed {good} times while all is well, {bad} times with a loop that hangs");
        assert!(excused > good / 2, "fed {excused} times while it is known what the loop waits for");
    }

    #[test]
    fn systemctl_status_says_in_a_sentence_what_it_does() {
        let at = Timestamp::from_millis(1_763_974_800_000);
        assert_eq!(in_words(1, 1, None), "watches 1 customer of 1 partner; no answer yet");
        assert_eq!(in_words(2, 54, Some(at)), "watches 54 customers of 2 partners; last answer 09:00 UTC");
    }
}
