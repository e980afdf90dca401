//! What actors send each other. All carry batches; all are cheap to clone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::tables::TableUpdate;

/// A node's log, for ever: node (16 bits) and the Unix second of its creation (48 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub u64);

impl SourceId {
    pub fn new(node: u16, created_s: u64) -> Self {
        Self(u64::from(node) << 48 | created_s & 0xffff_ffff_ffff)
    }

    pub fn node(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// A sealed batch of flow rows: batch number `seq` of log `source`. Batches of
/// a source are numbered without gaps from 0 and travel in order.
#[derive(Clone, Debug)]
pub struct FlowBatch {
    pub source: SourceId,
    pub seq: u64,
    pub rows: RecordBatch,
}

/// First value of `ingest_seq` in batch `seq`; rows follow by one.
pub fn ingest_seq(seq: u64) -> u64 {
    seq << 16
}

/// Next batch number wanted, by source: everything before it is done.
pub type Cursors = BTreeMap<SourceId, u64>;

/// Partials of one stretch of the logs: everything between `from` (inclusive)
/// and `upto` (exclusive), by source. The store takes it whole or not at all.
#[derive(Clone, Debug)]
pub struct RollupBatch {
    pub from: Cursors,
    pub upto: Cursors,
    /// (width in ms, rows in [`crate::rollup::schema`]).
    pub partials: Vec<(i64, RecordBatch)>,
}

/// Which consumer of the logs a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    Flows,
    Rollups,
}

/// What storage has committed; flows back to whoever holds a log. Cumulative:
/// a later one says everything that an earlier one said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commit {
    pub stream: Stream,
    pub cursors: Cursors,
}

/// What the store takes.
#[derive(Clone, Debug)]
pub enum StoreInput {
    Flows(FlowBatch),
    Rollups(RollupBatch),
    Table(Arc<TableUpdate>),
    /// Of the original, where the store is a copy.
    Copied(Copied),
}

/// What a copy of the store takes from its original: whole states of that, one after the other.
#[derive(Clone, Debug)]
pub enum Copied {
    /// A small table, whole.
    Table { generation: u64, update: Arc<TableUpdate> },
    /// A data file, described in the store's own words. Nothing is shown before a commit names it.
    File { generation: u64, meta: Vec<u8>, octets: Bytes },
    /// The files of a state, all of them, and what its rollups hold.
    Commit { generation: u64, files: Vec<u64>, rollups: Cursors },
}

impl Copied {
    /// Of the original's state that it belongs to; a snapshot that has it has the earlier ones.
    pub fn generation(&self) -> u64 {
        match self {
            Copied::Table { generation, .. } | Copied::File { generation, .. } | Copied::Commit { generation, .. } => {
                *generation
            }
        }
    }
}
