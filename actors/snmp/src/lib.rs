//! The SNMP poller of ce00: which interfaces the routers have, what they are
//! called, how fast they are, and what is behind them.

mod actor;
mod classify;
mod config;
mod error;
mod inventory;
mod metrics;
mod poll;
mod versions;

pub use actor::{InterfaceStatus, Message, Parts, Poller, Snmp, Status, StatusReader, SystemInfo, TargetStatus, spawn};
pub use classify::{Class, Classifier, Field, Rule, Subject};
pub use config::{Config, Secret, StaticInterface, Target};
pub use error::ConfigError;
pub use inventory::{Inventory, Polled};
pub use versions::{Observed, Versions};
