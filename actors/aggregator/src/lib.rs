//! Rollups: windows of one and five minutes over the declared dimensions.
//!
//! [`windows`] is the sum itself, without clock or mailbox; [`cursor`] says
//! which batches of the logs are new; [`Aggregator`] is the actor around them.

mod actor;
mod config;
pub mod cursor;
mod metrics;
pub mod windows;

pub use actor::Aggregator;
pub use config::Config;
