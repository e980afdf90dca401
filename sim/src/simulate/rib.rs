//! What each router would do with a packet: candidates from the neighbours, the
//! decision of RFC 4271 (9.1) at each router, and the way through the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::{Connectivity, GroupId, GroupKind, IfId, NeighbourId, Network, RouterId};
use crate::encode::bgp::Attributes;

/// A way out of the network towards a group.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub interface: IfId,
    /// `None` for own consumers and caches.
    pub neighbour: Option<NeighbourId>,
    pub local_pref: u32,
    pub as_path: Vec<u32>,
    pub next_hop_v4: Ipv4Addr,
    pub next_hop_v6: Ipv6Addr,
}

/// One hop of a packet's way: where it enters the router and where it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub router: RouterId,
    pub in_if: IfId,
    pub out_if: IfId,
}

#[derive(Clone, Debug)]
pub struct Rib {
    /// By group.
    pub candidates: Vec<Vec<Candidate>>,
    /// By group, then router: index of the candidate.
    pub best: Vec<Vec<u16>>,
    /// By group: where its traffic may enter, with the neighbour that hands it over.
    pub entries: Vec<Vec<(IfId, Option<NeighbourId>)>>,
}

const HOPS_MAX: usize = 16;

fn mix(number: u32, salt: u32) -> u32 {
    let mut x = number.wrapping_mul(0x9e37_79b1) ^ salt.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 15;
    x = x.wrapping_mul(0x2c1b_3c6d);
    x ^ x >> 13
}

impl Rib {
    pub fn build(network: &Network) -> Self {
        let mut rib = Self { candidates: Vec::new(), best: Vec::new(), entries: Vec::new() };
        for group in &network.groups {
            let candidates = candidates(network, group.asn, group.kind);
            let best = (0..network.routers.len()).map(|router| decide(network, &candidates, router)).collect();
            rib.candidates.push(candidates);
            rib.best.push(best);
        }
        for (id, group) in network.groups.iter().enumerate() {
            let entries = rib.entries(network, id, group.kind);
            rib.entries.push(entries);
        }
        rib
    }

    pub fn best(&self, group: GroupId, router: RouterId) -> &Candidate {
        &self.candidates[group][usize::from(self.best[group][router])]
    }

    /// From the interface where it enters, router by router, to where it leaves.
    pub fn way(&self, network: &Network, entry: IfId, to: GroupId) -> Vec<Hop> {
        let mut hops = Vec::with_capacity(4);
        let mut in_if = entry;
        while hops.len() < HOPS_MAX {
            let router = network.interfaces[in_if].router;
            let exit = self.best(to, router).interface;
            let egress = network.interfaces[exit].router;
            if egress == router {
                hops.push(Hop { router, in_if, out_if: exit });
                return hops;
            }
            let Some(out_if) = network.towards[router][egress] else { break };
            let Some(next) = network.interfaces[out_if].far else { break };
            hops.push(Hop { router, in_if, out_if });
            in_if = next;
        }
        Vec::new()
    }

    /// What the router tells about the group over its iBGP session.
    pub fn announced(&self, network: &Network, router: RouterId, group: GroupId) -> Attributes {
        let candidate = self.best(group, router);
        let learnt_by = network.interfaces[candidate.interface].router;
        let origin = &network.routers[learnt_by];
        let (next_hop_v4, next_hop_v6) = next_hops(network, candidate);
        let own = network.own_as.min(0xffff) << 16;
        let class = match candidate.local_pref {
            300.. => 100,
            200..300 => 200,
            150..200 => 210,
            _ => 300,
        };
        let reflected = learnt_by != router;
        Attributes {
            as_path: candidate.as_path.clone(),
            next_hop_v4,
            next_hop_v6,
            local_pref: candidate.local_pref,
            med: candidate.neighbour.is_some().then_some(0),
            communities: vec![own | class, own | (1000 + network.routers[learnt_by].pop as u32)],
            originator: reflected.then_some(origin.loopback),
            cluster: if reflected { vec![network.routers[router].loopback] } else { Vec::new() },
        }
    }

    /// The next hop that a flow record of the router names.
    pub fn next_hop(&self, network: &Network, router: RouterId, group: GroupId, v6: bool) -> IpAddr {
        let candidate = self.best(group, router);
        let (v4_hop, v6_hop) = next_hops(network, candidate);
        if v6 { v6_hop.into() } else { v4_hop.into() }
    }

    fn entries(&self, network: &Network, group: GroupId, kind: GroupKind) -> Vec<(IfId, Option<NeighbourId>)> {
        if let Some(interface) = kind.own_interface() {
            return vec![(interface, None)];
        }
        let own_links = |candidate: &Candidate| candidate.local_pref >= 300;
        self.candidates[group]
            .iter()
            .filter(|candidate| kind != GroupKind::Customer || own_links(candidate))
            .filter(|candidate| {
                // Who hands traffic over at an exchange is known only from the way back, which has to be the same.
                network.interfaces[candidate.interface].connectivity != Connectivity::Exchange || {
                    let router = network.interfaces[candidate.interface].router;
                    let back = self.best(group, router);
                    (back.interface, back.neighbour) == (candidate.interface, candidate.neighbour)
                }
            })
            .map(|candidate| (candidate.interface, candidate.neighbour))
            .collect()
    }
}

