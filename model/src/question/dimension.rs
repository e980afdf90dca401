//! The dimension registry: what a question may group and filter by, and which
//! columns of the flow row (and of the rollup row) each of them needs.
//!
//! Names live in dimension tables and are joined when asked; a dimension that is
//! a name says here which ids it is looked up by.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::count;
use crate::flow::{Column, Observation, SamplingSource, Tunnel, quality};
use crate::network::{Boundary, Connectivity, LabelKind};
use crate::question::DimensionInfo;
use crate::rollup;
use crate::route::Provenance;

/// What a value is, for the filter language and for who draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Asn,
    Address,
    Prefix,
    Text,
    Enum,
    Time,
}

impl Kind {
    pub fn text(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Asn => "asn",
            Kind::Address => "address",
            Kind::Prefix => "prefix",
            Kind::Text => "text",
            Kind::Enum => "enum",
            Kind::Time => "time",
        }
    }
}

/// Which interface of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    In,
    Out,
    /// Of the egress router.
    Egress,
}

/// What about an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortField {
    Name,
    Description,
    Boundary,
    Connectivity,
    Provider,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceField {
    Name,
    Provider,
    Category,
}

/// How a row's value is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The column is the value.
    Number(Column),
    Address(Column),
    /// The address, truncated to the route's length, else to the record's mask.
    Prefix {
        address: Column,
        len: Column,
        mask: Column,
    },
    Exporter,
    ExporterName,
    Router(Column),
    Port(Port, PortField),
    Service(ServiceField),
    /// What the exporter calls the number.
    Label(LabelKind, Column),
    AsName(Column),
    AsPath,
    Communities,
    /// Packets for each one seen.
    Sampling,
    /// Mean octets of a packet, by [`packet_size_bucket`].
    PacketSize,
    /// High (source) or low (destination) four bits of the column.
    Provenance {
        high: bool,
    },
    Quality,
    Time,
}

#[derive(Clone, Debug)]
pub struct Dimension {
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    pub source: Source,
    /// Words that stand for numbers; of an `Enum`, also what is shown.
    pub words: Vec<(&'static str, u64)>,
}

impl Dimension {
    /// Columns of the flow row.
    pub fn columns(&self) -> Vec<Column> {
        match self.source {
            Source::Number(column) | Source::Address(column) | Source::Router(column) | Source::AsName(column) => {
                vec![column]
            }
            Source::Prefix { address, len, mask } => vec![address, len, mask],
            Source::Exporter => vec![Column::ExporterAddr],
            Source::ExporterName => vec![Column::ExporterId],
            Source::Port(Port::In, _) => vec![Column::ExporterId, Column::InIf, Column::InIfId],
            Source::Port(Port::Out, _) => vec![Column::ExporterId, Column::OutIf, Column::OutIfId],
            Source::Port(Port::Egress, _) => vec![Column::EgressIfId],
            Source::Service(_) => vec![Column::ServiceId],
            Source::Label(_, column) => vec![Column::ExporterId, column],
            Source::AsPath | Source::Communities => vec![Column::PathHash],
            Source::Sampling => vec![Column::SamplingNum, Column::SamplingDen],
            Source::PacketSize => vec![Column::Octets, Column::Packets],
            Source::Provenance { .. } => vec![Column::Provenance],
            Source::Quality => vec![Column::Quality],
            Source::Time => vec![],
        }
    }

    /// Key columns of the rollup row, where rollups can serve it.
    pub fn rollup_columns(&self) -> Option<Vec<&'static str>> {
        let columns = match self.source {
            Source::Exporter => vec![Column::ExporterId],
            // Derived from sums of one record: a rollup has none.
            Source::PacketSize | Source::Quality | Source::Sampling => return None,
            _ => self.columns(),
        };
        columns.into_iter().map(|column| rollup::KEYS.iter().copied().find(|key| *key == column.name())).collect()
    }

