//! sFlow version 5 (sflow.org, sflow_version_5.txt): flow samples with the raw
//! header of an Ethernet frame, and interface counters.
//!
//! | version = 5 | agent type | agent | sub-agent | sequence | uptime ms | samples | sample | ... |

use std::net::{IpAddr, Ipv4Addr};

use super::flow::Flow;
use super::{Put as _, set_u16, set_u32};

/// Ethernet header and frame check sequence of a frame without tag.
pub const FRAME_OVERHEAD: u32 = 18;
const FCS: u32 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub agent: Ipv4Addr,
    pub sub_agent: u32,
    /// Counts datagrams.
    pub sequence: u32,
    pub uptime_ms: u32,
}

/// A sampled packet of `flow`, of `packet_octets` from its IP header on.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub flow: &'a Flow,
    pub packet_octets: u32,
    /// Counts samples of the source.
    pub sequence: u32,
    pub rate: u32,
    pub pool: u32,
}

/// Standard counters of an interface.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub if_index: u32,
    pub speed: u64,
    pub in_octets: u64,
    pub in_packets: u32,
    pub out_octets: u64,
    pub out_packets: u32,
    pub sequence: u32,
}

pub fn datagram(header: &Header, samples: &[Sample<'_>], counters: &[Counters]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1472);
    out.u32(5);
    out.u32(1);
    out.extend_from_slice(&header.agent.octets());
    out.u32(header.sub_agent);
    out.u32(header.sequence);
    out.u32(header.uptime_ms);
    out.u32((samples.len() + counters.len()) as u32);
    for sample in samples {
        flow_sample(&mut out, sample);
    }
    for counter in counters {
        counter_sample(&mut out, counter);
    }
    out
}

fn flow_sample(out: &mut Vec<u8>, sample: &Sample<'_>) {
    let flow = sample.flow;
    out.u32(1);
    let start = begin(out);
    out.u32(sample.sequence);
    // Source: type 0, ifIndex.
    out.u32(flow.in_if & 0x00ff_ffff);
    out.u32(sample.rate);
    out.u32(sample.pool);
    out.u32(0);
    out.u32(flow.in_if);
    out.u32(flow.out_if);
    out.u32(2);

    out.u32(1);
    let raw = begin(out);
    out.u32(1);
    out.u32(sample.packet_octets + FRAME_OVERHEAD);
    out.u32(FCS);
    let frame = frame(flow, sample.packet_octets);
    out.u32(frame.len() as u32);
    out.extend_from_slice(&frame);
    pad(out);
    end(out, raw);

    // Extended switch: VLANs and priorities.
    out.u32(1001);
    let switch = begin(out);
    out.u32(u32::from(flow.vlan));
    out.u32(0);
    out.u32(u32::from(flow.vlan));
    out.u32(0);
    end(out, switch);
    end(out, start);
}

fn counter_sample(out: &mut Vec<u8>, counters: &Counters) {
    out.u32(2);
    let start = begin(out);
    out.u32(counters.sequence);
    out.u32(counters.if_index & 0x00ff_ffff);
    out.u32(1);
    out.u32(1);
    let record = begin(out);
    out.u32(counters.if_index);
    out.u32(6);
    out.u64(counters.speed);
    out.u32(1);
    out.u32(3);
    out.u64(counters.in_octets);
    out.u32(counters.in_packets);
    for _ in 0..5 {
        out.u32(0);
    }
    out.u64(counters.out_octets);
    out.u32(counters.out_packets);
    for _ in 0..5 {
        out.u32(0);
    }
    end(out, record);
    end(out, start);
}

fn begin(out: &mut Vec<u8>) -> usize {
    out.u32(0);
    out.len()
}

fn end(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as u32;
    set_u32(out, start - 4, length);
}

fn pad(out: &mut Vec<u8>) {
    while !out.len().is_multiple_of(4) {
        out.u8(0);
    }
}

/// The first octets of the frame, down to the transport header.
fn frame(flow: &Flow, packet_octets: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(80);
    out.extend_from_slice(&[0x02, 0, 0, 0, 0, (flow.out_if & 0xff) as u8]);
    out.extend_from_slice(&[0x02, 0, 0, 0, 1, (flow.in_if & 0xff) as u8]);
    match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            out.u16(0x0800);
            let ip = out.len();
            out.u8(0x45);
            out.u8(flow.tos);
            out.u16(packet_octets.min(65_535) as u16);
            out.u16(0);
            out.u16(0x4000);
            out.u8(57);
            out.u8(flow.proto);
            out.u16(0);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
            let sum = checksum(&out[ip..]);
            set_u16(&mut out, ip + 10, sum);
        }
        (src, dst) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            out.u16(0x86dd);
            out.u32(6 << 28 | u32::from(flow.tos) << 20);
            out.u16(packet_octets.saturating_sub(40).min(65_535) as u16);
            out.u8(flow.proto);
            out.u8(57);
            out.extend_from_slice(&v6(src));
            out.extend_from_slice(&v6(dst));
        }
    }
    match flow.proto {
        6 => {
            out.u16(flow.src_port);
            out.u16(flow.dst_port);
            out.u32(1);
            out.u32(1);
            out.u8(0x50);
            out.u8(flow.tcp_flags);
            out.u16(0xffff);
            out.u32(0);
        }
        17 => {
            out.u16(flow.src_port);
            out.u16(flow.dst_port);
            out.u16(packet_octets.saturating_sub(20).min(65_535) as u16);
            out.u16(0);
        }
        _ => {
            out.u16(flow.icmp);
            out.u16(0);
            out.u32(0);
        }
    }
    out
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
