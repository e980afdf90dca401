//! One flow as an exporter knows it, and its information elements (IANA IPFIX
//! registry; the first 128 mean the same in NetFlow version 9).

use std::net::IpAddr;

use super::Put as _;

/// What a router says about one flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
    pub proto: u8,
    pub tos: u8,
    pub tcp_flags: u8,
    /// type * 256 + code.
    pub icmp: u16,
    pub in_if: u32,
    pub out_if: u32,
    /// 0 ingress, 1 egress (element 61).
    pub direction: u8,
    /// As exported: what was sampled.
    pub octets: u64,
    pub packets: u64,
    /// UTC ms.
    pub first: i64,
    pub last: i64,
    pub src_as: u32,
    pub dst_as: u32,
    pub src_mask: u8,
    pub dst_mask: u8,
    pub next_hop: IpAddr,
    pub bgp_next_hop: IpAddr,
    pub vlan: u16,
}

/// Element number and length in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(pub u16, pub u16);

pub mod element {
    pub const OCTETS: u16 = 1;
    pub const PACKETS: u16 = 2;
    pub const PROTO: u16 = 4;
    pub const TOS: u16 = 5;
    pub const TCP_FLAGS: u16 = 6;
    pub const SRC_PORT: u16 = 7;
    pub const SRC_V4: u16 = 8;
    pub const SRC_MASK_V4: u16 = 9;
    pub const IN_IF: u16 = 10;
    pub const DST_PORT: u16 = 11;
    pub const DST_V4: u16 = 12;
    pub const DST_MASK_V4: u16 = 13;
    pub const OUT_IF: u16 = 14;
    pub const NEXT_HOP_V4: u16 = 15;
    pub const SRC_AS: u16 = 16;
    pub const DST_AS: u16 = 17;
    pub const BGP_NEXT_HOP_V4: u16 = 18;
    pub const LAST_UPTIME: u16 = 21;
    pub const FIRST_UPTIME: u16 = 22;
    pub const SRC_V6: u16 = 27;
    pub const DST_V6: u16 = 28;
    pub const SRC_MASK_V6: u16 = 29;
    pub const DST_MASK_V6: u16 = 30;
    pub const ICMP_TYPE_CODE: u16 = 32;
    pub const SAMPLING_INTERVAL: u16 = 34;
    pub const SAMPLING_ALGORITHM: u16 = 35;
    pub const SAMPLER_ID: u16 = 48;
    pub const SAMPLER_MODE: u16 = 49;
    pub const SAMPLER_INTERVAL: u16 = 50;
    pub const SRC_VLAN: u16 = 58;
    pub const IP_VERSION: u16 = 60;
    pub const DIRECTION: u16 = 61;
    pub const NEXT_HOP_V6: u16 = 62;
    pub const BGP_NEXT_HOP_V6: u16 = 63;
    pub const EXPORTING_PROCESS: u16 = 144;
    pub const FIRST_S: u16 = 150;
    pub const LAST_S: u16 = 151;
    pub const FIRST_MS: u16 = 152;
    pub const LAST_MS: u16 = 153;
    pub const SYSTEM_INIT_MS: u16 = 160;
    pub const SELECTOR_ID: u16 = 302;
    pub const SELECTOR_ALGORITHM: u16 = 304;
    pub const SAMPLING_PACKET_INTERVAL: u16 = 305;
    pub const SAMPLING_PACKET_SPACE: u16 = 306;
}

/// What an element needs to know beside the flow.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Start of the device, UTC ms.
    pub boot_ms: i64,
    pub sampler_id: u32,
    /// 1 in this many packets, for vendors that say so in every record.
    pub sampling: u32,
}

fn v4(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(_) => 0,
    }
}

fn v6(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(_) => out.extend_from_slice(&[0; 16]),
        IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
    }
}

/// Milliseconds since the device started, in its 32-bit counter.
pub fn uptime(at_ms: i64, boot_ms: i64) -> u32 {
    at_ms.wrapping_sub(boot_ms) as u32
}

/// Appends the record of `flow` by `fields`; elements that it has no value for are zero.
pub fn record(out: &mut Vec<u8>, fields: &[Field], flow: &Flow, context: &Context) {
    use element::*;
    for &Field(id, len) in fields {
        let value = match id {
            SRC_V6 => {
                v6(out, flow.src);
                continue;
            }
            DST_V6 => {
                v6(out, flow.dst);
                continue;
            }
            NEXT_HOP_V6 => {
                v6(out, flow.next_hop);
                continue;
            }
            BGP_NEXT_HOP_V6 => {
                v6(out, flow.bgp_next_hop);
                continue;
            }
            OCTETS => flow.octets,
            PACKETS => flow.packets,
            PROTO => u64::from(flow.proto),
            TOS => u64::from(flow.tos),
            TCP_FLAGS => u64::from(flow.tcp_flags),
            SRC_PORT => u64::from(flow.src_port),
            DST_PORT => u64::from(flow.dst_port),
            SRC_V4 => v4(flow.src),
            DST_V4 => v4(flow.dst),
            SRC_MASK_V4 | SRC_MASK_V6 => u64::from(flow.src_mask),
            DST_MASK_V4 | DST_MASK_V6 => u64::from(flow.dst_mask),
            IN_IF => u64::from(flow.in_if),
            OUT_IF => u64::from(flow.out_if),
            NEXT_HOP_V4 => v4(flow.next_hop),
            BGP_NEXT_HOP_V4 => v4(flow.bgp_next_hop),
            SRC_AS => u64::from(flow.src_as),
            DST_AS => u64::from(flow.dst_as),
            FIRST_UPTIME => u64::from(uptime(flow.first, context.boot_ms)),
            LAST_UPTIME => u64::from(uptime(flow.last, context.boot_ms)),
            FIRST_S => (flow.first / 1000) as u64,
            LAST_S => (flow.last / 1000) as u64,
            FIRST_MS => flow.first as u64,
            LAST_MS => flow.last as u64,
            SYSTEM_INIT_MS => context.boot_ms as u64,
            ICMP_TYPE_CODE => u64::from(flow.icmp),
            IP_VERSION => {
                if flow.src.is_ipv4() {
                    4
                } else {
                    6
                }
            }
            DIRECTION => u64::from(flow.direction),
            SRC_VLAN => u64::from(flow.vlan),
            SAMPLER_ID | SELECTOR_ID => u64::from(context.sampler_id),
            SAMPLING_INTERVAL => u64::from(context.sampling),
            _ => 0,
        };
        out.uint(value, len);
    }
}

/// Octets of one record.
pub fn record_octets(fields: &[Field]) -> usize {
    fields.iter().map(|field| usize::from(field.1)).sum()
}

/// Offset of an element in its record.
pub fn offset(fields: &[Field], id: u16) -> Option<usize> {
    let position = fields.iter().position(|field| field.0 == id)?;
    Some(record_octets(&fields[..position]))
}
