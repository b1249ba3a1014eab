//! Signals: what ends the process in order, and what it lives on with.

use std::io::{self, IsTerminal as _};
use std::task::Poll;

use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Signals that are waited for instead of dying of them.
#[derive(Debug)]
pub struct Signals {
    caught: Vec<(Signal, Meaning)>,
    /// It was started by somebody at a terminal.
    at_terminal: bool,
}

#[derive(Debug, Clone, Copy)]
enum Meaning {
    End,
    /// Of a daemon, to read its configuration again. Of a terminal, that it was closed.
    HangUp,
    Nothing(libc::c_int),
}

/// What would kill a process that does not expect it. Those that tell of a fault in the program still do.
const NOTHING: [(libc::c_int, &str); 10] = [
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
    /// Those of a program that somebody looks at: Ctrl-C, Ctrl-\, a service manager, a terminal that was closed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of_program() -> io::Result<Self> {
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit(), SignalKind::hangup()];
        let caught = ends.into_iter().map(|kind| Ok((signal(kind)?, Meaning::End)));
        Ok(Self { caught: caught.collect::<io::Result<_>>()?, at_terminal: false })
    }

    /// Those of the daemon: as above, but it goes on after a hang-up, and after all that nobody means to end it with.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn of_daemon() -> io::Result<Self> {
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit()];
        let ends = ends.into_iter().map(|kind| (kind, Meaning::End));
        let nothing = NOTHING.into_iter().map(|(number, _)| number).chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
        let nothing = nothing.map(|number| (SignalKind::from_raw(number), Meaning::Nothing(number)));
        let all = ends.chain([(SignalKind::hangup(), Meaning::HangUp)]).chain(nothing);
        let caught = all.map(|(kind, meaning)| Ok((signal(kind)?, meaning))).collect::<io::Result<_>>()?;
        Ok(Self { caught, at_terminal: io::stdin().is_terminal() })
    }

    /// Returns when the process is told to end. What arrives until then and means nothing is said in the log.
    pub async fn next(&mut self) {
        loop {
            let arrived = std::future::poll_fn(|context| {
                // An end counts before all that came with it.
                let mut caught = self.caught.iter_mut();
                let arrived =
                    caught.find_map(|(signal, meaning)| signal.poll_recv(context).is_ready().then_some(*meaning));
                arrived.map_or(Poll::Pending, Poll::Ready)
            });
            match arrived.await {
                Meaning::End => return,
                // A terminal that is no terminal any more was closed; whoever sat there meant no daemon.
                Meaning::HangUp if self.at_terminal && !io::stdin().is_terminal() => return,
                Meaning::HangUp => warn!(
                    "SIGHUP: the configuration is not read again while the daemon runs; `systemctl restart vetwatch` does so"
                ),
                Meaning::Nothing(number) => info!("{} means nothing to vetwatch, which goes on", name(number)),
            }
        }
    }
}

fn name(number: libc::c_int) -> String {
    let known = NOTHING.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("SIGRTMIN+{}", number - libc::SIGRTMIN()), |(_, name)| (*name).to_owned())
}
