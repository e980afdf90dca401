//! Flow records from the network: UDP sockets, decoding, the segment log, delivery.
//!
//! What is in the log is acknowledged; what storage has committed leaves it. In
//! between, every batch is delivered at least once, in order, under a number that
//! is unique for ever.

mod actor;
pub mod bench;
mod config;
pub mod decode;
mod error;
mod exporters;
pub mod log;
mod metrics;
mod socket;

pub use actor::{Collector, Message, Status, Wiring, spawn};
pub use config::{Config, SflowConfig};
pub use error::LogError;
pub use metrics::Totals;
