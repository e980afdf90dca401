//! An UPDATE as events of the route table.

use std::sync::Arc;

use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::route::{Family, Path, PeerId, RouteEvent, Segment};
use benocs_wire::bgp::{self, NextHop, Nlri, PrefixAddress, Update};

/// Appends what the message does. `own_id` is the reader's BGP identifier: paths that it originated are not taken.
pub fn events(peer: PeerId, own_id: [u8; 4], update: &Update<'_>, out: &mut Vec<RouteEvent>) {
    // RFC 4271 4.3: a prefix in both lists is announced.
    for nlri in update.withdrawals() {
        withdraw(peer, prefixes(nlri), out);
    }
    for (next_hop, nlri) in update.announcements() {
        // RFC 4456 8: a path that came back.
        if update.attributes.originator_id == Some(own_id) {
            withdraw(peer, prefixes(nlri), out);
            continue;
        }
        let Some(next_hop) = address(next_hop) else { continue };
        let prefixes = prefixes(nlri);
        if !prefixes.is_empty() {
            out.push(RouteEvent::Announce { peer, path: Arc::new(path(update, next_hop)), prefixes });
        }
    }
    let family = match update.end_of_rib() {
        Some(bgp::Family::V4_UNICAST) => Family::V4Unicast,
        Some(bgp::Family::V6_UNICAST) => Family::V6Unicast,
        _ => return,
    };
    out.push(RouteEvent::EndOfRib { peer, family: family as u8 });
}

fn withdraw(peer: PeerId, mut gone: Vec<(u32, Prefix)>, out: &mut Vec<RouteEvent>) {
    match out.last_mut() {
        _ if gone.is_empty() => {}
        Some(RouteEvent::Withdraw { peer: last, prefixes }) if *last == peer => prefixes.append(&mut gone),
        _ => out.push(RouteEvent::Withdraw { peer, prefixes: gone }),
    }
}

fn prefixes(nlri: Nlri<'_>) -> Vec<(u32, Prefix)> {
    nlri.filter_map(|prefix| {
        let address = match prefix.address {
            PrefixAddress::V4(octets) => Address::from_v4(octets),
            // An IPv4 address in IPv6's clothes is no destination (RFC 4291 2.5.5.2).
            PrefixAddress::V6(octets) => Some(Address(octets)).filter(|address| !address.is_v4())?,
        };
        Some((prefix.path_id, Prefix { address, len: prefix.len }))
    })
    .collect()
}

/// RFC 2545 3: the global address, unless there is only the link-local one.
fn address(next_hop: NextHop<'_>) -> Option<Address> {
    match next_hop {
        NextHop::V4(octets) => Some(Address::from_v4(octets)),
        NextHop::V6(global, link_local) if global == [0; 16] => link_local.map(Address),
        NextHop::V6(global, _) => Some(Address(global)),
        NextHop::Other(_) => None,
    }
}

fn path(update: &Update<'_>, next_hop: Address) -> Path {
    let attributes = &update.attributes;
    let word = |[a, b, c, d]: [u8; 4]| u32::from_be_bytes([a, b, c, d]);
    let large = |octets: &[u8; 12]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *octets;
        [word([a, b, c, d]), word([e, f, g, h]), word([i, j, k, l])]
    };
    let segment = |(kind, asns): (bgp::SegmentKind, Vec<u32>)| Segment { kind: kind.0, asns };
    // Communities are sets (RFC 1997, RFC 8092): in order, equal ones have one hash.
    let mut communities: Vec<u32> = attributes.communities.iter().copied().map(word).collect();
    let mut large_communities: Vec<[u32; 3]> = attributes.large_communities.iter().map(large).collect();
    let mut ext_communities = attributes.extended_communities.to_vec();
    communities.sort_unstable();
    communities.dedup();
    large_communities.sort_unstable();
    large_communities.dedup();
    ext_communities.sort_unstable();
    ext_communities.dedup();
    Path {
        origin: attributes.origin.unwrap_or(2),
        as_path: attributes.merged_as_path().into_iter().map(segment).collect(),
        next_hop,
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities,
        large_communities,
        ext_communities,
        originator_id: attributes.originator_id,
        cluster_list: attributes.cluster_list.to_vec(),
        further: None,
    }
}
