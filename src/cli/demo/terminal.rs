//! The terminal while the live screen is shown: keys arrive one by one and unseen, what was there before comes back at the
//! end.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc::_POSIX_VDISABLE;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;
use tracing::Level;

/// Shows the other screen, without cursor and without wrapping long lines.
const BEGIN: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[2J";
const END: &str = "\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";

/// The settings from before, until they are restored.
type Before = Arc<Mutex<Option<Termios>>>;

/// Restores the terminal on drop, and before a panic is told.
pub(super) struct Terminal {
    before: Before,
    keys: mpsc::UnboundedReceiver<char>,
}

impl Terminal {
    /// `None` where no such screen can be shown.
    pub(super) fn take() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal.is_empty() || terminal == "dumb");
        // A log would be written over it.
        let is_logged = tracing::enabled!(Level::WARN) && io::stderr().is_terminal();
        if dumb || is_logged || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(io::stdin()).ok()?;
        let mut keys = before.clone();
        keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        // Ctrl-C stays a signal. Ctrl-Z would leave the screen behind.
        keys.control_chars[SpecialCharacterIndices::VSUSP as usize] = _POSIX_VDISABLE;
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &keys).ok()?;
        let before = Arc::new(Mutex::new(Some(before)));
        restore_before_panic(Arc::clone(&before));
        write(BEGIN);
        Some(Self { before, keys: read_keys() })
    }

    /// Waits for a key. Never returns once the terminal is gone: a signal tells that.
    pub(super) async fn key(&mut self) -> char {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn restore(before: &Before) {
    let before = before.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        write(END);
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &before);
    }
}

/// A panic of another thread costs a connection, and the demo goes on.
fn restore_before_panic(before: Before) {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some("main") {
            restore(&before);
        }
        told(panic);
    }));
}

/// Reads keys on a thread, because such a read cannot be cancelled: it ends with the process.
fn read_keys() -> mpsc::UnboundedReceiver<char> {
    let (send, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut bytes) {
            // What begins with an escape is an arrow or a function key.
            if bytes[0] == 0x1b {
                continue;
            }
            for byte in &bytes[..count] {
                if send.send(char::from(*byte)).is_err() {
                    return;
                }
            }
        }
    });
    keys
}
