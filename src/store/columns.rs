//! Columns that `query_as!` converts: sqlx does not know the types of the rules.

use crate::time::Timestamp;

/// A time that is never null: `since as "since!: Time"`.
#[derive(sqlx::Decode)]
#[sqlx(transparent)]
pub(super) struct Time(i64);

/// A time that may be null; the conversion is to an option: `since as "since!: NullableTime"`.
#[derive(sqlx::Decode)]
#[sqlx(transparent)]
pub(super) struct NullableTime(Option<i64>);

/// A number of failures or attempts. One that cannot be counts as the largest.
#[derive(sqlx::Decode)]
#[sqlx(transparent)]
pub(super) struct Count(i64);

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self::from_millis(time.0)
    }
}

impl From<NullableTime> for Option<Timestamp> {
    fn from(time: NullableTime) -> Self {
        time.0.map(Timestamp::from_millis)
    }
}

impl From<Count> for u32 {
    fn from(count: Count) -> Self {
        Self::try_from(count.0).unwrap_or(Self::MAX)
    }
}
