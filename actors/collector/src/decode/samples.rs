//! sFlow: a row a flow sample, from its sampled header or its sampled fields.
//!
//! Octets are the frame's length on layer 2, one packet a sample, the sample's
//! own rate. Counter samples and discarded packets are counted, and are no rows.

use benocs_model::flow::builder::{FlowBuilder, Octets16, slot};
use benocs_model::flow::{Observation, SamplingSource, TimeSource};
use benocs_wire::packet::{self, Ip, Packet};
use benocs_wire::sflow::{FlowSample, Interface, Record, Sample, SampledIp};

use super::facts::{self, Given, optional};
use super::plan::fill_sampling;
use super::sampling::{Fraction, Sampling};
use super::shared::ExporterState;

/// A flow sample, read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    packet: Packet,
    octets: u64,
    layer: u8,
    in_if: Option<u32>,
    out_if: Option<u32>,
    observation: Observation,
    sampling: Sampling,
    quality: u64,
    vlans: (Option<u16>, Option<u16>),
    next_hop: Option<[u8; 16]>,
    masks: (Option<u8>, Option<u8>),
    asns: (Option<u32>, Option<u32>),
    bgp_next_hop: Option<[u8; 16]>,
    nat: Option<([u8; 16], [u8; 16])>,
}

impl Seen {
    pub(crate) fn sampling(&self) -> Sampling {
        self.sampling
    }
}

/// What the rows of a datagram share.
pub(crate) struct Agent {
    pub(crate) received_ms: i64,
    pub(crate) exporter_id: u32,
    pub(crate) exporter: Octets16,
    pub(crate) udp_source: Octets16,
    pub(crate) sub_agent: u32,
    pub(crate) quality: u64,
}

/// What became of a sample.
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, into the datagram's list; a box would be an allocation a sample"
)]
pub(crate) enum Outcome {
    Flow(Seen),
    Counters,
    Drop,
    /// Without a packet, or of a kind that is not known.
    Unknown,
    /// A record of it is cut short, and it has no packet.
    Invalid,
}

pub(crate) fn read(sample: &Sample<'_>, exporter: &ExporterState) -> Outcome {
    match sample {
        Sample::Flow(sample) => flow(sample, exporter),
        Sample::Counters(_) => Outcome::Counters,
        Sample::Drop(_) => Outcome::Drop,
        Sample::Unknown { .. } => Outcome::Unknown,
    }
}

fn flow(sample: &FlowSample<'_>, exporter: &ExporterState) -> Outcome {
    let ports = (interface(sample.input), interface(sample.output));
    let sampling = match Fraction::one_of(sample.rate.into()) {
        Some(fraction) => Sampling::new(fraction, SamplingSource::Record),
        None => exporter.fallback_of(ports),
    };
    let mut seen = Seen {
        packet: Packet::default(),
        octets: 0,
        layer: 2,
        in_if: ports.0,
        out_if: ports.1,
        observation: observation(sample),
        sampling,
        quality: 0,
        vlans: (None, None),
        next_hop: None,
        masks: (None, None),
        asns: (None, None),
        bgp_next_hop: None,
        nat: None,
    };
    let (mut found, mut failed) = (false, false);
    let mut sampled: Option<SampledIp> = None;
    let mut labels: Option<([u32; 4], usize)> = None;
    for record in sample.records() {
        match record {
            Ok(Record::Header(header)) => {
                let layer3 = match header.protocol {
                    1 => {
                        seen.packet = packet::ethernet(header.header);
                        false
                    }
                    11 | 12 => {
                        seen.packet = packet::ip(header.header);
                        true
                    }
                    13 => {
                        seen.packet = packet::mpls(header.header);
                        false
                    }
                    _ => continue,
                };
                seen.layer = if layer3 { 3 } else { 2 };
                seen.octets = header.frame_length.into();
                found = true;
            }
            Ok(Record::Ip(ip)) => sampled = Some(ip),
            Ok(Record::Ethernet(ethernet)) if !found => {
                seen.packet.mac = Some(packet::Macs { src: ethernet.src_mac, dst: ethernet.dst_mac });
                seen.packet.ether_type = ethernet.ether_type as u16;
                seen.octets = ethernet.length.into();
                found = true;
            }
            Ok(Record::Switch(switch)) => {
                let vlan = |raw: u32| u16::try_from(raw).ok().filter(|vlan| *vlan < 4096);
                seen.vlans = (vlan(switch.src_vlan), vlan(switch.dst_vlan));
            }
            Ok(Record::Router(router)) => {
                let mask = |raw: u32| u8::try_from(raw).ok().filter(|mask| *mask <= 128);
                seen.next_hop = Some(router.next_hop);
                seen.masks = (mask(router.src_mask), mask(router.dst_mask));
            }
            Ok(Record::Gateway(gateway)) => {
                // 0 is the own AS, and so is an empty path.
                let src = if gateway.src_as == 0 { gateway.own_as } else { gateway.src_as };
                seen.asns = (Some(src), Some(gateway.dst_as.unwrap_or(gateway.own_as)));
                seen.bgp_next_hop = Some(gateway.next_hop).filter(|address| *address != [0; 16]);
            }
            Ok(Record::Mpls { labels: stack, count }) => labels = Some((stack, count)),
            Ok(Record::Nat { source, destination }) => seen.nat = Some((source, destination)),
            Ok(Record::Ethernet(_) | Record::Unknown { .. }) => {}
            Err(_) => failed = true,
        }
    }
    if let Some(ip) = sampled
        && seen.packet.outer.is_none()
    {
        seen.packet.outer = Some(of_fields(&ip));
        seen.packet.ether_type = if ip.v6 { 0x86dd } else { 0x0800 };
        if !found {
            (seen.octets, seen.layer) = (ip.length.into(), 3);
        }
        found = true;
    }
    if let Some((stack, count)) = labels.filter(|_| seen.packet.label_count == 0) {
        (seen.packet.labels, seen.packet.label_count) = (stack, count);
    }
    seen.quality = sampling.quality() | facts::quality(&seen.packet);
    match (found, failed) {
        (true, _) => Outcome::Flow(seen),
        (false, true) => Outcome::Invalid,
        (false, false) => Outcome::Unknown,
    }
}

