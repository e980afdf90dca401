//! BGP-4 messages (RFC 4271), with four-octet AS numbers (RFC 6793) and
//! IPv6 unicast (RFC 4760, RFC 2545).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::{Put as _, set_u16};

pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;
pub const ROUTE_REFRESH: u8 = 5;

pub const HEADER_OCTETS: usize = 19;
pub const MESSAGE_OCTETS_MAX: usize = 4096;

/// Address family and subsequent address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    pub afi: u16,
    pub safi: u8,
}

pub const V4_UNICAST: Family = Family { afi: 1, safi: 1 };
pub const V6_UNICAST: Family = Family { afi: 2, safi: 1 };
/// RFC 9552.
pub const LINK_STATE: Family = Family { afi: 16_388, safi: 71 };

/// RFC 6793: stands for a number that needs four octets.
const AS_TRANS: u16 = 23456;

/// Attributes of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    pub as_path: Vec<u32>,
    pub next_hop_v4: Ipv4Addr,
    pub next_hop_v6: Ipv6Addr,
    pub local_pref: u32,
    pub med: Option<u32>,
    pub communities: Vec<u32>,
    /// RFC 4456: set on routes that another router learnt.
    pub originator: Option<Ipv4Addr>,
    pub cluster: Vec<Ipv4Addr>,
}

pub(super) fn message(kind: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&[0xff; 16]);
    out.u16(0);
    out.u8(kind);
    out
}

pub(super) fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let length = out.len() as u16;
    set_u16(&mut out, 16, length);
    out
}

pub fn keepalive() -> Vec<u8> {
    finish(message(KEEPALIVE))
}

/// RFC 4271, 4.5: 6/2 is an administrative shutdown.
pub fn cease() -> Vec<u8> {
    let mut out = message(NOTIFICATION);
    out.extend_from_slice(&[6, 2]);
    finish(out)
}

/// RFC 4271, 4.2, with the families and four-octet AS numbers as capabilities (RFC 5492, RFC 4760).
pub fn open(local_as: u32, hold_time_s: u16, id: Ipv4Addr, families: &[Family]) -> Vec<u8> {
    let mut out = message(OPEN);
    out.u8(4);
    out.u16(u16::try_from(local_as).unwrap_or(AS_TRANS));
    out.u16(hold_time_s);
    out.extend_from_slice(&id.octets());
    let mut capabilities = Vec::new();
    for family in families {
        capabilities.extend_from_slice(&[1, 4]);
        capabilities.u16(family.afi);
        capabilities.extend_from_slice(&[0, family.safi]);
    }
    capabilities.extend_from_slice(&[2, 0, 65, 4]);
    capabilities.u32(local_as);
    out.u8(capabilities.len() as u8 + 2);
    out.u8(2);
    out.u8(capabilities.len() as u8);
    out.extend_from_slice(&capabilities);
    finish(out)
}

/// Families that the peer's OPEN, after the header, has among its capabilities; without any, IPv4 (RFC 4760 8).
///
/// | version u8 | AS u16 | hold time u16 | identifier 4 | length u8 | parameter: type u8, length u8, value ... |
pub fn families(open: &[u8]) -> Vec<Family> {
    let mut families = Vec::new();
    let mut parameters = open.get(10..).unwrap_or_default();
    while let Some((kind, mut value, rest)) = part(parameters) {
        parameters = rest;
        // RFC 5492 4.
        while let (2, Some((code, capability, rest))) = (kind, part(value)) {
            value = rest;
            if let (1, [high, low, _, safi]) = (code, capability) {
                families.push(Family { afi: u16::from_be_bytes([*high, *low]), safi: *safi });
            }
        }
    }
    if families.is_empty() { vec![V4_UNICAST] } else { families }
}

/// Type, value, and what follows.
fn part(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = octets.split_at_checked(2)?;
    let (value, rest) = rest.split_at_checked(usize::from(head[1]))?;
    Some((head[0], value, rest))
}

/// RFC 4724, section 2: nothing follows of this family.
pub fn end_of_rib(family: Family) -> Vec<u8> {
    let mut out = message(UPDATE);
    out.u16(0);
    if family == V4_UNICAST {
        out.u16(0);
    } else {
        let mut unreach = Vec::with_capacity(3);
        unreach.u16(family.afi);
        unreach.u8(family.safi);
        let mut all = Vec::with_capacity(6);
        attribute(&mut all, 0x80, 15, &unreach);
        out.u16(all.len() as u16);
        out.extend_from_slice(&all);
    }
    finish(out)
}

pub(super) fn attribute(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    if value.len() > 255 {
        out.extend_from_slice(&[flags | 0x10, kind]);
        out.u16(value.len() as u16);
    } else {
        out.extend_from_slice(&[flags, kind, value.len() as u8]);
    }
    out.extend_from_slice(value);
}

