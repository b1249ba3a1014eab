//! A queue between logging threads and the log's reader. A hanging reader, a full pipe or a journal that does not
//! respond must not delay a verdict's message.
//!
//! `tracing-appender` has such a queue, too. It counts lines and not bytes, does not report what it dropped, and prints
//! to the very streams that hang.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

/// Maximum size of the queue, not counting its last line.
const QUEUE_MAX_BYTES: usize = 1 << 20;

/// Accepts lines without blocking. Cheap to clone.
#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Vec<u8>>,
    bytes: usize,
    /// Lines dropped because the queue was full.
    dropped: u64,
    /// True while lines that were taken out are being written.
    writing: bool,
}

impl Queue {
    /// Creates a queue with a thread that passes its lines to `sink`, which may block.
    pub(super) fn into(sink: impl FnMut(Vec<Vec<u8>>) + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let reading = queue.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || reading.pass_on(sink))?;
        Ok(queue)
    }

    fn pass_on(&self, mut sink: impl FnMut(Vec<Vec<u8>>)) {
        loop {
            let (lines, dropped) = self.take();
            if dropped > 0 {
                // Queued directly after the earlier lines, now that there is room.
                warn!("{dropped} log lines were dropped: the reader of the log did not keep up");
            }
            sink(lines);
            self.lock().writing = false;
            self.0.changed.notify_all();
        }
    }

    fn take(&self) -> (Vec<Vec<u8>>, u64) {
        let waiting = self.0.changed.wait_while(self.lock(), |state| state.lines.is_empty());
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        state.bytes = 0;
        (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped))
    }

    pub(super) fn offer(&self, line: Vec<u8>) {
        let mut state = self.lock();
        if state.bytes >= QUEUE_MAX_BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push(line);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, at most for `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let unwritten = |state: &mut State| state.writing || !state.lines.is_empty();
        drop(self.0.changed.wait_timeout_while(self.lock(), patience, unwritten));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Queue {
    /// Each write is one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.offer(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_sink_that_hangs_costs_lines_and_no_time_and_is_not_waited_for_at_the_end() {
        let (release, hangs) = mpsc::channel::<()>();
        let (sender, written) = mpsc::channel();
        let (taken, is_taken) = mpsc::channel();
        let queue = Queue::into(move |lines| {
            let _ = taken.send(());
            let _ = hangs.recv();
            let _ = sender.send(lines.len());
        })
        .unwrap();
        queue.offer(b"the first".to_vec());
        is_taken.recv().unwrap();
        let line = vec![b'x'; QUEUE_MAX_BYTES / 8];
        (0..100).for_each(|_| queue.offer(line.clone()));
        assert_eq!(queue.lock().dropped, 92, "what is queued is bounded");
        queue.flush(Duration::from_millis(10));
        drop(release);
        queue.flush(Duration::from_mins(1));
        assert!(queue.lock().lines.is_empty());
        assert_eq!(written.try_iter().sum::<usize>(), 1 + 8, "what was taken is written");
    }
}
