//! sFlow version 5 (sflow.org, "sFlow Version 5", July 2004).
//!
//! | version u32 = 5 | agent address: type u32, 4 or 16 octets | sub-agent u32 | sequence u32 |
//! | uptime u32 ms | samples u32 | samples: format u32, length u32, body |
//! format: enterprise (20 bits), number (12 bits). Everything is XDR: units of four octets.
//!
//! Versions 2 and 4 have no sub-agent and no lengths; what differs in them is in [`old`].

mod old;

use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u32, be_u64};

use crate::error::{Why, WireError, located};

pub const VERSION: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// 2, 4 or 5.
    pub version: u32,
    /// Mapped into IPv6 where it is IPv4; zeros where the agent does not know its own.
    pub agent: [u8; 16],
    pub sub_agent: u32,
    pub sequence: u32,
    pub uptime_ms: u32,
    pub sample_count: u32,
    samples: &'a [u8],
}

impl<'a> Datagram<'a> {
    pub fn samples(&self) -> Samples<'a> {
        Samples {
            whole: self.samples,
            rest: self.samples,
            left: self.sample_count,
            version: self.version,
            failed: None,
        }
    }
}

pub fn parse(input: &[u8]) -> Result<Datagram<'_>, WireError> {
    let (rest, version) = located(input, "sflow version", be_u32(input))?;
    if !matches!(version, 2 | 4 | VERSION) {
        return Err(WireError { offset: 0, reading: "sflow version", why: Why::Value(version) });
    }
    let (rest, agent) = address(input, rest)?;
    let (rest, sub_agent) = match version {
        VERSION => located(input, "sflow header", be_u32(rest))?,
        _ => (rest, 0),
    };
    let (samples, (sequence, uptime_ms, sample_count)) =
        located(input, "sflow header", (be_u32, be_u32, be_u32).parse(rest))?;
    Ok(Datagram { version, agent, sub_agent, sequence, uptime_ms, sample_count, samples })
}

/// Section 5.3, `address`: type 0 is unknown, 1 IPv4, 2 IPv6.
fn address<'a>(whole: &'a [u8], input: &'a [u8]) -> Result<(&'a [u8], [u8; 16]), WireError> {
    let (rest, kind) = located(whole, "sflow address type", be_u32(input))?;
    match kind {
        0 => Ok((rest, [0; 16])),
        1 => {
            let (rest, octets) = located(whole, "sflow address", take(4usize)(rest))?;
            Ok((rest, mapped(octets)))
        }
        2 => {
            let (rest, octets) = located(whole, "sflow address", take(16usize)(rest))?;
            Ok((rest, octets.first_chunk().copied().unwrap_or_default()))
        }
        _ => Err(WireError { offset: whole.len() - input.len(), reading: "sflow address type", why: Why::Value(kind) }),
    }
}

fn mapped(octets: &[u8]) -> [u8; 16] {
    let mut address = [0; 16];
    if let [a, b, c, d] = *octets {
        address[10..].copy_from_slice(&[255, 255, a, b, c, d]);
    }
    address
}

/// Samples of a datagram; ends after the first that is cut short.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
    left: u32,
    version: u32,
    /// Why nothing can follow the sample that was given last.
    failed: Option<WireError>,
}

#[derive(Clone, Debug)]
pub enum Sample<'a> {
    Flow(FlowSample<'a>),
    Counters(CounterSample<'a>),
    /// Section "discarded packets" (sflow_drops): format 5.
    Drop(DropSample<'a>),
    Unknown {
        format: u32,
        body: &'a [u8],
    },
}

impl<'a> Iterator for Samples<'a> {
    type Item = Result<Sample<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.version != VERSION {
            return Some(old::sample(self));
        }
        let (format, body) = match framed(self.whole, &mut self.rest, "sflow sample") {
            Ok(sample) => sample,
            Err(error) => {
                self.left = 0;
                return Some(Err(error));
            }
        };
        Some(match format {
            1 => flow_sample(body, false).map(Sample::Flow),
            2 => counter_sample(body, false).map(Sample::Counters),
            3 => flow_sample(body, true).map(Sample::Flow),
            4 => counter_sample(body, true).map(Sample::Counters),
            5 => drop_sample(body).map(Sample::Drop),
            _ => Ok(Sample::Unknown { format, body }),
        })
    }
}

/// | format u32 | length u32 | body |
fn framed<'a>(whole: &'a [u8], input: &mut &'a [u8], reading: &'static str) -> Result<(u32, &'a [u8]), WireError> {
    let (rest, (format, length)) = located(whole, reading, (be_u32, be_u32).parse(*input))?;
    let (rest, body) = located(whole, reading, take(length as usize)(rest))?;
    *input = rest;
    Ok((format, body))
}

