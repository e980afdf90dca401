//! Quality bits of a flow row. A record that lacks something is kept and says
//! so here; the numbers are frozen.

macro_rules! bits {
    ($($(#[$doc:meta])* $name:ident = $bit:literal $text:literal),* $(,)?) => {
        $($(#[$doc])* pub const $name: u64 = 1 << $bit;)*

        /// Every bit with its name in the filter language and the API.
        pub const ALL: &[(u64, &str)] = &[$(($name, $text)),*];
    };
}

bits! {
    /// No sampling rate from record, options, header or configuration: counted as 1:1.
    SAMPLING_UNKNOWN = 0 "sampling_unknown",
    /// No usable time in the record: time of receipt.
    TIME_MISSING = 1 "time_missing",
    /// Exported time is before 2000, more than a day ahead or behind: time of receipt.
    TIME_IMPLAUSIBLE = 2 "time_implausible",
    /// `first` is after `last`, or the flow is longer than the exporter's active time-out: shortened.
    SPAN_CLAMPED = 3 "span_clamped",
    /// Decoded from the buffer after its template came.
    TEMPLATE_LATE = 4 "template_late",
    /// Neither octets nor packets in the record.
    COUNTERS_MISSING = 5 "counters_missing",
    /// A sampled header that ends before the transport header.
    HEADER_TRUNCATED = 6 "header_truncated",
    INTERFACE_UNKNOWN = 7 "interface_unknown",
    /// Neither external nor internal: it is counted.
    BOUNDARY_UNKNOWN = 8 "boundary_unknown",
    SRC_ROUTE_MISSING = 9 "src_route_missing",
    DST_ROUTE_MISSING = 10 "dst_route_missing",
    /// Another router's table, or the record itself, named the route.
    ROUTE_FALLBACK = 11 "route_fallback",
    /// The route changed between the flow's start and its join.
    ROUTE_CHANGED = 12 "route_changed",
    /// The route is stale (graceful restart, or a session that is down).
    ROUTE_STALE = 13 "route_stale",
    EGRESS_UNKNOWN = 14 "egress_unknown",
    /// Several equal paths: one of them is shown.
    EGRESS_AMBIGUOUS = 15 "egress_ambiguous",
    /// The neighbour was taken from the reverse path, not from the interface.
    HANDOVER_GUESSED = 16 "handover_guessed",
    /// Several names are likely for the address.
    SERVICE_AMBIGUOUS = 17 "service_ambiguous",
    /// The record is an event (NAT, firewall), not a flow.
    EVENT = 18 "event",
    /// Datagrams of this exporter were lost just before this record.
    AFTER_GAP = 19 "after_gap",
}
