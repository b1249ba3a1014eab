//! Partner Center's rate limit.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use serde::{Deserialize, Serialize};

use super::duration_serde;
use super::errors::{self, ErrorShape, Reply};
use vetwatch_core::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A minute starts with the first request after the previous one ended.
    #[default]
    Fixed,
    /// The last sixty seconds. Refused requests count as well: "immediate retries count against the quota".
    Sliding,
}

/// A limit on API requests; token requests do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleSettings {
    pub requests_per_minute: u32,
    #[serde(default)]
    pub window: Window,
    #[serde(default)]
    pub retry_after: RetryAfter,
}

/// How a 429 says when to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Whole seconds, as documented.
    #[default]
    Seconds,
    /// An HTTP date.
    Date,
    /// Only in the message.
    Omitted,
}

const MINUTE: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct Throttle {
    settings: Option<ThrottleSettings>,
    began_at: Option<Timestamp>,
    used: u32,
    /// Times of the newest `requests_per_minute` requests.
    recent: VecDeque<Timestamp>,
}

impl Throttle {
    pub(super) fn of(settings: Option<ThrottleSettings>) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(super) fn settings(&self) -> Option<ThrottleSettings> {
        self.settings
    }

    /// 429 as in the throttling guidance, with `Retry-After` as configured.
    pub(super) fn answer(&self, wait_s: u64, now: Timestamp) -> Reply {
        let message = format!("Rate limit is exceeded. Try again in {wait_s} seconds.");
        let reply = errors::body(StatusCode::TOO_MANY_REQUESTS, 429, &message, ErrorShape::Gateway);
        match self.settings.map(|settings| settings.retry_after).unwrap_or_default() {
            RetryAfter::Seconds => reply.with(RETRY_AFTER, &wait_s.to_string()),
            // Rounded up to whole seconds: a date that is too early would lead to another 429.
            RetryAfter::Date => {
                reply.with(RETRY_AFTER, &duration_serde::http_date(now.after(Duration::from_secs(wait_s + 1))))
            }
            RetryAfter::Omitted => reply,
        }
    }

    /// Counts a request. If it is rejected, returns the whole seconds after which one would pass.
    pub(super) fn refuse(&mut self, now: Timestamp) -> Option<u64> {
        let ThrottleSettings { requests_per_minute: limit, window, .. } = self.settings?;
        let free_at = match window {
            Window::Fixed => {
                // A clock that was set back also starts a new minute.
                let running = self.began_at.filter(|began| *began <= now && now < began.after(MINUTE));
                let began = running.unwrap_or(now);
                if running.is_none() {
                    (self.began_at, self.used) = (Some(now), 0);
                }
                self.used = self.used.saturating_add(1);
                (self.used > limit).then(|| began.after(MINUTE))
            }
            Window::Sliding => {
                let full = self.recent.len() >= limit as usize;
                let refused = full && self.recent.front().is_none_or(|oldest| now < oldest.after(MINUTE));
                self.recent.push_back(now);
                if full {
                    self.recent.pop_front();
                }
                refused.then(|| self.recent.front().map_or(now, |oldest| oldest.after(MINUTE)))
            }
        }?;
        Some(u64::try_from(free_at.since(now).as_millis().div_ceil(1000)).unwrap_or(60).max(1))
    }
}
