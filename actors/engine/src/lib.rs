//! The core engine of ce00: which routers there are, by which addresses each is
//! known, whose neighbour is behind which interface, and how the network hangs together.

mod actor;
mod config;
mod graph;
pub mod path;
mod routers;

pub use actor::{Engine, Message, Status, spawn};
pub use config::{Config, Known};
pub use graph::{Network as GraphNetwork, check_file};
pub use path::{Egress, GraphPath, PathError};
