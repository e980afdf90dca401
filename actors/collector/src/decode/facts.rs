//! Columns that come from a sampled packet, for sFlow and for exported frames.

use benocs_model::flow::builder::{Element, FlowBuilder, Octets16, Slot, slot};
use benocs_model::flow::{Column, Tunnel, quality};
use benocs_wire::packet::{Carrier, Ip, Packet};

/// Columns that something better has filled already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given(u128);

impl Given {
    pub(crate) fn add(&mut self, column: Column) {
        self.0 |= 1 << column as u8;
    }

    pub(crate) fn has(self, column: Column) -> bool {
        self.0 >> (column as u8) & 1 == 1
    }
}

/// Writes a column where any of the rows has a value.
pub(crate) fn optional<R, T: Element>(
    out: &mut FlowBuilder,
    slot: Slot<T>,
    rows: &[R],
    value: impl Fn(&R) -> Option<T>,
) {
    if rows.iter().any(|row| value(row).is_some()) {
        let lane = out.lane(slot);
        for row in rows {
            lane.push_option(value(row));
        }
    }
}

/// Fills what the packets say of the next `rows.len()` rows, except the columns in `given`.
pub(crate) fn fill<R>(out: &mut FlowBuilder, rows: &[R], given: Given, packet: impl Fn(&R) -> &Packet) {
    macro_rules! column {
        ($slot:ident, $value:expr) => {
            if !given.has(slot::$slot.column()) {
                let value = $value;
                optional(out, slot::$slot, rows, |row| value(packet(row)));
            }
        };
    }
    macro_rules! outer {
        ($slot:ident, $value:expr) => {
            column!($slot, |packet: &Packet| {
                let value: fn(&Ip) -> Option<_> = $value;
                packet.outer.as_ref().and_then(value)
            })
        };
    }
    macro_rules! inner {
        ($slot:ident, $value:expr) => {
            column!($slot, |packet: &Packet| {
                let value: fn(&Ip) -> Option<_> = $value;
                packet.inner.as_ref().and_then(value)
            })
        };
    }
    column!(ETHER_TYPE, |packet: &Packet| Some(packet.ether_type));
    outer!(SRC_ADDR, |ip| Some(Octets16::new(ip.src)));
    outer!(DST_ADDR, |ip| Some(Octets16::new(ip.dst)));
    outer!(PROTO, |ip| Some(ip.proto));
    outer!(SRC_PORT, |ip| ip.ports.map(|ports| ports.0));
    outer!(DST_PORT, |ip| ip.ports.map(|ports| ports.1));
    outer!(TCP_FLAGS, |ip| ip.tcp_flags);
    outer!(TOS, |ip| Some(ip.tos));
    outer!(TTL, |ip| Some(ip.ttl));
    outer!(ICMP, |ip| ip.icmp);
    outer!(FLOW_LABEL, |ip| ip.flow_label);
    outer!(IP_ID, |ip| ip.id);
    outer!(FRAGMENT_OFFSET, |ip| ip.fragment_offset);
    column!(SRC_VLAN, |packet: &Packet| packet.vlan);
    column!(SRC_MAC, |packet: &Packet| packet.mac.map(|mac| mac.src));
    column!(DST_MAC, |packet: &Packet| packet.mac.map(|mac| mac.dst));
    column!(MPLS_1, |packet: &Packet| label(packet, 0));
    column!(MPLS_2, |packet: &Packet| label(packet, 1));
    column!(MPLS_3, |packet: &Packet| label(packet, 2));
    column!(MPLS_4, |packet: &Packet| label(packet, 3));
    column!(TUNNEL, |packet: &Packet| packet.tunnel.map(|carrier| tunnel(carrier) as u8));
    column!(TUNNEL_ID, |packet: &Packet| packet.tunnel_id);
    inner!(INNER_SRC_ADDR, |ip| Some(Octets16::new(ip.src)));
    inner!(INNER_DST_ADDR, |ip| Some(Octets16::new(ip.dst)));
    inner!(INNER_PROTO, |ip| Some(ip.proto));
    inner!(INNER_SRC_PORT, |ip| ip.ports.map(|ports| ports.0));
    inner!(INNER_DST_PORT, |ip| ip.ports.map(|ports| ports.1));
}

fn label(packet: &Packet, at: usize) -> Option<u32> {
    (at < packet.label_count).then(|| packet.labels[at])
}

fn tunnel(carrier: Carrier) -> Tunnel {
    match carrier {
        Carrier::IpInIp => Tunnel::IpInIp,
        Carrier::Gre => Tunnel::Gre,
        Carrier::Vxlan => Tunnel::Vxlan,
        Carrier::GtpU => Tunnel::GtpU,
        Carrier::Srv6 => Tunnel::Srv6,
        Carrier::Mpls => Tunnel::Mpls,
        Carrier::Geneve => Tunnel::Geneve,
        Carrier::EtherIp => Tunnel::EtherIp,
    }
}

/// Flagged where the packet ended before the ports of its outer header.
pub(crate) fn quality(packet: &Packet) -> u64 {
    let complete = packet.outer.is_some_and(|ip| {
        ip.ports.is_some() || ip.icmp.is_some() || ip.fragment_offset.is_some_and(|offset| offset != 0)
    });
    if packet.truncated && !complete { quality::HEADER_TRUNCATED } else { 0 }
}
