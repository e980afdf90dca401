//! Handles of the store's metrics, taken once.

use benocs_runtime::metric;
use metrics::{Counter, Gauge};

pub(crate) struct Metrics {
    pub(crate) rows: Counter,
    pub(crate) rollup_rows: Counter,
    pub(crate) duplicate_batches: Counter,
    pub(crate) commits: Counter,
    pub(crate) files: Gauge,
    pub(crate) octets: Gauge,
    /// Late or full commit outboxes: the next commit says it again.
    pub(crate) commits_deferred: Counter,
    /// Of a copy: what was not what the original has.
    pub(crate) refused: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            rows: metrics::counter!(metric::STORE_ROWS),
            rollup_rows: metrics::counter!(metric::STORE_ROLLUP_ROWS),
            duplicate_batches: metrics::counter!(metric::STORE_DUPLICATE_BATCHES),
            commits: metrics::counter!(metric::STORE_COMMITS),
            files: metrics::gauge!(metric::STORE_FILES),
            octets: metrics::gauge!(metric::STORE_OCTETS),
            commits_deferred: metrics::counter!(metric::STORE_COMMITS_DEFERRED),
            refused: metrics::counter!(metric::DROPPED, "actor" => "store", "cause" => "copy_refused"),
        }
    }
}
