//! Messages to octets: what a speaker sends, and what one that plays a router does.

use super::attribute::{Flags, SegmentKind, code};
use super::nlri::{NlriPrefix, PrefixAddress};
use super::{Agreed, Capability, Family, HEADER_OCTETS, NextHop, Open, VERSION, kind};

/// Routes of one family with one set of attributes.
#[derive(Clone, Debug)]
pub struct RouteUpdate<'a> {
    pub origin: u8,
    pub as_path: &'a [(SegmentKind, Vec<u32>)],
    pub next_hop: NextHop<'a>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub communities: &'a [u32],
    pub large_communities: &'a [[u32; 3]],
    pub ext_communities: &'a [[u8; 8]],
    pub originator_id: Option<[u8; 4]>,
    pub cluster_list: &'a [[u8; 4]],
}

/// Appends one message; `body` writes what follows the header.
fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&[0, 0, kind]);
    body(out);
    let length = (out.len() - start).min(usize::from(u16::MAX)) as u16;
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

pub fn encode_keepalive(out: &mut Vec<u8>) {
    message(out, kind::KEEPALIVE, |_| {});
}

pub fn encode_notification(out: &mut Vec<u8>, code: u8, subcode: u8, data: &[u8]) {
    message(out, kind::NOTIFICATION, |out| {
        out.extend_from_slice(&[code, subcode]);
        out.extend_from_slice(data);
    });
}

/// RFC 2918 3, RFC 7313 3.2: subtype 0 asks, 1 begins a refresh, 2 ends it.
pub fn encode_route_refresh(out: &mut Vec<u8>, family: Family, subtype: u8) {
    message(out, kind::ROUTE_REFRESH, |out| {
        out.extend_from_slice(&family.afi.to_be_bytes());
        out.extend_from_slice(&[subtype, family.safi]);
    });
}

