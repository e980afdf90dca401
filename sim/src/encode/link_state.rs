//! Link state over BGP (RFC 9552): NLRI of AFI 16388 and SAFI 71, and attribute 29.
//!
//! NLRI: | type u16 | length u16 | protocol u8 | identifier u64 | TLV ... |
//! TLV:  | type u16 | length u16 | value |, in ascending order of types (section 5.1)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::bgp::{self, LINK_STATE};
use super::{Put as _, set_u16};

/// Section 5.2: NLRI types.
const NODE: u16 = 1;
const LINK: u16 = 2;
const PREFIX_V4: u16 = 3;
const PREFIX_V6: u16 = 4;

/// Section 5.2: protocol id of IS-IS level 2.
const ISIS_LEVEL_2: u8 = 2;
/// Section 5.2: of the one routing universe.
const IDENTIFIER: u64 = 0;

/// The optional, not transitive attribute of link state (section 5.3).
const ATTRIBUTE: (u8, u8) = (0x80, 29);

/// A node by what its IGP calls it (section 5.2.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId {
    pub asn: u32,
    pub system_id: [u8; 6],
}

#[derive(Clone, Debug)]
pub struct Node<'a> {
    pub id: NodeId,
    pub name: &'a str,
    /// IS-IS area address.
    pub area: &'a [u8],
    pub router_id_v4: Ipv4Addr,
    pub router_id_v6: Ipv6Addr,
}

/// One direction of an adjacency; pairs are the local and the remote end.
#[derive(Clone, Debug)]
pub struct Link {
    pub nodes: (NodeId, NodeId),
    pub v4: (Ipv4Addr, Ipv4Addr),
    pub v6: (Ipv6Addr, Ipv6Addr),
    pub router_ids: (Ipv4Addr, Ipv4Addr),
    /// Of IS-IS: at most 24 bits.
    pub metric: u32,
    pub admin_group: u32,
    pub bandwidth_octets_per_s: f32,
}

#[derive(Clone, Debug)]
pub struct Prefix {
    pub node: NodeId,
    pub net: IpNet,
    pub metric: u32,
}

/// An UPDATE of one node.
pub fn announce_node(next_hop: Ipv4Addr, node: &Node<'_>) -> Vec<u8> {
    let mut nlri = begin(NODE);
    put_node(&mut nlri, 256, node.id);
    let mut about = Vec::new();
    tlv(&mut about, 1026, node.name.as_bytes());
    tlv(&mut about, 1027, node.area);
    tlv(&mut about, 1028, &node.router_id_v4.octets());
    tlv(&mut about, 1029, &node.router_id_v6.octets());
    update(next_hop, nlri, &about)
}

/// An UPDATE of one direction of a link.
pub fn announce_link(next_hop: Ipv4Addr, link: &Link) -> Vec<u8> {
    let mut nlri = begin(LINK);
    put_node(&mut nlri, 256, link.nodes.0);
    put_node(&mut nlri, 257, link.nodes.1);
    tlv(&mut nlri, 259, &link.v4.0.octets());
    tlv(&mut nlri, 260, &link.v4.1.octets());
    tlv(&mut nlri, 261, &link.v6.0.octets());
    tlv(&mut nlri, 262, &link.v6.1.octets());
    let mut about = Vec::new();
    tlv(&mut about, 1028, &link.router_ids.0.octets());
    tlv(&mut about, 1030, &link.router_ids.1.octets());
    tlv(&mut about, 1088, &link.admin_group.to_be_bytes());
    tlv(&mut about, 1089, &link.bandwidth_octets_per_s.to_be_bytes());
    // Section 5.3.2.4: three octets are a wide metric of IS-IS.
    tlv(&mut about, 1095, &link.metric.to_be_bytes()[1..]);
    update(next_hop, nlri, &about)
}

/// An UPDATE of one prefix.
pub fn announce_prefix(next_hop: Ipv4Addr, prefix: &Prefix) -> Vec<u8> {
    let (kind, address) = match prefix.net.network() {
        IpAddr::V4(v4) => (PREFIX_V4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (PREFIX_V6, v6.octets().to_vec()),
    };
    let mut nlri = begin(kind);
    put_node(&mut nlri, 256, prefix.node);
    let len = prefix.net.prefix_len();
    let mut reachable = vec![len];
    reachable.extend_from_slice(&address[..usize::from(len).div_ceil(8)]);
    tlv(&mut nlri, 265, &reachable);
    let mut about = Vec::new();
    tlv(&mut about, 1155, &prefix.metric.to_be_bytes());
    update(next_hop, nlri, &about)
}

fn begin(kind: u16) -> Vec<u8> {
    let mut nlri = Vec::with_capacity(160);
    nlri.u16(kind);
    nlri.u16(0);
    nlri.u8(ISIS_LEVEL_2);
    nlri.u64(IDENTIFIER);
    nlri
}

fn tlv(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.u16(kind);
    out.u16(value.len() as u16);
    out.extend_from_slice(value);
}

/// Sections 5.2.1.2 and 5.2.1.4: AS number and IGP router id.
fn put_node(out: &mut Vec<u8>, kind: u16, node: NodeId) {
    let mut descriptors = Vec::with_capacity(18);
    tlv(&mut descriptors, 512, &node.asn.to_be_bytes());
    tlv(&mut descriptors, 515, &node.system_id);
    tlv(out, kind, &descriptors);
}

fn update(next_hop: Ipv4Addr, mut nlri: Vec<u8>, about: &[u8]) -> Vec<u8> {
    let length = nlri.len() as u16 - 4;
    set_u16(&mut nlri, 2, length);
    // RFC 4760 3: MP_REACH_NLRI.
    let mut reach = Vec::with_capacity(9 + nlri.len());
    reach.u16(LINK_STATE.afi);
    reach.u8(LINK_STATE.safi);
    reach.u8(4);
    reach.extend_from_slice(&next_hop.octets());
    reach.u8(0);
    reach.extend_from_slice(&nlri);
    let mut attributes = Vec::with_capacity(64 + reach.len() + about.len());
    bgp::attribute(&mut attributes, 0x40, 1, &[0]);
    bgp::attribute(&mut attributes, 0x40, 2, &[]);
    bgp::attribute(&mut attributes, 0x40, 5, &100u32.to_be_bytes());
    bgp::attribute(&mut attributes, 0x80, 14, &reach);
    bgp::attribute(&mut attributes, ATTRIBUTE.0, ATTRIBUTE.1, about);
    let mut out = bgp::message(bgp::UPDATE);
    out.u16(0);
    out.u16(attributes.len() as u16);
    out.extend_from_slice(&attributes);
    bgp::finish(out)
}
