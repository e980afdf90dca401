//! What the IGP knows: IS-IS level 2, its nodes, links and prefixes, as the
//! sessions tell it over BGP-LS (RFC 9552) and as `--graph` writes it.

use std::collections::HashSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Serialize, Serializer};

use super::network::{Connectivity, IfId, Network, RouterId};
use crate::encode::link_state::{self, NodeId};

/// Routers that tell the graph over BGP, as a network's reflectors do: the first cores.
pub const SPEAKERS: usize = 2;

/// ISO 10589 7.1: a private area, the same everywhere.
const AREA: [u8; 3] = [0x49, 0x00, 0x01];
/// Of subnets in which there is no adjacency.
const PASSIVE_METRIC: u32 = 10;
/// Administrative groups of links within a place, and between places.
const METRO: u32 = 1;
const BACKBONE: u32 = 1 << 1;

/// ISO 10589 7.1: by habit the loopback's twelve digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SystemId(pub [u8; 6]);

impl SystemId {
    fn of(loopback: Ipv4Addr) -> Self {
        let [a, b, c, d] = loopback.octets().map(u64::from);
        let mut digits = ((a * 1000 + b) * 1000 + c) * 1000 + d;
        let mut octets = [0; 6];
        for octet in octets.iter_mut().rev() {
            *octet = ((digits % 10) | ((digits / 10 % 10) << 4)) as u8;
            digits /= 100;
        }
        Self(octets)
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{g:02x}")
    }
}

impl Serialize for SystemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Node {
    pub name: String,
    pub asn: u32,
    pub system_id: SystemId,
    pub router_id_v4: Ipv4Addr,
    pub router_id_v6: Ipv6Addr,
}

