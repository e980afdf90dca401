//! The join: every flow row learns whose it is, where it enters and leaves, which
//! service it serves, and whether it is the sighting that counts.
//!
//! [`reference`] indexes the small tables, [`coverage`] learns who exports what, [`exits`] which
//! interface hides behind a next hop,
//! [`join`] does the work a batch at a time, [`hold`] lets late names arrive;
//! [`Enricher`] is the actor around them.

mod actor;
mod config;
pub mod coverage;
pub mod exits;
pub mod hold;
pub mod join;
mod metrics;
pub mod reference;

pub use actor::Enricher;
pub use config::{Config, CoverageConfig};
