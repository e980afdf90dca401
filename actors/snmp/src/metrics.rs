//! Handles of the poller's metrics, taken once.

use benocs_runtime::metric;
use metrics::{Counter, Gauge};

pub(crate) struct Metrics {
    pub ok: Counter,
    /// Some tables could not be read to their end.
    pub partial: Counter,
    pub timeout: Counter,
    pub error: Counter,
    pub interfaces: Gauge,
}

impl Metrics {
    pub fn new() -> Self {
        let polls = |result: &'static str| metrics::counter!(metric::SNMP_POLLS, "result" => result);
        Self {
            ok: polls("ok"),
            partial: polls("partial"),
            timeout: polls("timeout"),
            error: polls("error"),
            interfaces: metrics::gauge!(metric::SNMP_INTERFACES),
        }
    }
}
