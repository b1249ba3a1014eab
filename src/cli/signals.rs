//! Being told to end: Ctrl-C, a service manager, a terminal that was closed.

use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Exit, Failure};

/// Signals that are waited for instead of dying of them.
#[derive(Debug)]
pub(super) struct Signals(Vec<Signal>);

impl Signals {
    pub(super) fn of(kinds: &[SignalKind]) -> Result<Self, Failure> {
        let signals = kinds.iter().map(|kind| signal(*kind)).collect::<Result<_, _>>();
        let failed = |error: std::io::Error| Failure::new(Exit::Failed, "cannot start").because(error.to_string());
        signals.map(Self).map_err(failed)
    }

    /// The next one, whichever.
    pub(super) async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let arrived = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if arrived { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
