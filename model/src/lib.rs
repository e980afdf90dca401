//! Facts: what a flow row, a route, an interface, a name, a question is.
//!
//! Pure data and pure functions; no sockets, no clocks, no actors. Everything
//! that two actors say to each other is a type of this crate.

pub mod address;
pub mod count;
pub mod flow;
pub mod graph;
pub mod message;
pub mod names;
pub mod network;
pub mod question;
pub mod rollup;
pub mod route;
pub mod span;
pub mod tables;

pub use address::Address;