/// An interface as a sample names it: format 0 is an ifIndex, 1 the reason of a
/// discard, 2 a number of interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    pub format: u8,
    pub value: u32,
}

impl Interface {
    /// The device itself, as source or destination.
    const INTERNAL: u32 = 0x3fff_ffff;

    fn compact(raw: u32) -> Self {
        Self { format: (raw >> 30) as u8, value: raw & Self::INTERNAL }
    }

    fn expanded(format: u32, value: u32) -> Self {
        Self { format: (format & 3) as u8, value }
    }

    pub fn is_internal(self) -> bool {
        self.format == 0 && (self.value == Self::INTERNAL || self.value == u32::MAX)
    }

    pub fn is_unknown(self) -> bool {
        self.format == 0 && self.value == 0
    }
}

#[derive(Clone, Debug)]
pub struct FlowSample<'a> {
    pub sequence: u32,
    /// 0 ifIndex, 1 VLAN, 2 physical entity.
    pub source_type: u32,
    pub source_index: u32,
    /// One of so many packets.
    pub rate: u32,
    pub pool: u32,
    pub drops: u32,
    pub input: Interface,
    pub output: Interface,
    records: Records<'a>,
}

impl<'a> FlowSample<'a> {
    pub fn records(&self) -> Records<'a> {
        self.records.clone()
    }
}

fn source_id<'a>(whole: &'a [u8], input: &'a [u8], expanded: bool) -> Result<(&'a [u8], (u32, u32)), WireError> {
    if expanded {
        return located(whole, "sflow source id", (be_u32, be_u32).parse(input));
    }
    let (rest, raw) = located(whole, "sflow source id", be_u32(input))?;
    Ok((rest, (raw >> 24, raw & 0x00ff_ffff)))
}

fn flow_sample(body: &[u8], expanded: bool) -> Result<FlowSample<'_>, WireError> {
    let (rest, sequence) = located(body, "sflow flow sample", be_u32(body))?;
    let (rest, (source_type, source_index)) = source_id(body, rest, expanded)?;
    let (rest, (rate, pool, drops)) = located(body, "sflow flow sample", (be_u32, be_u32, be_u32).parse(rest))?;
    let (rest, input, output) = if expanded {
        let (rest, (input_format, input, output_format, output)) =
            located(body, "sflow interfaces", (be_u32, be_u32, be_u32, be_u32).parse(rest))?;
        (rest, Interface::expanded(input_format, input), Interface::expanded(output_format, output))
    } else {
        let (rest, (input, output)) = located(body, "sflow interfaces", (be_u32, be_u32).parse(rest))?;
        (rest, Interface::compact(input), Interface::compact(output))
    };
    let records = records(body, rest)?;
    Ok(FlowSample { sequence, source_type, source_index, rate, pool, drops, input, output, records })
}

/// A packet that the device discarded, with the reason.
#[derive(Clone, Copy, Debug)]
pub struct DropSample<'a> {
    pub sequence: u32,
    pub source_type: u32,
    pub source_index: u32,
    pub drops: u32,
    pub input: u32,
    pub output: u32,
    pub reason: u32,
    pub records: &'a [u8],
}

fn drop_sample(body: &[u8]) -> Result<DropSample<'_>, WireError> {
    let (rest, (sequence, source_type, source_index, drops, input, output, reason)) =
        located(body, "sflow discarded packet", (be_u32, be_u32, be_u32, be_u32, be_u32, be_u32, be_u32).parse(body))?;
    Ok(DropSample { sequence, source_type, source_index, drops, input, output, reason, records: rest })
}

#[derive(Clone, Copy, Debug)]
pub struct CounterSample<'a> {
    pub sequence: u32,
    pub source_type: u32,
    pub source_index: u32,
    pub count: u32,
    records: &'a [u8],
    /// Generic interface counters without a frame, of versions before 5.
    generic: Option<&'a [u8]>,
}

