//! What only the whole shows: layering, the binary as a user runs it, faults.
//! One binary, so that it is linked once.

mod captures;
mod cli;
mod corpus;
mod cut;
mod delivery;
mod import;
mod lab;
mod process;
mod remote;
mod simulated;
mod tidy;
mod transport;
