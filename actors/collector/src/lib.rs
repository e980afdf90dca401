//! Flow records from the network: UDP sockets, IPFIX sessions over TCP and TLS,
//! decoding, the segment log, delivery.
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
mod fan_out;
mod gate;
pub mod import;
pub mod log;
mod metrics;
mod session;
mod silence;
mod socket;
mod tls;

pub use actor::{Collector, Message, SocketStatus, Status, Wiring, spawn};
pub use config::{Config, FanOutConfig, FanOutMode, SflowConfig};
pub use error::{ConfigError, LogError};
pub use fan_out::{FanOutStatus, FanOutTarget};
pub use gate::Denied;
pub use metrics::Totals;
pub use session::SessionStatus;