/// What is redistributed keeps its next hop; what a neighbour told may be replaced.
fn next_hops(network: &Network, candidate: &Candidate) -> (Ipv4Addr, Ipv6Addr) {
    let origin = &network.routers[network.interfaces[candidate.interface].router];
    if candidate.neighbour.is_some() && origin.vendor.next_hop_self() {
        (origin.loopback, origin.loopback6)
    } else {
        (candidate.next_hop_v4, candidate.next_hop_v6)
    }
}

fn candidates(network: &Network, asn: u32, kind: GroupKind) -> Vec<Candidate> {
    if let Some(interface) = kind.own_interface() {
        let port = network.interface(interface);
        let far6 = Ipv6Addr::from(u128::from(port.v6.0) + 1);
        return vec![Candidate {
            interface,
            neighbour: None,
            local_pref: 400,
            as_path: Vec::new(),
            next_hop_v4: Ipv4Addr::from(u32::from(port.v4.0) + 1),
            next_hop_v6: far6,
        }];
    }
    let mut all = Vec::new();
    let direct = network.neighbours.iter().any(|neighbour| neighbour.asn == asn);
    let peers: Vec<u32> = network
        .neighbours
        .iter()
        .filter(|neighbour| neighbour.connectivity == Connectivity::Exchange)
        .map(|neighbour| neighbour.asn)
        .collect();
    // Half of those that are not connected themselves are behind one of the exchange's members.
    let behind = (!direct && mix(asn, 1).is_multiple_of(2) && !peers.is_empty())
        .then(|| peers[mix(asn, 2) as usize % peers.len()]);
    for (id, neighbour) in network.neighbours.iter().enumerate() {
        let as_path = if neighbour.asn == asn {
            vec![asn]
        } else if neighbour.connectivity == Connectivity::Transit {
            match mix(asn, neighbour.asn) % 3 {
                0 => vec![neighbour.asn, asn],
                _ => {
                    let upstreams: Vec<u32> =
                        network.upstreams.iter().copied().filter(|upstream| *upstream != asn).collect();
                    match upstreams.get(mix(asn, 3) as usize % upstreams.len().max(1)) {
                        Some(upstream) => vec![neighbour.asn, *upstream, asn],
                        None => vec![neighbour.asn, asn],
                    }
                }
            }
        } else if behind == Some(neighbour.asn) {
            vec![neighbour.asn, asn]
        } else {
            continue;
        };
        for session in &neighbour.sessions {
            let local_pref = match network.interface(session.interface).connectivity {
                Connectivity::Customer => 300,
                Connectivity::Peering => 200,
                Connectivity::Exchange => 180,
                _ => 100,
            };
            all.push(Candidate {
                interface: session.interface,
                neighbour: Some(id),
                local_pref,
                as_path: as_path.clone(),
                next_hop_v4: session.v4,
                next_hop_v6: session.v6,
            });
        }
    }
    all
}

/// Local preference, path length, own neighbour, distance, then the smaller router and interface.
fn decide(network: &Network, candidates: &[Candidate], router: RouterId) -> u16 {
    let key = |candidate: &Candidate| {
        let at = network.interfaces[candidate.interface].router;
        (
            std::cmp::Reverse(candidate.local_pref),
            candidate.as_path.len(),
            at != router,
            network.distance[router][at],
            at,
            candidate.interface,
            candidate.neighbour,
        )
    };
    let best = candidates.iter().enumerate().min_by_key(|(_, candidate)| key(candidate));
    best.map_or(0, |(index, _)| index as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_table::AsTable;
    use crate::simulate::Scale;

    #[test]
    fn every_way_ends_where_the_first_router_says() {
        let table = AsTable::embedded().unwrap();
        for scale in [Scale::Small, Scale::Medium] {
            let network = Network::build(3, scale, 64_500, &table);
            let rib = Rib::build(&network);
            let mut longest = 0;
            for group in 0..network.groups.len() {
                assert!(!rib.candidates[group].is_empty());
                assert!(!rib.entries[group].is_empty());
                for router in 0..network.routers.len() {
                    if !network.routers[router].edge {
                        continue;
                    }
                    let entry = network.routers[router].interfaces[1];
                    let way = rib.way(&network, entry, group);
                    let last = way.last().expect("there is a way");
                    assert_eq!(last.out_if, rib.best(group, router).interface);
                    longest = longest.max(way.len());
                }
            }
            assert!(longest >= 4, "the longest way has {longest} routers");
        }
    }
}
