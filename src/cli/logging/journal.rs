//! The journal's native protocol: each line is a datagram of fields, so that `journalctl` finds a delivery by
//! `F_DELIVERY_ID=`.
//!
//! Not `tracing-journald`: it sends in the logging thread, and waits for as long as the journal does not read.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::queue::Queue;
use crate::cli::failure::error_chain;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Keeps datagrams within their limit; longer values are not worth reading.
const VALUE_MAX_BYTES: usize = 16 << 10;

/// Sends events to the journal. Spans are ignored.
pub(super) struct Journal(Queue);

impl Journal {
    /// Fails if there is no journal.
    pub(super) fn connect() -> io::Result<(Self, Queue)> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        drop(socket);
        let socket = UnixDatagram::unbound()?;
        let queue = Queue::into(move |entries| {
            for entry in entries {
                // Not connected, so that a restarted journal is found again.
                let _ = socket.send_to(&entry, SOCKET);
            }
        })?;
        Ok((Self(queue.clone()), queue))
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.offer(entry(event));
    }
}

fn entry(event: &Event<'_>) -> Vec<u8> {
    let mut fields = Fields(Vec::with_capacity(256));
    let priority = match *event.metadata().level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    };
    fields.put("PRIORITY", priority);
    fields.put("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    fields.put("TARGET", event.metadata().target());
    event.record(&mut fields);
    fields.0
}

struct Fields(Vec<u8>);

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(VALUE_MAX_BYTES)];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Otherwise the second line would be a field.
            self.0.push(b'\n');
            self.0.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put("MESSAGE", value),
            // The location in a library's source.
            name if name.starts_with("log.") => {}
            name => {
                let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
                self.put(&format!("F_{}", name.chars().map(upper).collect::<String>()), value);
            }
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_str(field, &error_chain(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_line_is_fields_and_no_value_makes_another() {
        let (sender, receiver) = mpsc::channel();
        let queue = Queue::into(move |entries| sender.send(entries).unwrap()).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal(queue));
        tracing::subscriber::with_default(subscriber, || {
            let error = io::Error::other("the disk is full");
            tracing::warn!(error = &error as &dyn Error, delivery.id = 7, name = "a\nPRIORITY=0", "crm: it failed");
        });
        let entry = receiver.recv().unwrap().concat();
        let text = String::from_utf8_lossy(&entry);
        for line in ["PRIORITY=4", "SYSLOG_IDENTIFIER=vetwatch", "MESSAGE=crm: it failed", "F_DELIVERY_ID=7"] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(text.contains("\nF_ERROR=the disk is full\n"), "{text}");
        assert!(text.contains("\nF_NAME\n\u{c}\0\0\0\0\0\0\0a\nPRIORITY=0\n"), "{text:?}");
    }
}
