//! What the BGP-LS attribute says of an object (RFC 9552 5.3; RFC 8571 delay and loss; RFC 9085, RFC 9086 and
//! RFC 9514 segment routing; RFC 8814 depths of label stacks; RFC 9104 administrative groups).

use super::{Tlv, Tlvs, length, next};
use crate::bgp::Cursor;
use crate::error::WireError;

/// RFC 9552 5.3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFlags(pub u8);

impl NodeFlags {
    /// Not to be passed through.
    pub const OVERLOAD: u8 = 0x80;
    pub const ATTACHED: u8 = 0x40;
    pub const EXTERNAL: u8 = 0x20;
    pub const AREA_BORDER: u8 = 0x10;
    pub const ROUTER: u8 = 0x08;
    pub const V6: u8 = 0x04;

    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// A label, or an index into the range of whoever reads it (RFC 9085 2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sid {
    Label(u32),
    Index(u32),
}

/// RFC 9085 2.1.2: that many labels from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidRange {
    pub count: u32,
    pub first: Sid,
}

/// Checked: iterating does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidRanges<'a> {
    pub flags: u8,
    octets: &'a [u8],
}

impl Iterator for SidRanges<'_> {
    type Item = SidRange;

    fn next(&mut self) -> Option<SidRange> {
        let mut cursor = Cursor::new(self.octets, 0);
        let range = range(&mut cursor).ok();
        self.octets = if range.is_some() { cursor.rest } else { &[] };
        range
    }
}

/// RFC 8571 2.1 to 2.4: microseconds, or 0.000003 % of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Beyond what the router's operator set as normal.
    pub anomalous: bool,
    pub value: u32,
}

/// RFC 9514 4.1, 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndSid<'a> {
    pub behaviour: u16,
    pub flags: u8,
    pub algorithm: u8,
    pub weight: u8,
    /// Of a broadcast network: to whom. IS-IS 6 octets, OSPFv3 4.
    pub neighbour: Option<&'a [u8]>,
    pub sid: [u8; 16],
    pub tlvs: Tlvs<'a>,
}

/// RFC 9514 8: lengths in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Srv6Structure {
    pub block: u8,
    pub node: u8,
    pub function: u8,
    pub argument: u8,
}

