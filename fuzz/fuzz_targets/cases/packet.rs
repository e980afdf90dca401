//! The head of a packet, as sFlow samples it and IPFIX exports it, from its frame and from its IP header.

use benocs_wire::packet;

pub fn run(input: &[u8]) {
    for packet in [packet::ethernet(input), packet::ip(input)] {
        assert!(packet.label_count <= packet.labels.len());
        assert!(packet.outer.is_some() || packet.inner.is_none(), "an inner header without an outer one");
    }
}
