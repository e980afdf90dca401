//! Counters of the web server; handles are taken once.

use benocs_runtime::metric;
use metrics::Counter;

/// Requests by class of status.
pub struct Metrics {
    classes: [Counter; 5],
}

impl Metrics {
    pub fn new() -> Self {
        let class = |name: &'static str| metrics::counter!(metric::WEB_REQUESTS, "class" => name);
        Self { classes: [class("1xx"), class("2xx"), class("3xx"), class("4xx"), class("5xx")] }
    }

    pub fn answered(&self, status: u16) {
        let index = usize::from(status / 100).clamp(1, 5) - 1;
        self.classes[index].increment(1);
    }
}
