//! BGP speaker: what each router would do with a packet, from the router itself.
//!
//! Listens, keeps sessions (RFC 4271), reads what peers announce into one
//! [`RouteTable`](benocs_model::route::RouteTable), and never announces anything.

mod actor;
mod config;
mod convert;
mod core;
mod error;
mod feed;
mod lookup;
mod metrics;
mod replica;
mod session;

pub use actor::{Speaker, SpeakerMessage};
pub use config::{Config, PeerConfig, RangeConfig};
pub use convert::events;
pub use core::{Board, PeerStatus};
pub use error::{ConfigError, LookupError};
pub use lookup::{RibAnswer, RibRoute, rib_lookup};
pub use replica::RouteReplica;