impl CounterSample<'_> {
    /// The generic interface counters, where the sample has them.
    pub fn interface(&self) -> Option<InterfaceCounters> {
        if let Some(generic) = self.generic {
            return interface_counters(generic).ok();
        }
        let mut rest = self.records;
        for _ in 0..self.count {
            let (format, body) = framed(self.records, &mut rest, "sflow counters").ok()?;
            if format == 1 {
                return interface_counters(body).ok();
            }
        }
        None
    }
}

fn counter_sample(body: &[u8], expanded: bool) -> Result<CounterSample<'_>, WireError> {
    let (rest, sequence) = located(body, "sflow counter sample", be_u32(body))?;
    let (rest, (source_type, source_index)) = source_id(body, rest, expanded)?;
    let (records, count) = located(body, "sflow counter sample", be_u32(rest))?;
    Ok(CounterSample { sequence, source_type, source_index, count, records, generic: None })
}

/// Structure `if_counters` (counter_data; enterprise 0, format 1), as RFC 2233 means them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    pub if_index: u32,
    /// Bits a second.
    pub speed: u64,
    /// Bit 0 administrative, bit 1 operational.
    pub status: u32,
    pub in_octets: u64,
    pub in_packets: u32,
    pub in_discards: u32,
    pub in_errors: u32,
    pub out_octets: u64,
    pub out_packets: u32,
    pub out_discards: u32,
    pub out_errors: u32,
}

fn interface_counters(body: &[u8]) -> Result<InterfaceCounters, WireError> {
    let reading = "sflow interface counters";
    let (rest, (if_index, _, speed, _, status)) =
        located(body, reading, (be_u32, be_u32, be_u64, be_u32, be_u32).parse(body))?;
    let (rest, (in_octets, in_packets, _, _, in_discards, in_errors, _)) =
        located(body, reading, (be_u64, be_u32, be_u32, be_u32, be_u32, be_u32, be_u32).parse(rest))?;
    let (_, (out_octets, out_packets, _, _, out_discards, out_errors)) =
        located(body, reading, (be_u64, be_u32, be_u32, be_u32, be_u32, be_u32).parse(rest))?;
    Ok(InterfaceCounters {
        if_index,
        speed,
        status,
        in_octets,
        in_packets,
        in_discards,
        in_errors,
        out_octets,
        out_packets,
        out_discards,
        out_errors,
    })
}

/// Records of a flow sample; ends after the first that is cut short.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
    left: u32,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Each with its length.
    Framed,
    /// Versions 2 and 4: the packet, then the extended data, one behind the other.
    Packet(u32),
    Extended(u32),
}

fn records<'a>(whole: &'a [u8], input: &'a [u8]) -> Result<Records<'a>, WireError> {
    let (rest, left) = located(whole, "sflow record count", be_u32(input))?;
    Ok(Records { whole, rest, left, form: Form::Framed })
}

#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    Header(SampledHeader<'a>),
    Ethernet(SampledEthernet),
    Ip(SampledIp),
    Switch(Switch),
    Router(Router),
    Gateway(Gateway<'a>),
    /// Labels in and out of the device are stacks; the incoming one.
    Mpls {
        labels: [u32; 4],
        count: usize,
    },
    Nat {
        source: [u8; 16],
        destination: [u8; 16],
    },
    Unknown {
        format: u32,
    },
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.form != Form::Framed {
            return Some(old::record(self));
        }
        let (format, body) = match framed(self.whole, &mut self.rest, "sflow record") {
            Ok(record) => record,
            Err(error) => {
                self.left = 0;
                return Some(Err(error));
            }
        };
        Some(match format {
            1 => sampled_header(body).map(Record::Header),
            2 => sampled_ethernet(body).map(Record::Ethernet),
            3 => sampled_ip(body, false).map(Record::Ip),
            4 => sampled_ip(body, true).map(Record::Ip),
            1001 => switch(body).map(Record::Switch),
            1002 => router(body).map(Record::Router),
            1003 => gateway(body).map(Record::Gateway),
            1006 => mpls(body),
            1007 => nat(body),
            _ => Ok(Record::Unknown { format }),
        })
    }
}

