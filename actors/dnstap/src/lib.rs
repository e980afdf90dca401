//! The dnstap receiver of dns00: resolvers' answers become names of addresses.
//!
//! Resolvers connect and send Frame Streams; each answer becomes addresses, a
//! truncated client and the id of the service that was asked for. Query names
//! end here.

mod actor;
mod config;
mod connection;
mod error;
mod intake;
mod metrics;
mod namer;
mod replica;

pub use actor::{Dnstap, Message, Parts, ResolverStatus, Status, StatusReader, spawn};
pub use config::{Config, MessageKind, default_services};
pub use error::ConfigError;
pub use replica::{Replica, spawn_replica};
