//! The simulated Partner Center.
