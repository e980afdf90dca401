//! Handles of the receiver's metrics, taken once.

use benocs_runtime::metric;
use benocs_wire::dnstap::MESSAGE_TYPES;
use metrics::Counter;

/// What is not used, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The connection's framing; it is closed.
    Framing,
    /// The connection's frame is too long; it is closed.
    Oversize,
    /// A frame that is no dnstap message.
    Malformed,
    /// The DNS message within.
    MalformedDns,
    /// No more connections are allowed.
    Refused,
    /// No more services get an id.
    ServicesFull,
}

pub(crate) const CAUSES: [(Cause, &str); 6] = [
    (Cause::Framing, "framing"),
    (Cause::Oversize, "oversize_frame"),
    (Cause::Malformed, "malformed"),
    (Cause::MalformedDns, "malformed_dns"),
    (Cause::Refused, "connections_max"),
    (Cause::ServicesFull, "services_max"),
];

pub(crate) struct Metrics {
    /// By message type.
    frames: Vec<Counter>,
    pub answers: Counter,
    dropped: Vec<Counter>,
}

impl Metrics {
    pub fn new() -> Self {
        let frames = MESSAGE_TYPES.iter().map(|kind| metrics::counter!(metric::DNSTAP_FRAMES, "type" => *kind));
        let dropped =
            CAUSES.iter().map(|(_, cause)| metrics::counter!(metric::DROPPED, "actor" => "dnstap", "cause" => *cause));
        Self {
            frames: frames.collect(),
            answers: metrics::counter!(metric::DNSTAP_ANSWERS),
            dropped: dropped.collect(),
        }
    }

    pub fn frame(&self, kind: usize) {
        if let Some(counter) = self.frames.get(kind) {
            counter.increment(1);
        }
    }

    pub fn drop(&self, cause: Cause) {
        if let Some(counter) = self.dropped.get(cause as usize) {
            counter.increment(1);
        }
    }
}
