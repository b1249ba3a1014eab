//! Customers that are to be asked, as their rows are read.

use std::error::Error as _;
use std::time::Duration;

use tracing::error;

use super::{DueCustomer, Error, Failed, WriteTx, counted, unreadable};
use crate::attention::Reason;
use crate::schedule::PollClass;
use crate::time::Timestamp;

/// It is looked at again after this.
const AGAIN: Duration = Duration::from_mins(5);

/// A row of `customer`, to be asked.
pub(super) struct Taken {
    pub(super) row: i64,
    // Texts, unless the row is damaged: what is no text must not cost the others that were taken with it.
    pub(super) customer_id: Vec<u8>,
    pub(super) poll_class: Vec<u8>,
    pub(super) answer: Option<Vec<u8>>,
    pub(super) watch_closely_until: Option<i64>,
    pub(super) poll_failures: i64,
    pub(super) due_at: i64,
    pub(super) refused: bool,
    pub(super) left: bool,
}

impl TryFrom<Taken> for DueCustomer {
    type Error = Error;

    fn try_from(taken: Taken) -> Result<Self, Error> {
        let text = |column, bytes| String::from_utf8(bytes).map_err(unreadable("customer", taken.row, column));
        let class = PollClass::parse(&text("poll_class", taken.poll_class)?);
        Ok(Self {
            row: taken.row,
            customer_id: text("customer_id", taken.customer_id)?,
            class: class.map_err(unreadable("customer", taken.row, "poll_class"))?,
            answer: taken.answer.map(|answer| text("response", answer)).transpose()?,
            watch_closely_until: taken.watch_closely_until.map(Timestamp::from_millis),
            poll_failures: counted("customer", taken.row, "poll_failures", taken.poll_failures)?,
            due_at: Timestamp::from_millis(taken.due_at),
            refused: taken.refused,
            left: taken.left,
        })
    }
}

impl WriteTx {
    /// Those of them that can be asked. Who cannot, because its row cannot be read, is noted as failed: that costs nobody
    /// else its turn.
    pub(super) async fn askable(&mut self, taken: Vec<Taken>, now: Timestamp) -> Result<Vec<DueCustomer>, Error> {
        let (mut due, mut failures) = (Vec::new(), Vec::new());
        for taken in taken {
            let row = taken.row;
            match DueCustomer::try_from(taken) {
                Ok(customer) => due.push(customer),
                Err(error) => {
                    let error = error.while_doing("ask about a customer");
                    let error = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
                    error!("{error}");
                    failures.push(Failed {
                        row,
                        at: now.as_millis(),
                        next_poll_at: now.after(AGAIN).as_millis(),
                        error,
                        no_relationship: false,
                        blind_after_ms: i64::try_from(Reason::CustomersFailing.after().as_millis()).unwrap_or(i64::MAX),
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
