//! The ids of rows.

use std::fmt;

use serde::Serialize;

macro_rules! row_ids {
    ($($name:ident: $table:literal,)*) => {$(
        #[doc = concat!("The id of a row of `", $table, "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

row_ids! {
    PartnerId: "partner",
    CustomerId: "customer",
}
