//! The core engine of ce00: which routers there are, by which addresses each is
//! known, and whose neighbour is behind which interface.

mod actor;
mod config;
mod routers;

pub use actor::{Engine, Message, Status, spawn};
pub use config::{Config, Known};