/// One thing that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fact<'a> {
    /// 258, of a link that is not named by it: local and remote number.
    LinkIdentifiers(u32, u32),
    /// 263: the topologies that a node takes part in.
    Topologies(&'a [[u8; 2]]),
    /// 266 and 267: (kind, depth).
    NodeDepths(&'a [[u8; 2]]),
    LinkDepths(&'a [[u8; 2]]),
    NodeFlags(NodeFlags),
    /// Octets as the router sent them; the IGP says ASCII.
    NodeName(&'a [u8]),
    /// An area address of IS-IS.
    Area(&'a [u8]),
    LocalRouterV4([u8; 4]),
    LocalRouterV6([u8; 16]),
    RemoteRouterV4([u8; 4]),
    RemoteRouterV6([u8; 16]),
    AdminGroup(u32),
    ExtendedAdminGroup(&'a [[u8; 4]]),
    /// Octets a second.
    Bandwidth(f32),
    ReservableBandwidth(f32),
    UnreservedBandwidth([f32; 8]),
    TeMetric(u32),
    /// RFC 5307 1.2: first the kinds of protection.
    Protection(u16),
    Mpls(u8),
    /// Of 1 octet (IS-IS, narrow), 2 (OSPF) or 3 (IS-IS, wide); `wide` is the last.
    IgpMetric {
        metric: u32,
        wide: bool,
    },
    SharedRisk(&'a [[u8; 4]]),
    LinkName(&'a [u8]),
    /// RFC 8571.
    UnidirectionalDelay(Delay),
    MinMaxDelay {
        anomalous: bool,
        min: u32,
        max: u32,
    },
    DelayVariation(u32),
    Loss(Delay),
    /// Octets a second.
    ResidualBandwidth(f32),
    AvailableBandwidth(f32),
    UtilizedBandwidth(f32),
    /// RFC 9085.
    Capabilities(SidRanges<'a>),
    LocalBlock(SidRanges<'a>),
    Algorithms(&'a [u8]),
    MappingPreference(u8),
    AdjacencySid {
        flags: u8,
        weight: u8,
        neighbour: Option<&'a [u8]>,
        sid: Sid,
    },
    /// RFC 9086 5: 1101 node, 1102 adjacency, 1103 set.
    PeerSid {
        kind: u16,
        flags: u8,
        weight: u8,
        sid: Sid,
    },
    PrefixSid {
        flags: u8,
        algorithm: u8,
        sid: Sid,
    },
    PrefixRange {
        flags: u8,
        count: u16,
        tlvs: Tlvs<'a>,
    },
    /// RFC 9514.
    Srv6Capabilities(u16),
    EndXSid(EndSid<'a>),
    Locator {
        flags: u8,
        algorithm: u8,
        metric: u32,
        tlvs: Tlvs<'a>,
    },
    EndpointBehaviour {
        behaviour: u16,
        flags: u8,
        algorithm: u8,
    },
    Srv6Structure(Srv6Structure),
    Srv6PeerNode {
        flags: u8,
        weight: u8,
        peer_as: u32,
        peer_id: [u8; 4],
    },
    IgpFlags(u8),
    RouteTags(&'a [[u8; 4]]),
    ExtendedRouteTags(&'a [[u8; 8]]),
    PrefixMetric(u32),
    ForwardingV4([u8; 4]),
    ForwardingV6([u8; 16]),
    PrefixFlags(&'a [u8]),
    SourceRouterV4([u8; 4]),
    SourceRouterV6([u8; 16]),
    SourceOspfRouter([u8; 4]),
    Unknown(Tlv<'a>),
}

/// The attribute, checked: iterating does not fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Information<'a> {
    tlvs: Tlvs<'a>,
}

impl<'a> Information<'a> {
    /// RFC 9552 8.2.2: lengths, and those of what is known.
    pub(in crate::bgp) fn parse(octets: &'a [u8], offset: usize) -> Result<Self, WireError> {
        let tlvs = Tlvs::parse(octets, offset, |tlv, at| fact(tlv, at).map(drop))?;
        Ok(Self { tlvs })
    }

    pub fn tlvs(&self) -> Tlvs<'a> {
        self.tlvs
    }

    pub fn facts(&self) -> impl Iterator<Item = Fact<'a>> + use<'a> {
        self.tlvs.filter_map(|tlv| fact(tlv, 0).ok())
    }
}

fn array<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

fn word(value: &[u8]) -> Option<u32> {
    array(value).map(u32::from_be_bytes)
}

/// 32 bits of IEEE 754: octets a second.
fn bandwidth(value: &[u8]) -> Option<f32> {
    array(value).map(f32::from_be_bytes)
}

fn values<const N: usize>(value: &[u8]) -> Option<&[[u8; N]]> {
    let (values, rest) = value.as_chunks::<N>();
    (rest.is_empty() && !values.is_empty()).then_some(values)
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// RFC 9085 2.1.1: three octets hold a label of twenty bits, four an index.
fn sid(value: &[u8]) -> Option<Sid> {
    match *value {
        [a, b, c] => Some(Sid::Label(u24([a, b, c]) & 0x000f_ffff)),
        [a, b, c, d] => Some(Sid::Index(u32::from_be_bytes([a, b, c, d]))),
        _ => None,
    }
}

/// | count u24 | TLV 1161: label or index |
fn range(cursor: &mut Cursor<'_>) -> Result<SidRange, WireError> {
    let count = u24(cursor.array("range of labels")?);
    let (tlv, at) = next(cursor)?;
    let first = sid(tlv.value).filter(|_| tlv.kind == 1161);
    Ok(SidRange { count, first: first.ok_or_else(|| length(at, tlv.value, "label of a range"))? })
}

/// | flags u8 | reserved u8 | range ... |
fn ranges(value: &[u8], at: usize) -> Option<SidRanges<'_>> {
    let ([flags, _], octets) = value.split_first_chunk::<2>()?;
    let mut cursor = Cursor::new(octets, at + 2);
    while !cursor.rest.is_empty() {
        range(&mut cursor).ok()?;
    }
    Some(SidRanges { flags: *flags, octets })
}

/// TLVs within a TLV.
fn within(octets: &[u8]) -> Option<Tlvs<'_>> {
    Tlvs::parse(octets, 0, |_, _| Ok(())).ok()
}

/// | flags u8 | weight u8 | reserved u16 | [neighbour] | label or index |
fn adjacency(value: &[u8], neighbours: &[usize]) -> Option<(u8, u8, Option<usize>, Sid)> {
    let ([flags, weight, _, _], rest) = value.split_first_chunk::<4>()?;
    if neighbours.is_empty() {
        return Some((*flags, *weight, None, sid(rest)?));
    }
    // A label has three or four octets, a neighbour six or four: the lengths tell all four apart.
    let octets = neighbours.iter().find(|octets| matches!(rest.len().checked_sub(**octets), Some(3 | 4)))?;
    Some((*flags, *weight, Some(*octets), sid(&rest[*octets..])?))
}

/// | behaviour u16 | flags u8 | algorithm u8 | weight u8 | reserved u8 | [neighbour] | SID 16 | TLV ... |
fn end_x(value: &[u8], neighbour: usize) -> Option<EndSid<'_>> {
    let ([high, low, flags, algorithm, weight, _], rest) = value.split_first_chunk::<6>()?;
    let (near, rest) = rest.split_at_checked(neighbour)?;
    let (sid, rest) = rest.split_first_chunk::<16>()?;
    Some(EndSid {
        behaviour: u16::from_be_bytes([*high, *low]),
        flags: *flags,
        algorithm: *algorithm,
        weight: *weight,
        neighbour: (neighbour > 0).then_some(near),
        sid: *sid,
        tlvs: within(rest)?,
    })
}

/// RFC 8571: | A 1 bit | reserved 7 bits | value u24 |
fn delay(value: &[u8]) -> Option<Delay> {
    let [flags, a, b, c] = array(value)?;
    Some(Delay { anomalous: flags & 0x80 != 0, value: u24([a, b, c]) })
}

fn fact<'a>(tlv: Tlv<'a>, at: usize) -> Result<Fact<'a>, WireError> {
    let Tlv { kind, value } = tlv;
    let wrong = |reading| length(at, value, reading);
    let text = |make: fn(&'a [u8]) -> Fact<'a>, most: usize, reading| {
        if value.is_empty() || value.len() > most { Err(wrong(reading)) } else { Ok(make(value)) }
    };
    match kind {
        258 => match *value {
            [a, b, c, d, w, x, y, z] => {
                Ok(Fact::LinkIdentifiers(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([w, x, y, z])))
            }
            _ => Err(wrong("link identifiers")),
        },
        263 => values(value).map(Fact::Topologies).ok_or_else(|| wrong("multi-topology ids")),
        266 => values(value).map(Fact::NodeDepths).ok_or_else(|| wrong("depths of a node")),
        267 => values(value).map(Fact::LinkDepths).ok_or_else(|| wrong("depths of a link")),
        1024 => array(value).map(|[flags]| Fact::NodeFlags(NodeFlags(flags))).ok_or_else(|| wrong("node flags")),
        1026 => text(Fact::NodeName, 255, "node name"),
        // ISO 10589: area addresses have at most 13 octets, and 20 with the rest of the address.
        1027 => text(Fact::Area, 20, "area address"),
        1028 => array(value).map(Fact::LocalRouterV4).ok_or_else(|| wrong("IPv4 router id")),
        1029 => array(value).map(Fact::LocalRouterV6).ok_or_else(|| wrong("IPv6 router id")),
        1030 => array(value).map(Fact::RemoteRouterV4).ok_or_else(|| wrong("IPv4 router id of the neighbour")),
        1031 => array(value).map(Fact::RemoteRouterV6).ok_or_else(|| wrong("IPv6 router id of the neighbour")),
        1034 => ranges(value, at).map(Fact::Capabilities).ok_or_else(|| wrong("segment routing capabilities")),
        1035 => text(Fact::Algorithms, usize::MAX, "segment routing algorithms"),
        1036 => ranges(value, at).map(Fact::LocalBlock).ok_or_else(|| wrong("segment routing local block")),
        1037 => array(value).map(|[value]| Fact::MappingPreference(value)).ok_or_else(|| wrong("mapping preference")),
        1038 => match *value {
            [a, b, _, _, ..] => Ok(Fact::Srv6Capabilities(u16::from_be_bytes([a, b]))),
            _ => Err(wrong("SRv6 capabilities")),
        },
        1088 => word(value).map(Fact::AdminGroup).ok_or_else(|| wrong("administrative group")),
        1089 => bandwidth(value).map(Fact::Bandwidth).ok_or_else(|| wrong("bandwidth")),
        1090 => bandwidth(value).map(Fact::ReservableBandwidth).ok_or_else(|| wrong("reservable bandwidth")),
        1091 => match value.as_chunks::<4>() {
            (eight, []) if eight.len() == 8 => {
                let mut rates = [0.0; 8];
                rates.iter_mut().zip(eight).for_each(|(rate, octets)| *rate = f32::from_be_bytes(*octets));
                Ok(Fact::UnreservedBandwidth(rates))
            }
            _ => Err(wrong("unreserved bandwidth")),
        },
        // RFC 7752 had three octets for those of IS-IS.
        1092 => match *value {
            [a, b, c] => Ok(Fact::TeMetric(u24([a, b, c]))),
            [a, b, c, d] => Ok(Fact::TeMetric(u32::from_be_bytes([a, b, c, d]))),
            _ => Err(wrong("TE metric")),
        },
        1093 => array(value).map(u16::from_be_bytes).map(Fact::Protection).ok_or_else(|| wrong("link protection")),
        1094 => array(value).map(|[mask]| Fact::Mpls(mask)).ok_or_else(|| wrong("MPLS protocols")),
        // RFC 9552 5.3.2.4: two bits of a narrow metric say nothing. Four octets are sent too.
        1095 => match *value {
            [a] => Ok(Fact::IgpMetric { metric: u32::from(a & 0x3f), wide: false }),
            [a, b] => Ok(Fact::IgpMetric { metric: u32::from_be_bytes([0, 0, a, b]), wide: false }),
            [a, b, c] => Ok(Fact::IgpMetric { metric: u24([a, b, c]), wide: true }),
            [a, b, c, d] => Ok(Fact::IgpMetric { metric: u32::from_be_bytes([a, b, c, d]), wide: true }),
            _ => Err(wrong("IGP metric")),
        },
        1096 => values(value).map(Fact::SharedRisk).ok_or_else(|| wrong("shared risk groups")),
        1098 => text(Fact::LinkName, 255, "link name"),
        1099 => {
            let (flags, weight, _, sid) = adjacency(value, &[]).ok_or_else(|| wrong("adjacency SID"))?;
            Ok(Fact::AdjacencySid { flags, weight, neighbour: None, sid })
        }
        1100 => {
            let (flags, weight, octets, sid) = adjacency(value, &[6, 4]).ok_or_else(|| wrong("LAN adjacency SID"))?;
            Ok(Fact::AdjacencySid { flags, weight, neighbour: octets.map(|octets| &value[4..4 + octets]), sid })
        }
        1101..=1103 => {
            let (flags, weight, _, sid) = adjacency(value, &[]).ok_or_else(|| wrong("peer SID"))?;
            Ok(Fact::PeerSid { kind, flags, weight, sid })
        }
        1106 => end_x(value, 0).map(Fact::EndXSid).ok_or_else(|| wrong("SRv6 End.X SID")),
        1107 => end_x(value, 6).map(Fact::EndXSid).ok_or_else(|| wrong("SRv6 LAN End.X SID")),
        1108 => end_x(value, 4).map(Fact::EndXSid).ok_or_else(|| wrong("SRv6 LAN End.X SID")),
        1114 => delay(value).map(Fact::UnidirectionalDelay).ok_or_else(|| wrong("delay")),
        1115 => match *value {
            [flags, a, b, c, _, x, y, z] => {
                let (min, max) = (u24([a, b, c]), u24([x, y, z]));
                Ok(Fact::MinMaxDelay { anomalous: flags & 0x80 != 0, min, max })
            }
            _ => Err(wrong("least and greatest delay")),
        },
        1116 => delay(value).map(|delay| Fact::DelayVariation(delay.value)).ok_or_else(|| wrong("delay variation")),
        1117 => delay(value).map(Fact::Loss).ok_or_else(|| wrong("loss")),
        1118 => bandwidth(value).map(Fact::ResidualBandwidth).ok_or_else(|| wrong("residual bandwidth")),
        1119 => bandwidth(value).map(Fact::AvailableBandwidth).ok_or_else(|| wrong("available bandwidth")),
        1120 => bandwidth(value).map(Fact::UtilizedBandwidth).ok_or_else(|| wrong("utilized bandwidth")),
        1152 => array(value).map(|[flags]| Fact::IgpFlags(flags)).ok_or_else(|| wrong("IGP flags")),
        1153 => values(value).map(Fact::RouteTags).ok_or_else(|| wrong("route tags")),
        1154 => values(value).map(Fact::ExtendedRouteTags).ok_or_else(|| wrong("extended route tags")),
        1155 => word(value).map(Fact::PrefixMetric).ok_or_else(|| wrong("prefix metric")),
        1156 => (array(value).map(Fact::ForwardingV4))
            .or_else(|| array(value).map(Fact::ForwardingV6))
            .ok_or_else(|| wrong("OSPF forwarding address")),
        1158 => match value.split_first_chunk::<4>() {
            Some(([flags, algorithm, ..], rest)) => {
                let sid = sid(rest).ok_or_else(|| wrong("prefix SID"))?;
                Ok(Fact::PrefixSid { flags: *flags, algorithm: *algorithm, sid })
            }
            None => Err(wrong("prefix SID")),
        },
        1159 => match value.split_first_chunk::<4>() {
            Some(([flags, _, high, low], rest)) => {
                let tlvs = within(rest).ok_or_else(|| wrong("range of prefixes"))?;
                Ok(Fact::PrefixRange { flags: *flags, count: u16::from_be_bytes([*high, *low]), tlvs })
            }
            None => Err(wrong("range of prefixes")),
        },
        1162 => match value.split_first_chunk::<8>() {
            Some(([flags, algorithm, _, _, a, b, c, d], rest)) => {
                let tlvs = within(rest).ok_or_else(|| wrong("SRv6 locator"))?;
                let metric = u32::from_be_bytes([*a, *b, *c, *d]);
                Ok(Fact::Locator { flags: *flags, algorithm: *algorithm, metric, tlvs })
            }
            None => Err(wrong("SRv6 locator")),
        },
        1170 => text(Fact::PrefixFlags, usize::MAX, "prefix flags"),
        1171 => (array(value).map(Fact::SourceRouterV4))
            .or_else(|| array(value).map(Fact::SourceRouterV6))
            .ok_or_else(|| wrong("source router id")),
        1173 => values(value).map(Fact::ExtendedAdminGroup).ok_or_else(|| wrong("extended administrative group")),
        1174 => array(value).map(Fact::SourceOspfRouter).ok_or_else(|| wrong("source OSPF router id")),
        1250 => match *value {
            [high, low, flags, algorithm] => {
                Ok(Fact::EndpointBehaviour { behaviour: u16::from_be_bytes([high, low]), flags, algorithm })
            }
            _ => Err(wrong("SRv6 endpoint behaviour")),
        },
        1251 => match *value {
            [flags, weight, _, _, a, b, c, d, w, x, y, z] => {
                let (peer_as, peer_id) = (u32::from_be_bytes([a, b, c, d]), [w, x, y, z]);
                Ok(Fact::Srv6PeerNode { flags, weight, peer_as, peer_id })
            }
            _ => Err(wrong("SRv6 peer node SID")),
        },
        1252 => match *value {
            [block, node, function, argument] => {
                Ok(Fact::Srv6Structure(Srv6Structure { block, node, function, argument }))
            }
            _ => Err(wrong("SRv6 SID structure")),
        },
        _ => Ok(Fact::Unknown(tlv)),
    }
}