/// Structure `sampled_header`.
#[derive(Clone, Copy, Debug)]
pub struct SampledHeader<'a> {
    /// 1 Ethernet, 11 IPv4, 12 IPv6, 13 MPLS.
    pub protocol: u32,
    /// Octets of the packet before it was cut.
    pub frame_length: u32,
    /// Octets taken off its end (the frame check sequence).
    pub stripped: u32,
    pub header: &'a [u8],
}

fn sampled_header(body: &[u8]) -> Result<SampledHeader<'_>, WireError> {
    let (rest, (protocol, frame_length, stripped, length)) =
        located(body, "sflow sampled header", (be_u32, be_u32, be_u32, be_u32).parse(body))?;
    let (_, header) = located(body, "sflow sampled header", take(length as usize)(rest))?;
    Ok(SampledHeader { protocol, frame_length, stripped, header })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledEthernet {
    pub length: u32,
    pub src_mac: u64,
    pub dst_mac: u64,
    pub ether_type: u32,
}

fn sampled_ethernet(body: &[u8]) -> Result<SampledEthernet, WireError> {
    // A MAC is six octets, padded to eight.
    let (_, (length, src, dst, ether_type)) =
        located(body, "sflow sampled ethernet", (be_u32, be_u64, be_u64, be_u32).parse(body))?;
    Ok(SampledEthernet { length, src_mac: src >> 16, dst_mac: dst >> 16, ether_type })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledIp {
    pub v6: bool,
    /// Of the IP packet, without layer 2.
    pub length: u32,
    pub protocol: u32,
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub src_port: u32,
    pub dst_port: u32,
    pub tcp_flags: u32,
    pub tos: u32,
}

fn sampled_ip(body: &[u8], v6: bool) -> Result<SampledIp, WireError> {
    take_sampled_ip(body, body, v6).map(|(_, ip)| ip)
}

fn take_sampled_ip<'a>(whole: &'a [u8], input: &'a [u8], v6: bool) -> Result<(&'a [u8], SampledIp), WireError> {
    let octets = if v6 { 16usize } else { 4 };
    let (rest, (length, protocol, src, dst, src_port, dst_port, tcp_flags, tos)) = located(
        whole,
        "sflow sampled ip",
        (be_u32, be_u32, take(octets), take(octets), be_u32, be_u32, be_u32, be_u32).parse(input),
    )?;
    let address = |octets: &[u8]| if v6 { octets.first_chunk().copied().unwrap_or_default() } else { mapped(octets) };
    let (src, dst) = (address(src), address(dst));
    Ok((rest, SampledIp { v6, length, protocol, src, dst, src_port, dst_port, tcp_flags, tos }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    pub src_vlan: u32,
    pub dst_vlan: u32,
}

fn switch(body: &[u8]) -> Result<Switch, WireError> {
    take_switch(body, body).map(|(_, switch)| switch)
}

fn take_switch<'a>(whole: &'a [u8], input: &'a [u8]) -> Result<(&'a [u8], Switch), WireError> {
    let (rest, (src_vlan, _, dst_vlan, _)) =
        located(whole, "sflow extended switch", (be_u32, be_u32, be_u32, be_u32).parse(input))?;
    Ok((rest, Switch { src_vlan, dst_vlan }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    pub next_hop: [u8; 16],
    pub src_mask: u32,
    pub dst_mask: u32,
}

fn router(body: &[u8]) -> Result<Router, WireError> {
    take_router(body, body).map(|(_, router)| router)
}

fn take_router<'a>(whole: &'a [u8], input: &'a [u8]) -> Result<(&'a [u8], Router), WireError> {
    let (rest, next_hop) = address(whole, input)?;
    let (rest, (src_mask, dst_mask)) = located(whole, "sflow extended router", (be_u32, be_u32).parse(rest))?;
    Ok((rest, Router { next_hop, src_mask, dst_mask }))
}

/// Structure `extended_gateway`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway<'a> {
    /// Zeros where the record does not say it.
    pub next_hop: [u8; 16],
    /// The router's own.
    pub own_as: u32,
    /// 0 is the own AS.
    pub src_as: u32,
    pub src_peer_as: u32,
    /// Last AS of the path to the destination; `None` where the path is empty, which is the own AS.
    pub dst_as: Option<u32>,
    pub dst_peer_as: Option<u32>,
    /// Four octets each.
    pub communities: &'a [u8],
    pub local_pref: u32,
}

fn gateway(body: &[u8]) -> Result<Gateway<'_>, WireError> {
    let (rest, next_hop) = address(body, body)?;
    take_gateway(body, rest, next_hop).map(|(_, gateway)| gateway)
}

