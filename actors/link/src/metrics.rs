//! Handles of the link's metrics, taken once a stream.

use benocs_runtime::metric;
use metrics::{Counter, Gauge};

use crate::frame::Kind;

pub(crate) struct Metrics {
    pub(crate) messages: Counter,
    pub(crate) repeated: Counter,
    pub(crate) connected: Gauge,
}

impl Metrics {
    /// `peer` is the other end's role; `direction` is `sent` or `received`.
    pub(crate) fn new(peer: &str, kind: Kind, direction: &'static str) -> Self {
        let labels = [("peer", peer.to_owned()), ("kind", kind.text().to_owned()), ("direction", direction.to_owned())];
        Self {
            messages: metrics::counter!(metric::LINK_BATCHES, &labels),
            repeated: metrics::counter!(metric::LINK_REPEATED, &labels),
            connected: metrics::gauge!(metric::LINK_CONNECTED, &labels),
        }
    }
}