    /// The word of a number, where it has one.
    pub fn word(&self, number: u64) -> Option<&'static str> {
        self.words.iter().find(|(_, value)| *value == number).map(|(word, _)| *word)
    }

    /// The number that a word stands for, in any case.
    pub fn number_of(&self, word: &str) -> Option<u64> {
        self.words.iter().find(|(text, _)| text.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
    }

    pub fn info(&self) -> DimensionInfo {
        DimensionInfo {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            kind: self.kind.text().to_owned(),
            rollup: self.rollup_columns().is_some(),
            values: if self.kind == Kind::Enum {
                self.words.iter().map(|(word, _)| (*word).to_owned()).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// Lower edges of the packet size buckets, with what is shown.
const PACKET_SIZES: &[(&str, u64)] = &[
    ("0-63", 0),
    ("64-127", 64),
    ("128-255", 128),
    ("256-511", 256),
    ("512-1023", 512),
    ("1024-1279", 1024),
    ("1280-1499", 1280),
    ("1500-1518", 1500),
    ("1519-", 1519),
];

/// Lower edge of the bucket of a record's mean packet size; `None` without packets.
pub fn packet_size_bucket(octets: u64, packets: u64) -> Option<u64> {
    let mean = octets.checked_div(packets)?;
    PACKET_SIZES.iter().rev().map(|(_, edge)| *edge).find(|edge| mean >= *edge)
}

/// IANA assigned protocol numbers that operators call by name.
const PROTOCOLS: &[(&str, u64)] = &[
    ("hopopt", 0),
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6-in-ip", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("ospf", 89),
    ("etherip", 97),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
    ("mpls-in-ip", 137),
];

const ETHER_TYPES: &[(&str, u64)] =
    &[("ipv4", 0x0800), ("arp", 0x0806), ("ipv6", 0x86dd), ("mpls", 0x8847), ("mpls-multicast", 0x8848)];

/// Well-known ports by name, as the filter takes them.
const PORTS: &[(&str, u64)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("imaps", 993),
    ("rtmp", 1935),
    ("openvpn", 1194),
    ("rdp", 3389),
    ("sip", 5060),
    ("wireguard", 51820),
];

/// The top two bits of forwardingStatus (IANA IPFIX 89); the rest is the reason.
const FORWARDING: &[(&str, u64)] = &[("unknown", 0), ("forwarded", 64), ("dropped", 128), ("consumed", 192)];

macro_rules! words_of {
    ($name:ident) => {
        $name::ALL.iter().map(|value| (value.text(), *value as u64)).collect::<Vec<_>>()
    };
}

fn build() -> Vec<Dimension> {
    use Column as C;
    let mut all: Vec<Dimension> = Vec::new();
    let mut add = |name, title, kind, source, words: Vec<(&'static str, u64)>| {
        all.push(Dimension { name, title, kind, source, words });
    };
    let number = Source::Number;
    let port = |side, field| Source::Port(side, field);
    let (none, protocols, ports) = (Vec::new, || PROTOCOLS.to_vec(), || PORTS.to_vec());

    add("time", "Time", Kind::Time, Source::Time, none());
    add("src_addr", "Source address", Kind::Address, Source::Address(C::SrcAddr), none());
    add("dst_addr", "Destination address", Kind::Address, Source::Address(C::DstAddr), none());
    let src_prefix = Source::Prefix { address: C::SrcAddr, len: C::SrcPrefixLen, mask: C::SrcMask };
    let dst_prefix = Source::Prefix { address: C::DstAddr, len: C::DstPrefixLen, mask: C::DstMask };
    add("src_prefix", "Source prefix", Kind::Prefix, src_prefix, none());
    add("dst_prefix", "Destination prefix", Kind::Prefix, dst_prefix, none());

    add("src_as", "Source AS", Kind::Asn, number(C::SrcAs), none());
    add("dst_as", "Destination AS", Kind::Asn, number(C::DstAs), none());
    add("handover_as", "Handover AS", Kind::Asn, number(C::HandoverAs), none());
    add("next_as", "Next AS", Kind::Asn, number(C::NextAs), none());
    add("src_as_name", "Source AS name", Kind::Text, Source::AsName(C::SrcAs), none());
    add("dst_as_name", "Destination AS name", Kind::Text, Source::AsName(C::DstAs), none());
    add("handover_as_name", "Handover AS name", Kind::Text, Source::AsName(C::HandoverAs), none());
    add("next_as_name", "Next AS name", Kind::Text, Source::AsName(C::NextAs), none());
    add("record_src_as", "Source AS as exported", Kind::Asn, number(C::RecordSrcAs), none());
    add("record_dst_as", "Destination AS as exported", Kind::Asn, number(C::RecordDstAs), none());

    add("exporter", "Exporter", Kind::Address, Source::Exporter, none());
    add("exporter_name", "Exporter name", Kind::Text, Source::ExporterName, none());
    add("ingress_router", "Ingress router", Kind::Text, Source::Router(C::IngressRouter), none());
    add("egress_router", "Egress router", Kind::Text, Source::Router(C::EgressRouter), none());
    add("observation_domain", "Observation domain", Kind::Number, number(C::ObservationDomain), none());

    add("in_if", "Input ifIndex", Kind::Number, number(C::InIf), none());
    add("out_if", "Output ifIndex", Kind::Number, number(C::OutIf), none());
    for (side, names) in [
        (
            Port::In,
            [
                ("in_if_name", "Input interface"),
                ("in_if_description", "Input interface description"),
                ("in_if_boundary", "Input boundary"),
                ("in_if_connectivity", "Input connectivity"),
                ("in_if_provider", "Input provider"),
            ],
        ),
        (
            Port::Out,
            [
                ("out_if_name", "Output interface"),
                ("out_if_description", "Output interface description"),
                ("out_if_boundary", "Output boundary"),
                ("out_if_connectivity", "Output connectivity"),
                ("out_if_provider", "Output provider"),
            ],
        ),
        (
            Port::Egress,
            [
                ("egress_if_name", "Egress interface"),
                ("egress_if_description", "Egress interface description"),
                ("egress_if_boundary", "Egress boundary"),
                ("egress_if_connectivity", "Egress connectivity"),
                ("egress_if_provider", "Egress provider"),
            ],
        ),
    ] {
        let [name, description, boundary, connectivity, provider] = names;
        add(name.0, name.1, Kind::Text, port(side, PortField::Name), none());
        add(description.0, description.1, Kind::Text, port(side, PortField::Description), none());
        add(boundary.0, boundary.1, Kind::Enum, port(side, PortField::Boundary), words_of!(Boundary));
        let words = words_of!(Connectivity);
        add(connectivity.0, connectivity.1, Kind::Enum, port(side, PortField::Connectivity), words);
        add(provider.0, provider.1, Kind::Text, port(side, PortField::Provider), none());
    }

    add("service", "Service", Kind::Text, Source::Service(ServiceField::Name), none());
    add("service_provider", "Service provider", Kind::Text, Source::Service(ServiceField::Provider), none());
    add("service_category", "Service category", Kind::Text, Source::Service(ServiceField::Category), none());
    add("service_confidence", "Service confidence", Kind::Number, number(C::ServiceConfidence), none());

    add("etype", "EtherType", Kind::Number, number(C::EtherType), ETHER_TYPES.to_vec());
    add("proto", "Protocol", Kind::Number, number(C::Proto), protocols());
    add("src_port", "Source port", Kind::Number, number(C::SrcPort), ports());
    add("dst_port", "Destination port", Kind::Number, number(C::DstPort), ports());
    add("tcp_flags", "TCP flags", Kind::Number, number(C::TcpFlags), none());
    add("tos", "Type of service", Kind::Number, number(C::Tos), none());
    add("ttl", "Time to live", Kind::Number, number(C::Ttl), none());
    add("icmp", "ICMP type and code", Kind::Number, number(C::Icmp), none());
    add("src_mask", "Source mask", Kind::Number, number(C::SrcMask), none());
    add("dst_mask", "Destination mask", Kind::Number, number(C::DstMask), none());
    add("ipv6_flow_label", "IPv6 flow label", Kind::Number, number(C::FlowLabel), none());
    let forwarding = number(C::ForwardingStatus);
    add("forwarding_status", "Forwarding status", Kind::Number, forwarding, FORWARDING.to_vec());
    let sizes = PACKET_SIZES.to_vec();
    add("packet_size", "Packet size", Kind::Enum, Source::PacketSize, sizes);

    add("src_vlan", "Source VLAN", Kind::Number, number(C::SrcVlan), none());
    add("dst_vlan", "Destination VLAN", Kind::Number, number(C::DstVlan), none());
    let label = Source::Label;
    add("vrf", "Ingress VRF", Kind::Number, number(C::InVrf), none());
    add("out_vrf", "Egress VRF", Kind::Number, number(C::OutVrf), none());
    add("vrf_name", "Ingress VRF name", Kind::Text, label(LabelKind::Vrf, C::InVrf), none());
    add("out_vrf_name", "Egress VRF name", Kind::Text, label(LabelKind::Vrf, C::OutVrf), none());
    add("mpls_1", "Top MPLS label", Kind::Number, number(C::Mpls1), none());
    add("application_id", "Application id", Kind::Number, number(C::ApplicationId), none());
    add("application", "Application", Kind::Text, label(LabelKind::Application, C::ApplicationId), none());

    add("bgp_next_hop", "BGP next hop", Kind::Address, Source::Address(C::BgpNextHop), none());
    add("record_next_hop", "Next hop as exported", Kind::Address, Source::Address(C::RecordNextHop), none());
    let exported = Source::Address(C::RecordBgpNextHop);
    add("record_bgp_next_hop", "BGP next hop as exported", Kind::Address, exported, none());
    add("as_path", "AS path", Kind::Text, Source::AsPath, none());
    add("communities", "Communities", Kind::Text, Source::Communities, none());
    let provenance = || words_of!(Provenance);
    add("provenance", "Route provenance", Kind::Enum, Source::Provenance { high: false }, provenance());
    let high = Source::Provenance { high: true };
    add("src_provenance", "Source route provenance", Kind::Enum, high, provenance());

    add("observation", "Observation", Kind::Enum, number(C::Observation), words_of!(Observation));
    add("sampling", "Sampling", Kind::Number, Source::Sampling, none());
    let words = words_of!(SamplingSource);
    add("sampling_source", "Sampling source", Kind::Enum, number(C::SamplingSource), words);
    let (verdict, reason) = (count::Verdict::ALL, count::Reason::ALL);
    let words = verdict.iter().map(|value| (value.text(), *value as u64)).collect();
    add("count_verdict", "Count verdict", Kind::Enum, number(C::CountVerdict), words);
    let words = reason.iter().map(|value| (value.text(), *value as u64)).collect();
    add("count_reason", "Count reason", Kind::Enum, number(C::CountReason), words);
    let words = quality::ALL.iter().map(|(bit, name)| (*name, *bit)).collect();
    add("quality", "Quality", Kind::Enum, Source::Quality, words);

    add("src_network", "Source network", Kind::Number, number(C::SrcNetwork), none());
    add("dst_network", "Destination network", Kind::Number, number(C::DstNetwork), none());
    add("customer", "Customer", Kind::Number, number(C::Customer), none());
    add("tunnel", "Tunnel", Kind::Enum, number(C::Tunnel), words_of!(Tunnel));
    add("tunnel_id", "Tunnel id", Kind::Number, number(C::TunnelId), none());
    add("inner_src_addr", "Inner source address", Kind::Address, Source::Address(C::InnerSrcAddr), none());
    add("inner_dst_addr", "Inner destination address", Kind::Address, Source::Address(C::InnerDstAddr), none());
    add("inner_proto", "Inner protocol", Kind::Number, number(C::InnerProto), protocols());
    add("inner_src_port", "Inner source port", Kind::Number, number(C::InnerSrcPort), ports());
    add("inner_dst_port", "Inner destination port", Kind::Number, number(C::InnerDstPort), ports());
    add("nat_src_addr", "Source address after NAT", Kind::Address, Source::Address(C::NatSrcAddr), none());
    add("nat_dst_addr", "Destination address after NAT", Kind::Address, Source::Address(C::NatDstAddr), none());
    all
}

/// Every dimension, in the order in which they are listed.
pub fn all() -> &'static [Dimension] {
    static ALL: LazyLock<Vec<Dimension>> = LazyLock::new(build);
    &ALL
}

pub fn by_name(name: &str) -> Option<&'static Dimension> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Dimension>> =
        LazyLock::new(|| all().iter().map(|dimension| (dimension.name, dimension)).collect());
    BY_NAME.get(name).copied()
}

/// The dimension whose name is closest, where one is close.
pub fn nearest(name: &str) -> Option<&'static Dimension> {
    let name = name.to_ascii_lowercase();
    if let Some(dimension) = by_name(&name) {
        return Some(dimension);
    }
    let limit = (name.len() / 3).max(1);
    let distance = |dimension: &&Dimension| edit_distance(&name, dimension.name);
    all().iter().min_by_key(distance).filter(|dimension| edit_distance(&name, dimension.name) <= limit).or_else(|| {
        let squeezed = |text: &str| text.replace('_', "");
        all().iter().find(|dimension| squeezed(dimension.name) == squeezed(&name))
    })
}

/// Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut names: Vec<&str> = all().iter().map(|dimension| dimension.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let legal = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(names.iter().all(|name| legal(name)));
    }

    #[test]
    fn the_page_is_served_by_rollups() {
        for name in ["src_as", "dst_as", "handover_as", "next_as", "exporter", "exporter_name", "in_if_name"] {
            assert!(by_name(name).is_some_and(|dimension| dimension.rollup_columns().is_some()), "{name}");
        }
        for name in ["src_addr", "dst_port", "quality", "sampling", "packet_size", "as_path"] {
            assert!(by_name(name).is_some_and(|dimension| dimension.rollup_columns().is_none()), "{name}");
        }
    }

    #[test]
    fn packet_sizes_fall_into_buckets() {
        let cases = [(0, 1, Some(0)), (640, 10, Some(64)), (1500, 1, Some(1500)), (9000, 1, Some(1519)), (5, 0, None)];
        for (octets, packets, bucket) in cases {
            assert_eq!(packet_size_bucket(octets, packets), bucket);
        }
    }

    #[test]
    fn a_wrong_name_finds_its_neighbour() {
        assert_eq!(nearest("src_ass").map(|dimension| dimension.name), Some("src_as"));
        assert_eq!(nearest("SrcAS").map(|dimension| dimension.name), Some("src_as"));
        assert!(nearest("completely_else").is_none());
    }
}