/// From the own AS on.
fn take_gateway<'a>(
    whole: &'a [u8],
    input: &'a [u8],
    next_hop: [u8; 16],
) -> Result<(&'a [u8], Gateway<'a>), WireError> {
    let reading = "sflow extended gateway";
    let (mut rest, (own_as, src_as, src_peer_as, segments)) =
        located(whole, reading, (be_u32, be_u32, be_u32, be_u32).parse(input))?;
    let (mut dst_as, mut dst_peer_as) = (None, None);
    for _ in 0..segments {
        let (after, (_, count)) = located(whole, reading, (be_u32, be_u32).parse(rest))?;
        let (after, path) = located(whole, reading, take((count as usize).saturating_mul(4))(after))?;
        rest = after;
        let (path, _) = path.as_chunks::<4>();
        dst_peer_as = dst_peer_as.or_else(|| path.first().map(|number| u32::from_be_bytes(*number)));
        dst_as = path.last().map(|number| u32::from_be_bytes(*number)).or(dst_as);
    }
    let (rest, count) = located(whole, reading, be_u32(rest))?;
    let (rest, communities) = located(whole, reading, take((count as usize).saturating_mul(4))(rest))?;
    let (rest, local_pref) = located(whole, reading, be_u32(rest))?;
    Ok((rest, Gateway { next_hop, own_as, src_as, src_peer_as, dst_as, dst_peer_as, communities, local_pref }))
}

fn mpls(body: &[u8]) -> Result<Record<'_>, WireError> {
    let (rest, _next_hop) = address(body, body)?;
    let (rest, depth) = located(body, "sflow extended mpls", be_u32(rest))?;
    let (_, stack) = located(body, "sflow extended mpls", take((depth as usize).saturating_mul(4))(rest))?;
    let mut labels = [0; 4];
    let (entries, _) = stack.as_chunks::<4>();
    for (label, entry) in labels.iter_mut().zip(entries) {
        *label = u32::from_be_bytes(*entry) >> 12;
    }
    Ok(Record::Mpls { labels, count: entries.len().min(4) })
}

fn nat(body: &[u8]) -> Result<Record<'_>, WireError> {
    let (rest, source) = address(body, body)?;
    let (_, destination) = address(body, rest)?;
    Ok(Record::Nat { source, destination })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn destination_as_is_the_last_of_the_path() {
        let body = words(&[1, 0x0a00_0001, 64500, 0, 0, 2, 2, 2, 10, 20, 1, 1, 30, 1, 0x0001_0002, 100]);
        let gateway = gateway(&body).expect("valid");
        assert_eq!((gateway.src_as, gateway.dst_peer_as, gateway.dst_as), (0, Some(10), Some(30)));
        assert_eq!((gateway.communities.len(), gateway.local_pref), (4, 100));
        let hostile = words(&[1, 0x0a00_0001, 64500, 0, 0, u32::MAX, 2, u32::MAX]);
        assert!(super::gateway(&hostile).is_err());
    }

    #[test]
    fn interfaces_say_their_format() {
        assert_eq!(Interface::compact(0x8000_0003), Interface { format: 2, value: 3 });
        assert_eq!(Interface::compact(0x4000_0101), Interface { format: 1, value: 257 });
        assert!(Interface::compact(0x3fff_ffff).is_internal());
        assert!(Interface::expanded(0, 0xffff_ffff).is_internal() && Interface::compact(0).is_unknown());
    }

    #[test]
    fn a_sample_longer_than_the_datagram_ends_it() {
        let input = words(&[5, 1, 0x0a00_0001, 0, 1, 1, 9, 1, 400, 0]);
        let datagram = parse(&input).expect("header");
        let samples: Vec<_> = datagram.samples().collect();
        assert!(matches!(samples[..], [Err(WireError { reading: "sflow sample", .. })]));
    }
}