/// RFC 4271 4.2; capabilities beyond 255 octets as RFC 9072 says.
pub fn encode_open(out: &mut Vec<u8>, open: &Open<'_>) {
    let mut capabilities = Vec::new();
    for capability in &open.capabilities {
        encode_capability(&mut capabilities, capability);
    }
    message(out, kind::OPEN, |out| {
        out.push(VERSION);
        out.extend_from_slice(&open.as_two_octets.to_be_bytes());
        out.extend_from_slice(&open.hold_time_s.to_be_bytes());
        out.extend_from_slice(&open.bgp_id);
        match capabilities.len() {
            0 => out.push(0),
            length @ 1..=253 => out.extend_from_slice(&[length as u8 + 2, 2, length as u8]),
            length => {
                out.extend_from_slice(&[255, 255]);
                out.extend_from_slice(&(length as u16 + 3).to_be_bytes());
                out.push(2);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(&capabilities);
    });
}

fn encode_capability(out: &mut Vec<u8>, capability: &Capability<'_>) {
    let family = |family: &Family| [(family.afi >> 8) as u8, family.afi as u8, 0, family.safi];
    let short = |family: &Family| [(family.afi >> 8) as u8, family.afi as u8, family.safi];
    let (code, value): (u8, Vec<u8>) = match capability {
        Capability::MultiProtocol(of) => (1, family(of).to_vec()),
        Capability::RouteRefresh => (2, Vec::new()),
        Capability::ExtendedNextHop(list) => {
            (5, list.iter().flat_map(|(of, afi)| family(of).into_iter().chain(afi.to_be_bytes())).collect())
        }
        Capability::ExtendedMessage => (6, Vec::new()),
        Capability::MultipleLabels(list) => {
            (8, list.iter().flat_map(|(of, count)| short(of).into_iter().chain([*count])).collect())
        }
        Capability::Role(role) => (9, vec![*role]),
        Capability::GracefulRestart(restart) => {
            let flags = u16::from(restart.restarted) << 15 | u16::from(restart.notification) << 14;
            let head = (flags | restart.time_s & 0x0fff).to_be_bytes();
            let families = restart.families.iter();
            let families = families.flat_map(|(of, kept)| short(of).into_iter().chain([u8::from(*kept) << 7]));
            (64, head.into_iter().chain(families).collect())
        }
        Capability::FourOctetAs(number) => (65, number.to_be_bytes().to_vec()),
        Capability::AddPath(list) => {
            let ways = |way: &super::AddPath| u8::from(way.receive) | u8::from(way.send) << 1;
            (69, list.iter().flat_map(|way| short(&way.family).into_iter().chain([ways(way)])).collect())
        }
        Capability::EnhancedRouteRefresh => (70, Vec::new()),
        Capability::LongLivedGracefulRestart(list) => {
            let entry = |(of, flags, time): &(Family, u8, u32)| {
                let [_, x, y, z] = time.to_be_bytes();
                short(of).into_iter().chain([*flags, x, y, z])
            };
            (71, list.iter().flat_map(entry).collect())
        }
        Capability::Unknown { code, value } => (*code, value.to_vec()),
    };
    let value = &value[..value.len().min(255)];
    out.extend_from_slice(&[code, value.len() as u8]);
    out.extend_from_slice(value);
}

/// RFC 4724 2.
pub fn encode_end_of_rib(out: &mut Vec<u8>, family: Family) {
    message(out, kind::UPDATE, |out| {
        if family == Family::V4_UNICAST {
            out.extend_from_slice(&[0; 4]);
            return;
        }
        let [high, low] = family.afi.to_be_bytes();
        out.extend_from_slice(&[0, 0, 0, 6, Flags::OPTIONAL, code::MP_UNREACH_NLRI, 3, high, low, family.safi]);
    });
}

/// As many messages as the prefixes need; prefixes are all of one family. Without a route they are withdrawn.
pub fn encode_update(out: &mut Vec<u8>, route: Option<&RouteUpdate<'_>>, prefixes: &[NlriPrefix], agreed: &Agreed) {
    let Some(first) = prefixes.first() else { return };
    let v6 = matches!(first.address, PrefixAddress::V6(_));
    let family = if v6 { Family::V6_UNICAST } else { Family::V4_UNICAST };
    let add_path = agreed.has_add_path(family);
    let attributes = route.map(|route| encode_attributes(route, v6, agreed)).unwrap_or_default();
    let multi = v6 || route.is_some_and(|route| !matches!(route.next_hop, NextHop::V4(_)));
    // Header, both lengths, MP attribute's own head with a pair of next hops.
    let room = agreed.message_octets_max().saturating_sub(HEADER_OCTETS + 4 + attributes.len() + 4 + 3 + 34);
    let mut rest = prefixes;
    let mut nlri = Vec::new();
    while !rest.is_empty() {
        nlri.clear();
        let mut count = 0;
        for prefix in rest {
            if nlri.len() + 21 > room && count > 0 {
                break;
            }
            encode_prefix(&mut nlri, prefix, add_path);
            count += 1;
        }
        rest = &rest[count..];
        message(out, kind::UPDATE, |out| match (route, multi) {
            (Some(route), true) => {
                let mut value = mp_head(family);
                next_hop(&mut value, &route.next_hop);
                value.push(0);
                value.extend_from_slice(&nlri);
                let mut list = attributes.clone();
                attribute(&mut list, Flags::OPTIONAL, code::MP_REACH_NLRI, &value);
                sections(out, &[], &list, &[]);
            }
            (None, true) => {
                let mut value = mp_head(family);
                value.extend_from_slice(&nlri);
                let mut list = Vec::new();
                attribute(&mut list, Flags::OPTIONAL, code::MP_UNREACH_NLRI, &value);
                sections(out, &[], &list, &[]);
            }
            (Some(_), false) => sections(out, &[], &attributes, &nlri),
            (None, false) => sections(out, &nlri, &[], &[]),
        });
    }
}

fn mp_head(family: Family) -> Vec<u8> {
    let [high, low] = family.afi.to_be_bytes();
    vec![high, low, family.safi]
}

pub(super) fn next_hop(out: &mut Vec<u8>, next_hop: &NextHop<'_>) {
    match next_hop {
        NextHop::V4(address) => {
            out.push(4);
            out.extend_from_slice(address);
        }
        NextHop::V6(global, None) => {
            out.push(16);
            out.extend_from_slice(global);
        }
        NextHop::V6(global, Some(link_local)) => {
            out.push(32);
            out.extend_from_slice(global);
            out.extend_from_slice(link_local);
        }
        NextHop::Other(octets) => {
            let octets = &octets[..octets.len().min(255)];
            out.push(octets.len() as u8);
            out.extend_from_slice(octets);
        }
    }
}

fn sections(out: &mut Vec<u8>, withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) {
    out.extend_from_slice(&(withdrawn.len() as u16).to_be_bytes());
    out.extend_from_slice(withdrawn);
    out.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    out.extend_from_slice(attributes);
    out.extend_from_slice(nlri);
}

fn encode_prefix(out: &mut Vec<u8>, prefix: &NlriPrefix, add_path: bool) {
    if add_path {
        out.extend_from_slice(&prefix.path_id.to_be_bytes());
    }
    let (octets, most): (&[u8], u8) = match &prefix.address {
        PrefixAddress::V4(octets) => (octets, 32),
        PrefixAddress::V6(octets) => (octets, 128),
    };
    let len = prefix.len.min(most);
    out.push(len);
    out.extend_from_slice(&octets[..usize::from(len).div_ceil(8)]);
}

pub(super) fn encode_attributes(route: &RouteUpdate<'_>, v6: bool, agreed: &Agreed) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, Flags::TRANSITIVE, code::ORIGIN, &[route.origin]);
    let mut path = Vec::new();
    for (SegmentKind(kind), asns) in route.as_path {
        for asns in asns.chunks(255) {
            path.extend_from_slice(&[*kind, asns.len() as u8]);
            for asn in asns {
                if agreed.four_octet_as {
                    path.extend_from_slice(&asn.to_be_bytes());
                } else {
                    path.extend_from_slice(&u16::try_from(*asn).unwrap_or(super::AS_TRANS).to_be_bytes());
                }
            }
        }
    }
    attribute(&mut out, Flags::TRANSITIVE, code::AS_PATH, &path);
    if let (NextHop::V4(address), false) = (&route.next_hop, v6) {
        attribute(&mut out, Flags::TRANSITIVE, code::NEXT_HOP, address);
    }
    if let Some(med) = route.med {
        attribute(&mut out, Flags::OPTIONAL, code::MULTI_EXIT_DISC, &med.to_be_bytes());
    }
    if let Some(preference) = route.local_pref {
        attribute(&mut out, Flags::TRANSITIVE, code::LOCAL_PREF, &preference.to_be_bytes());
    }
    let both = Flags::OPTIONAL | Flags::TRANSITIVE;
    let list = |list: &[u32]| list.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    if !route.communities.is_empty() {
        attribute(&mut out, both, code::COMMUNITIES, &list(route.communities));
    }
    if let Some(id) = route.originator_id {
        attribute(&mut out, Flags::OPTIONAL, code::ORIGINATOR_ID, &id);
    }
    if !route.cluster_list.is_empty() {
        attribute(&mut out, Flags::OPTIONAL, code::CLUSTER_LIST, route.cluster_list.as_flattened());
    }
    if !route.ext_communities.is_empty() {
        attribute(&mut out, both, code::EXTENDED_COMMUNITIES, route.ext_communities.as_flattened());
    }
    if !agreed.four_octet_as && route.as_path.iter().flat_map(|(_, asns)| asns).any(|asn| *asn > 65_535) {
        let mut path = Vec::new();
        let plain = |(kind, _): &&(SegmentKind, Vec<u32>)| matches!(*kind, SegmentKind::SET | SegmentKind::SEQUENCE);
        for (SegmentKind(kind), asns) in route.as_path.iter().filter(plain) {
            for asns in asns.chunks(255) {
                path.extend_from_slice(&[*kind, asns.len() as u8]);
                path.extend_from_slice(&list(asns));
            }
        }
        attribute(&mut out, both, code::AS4_PATH, &path);
    }
    if !route.large_communities.is_empty() {
        attribute(&mut out, both, code::LARGE_COMMUNITIES, &list(route.large_communities.as_flattened()));
    }
    out
}

pub(super) fn attribute(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, code, length]),
        Err(_) => {
            out.extend_from_slice(&[flags | Flags::EXTENDED, code]);
            out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}
