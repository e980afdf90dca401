//! Handles of the aggregator's metrics, taken once.

use benocs_runtime::metric;
use metrics::{Counter, Gauge};

pub(crate) struct Metrics {
    pub(crate) rows: Counter,
    pub(crate) keys: Gauge,
    pub(crate) duplicate_batches: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            rows: metrics::counter!(metric::AGGREGATOR_ROWS),
            keys: metrics::gauge!(metric::AGGREGATOR_KEYS),
            duplicate_batches: metrics::counter!(metric::AGGREGATOR_DUPLICATE_BATCHES),
        }
    }
}
