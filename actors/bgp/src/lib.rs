//! BGP speaker: what each router would do with a packet, from the router itself.
//!
//! Listens, keeps sessions (RFC 4271), reads what peers announce into one
//! [`RouteTable`](benocs_model::route::RouteTable), and announces nothing but what `[[bgp.announce]]` names.

mod actor;
mod announce;
mod bmp;
mod config;
mod convert;
mod core;
mod error;
mod feed;
mod file;
mod guests;
mod history;
mod link_state;
mod lookup;
mod metrics;
mod replica;
mod rules;
mod saved;
mod session;
mod vrf;

pub use actor::{Speaker, SpeakerMessage};
pub use bmp::Config as BmpConfig;
pub use config::{AnnounceConfig, Config, PeerConfig, RangeConfig, VrfConfig};
pub use convert::{Converter, Lost, events};
pub use core::{Board, PeerStatus};
pub use error::{ConfigError, LookupError};
pub use file::{DumpSummary, FileStep, ImportSummary, dump_mrt, import_mrt};
pub use history::{Happened, History, HistoryAnswer, HistoryConfig, HistoryReader};
pub use lookup::{RibAnswer, RibRoute, rib_lookup, rib_lookup_in};
pub use replica::RouteReplica;
pub use rules::{RuleStatus, Rules};
pub use vrf::Imports;
