//! Signals: which end the process in order, and which it ignores.

use std::io::{self, IsTerminal as _};
use std::task::Poll;

use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// Signals that are caught instead of killing the process.
#[derive(Debug)]
pub struct Signals {
    caught: Vec<(Signal, Meaning)>,
    /// The process was started at a terminal.
    at_terminal: bool,
    /// A reload was asked for, and not begun.
    reload_asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    End,
    Reload,
}

#[derive(Debug, Clone, Copy)]
enum Meaning {
    End,
    /// Asks the daemon to reload its configuration, or means that the terminal was closed.
    HangUp,
    Ignored(libc::c_int),
}

/// Signals that kill by default. Those that mean a fault in the program are not caught.
const IGNORED: [(libc::c_int, &str); 10] = [
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
];

impl Signals {
    /// For an interactive program: Ctrl-C, Ctrl-\, a service manager, a closed terminal.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of_program() -> io::Result<Self> {
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit(), SignalKind::hangup()];
        let caught = ends.into_iter().map(|kind| Ok((signal(kind)?, Meaning::End)));
        Ok(Self { caught: caught.collect::<io::Result<_>>()?, at_terminal: false, reload_asked: false })
    }

    /// For the daemon: it continues after a hang-up, and after every signal not meant to end it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of_daemon() -> io::Result<Self> {
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit()];
        let ends = ends.into_iter().map(|kind| (kind, Meaning::End));
        let nothing = IGNORED.into_iter().map(|(number, _)| number).chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
        let nothing = nothing.map(|number| (SignalKind::from_raw(number), Meaning::Ignored(number)));
        let all = ends.chain([(SignalKind::hangup(), Meaning::HangUp)]).chain(nothing);
        let caught = all.map(|(kind, meaning)| Ok((signal(kind)?, meaning))).collect::<io::Result<_>>()?;
        Ok(Self { caught, at_terminal: io::stdin().is_terminal(), reload_asked: false })
    }

    /// Returns when the process is to end. A reload that is asked for meanwhile is kept for `next`.
    pub async fn end(&mut self) {
        while self.wait().await == Asked::Reload {
            self.reload_asked = true;
        }
    }

    /// Returns what the next signal asks for.
    pub(super) async fn next(&mut self) -> Asked {
        if std::mem::take(&mut self.reload_asked) {
            return Asked::Reload;
        }
        self.wait().await
    }

    /// Logs ignored signals.
    async fn wait(&mut self) -> Asked {
        loop {
            let arrived = std::future::poll_fn(|context| {
                let mut caught = self.caught.iter_mut();
                let arrived =
                    caught.find_map(|(signal, meaning)| signal.poll_recv(context).is_ready().then_some(*meaning));
                arrived.map_or(Poll::Pending, Poll::Ready)
            });
            match arrived.await {
                Meaning::End => return Asked::End,
                // The terminal was closed, so this was no daemon.
                Meaning::HangUp if self.at_terminal && !io::stdin().is_terminal() => return Asked::End,
                Meaning::HangUp => {
                    info!("SIGHUP: the configuration is read again");
                    return Asked::Reload;
                }
                Meaning::Ignored(number) => info!("{} means nothing to vetwatch, which goes on", name(number)),
            }
        }
    }
}

fn name(number: libc::c_int) -> String {
    let known = IGNORED.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("SIGRTMIN+{}", number - libc::SIGRTMIN()), |(_, name)| (*name).to_owned())
}