/// ORIGIN, AS_PATH, and what every family shares; `next_hop` where the family has it here.
fn attributes(attributes: &Attributes, next_hop: Option<Ipv4Addr>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    attribute(&mut out, 0x40, 1, &[0]);
    let mut path = Vec::new();
    if !attributes.as_path.is_empty() {
        path.extend_from_slice(&[2, attributes.as_path.len() as u8]);
        attributes.as_path.iter().for_each(|asn| path.u32(*asn));
    }
    attribute(&mut out, 0x40, 2, &path);
    if let Some(next_hop) = next_hop {
        attribute(&mut out, 0x40, 3, &next_hop.octets());
    }
    if let Some(med) = attributes.med {
        attribute(&mut out, 0x80, 4, &med.to_be_bytes());
    }
    attribute(&mut out, 0x40, 5, &attributes.local_pref.to_be_bytes());
    if !attributes.communities.is_empty() {
        let octets: Vec<u8> = attributes.communities.iter().flat_map(|community| community.to_be_bytes()).collect();
        attribute(&mut out, 0xc0, 8, &octets);
    }
    if let Some(originator) = attributes.originator {
        attribute(&mut out, 0x80, 9, &originator.octets());
    }
    if !attributes.cluster.is_empty() {
        let octets: Vec<u8> = attributes.cluster.iter().flat_map(|id| id.octets()).collect();
        attribute(&mut out, 0x80, 10, &octets);
    }
    out
}

fn prefix_octets(len: u8) -> usize {
    usize::from(len).div_ceil(8)
}

/// Updates that announce `nets`, as many as are needed.
pub fn announce_v4(shared: &Attributes, nets: &[Ipv4Net]) -> Vec<Vec<u8>> {
    let attributes = attributes(shared, Some(shared.next_hop_v4));
    let mut messages = Vec::new();
    let mut rest = nets;
    while !rest.is_empty() {
        let mut out = message(UPDATE);
        out.u16(0);
        out.u16(attributes.len() as u16);
        out.extend_from_slice(&attributes);
        while let Some((net, further)) = rest.split_first() {
            let octets = prefix_octets(net.prefix_len());
            if out.len() + 1 + octets > MESSAGE_OCTETS_MAX {
                break;
            }
            out.u8(net.prefix_len());
            out.extend_from_slice(&net.network().octets()[..octets]);
            rest = further;
        }
        messages.push(finish(out));
    }
    messages
}

/// RFC 4760, section 3: MP_REACH_NLRI.
pub fn announce_v6(shared: &Attributes, nets: &[Ipv6Net]) -> Vec<Vec<u8>> {
    let attributes = attributes(shared, None);
    let room = MESSAGE_OCTETS_MAX - HEADER_OCTETS - 4 - attributes.len() - 4;
    let mut messages = Vec::new();
    let mut rest = nets;
    while !rest.is_empty() {
        let mut reach = vec![0, 2, 1, 16];
        reach.extend_from_slice(&shared.next_hop_v6.octets());
        reach.u8(0);
        while let Some((net, further)) = rest.split_first() {
            let octets = prefix_octets(net.prefix_len());
            if reach.len() + 1 + octets > room {
                break;
            }
            reach.u8(net.prefix_len());
            reach.extend_from_slice(&net.network().octets()[..octets]);
            rest = further;
        }
        let mut all = attributes.clone();
        attribute(&mut all, 0x80, 14, &reach);
        let mut out = message(UPDATE);
        out.u16(0);
        out.u16(all.len() as u16);
        out.extend_from_slice(&all);
        messages.push(finish(out));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_offers_what_it_names() {
        let id = Ipv4Addr::new(192, 0, 2, 1);
        let body = |families: &[Family]| open(64_500, 90, id, families)[HEADER_OCTETS..].to_vec();
        let all = [V4_UNICAST, V6_UNICAST, LINK_STATE];
        assert_eq!(families(&body(&all)), all);
        assert_eq!(families(&body(&[])), [V4_UNICAST]);
        // Cut anywhere, it offers no more than it did.
        let octets = body(&[V6_UNICAST, LINK_STATE]);
        for len in 0..octets.len() {
            assert_eq!(families(&octets[..len]), [V4_UNICAST], "{len}");
        }
        // Other parameters and capabilities are passed over.
        let mixed = [4, 0, 1, 0, 90, 1, 1, 1, 1, 12, 1, 2, 9, 9, 2, 8, 65, 0, 1, 4, 0x40, 4, 0, 71];
        assert_eq!(families(&mixed), [LINK_STATE]);
    }
}
