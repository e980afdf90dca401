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

fn message(kind: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&[0xff; 16]);
    out.u16(0);
    out.u8(kind);
    out
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
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

/// RFC 4271, 4.2, with the capabilities that the updates below use.
pub fn open(local_as: u32, hold_time_s: u16, id: Ipv4Addr) -> Vec<u8> {
    let mut out = message(OPEN);
    out.u8(4);
    out.u16(u16::try_from(local_as).unwrap_or(AS_TRANS));
    out.u16(hold_time_s);
    out.extend_from_slice(&id.octets());
    let mut capabilities = Vec::new();
    for afi in [1, 2] {
        capabilities.extend_from_slice(&[1, 4, 0, afi, 0, 1]);
    }
    capabilities.extend_from_slice(&[2, 0, 65, 4]);
    capabilities.u32(local_as);
    out.u8(capabilities.len() as u8 + 2);
    out.u8(2);
    out.u8(capabilities.len() as u8);
    out.extend_from_slice(&capabilities);
    finish(out)
}

/// RFC 4724, section 2: nothing follows of this family.
pub fn end_of_rib(ipv6: bool) -> Vec<u8> {
    let mut out = message(UPDATE);
    out.u16(0);
    if ipv6 {
        out.u16(6);
        out.extend_from_slice(&[0x80, 15, 3, 0, 2, 1]);
    } else {
        out.u16(0);
    }
    finish(out)
}

fn attribute(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
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
