//! Actors: the only crate that names actix, and (in [`state`]) sled.
//!
//!   Outbox<M> --bounded queue--> [Worker on a named thread] --Outbox--> ...
//!
//! A [`Worker`] handles one message at a time on an actix arbiter of its own.
//! Its mailbox is bounded; a producer either blocks ([`Outbox::send`],
//! [`Outbox::send_blocking`]) or is told that it is full ([`Outbox::offer`]).
//! A drain is the last message: what was queued before it is handled, then
//! [`Worker::drain`] runs, then the worker is gone. A panic is counted; a worker
//! that may be rebuilt is, with backoff; one that may not ends the process.

pub mod admin;
pub mod metric;
mod outbox;
pub mod state;
mod watch;
mod worker;

pub use outbox::{Closed, Full, Outbox};
pub use watch::{Fatal, fatal_channel};
pub use worker::{Context, Handle, Restart, Settings, Worker, spawn, spawn_on};

/// Runs the process's future; [`spawn`] works inside it.
pub fn block_on<F: Future>(future: F) -> F::Output {
    actix::System::new().block_on(future)
}
