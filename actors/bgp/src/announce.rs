//! What is announced to a peer: what `[[bgp.announce]]` names, and nothing else.

use std::net::IpAddr;

use benocs_wire::bgp::{self, Agreed, Family, NextHop, NlriPrefix, PrefixAddress, RouteUpdate, SegmentKind};

use crate::config::AnnouncePlan;

const LOCAL_PREF: u32 = 100;

/// Appends the routes of one family that go to a peer; `agreed` is how the peer reads, `v6_next_hops` whether it
/// takes them for IPv4 routes. How many they are.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    announces: &[AnnouncePlan],
    peer: &str,
    family: Family,
    local_as: u32,
    v6_next_hops: bool,
    agreed: &Agreed,
) -> usize {
    let mut count = 0;
    for announce in announces.iter().filter(|announce| announce.peers.iter().any(|name| name == peer)) {
        let address = match announce.prefix.addr() {
            IpAddr::V4(address) if family == Family::V4_UNICAST => PrefixAddress::V4(address.octets()),
            IpAddr::V6(address) if family == Family::V6_UNICAST => PrefixAddress::V6(address.octets()),
            _ => continue,
        };
        // RFC 8950 4.
        if announce.next_hop.is_ipv6() && family == Family::V4_UNICAST && !v6_next_hops {
            continue;
        }
        // RFC 4271 5.1.2, 5.1.5: the path begins with the own AS and the preference stays within it.
        let as_path = [(SegmentKind::SEQUENCE, vec![local_as])];
        let route = RouteUpdate {
            origin: 0,
            as_path: if agreed.external { &as_path } else { &[] },
            next_hop: match announce.next_hop {
                IpAddr::V4(address) => NextHop::V4(address.octets()),
                IpAddr::V6(address) => NextHop::V6(address.octets(), None),
            },
            med: announce.med,
            local_pref: (!agreed.external).then_some(announce.local_pref.unwrap_or(LOCAL_PREF)),
            communities: &announce.communities,
            large_communities: &announce.large_communities,
            ext_communities: &[],
            originator_id: None,
            cluster_list: &[],
        };
        let prefix = NlriPrefix { path_id: 0, address, len: announce.prefix.prefix_len() };
        bgp::encode_update(out, Some(&route), &[prefix], agreed);
        count += 1;
    }
    count
}
