//! What the IGP knows: IS-IS level 2, its nodes, links and prefixes, as the
//! sessions tell it over BGP-LS (RFC 9552) and as `--graph` writes it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, Serializer};

use super::network::{Connectivity, IfId, Network, RouterId};
use crate::encode::link_state::{self, NodeId};

/// Routers that tell the graph over BGP, as a network's reflectors do: the first cores.
pub const SPEAKERS: usize = 2;

/// ISO 10589 7.1: a private area, the same everywhere.
const AREA: [u8; 3] = [0x49, 0x00, 0x01];
/// Of subnets in which there is no adjacency.
const PASSIVE_METRIC: u32 = 10;
/// Further nodes cost so much that no path between the provider's own routers is over them.
const FURTHER_METRIC: u32 = 10_000;
pub const FURTHER_MAX: usize = 20_000;
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
    /// Cost of the shortest path, by [from][to] in the order of the nodes, from each of the provider's routers.
    pub distances: Vec<Vec<u32>>,
}

impl Graph {
    /// The provider's routers, and `further` nodes behind them that are in the IGP alone.
    pub fn of(network: &Network, further: usize) -> Self {
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
        let mut graph = Self { nodes, links, prefixes, distances: Vec::new() };
        graph.extend(network, further.min(FURTHER_MAX));
        graph.distances = graph.shortest_paths(network.routers.len());
        graph
    }

    /// Each node is at two earlier ones: at the cores first, then anywhere.
    fn extend(&mut self, network: &Network, further: usize) {
        let mut rng = ChaCha8Rng::seed_from_u64(further as u64 ^ 0x6967_7000);
        let cores: Vec<RouterId> = (0..network.routers.len()).filter(|router| !network.routers[*router].edge).collect();
        let (own, mut subnet) = (self.nodes.len(), 0u32);
        for number in 0..further {
            let loopback = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 1)) + number as u32);
            let loopback6 = Ipv6Addr::new(0x2001, 0xdb8, 0xfffc, 0, 0, 0, 0, number as u16 + 1);
            let node = Node {
                name: format!("agg{}.{}.example.net", number + 1, network.pops[number % network.pops.len()]),
                asn: network.own_as,
                system_id: SystemId::of(loopback),
                router_id_v4: loopback,
                router_id_v6: loopback6,
            };
            for prefix in [IpNet::from(IpAddr::from(loopback)), IpNet::from(IpAddr::from(loopback6))] {
                self.prefixes.push(Prefix { node: node.system_id, prefix, metric: 0 });
            }
            let first = if number < 4 * cores.len() { cores[number % cores.len()] } else { own + number / 4 };
            let second = if number == 0 { cores[cores.len() - 1] } else { own + rng.random_range(0..number) };
            for at in [first, second] {
                let attached = if at < own { FURTHER_METRIC } else { 0 };
                self.connect(&node, at, subnet, attached + rng.random_range(10..100));
                subnet += 1;
            }
            self.nodes.push(node);
        }
    }

    /// Both directions of a link between a new node and an earlier one.
    fn connect(&mut self, node: &Node, at: usize, subnet: u32, metric: u32) {
        let v4 = |host: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 96, 0, 0)) + subnet * 4 + host);
        let v6 = |host: u16| Ipv6Addr::new(0x2001, 0xdb8, 0xfffb, subnet as u16, 0, 0, 0, host);
        let there = self.nodes[at].system_id;
        for (local, remote, own, far) in [(node.system_id, there, 1, 2), (there, node.system_id, 2, 1)] {
            self.links.push(Link {
                local,
                remote,
                local_v4: v4(own),
                remote_v4: v4(far),
                local_v6: v6(own as u16),
                remote_v6: v6(far as u16),
                metric,
                admin_group: METRO,
                bandwidth_bits_per_s: 100_000_000_000,
            });
        }
    }

    /// Dijkstra from each of the first nodes.
    fn shortest_paths(&self, from: usize) -> Vec<Vec<u32>> {
        let number: HashMap<SystemId, usize> =
            self.nodes.iter().enumerate().map(|(number, node)| (node.system_id, number)).collect();
        let mut near: Vec<Vec<(usize, u32)>> = vec![Vec::new(); self.nodes.len()];
        for link in &self.links {
            near[number[&link.local]].push((number[&link.remote], link.metric));
        }
        let tree = |root: usize| {
            let mut distance = vec![u32::MAX; near.len()];
            distance[root] = 0;
            let mut queue = BinaryHeap::from([(Reverse(0), root)]);
            while let Some((Reverse(so_far), at)) = queue.pop() {
                for (to, metric) in &near[at] {
                    if so_far + metric < distance[*to] {
                        distance[*to] = so_far + metric;
                        queue.push((Reverse(distance[*to]), *to));
                    }
                }
            }
            distance
        };
        (0..from).map(tree).collect()
    }

    /// Updates of everything, as the router tells it.
    pub fn announcements(&self, router: RouterId) -> Vec<Vec<u8>> {
        let next_hop = self.nodes[router].router_id_v4;
        let id = |system_id: SystemId| NodeId { asn: self.nodes[router].asn, system_id: system_id.0 };
        let loopbacks: HashMap<SystemId, Ipv4Addr> =
            self.nodes.iter().map(|node| (node.system_id, node.router_id_v4)).collect();
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
                router_ids: (loopbacks[&link.local], loopbacks[&link.remote]),
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
        for (scale, further) in [(Scale::Small, 0), (Scale::Small, 300), (Scale::Medium, 0), (Scale::Large, 0)] {
            let network = Network::build(11, scale, 64_500, &table);
            let graph = Graph::of(&network, further);
            let own = network.routers.len();
            assert_eq!((graph.nodes.len(), graph.distances.len()), (own + further, own));
            let at = |id: SystemId| graph.nodes.iter().position(|node| node.system_id == id).unwrap();
            for from in 0..own {
                assert_eq!(graph.distances[from][..own], network.distance[from], "what forwards packets");
                // Bellman and Ford's way, unlike the graph's own.
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
    fn thousands_of_nodes_are_numbered_without_clash() {
        let network = Network::build(5, Scale::Small, 64_500, &AsTable::embedded().unwrap());
        let graph = Graph::of(&network, 5_000);
        let all = |items: Vec<String>| (items.len(), items.into_iter().collect::<HashSet<_>>().len());
        for (count, distinct) in [
            all(graph.nodes.iter().map(|node| node.system_id.to_string()).collect()),
            all(graph.nodes.iter().map(|node| node.name.clone()).collect()),
            all(graph.links.iter().map(|link| link.local_v4.to_string()).collect()),
            all(graph.links.iter().map(|link| link.local_v6.to_string()).collect()),
            all(graph.prefixes.iter().map(|prefix| format!("{} {}", prefix.node, prefix.prefix)).collect()),
        ] {
            assert_eq!(count, distinct);
        }
        assert!(graph.distances.iter().flatten().all(|distance| *distance < u32::MAX));
        assert_eq!(graph.announcements(1).len(), graph.nodes.len() + graph.links.len() + graph.prefixes.len());
    }

    #[test]
    fn every_next_hop_is_within_a_prefix_of_the_router_where_it_leaves() {
        let network = Network::build(5, Scale::Small, 64_500, &AsTable::embedded().unwrap());
        let (graph, rib) = (Graph::of(&network, 0), Rib::build(&network));
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
