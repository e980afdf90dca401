//! Role to role: Arrow Flight over mutual TLS.
//!
//!   Outbox --> [client] ==DoExchange, one stream a kind==> [server] --> Outbox
//!              Commits <== Welcome, Commit on the same stream ==  Commits
//!
//! A mailbox of the client stands for the actor on the other machine, with the
//! same back-pressure: the server reads on when its own mailbox has room, HTTP/2
//! flow control does the rest. After a cut the receiver says what it wants next
//! and the sender begins there: from its log ([`Client::flows`]), from what it
//! keeps until storage has committed it ([`Client::store`], [`Client::joined`]),
//! or with a snapshot ([`Client::routes`], [`Client::names`], [`Client::tables`];
//! [`Client::copy`] leaves out the files that the receiver holds).
//! So nothing is lost and nothing comes twice, whichever end was restarted.

mod client;
mod config;
mod frame;
mod identity;
mod metrics;
mod server;
mod window;

pub use client::{Client, ClientHandle, Snapshot, Status};
pub use config::Config;
pub use frame::{Kind, Message, VERSION, Wanted};
pub use identity::{Identity, IdentityError};
pub use server::{Allow, CopySink, Server, ServerHandle, Sinks};
