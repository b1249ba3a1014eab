//! What a message says. Pure.
