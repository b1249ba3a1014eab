//! Running out of file descriptors: recognized, and named as what it is, because the peer is not to blame.

use std::error::Error;
use std::fs::File;
use std::io;

/// The error, for people.
pub const NONE_LEFT: &str =
    "vetwatch itself has no file descriptor left: raise its limit (`LimitNOFILE=` of the unit, `ulimit -n`)";

/// EMFILE and ENFILE.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// True if a connection failed because no file descriptor was left. A name's lookup does not say so; then it is tried.
#[must_use]
pub fn none_left(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(is_shortage) {
            return true;
        }
        cause = error.source();
    }
    File::open("/dev/null").is_err_and(|error| is_shortage(&error))
}
