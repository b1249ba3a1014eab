//! The SQLite database.