fn of_fields(ip: &SampledIp) -> Ip {
    let proto = ip.protocol as u8;
    let ports = (ip.src_port as u16, ip.dst_port as u16);
    Ip {
        v6: ip.v6,
        src: ip.src,
        dst: ip.dst,
        proto,
        tos: ip.tos as u8,
        length: ip.length,
        ports: Some(ports),
        tcp_flags: (proto == 6).then_some(ip.tcp_flags as u16),
        ..Ip::default()
    }
}

/// ifIndex; 0 is the device itself; the top two bits are the format; unknown is nothing.
fn interface(interface: Interface) -> Option<u32> {
    match interface {
        _ if interface.is_internal() => Some(0),
        _ if interface.is_unknown() => None,
        Interface { format: 0, value } => Some(value),
        Interface { format, value } => Some(u32::from(format) << 30 | value & 0x3fff_ffff),
    }
}

/// Where the sampler sits, if it says an interface.
fn observation(sample: &FlowSample<'_>) -> Observation {
    let is_source = |interface: Interface| {
        sample.source_type == 0 && interface.format == 0 && interface.value == sample.source_index
    };
    match (is_source(sample.input), is_source(sample.output)) {
        (true, false) => Observation::Ingress,
        (false, true) => Observation::Egress,
        _ => Observation::Unknown,
    }
}

/// Rows for all samples of a datagram.
pub(crate) fn fill(agent: &Agent, seen: &[Seen], out: &mut FlowBuilder) {
    let n = seen.len();
    if n == 0 {
        return;
    }
    out.lane(slot::TIME_RECEIVED).fill(n, agent.received_ms);
    out.lane(slot::FIRST).fill(n, agent.received_ms);
    out.lane(slot::LAST).fill(n, agent.received_ms);
    // A sample is exported at once: the time of receipt is its time.
    out.lane(slot::TIME_SOURCE).fill(n, TimeSource::Received as u8);
    out.lane(slot::EXPORTER_ID).fill(n, agent.exporter_id);
    out.lane(slot::EXPORTER_ADDR).fill(n, agent.exporter);
    if agent.exporter != agent.udp_source {
        out.lane(slot::UDP_SOURCE).fill(n, agent.udp_source);
    }
    out.lane(slot::OBSERVATION_DOMAIN).fill(n, agent.sub_agent);
    out.lane(slot::PACKETS).fill(n, 1);
    for sample in seen {
        out.lane(slot::OBSERVATION).push(sample.observation as u8);
        fill_sampling(1, sample.sampling, out);
        out.lane(slot::OCTETS).push(sample.octets);
        out.lane(slot::OCTETS_LAYER).push(sample.layer);
        out.lane(slot::QUALITY).push(sample.quality | agent.quality);
    }
    optional(out, slot::IN_IF, seen, |sample| sample.in_if);
    optional(out, slot::OUT_IF, seen, |sample| sample.out_if);
    let mut given = Given::default();
    optional(out, slot::SRC_VLAN, seen, |sample| sample.vlans.0.or(sample.packet.vlan));
    given.add(slot::SRC_VLAN.column());
    optional(out, slot::DST_VLAN, seen, |sample| sample.vlans.1);
    optional(out, slot::RECORD_NEXT_HOP, seen, |sample| sample.next_hop.map(Octets16::new));
    optional(out, slot::SRC_MASK, seen, |sample| sample.masks.0);
    optional(out, slot::DST_MASK, seen, |sample| sample.masks.1);
    optional(out, slot::RECORD_SRC_AS, seen, |sample| sample.asns.0);
    optional(out, slot::RECORD_DST_AS, seen, |sample| sample.asns.1);
    optional(out, slot::RECORD_BGP_NEXT_HOP, seen, |sample| sample.bgp_next_hop.map(Octets16::new));
    optional(out, slot::NAT_SRC_ADDR, seen, |sample| sample.nat.map(|nat| Octets16::new(nat.0)));
    optional(out, slot::NAT_DST_ADDR, seen, |sample| sample.nat.map(|nat| Octets16::new(nat.1)));
    facts::fill(out, seen, given, |sample| &sample.packet);
    out.commit(n);
}
