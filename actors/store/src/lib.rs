//! The store: flow rows and rollups in Parquet files under a manifest, and the
//! engine that answers questions from them.
//!
//!   StoreInput --> [store] --files--> manifest --snapshot--> StoreReader --> Answer
//!                                                   '--[Publisher]--> Copied --> [store, a copy] on af00

mod actor;
mod chunk;
mod compact;
mod config;
mod copy;
mod disk;
mod error;
mod file;
mod group;
mod index;
mod manifest;
mod metrics;
mod plan;
mod reader;
mod record;
mod resolve;
mod rows;
mod scan;
mod sql;
mod store;
mod tables;

pub use actor::{StoreWorker, spawn};
pub use config::Config;
pub use copy::{Holds, Publisher};
pub use disk::{Fault, Step};
pub use error::StoreError;
pub use file::Fault as FileFault;
pub use manifest::{DataFile, FileMeta, Snapshot, Span, Table};
pub use reader::StoreReader;
pub use store::Store;
