//! Counted once: whether a record is the one sighting that stands for its traffic.

use crate::flow::codes;

codes! {
    /// Whether questions count the record by default.
    Verdict {
        Counted = 0 "counted",
        /// Another sighting stands for the same traffic.
        Duplicate = 1 "duplicate",
        /// An event, or a record without traffic.
        NotTraffic = 2 "not-traffic",
    }
}

codes! {
    /// Why.
    Reason {
        /// Entered the network here, over an external interface.
        ExternalIngress = 0 "external-ingress",
        /// Left over an external interface, and nothing exports where it entered.
        ExternalEgress = 1 "external-egress",
        /// Came over an internal interface: the router where it entered exports it.
        InternalTransit = 2 "internal-transit",
        /// Seen going out of a router that also exports it coming in.
        EgressOfIngress = 3 "egress-of-ingress",
        /// The boundary of the interface is unknown: counted, and flagged.
        UnknownBoundary = 4 "unknown-boundary",
        Event = 5 "event",
        /// Began in the device itself (in_if 0).
        Local = 6 "local",
        /// Nothing that exports sees it enter: counted where it was first seen.
        NoCoverage = 7 "no-coverage",
    }
}
