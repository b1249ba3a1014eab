//! Reading the rows of customers that are due.

use std::error::Error as _;
use std::time::Duration;

use tracing::error;

use super::{CustomerId, DueCustomer, Error, Failed, WriteTx, to_count, unreadable};
use crate::schedule::PollClass;
use crate::time::Timestamp;
use vetwatch_core::reason::Reason;

/// When a customer with an unreadable row is polled again.
const UNREADABLE_ROW_RETRY: Duration = Duration::from_mins(5);

/// A row of `customer` that is due.
pub(super) struct DueRow {
    pub(super) row: CustomerId,
    // Bytes, because a damaged row that is not UTF-8 must not fail the other rows of the query.
    pub(super) customer_id: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) poll_class: Vec<u8>,
    pub(super) answer: Option<Vec<u8>>,
    pub(super) watch_closely_until: Option<i64>,
    pub(super) poll_failures: i64,
    pub(super) due_at: i64,
    pub(super) refused: bool,
    pub(super) left: bool,
}

impl TryFrom<DueRow> for DueCustomer {
    type Error = Error;

    fn try_from(due_row: DueRow) -> Result<Self, Error> {
        let text = |column, bytes| String::from_utf8(bytes).map_err(unreadable("customer", due_row.row, column));
        let class = PollClass::parse(&text("poll_class", due_row.poll_class)?);
        Ok(Self {
            row: due_row.row,
            customer_id: text("customer_id", due_row.customer_id)?,
            // Not a fact: one that cannot be read holds nothing up.
            name: String::from_utf8_lossy(&due_row.name).into_owned(),
            class: class.map_err(unreadable("customer", due_row.row, "poll_class"))?,
            answer: due_row.answer.map(|answer| text("response", answer)).transpose()?,
            watch_closely_until: due_row.watch_closely_until.map(Timestamp::from_millis),
            poll_failures: to_count("customer", due_row.row, "poll_failures", due_row.poll_failures)?,
            due_at: Timestamp::from_millis(due_row.due_at),
            refused: due_row.refused,
            left: due_row.left,
        })
    }
}

impl WriteTx {
    /// Parses the rows. An unreadable row is recorded as a failed poll, so that it does not hold up the others.
    pub(super) async fn parse_due(&mut self, rows: Vec<DueRow>, now: Timestamp) -> Result<Vec<DueCustomer>, Error> {
        let (mut due, mut failures) = (Vec::new(), Vec::new());
        for due_row in rows {
            let row = due_row.row;
            match DueCustomer::try_from(due_row) {
                Ok(customer) => due.push(customer),
                Err(error) => {
                    let error = error.while_doing("ask about a customer");
                    let error = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
                    error!("{error}");
                    failures.push(Failed {
                        row,
                        at: now.as_millis(),
                        next_poll_at: now.after(UNREADABLE_ROW_RETRY).as_millis(),
                        error,
                        no_relationship: false,
                        failing_after_ms: i64::try_from(Reason::CustomersFailing.after().as_millis())
                            .unwrap_or(i64::MAX),
                    });
                }
            }
        }
        if !failures.is_empty() {
            self.failed(&failures).await?;
        }
        Ok(due)
    }
}
