//! The machine that the daemon believes to run on: time passes faster, its clock can be set, it can be suspended, and
//! its disk can fail. `tests/tools/chaos.c` stands between the daemon and the C library and reads all of this from one
//! page of memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use vetwatch::time::{Clock, Timestamp};

use crate::process::now;

/// A field of the page.
#[derive(Clone, Copy)]
enum Field {
    Began,
    Speed,
    Set,
    Asleep,
    Error,
    Calls,
    Share,
    Failed,
    StopPort,
}

/// Which calls of the disk fail.
pub(crate) mod calls {
    pub(crate) const READ: i64 = 1;
    pub(crate) const WRITE: i64 = 2;
    pub(crate) const SYNC: i64 = 4;
    pub(crate) const RESIZE: i64 = 8;
}

/// As a [`Clock`] it tells the right time, which Partner Center and the receivers have.
pub(crate) struct Machine {
    page: File,
    began: Duration,
    speed: i64,
    asleep: AtomicI64,
    /// The library to be loaded before the C library, and its page.
    pub(crate) environment: [(&'static str, PathBuf); 2],
}

impl Machine {
    /// Compiles the library into this folder.
    pub(crate) fn new(folder: &Path, speed: u32) -> Self {
        let (library, path) = (folder.join("chaos.so"), folder.join("chaos.page"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/chaos.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().expect("a C compiler").success(), "{compiler:?}");
        let page = File::create_new(&path).expect("a file");
        page.set_len(4096).expect("a page");
        let environment = [("LD_PRELOAD", library), ("CHAOS_PAGE", path)];
        let machine =
            Self { page, began: monotonic(), speed: i64::from(speed), asleep: AtomicI64::new(0), environment };
        machine.put(Field::Began, nanoseconds(machine.began));
        machine.put(Field::Speed, machine.speed);
        machine
    }

    fn put(&self, field: Field, value: i64) {
        self.page.write_all_at(&value.to_ne_bytes(), field as u64 * 8).expect("a page");
    }

    /// Time passes while the machine is suspended.
    pub(crate) fn suspend(&self, time: Duration) {
        let asleep = self.asleep.fetch_add(nanoseconds(time), Ordering::SeqCst) + nanoseconds(time);
        self.put(Field::Asleep, asleep);
    }

    /// The daemon's clock is wrong by so many seconds from now on.
    pub(crate) fn set_clock(&self, seconds: i64) {
        self.put(Field::Set, seconds * 1_000_000_000);
    }

    /// From now on, a share of these calls fails.
    pub(crate) fn fail(&self, error: Errno, calls: i64, share: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "at most a million")]
        self.put(Field::Share, (share * 1_000_000.0) as i64);
        self.put(Field::Calls, calls);
        self.put(Field::Error, error as i64);
    }

    /// Stops the process (SIGSTOP) right before it connects to this port, once.
    pub(crate) fn stop_before_connecting_to(&self, port: u16) {
        self.put(Field::StopPort, i64::from(port));
    }

    pub(crate) fn mend(&self) {
        self.put(Field::Error, 0);
    }

    /// How many calls have failed.
    pub(crate) fn failed(&self) -> i64 {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, Field::Failed as u64 * 8).expect("a page");
        i64::from_ne_bytes(bytes)
    }

    /// How long it has run, without the time it was suspended.
    pub(crate) fn ran(&self) -> Duration {
        (monotonic().saturating_sub(self.began)) * u32::try_from(self.speed).expect("a small number")
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        let more =
            nanoseconds(monotonic().saturating_sub(self.began)) * (self.speed - 1) + self.asleep.load(Ordering::SeqCst);
        now().after(Duration::from_nanos(more.unsigned_abs()))
    }

    fn up(&self) -> Duration {
        self.ran() + Duration::from_nanos(self.asleep.load(Ordering::SeqCst).unsigned_abs())
    }
}

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").into()
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).expect("less than three centuries")
}
