//! Settings of the aggregator.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time that sums wait before they go to the store, in milliseconds.
    pub flush_ms: u64,
    /// Sums kept at most, in rollup rows (a window's key each); more are sent to the store at once.
    pub keys_max: usize,
    /// Bound of the mailbox, in batches.
    pub mailbox_batches: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { flush_ms: 5_000, keys_max: 500_000, mailbox_batches: 64 }
    }
}
