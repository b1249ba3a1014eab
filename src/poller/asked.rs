//! How many answers were understood within the last hour.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
const HOUR_MINUTES: i64 = 60;

/// Counts by minute. After a start it knows of nothing: what disappears then weighs more, which is the safe side.
#[derive(Debug, Default)]
pub struct Asked(Mutex<VecDeque<(i64, u64)>>);

impl Asked {
    pub fn count(&self, now: Timestamp) {
        let minute = now.as_millis().div_euclid(MINUTE_MS);
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Both ends: the clock may have been set back.
        minutes.retain(|(at, _)| *at > minute - HOUR_MINUTES && *at <= minute);
        match minutes.back_mut() {
            Some((at, count)) if *at == minute => *count += 1,
            _ => minutes.push_back((minute, 1)),
        }
    }

    /// How many there were within the hour.
    pub fn within_hour(&self, now: Timestamp) -> u64 {
        let minute = now.as_millis().div_euclid(MINUTE_MS);
        let minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        minutes.iter().filter(|(at, _)| *at > minute - HOUR_MINUTES && *at <= minute).map(|(_, count)| count).sum()
    }
}
