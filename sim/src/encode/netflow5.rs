//! NetFlow version 5 (Cisco; no RFC).
//!
//! | version = 5 | count | sysUptime | unix_secs | unix_nsecs | flow_sequence | engine_type | engine_id | sampling | count x 48 octets |

use std::net::IpAddr;

use super::Put as _;
use super::flow::{Flow, uptime};

pub const HEADER_OCTETS: usize = 24;
pub const RECORD_OCTETS: usize = 48;
pub const RECORDS_MAX: usize = 30;

/// `sequence` counts records before this datagram; `sampling` of 1 is announced as none.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub now_ms: i64,
    pub boot_ms: i64,
    pub sequence: u32,
    pub engine_id: u8,
    pub sampling: u32,
}

/// Up to 30 IPv4 flows.
pub fn datagram(header: &Header, flows: &[Flow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_OCTETS + flows.len() * RECORD_OCTETS);
    out.u16(5);
    out.u16(flows.len() as u16);
    out.u32(uptime(header.now_ms, header.boot_ms));
    out.u32((header.now_ms / 1000) as u32);
    out.u32((header.now_ms % 1000) as u32 * 1_000_000);
    out.u32(header.sequence);
    out.u8(0);
    out.u8(header.engine_id);
    // Two bits of mode (1 is deterministic, 2 random), fourteen of interval.
    out.u16(if header.sampling > 1 { 0x8000 | header.sampling.min(0x3fff) as u16 } else { 0 });
    for flow in flows {
        record(&mut out, flow, header.boot_ms);
    }
    out
}

fn record(out: &mut Vec<u8>, flow: &Flow, boot_ms: i64) {
    let v4 = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u32::from(v4),
        IpAddr::V6(_) => 0,
    };
    // AS numbers of four octets do not fit: AS_TRANS (RFC 6793).
    let as16 = |asn: u32| u16::try_from(asn).unwrap_or(23456);
    out.u32(v4(flow.src));
    out.u32(v4(flow.dst));
    out.u32(v4(flow.next_hop));
    out.u16(flow.in_if as u16);
    out.u16(flow.out_if as u16);
    out.u32(flow.packets.min(u64::from(u32::MAX)) as u32);
    out.u32(flow.octets.min(u64::from(u32::MAX)) as u32);
    out.u32(uptime(flow.first, boot_ms));
    out.u32(uptime(flow.last, boot_ms));
    out.u16(flow.src_port);
    // ICMP type and code travel in the destination port.
    out.u16(if flow.proto == 1 { flow.icmp } else { flow.dst_port });
    out.u8(0);
    out.u8(flow.tcp_flags);
    out.u8(flow.proto);
    out.u8(flow.tos);
    out.u16(as16(flow.src_as));
    out.u16(as16(flow.dst_as));
    out.u8(flow.src_mask);
    out.u8(flow.dst_mask);
    out.u16(0);
}