/// One direction of an adjacency.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    pub local: SystemId,
    pub remote: SystemId,
    pub local_v4: Ipv4Addr,
    pub remote_v4: Ipv4Addr,
    pub local_v6: Ipv6Addr,
    pub remote_v6: Ipv6Addr,
    pub metric: u32,
    pub admin_group: u32,
    pub bandwidth_bits_per_s: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Prefix {
    pub node: SystemId,
    pub prefix: IpNet,
    pub metric: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct Graph {
    /// By router.
    pub nodes: Vec<Node>,
    pub links: Vec<Link>,
    pub prefixes: Vec<Prefix>,
    /// Cost of the shortest path, by [from][to] in the order of the nodes.
    pub distances: Vec<Vec<u32>>,
}

impl Graph {
    pub fn of(network: &Network) -> Self {
        let nodes: Vec<Node> = network
            .routers
            .iter()
            .map(|router| Node {
                name: router.name.clone(),
                asn: network.own_as,
                system_id: SystemId::of(router.loopback),
                router_id_v4: router.loopback,
                router_id_v6: router.loopback6,
            })
            .collect();
        let mut links = Vec::new();
        for near in &network.interfaces {
            let Some(far) = near.far.map(|far| network.interface(far)) else { continue };
            let same_place = network.routers[near.router].pop == network.routers[far.router].pop;
            links.push(Link {
                local: nodes[near.router].system_id,
                remote: nodes[far.router].system_id,
                local_v4: near.v4.0,
                remote_v4: far.v4.0,
                local_v6: near.v6.0,
                remote_v6: far.v6.0,
                metric: near.metric,
                admin_group: if same_place { METRO } else { BACKBONE },
                bandwidth_bits_per_s: near.speed,
            });
        }
        let own: HashSet<IfId> = network.groups.iter().filter_map(|group| group.kind.own_interface()).collect();
        let mut prefixes = Vec::new();
        for (id, port) in network.interfaces.iter().enumerate() {
            // Where a router sets itself as next hop, nobody needs the neighbours' subnets.
            let told = match port.connectivity {
                Connectivity::Loopback | Connectivity::Core => true,
                _ => own.contains(&id) || !network.routers[port.router].vendor.next_hop_self(),
            };
            if !told {
                continue;
            }
            let metric = match port.connectivity {
                Connectivity::Loopback => 0,
                Connectivity::Core => port.metric,
                _ => PASSIVE_METRIC,
            };
            let v4 = Ipv4Net::new(port.v4.0, port.v4.1).map(|net| IpNet::V4(net.trunc()));
            let v6 = Ipv6Net::new(port.v6.0, port.v6.1).map(|net| IpNet::V6(net.trunc()));
            for prefix in [v4, v6].into_iter().flatten() {
                prefixes.push(Prefix { node: nodes[port.router].system_id, prefix, metric });
            }
        }
        Self { nodes, links, prefixes, distances: network.distance.clone() }
    }

    /// Updates of everything, as the router tells it.
    pub fn announcements(&self, router: RouterId) -> Vec<Vec<u8>> {
        let next_hop = self.nodes[router].router_id_v4;
        let id = |system_id: SystemId| NodeId { asn: self.nodes[router].asn, system_id: system_id.0 };
        let loopback = |system_id: SystemId| {
            let node = self.nodes.iter().find(|node| node.system_id == system_id);
            node.map_or(Ipv4Addr::UNSPECIFIED, |node| node.router_id_v4)
        };
        let nodes = self.nodes.iter().map(|node| {
            let told = link_state::Node {
                id: id(node.system_id),
                name: &node.name,
                area: &AREA,
                router_id_v4: node.router_id_v4,
                router_id_v6: node.router_id_v6,
            };
            link_state::announce_node(next_hop, &told)
        });
        let links = self.links.iter().map(|link| {
            let told = link_state::Link {
                nodes: (id(link.local), id(link.remote)),
                v4: (link.local_v4, link.remote_v4),
                v6: (link.local_v6, link.remote_v6),
                router_ids: (loopback(link.local), loopback(link.remote)),
                metric: link.metric,
                admin_group: link.admin_group,
                bandwidth_octets_per_s: (link.bandwidth_bits_per_s / 8) as f32,
            };
            link_state::announce_link(next_hop, &told)
        });
        let prefixes = self.prefixes.iter().map(|prefix| {
            let told = link_state::Prefix { node: id(prefix.node), net: prefix.prefix, metric: prefix.metric };
            link_state::announce_prefix(next_hop, &told)
        });
        nodes.chain(links).chain(prefixes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_table::AsTable;
    use crate::encode::bgp::MESSAGE_OCTETS_MAX;
    use crate::simulate::Scale;
    use crate::simulate::rib::Rib;

    #[test]
    fn a_system_id_has_the_loopbacks_digits() {
        assert_eq!(SystemId::of(Ipv4Addr::new(198, 18, 255, 1)).to_string(), "1980.1825.5001");
        assert_eq!(SystemId::of(Ipv4Addr::new(10, 0, 0, 12)).to_string(), "0100.0000.0012");
    }

    #[test]
    fn shortest_paths_over_the_links_are_the_distances() {
        let table = AsTable::embedded().unwrap();
        for scale in [Scale::Small, Scale::Medium, Scale::Large] {
            let graph = Graph::of(&Network::build(11, scale, 64_500, &table));
            let at = |id: SystemId| graph.nodes.iter().position(|node| node.system_id == id).unwrap();
            for from in 0..graph.nodes.len() {
                // Bellman and Ford's way, unlike the model's own.
                let mut distance = vec![u32::MAX; graph.nodes.len()];
                distance[from] = 0;
                let mut changed = true;
                while changed {
                    changed = false;
                    for link in &graph.links {
                        let (local, remote) = (at(link.local), at(link.remote));
                        let over = distance[local].saturating_add(link.metric);
                        changed |= over < distance[remote];
                        distance[remote] = distance[remote].min(over);
                    }
                }
                assert_eq!(distance, graph.distances[from], "from {}", graph.nodes[from].name);
            }
        }
    }

    #[test]
    fn every_next_hop_is_within_a_prefix_of_the_router_where_it_leaves() {
        let network = Network::build(5, Scale::Small, 64_500, &AsTable::embedded().unwrap());
        let (graph, rib) = (Graph::of(&network), Rib::build(&network));
        for group in 0..network.groups.len() {
            for router in 0..network.routers.len() {
                let leaves = network.interface(rib.best(group, router).interface).router;
                for v6 in [false, true] {
                    let hop = rib.next_hop(&network, router, group, v6);
                    let holders = graph.prefixes.iter().filter(|prefix| prefix.prefix.contains(&hop));
                    let holders: Vec<SystemId> = holders.map(|prefix| prefix.node).collect();
                    assert_eq!(holders, [graph.nodes[leaves].system_id], "{hop}");
                }
            }
        }
        assert!(graph.announcements(0).iter().all(|message| message.len() <= MESSAGE_OCTETS_MAX));
    }
}
