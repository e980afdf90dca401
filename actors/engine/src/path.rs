//! Ways through the network: from router to router by the graph, from router to egress by the routes too.

use std::collections::HashSet;
use std::sync::Arc;

use benocs_model::address::Address;
use benocs_model::graph::{Graph, Node, NodeId};
use benocs_model::network::{Network, Router};
use benocs_model::route::{Found, Provenance, RouteView};
use serde::{Deserialize, Serialize};

/// Routers that hand a packet on by routes of their own; more of them is a loop.
const EXITS_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("there is no network graph: set engine.graph_file, or have a router tell it over BGP-LS")]
    NoGraph,
    #[error("no node is called {0:?}: give a router's name, one of its addresses, or its system id")]
    Unknown(String),
    #[error("no path leads from {from} to {to}")]
    NoPath { from: String, to: String },
}

/// A node on a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    pub router: String,
    /// System id or router id.
    pub id: String,
    /// A broadcast network, not a router.
    pub broadcast: bool,
    /// From the first router to here.
    pub cost: u32,
    /// Of the link over which it is reached, with the addresses of its ends.
    pub metric: Option<u32>,
    pub local: Vec<String>,
    pub remote: Vec<String>,
}

/// A shortest path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphPath {
    pub from: String,
    pub to: String,
    pub cost: u32,
    /// Links between routers.
    pub hops: usize,
    /// How many paths cost the same.
    pub equal_cost_paths: u64,
    /// Routers at which those begin.
    pub next_hops: Vec<String>,
    /// One of the paths, first and last router included.
    pub path: Vec<Hop>,
}

/// Where traffic to an address leaves the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Egress {
    /// Absent where nobody is known to have the next hop.
    pub egress_router: Option<String>,
    /// Next hop of the egress router's own route: the neighbour, where the ingress router's hides it.
    pub neighbour: Option<String>,
    pub neighbour_as: Option<u32>,
    /// The egress router's own table said so; otherwise what is known is the ingress router's next hop.
    pub egress_by_own_table: bool,
    /// Traffic may leave elsewhere too: paths of equal cost to another egress, or further paths to the address.
    pub egress_ambiguous: bool,
    pub graph_path: Option<GraphPath>,
}

/// Router as questions name it, in the inventory.
fn known<'a>(network: &'a Network, text: &str, address: Option<Address>) -> Option<&'a Router> {
    let by_name = network.routers.iter().find(|router| router.name == text);
    by_name.or_else(|| network.routers.iter().find(|router| address.is_some_and(|a| router.addresses.contains(&a))))
}

fn node_of(graph: &Graph, router: &Router) -> Option<NodeId> {
    let at = router.addresses.iter().find_map(|address| graph.router_at(*address));
    // A loopback that the IGP has as a prefix alone.
    let owns = || router.addresses.iter().find_map(|address| graph.owner(*address));
    at.or_else(|| graph.node_named(&router.name)).or_else(owns)
}

/// A node by a router's name or address, or by what the IGP calls it.
pub fn locate(graph: &Graph, network: &Network, text: &str) -> Option<NodeId> {
    let address = text.parse::<std::net::IpAddr>().ok().map(Address::from);
    let router = known(network, text, address).and_then(|router| node_of(graph, router));
    let by_address = || address.and_then(|address| graph.owner(address));
    router.or_else(|| graph.node_named(text)).or_else(by_address)
}

/// The router that a node is, by the inventory.
fn router_of<'a>(network: &'a Network, node: &Node) -> Option<&'a Router> {
    let has = |router: &&Router| node.facts.router_ids.iter().any(|id| router.addresses.contains(id));
    network.routers.iter().find(has).or_else(|| {
        let name = node.facts.name.as_deref()?;
        network.routers.iter().find(|router| router.name == name)
    })
}

fn name_of(network: &Network, node: &Arc<Node>) -> String {
    router_of(network, node).map_or_else(|| node.name(), |router| router.name.clone())
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(Address::to_string).collect()
}

/// The shortest path between two nodes.
pub fn path(graph: &Graph, network: &Network, v6: bool, from: NodeId, to: NodeId) -> Result<GraphPath, PathError> {
    let name = |id: NodeId| graph.node(id).map_or_else(String::new, |node| name_of(network, node));
    let found = graph.route(v6, from, to);
    let route = found.ok_or_else(|| PathError::NoPath { from: name(from), to: name(to) })?;
    let is_broadcast = |id: NodeId| graph.node(id).is_some_and(|node| node.key.pseudonode);
    let hop = |step: &benocs_model::graph::Step| {
        let link = step.link.and_then(|link| graph.link(link));
        Hop {
            router: name(step.node),
            id: graph.node(step.node).map_or_else(String::new, |node| node.key.to_string()),
            broadcast: is_broadcast(step.node),
            cost: step.cost,
            metric: link.and_then(|link| link.facts.metric),
            local: link.map_or_else(Vec::new, |link| texts(&link.local)),
            remote: link.map_or_else(Vec::new, |link| texts(&link.remote)),
        }
    };
    let mut next_hops: Vec<String> = route.next_hops.iter().map(|(_, node)| name(*node)).collect();
    next_hops.sort_unstable();
    next_hops.dedup();
    Ok(GraphPath {
        from: name(from),
        to: name(to),
        cost: route.cost,
        hops: route.steps.iter().skip(1).filter(|step| !is_broadcast(step.node)).count(),
        equal_cost_paths: route.paths,
        next_hops,
        path: route.steps.iter().map(hop).collect(),
    })
}

/// The same between routers as questions name them.
pub fn path_between(graph: &Graph, network: &Network, from: &str, to: &str) -> Result<GraphPath, PathError> {
    if graph.is_empty() {
        return Err(PathError::NoGraph);
    }
    let node = |text: &str| locate(graph, network, text).ok_or_else(|| PathError::Unknown(text.to_owned()));
    let v6 = to.parse::<std::net::Ipv6Addr>().is_ok();
    path(graph, network, v6, node(from)?, node(to)?)
}

/// A router of the path that routes lead over: in the graph, in the inventory, or both.
#[derive(Clone, Debug)]
struct At {
    node: Option<NodeId>,
    addresses: Vec<Address>,
    name: String,
}

fn at_node(graph: &Graph, network: &Network, id: NodeId) -> Option<At> {
    let node = graph.node(id)?;
    let mut addresses = node.facts.router_ids.clone();
    addresses.extend(router_of(network, node).into_iter().flat_map(|router| router.addresses.iter().copied()));
    Some(At { node: Some(id), addresses, name: name_of(network, node) })
}

/// Who has a next hop, seen from a router.
fn owner(graph: &Graph, network: &Network, from: &At, next_hop: Address) -> Option<At> {
    let id = match from.node {
        Some(root) => graph.resolve(root, next_hop).map(|(node, _)| node),
        None => graph.owner(next_hop),
    };
    id.and_then(|id| at_node(graph, network, id)).or_else(|| {
        let router = network.routers.iter().find(|router| router.addresses.contains(&next_hop))?;
        let (name, addresses) = (router.name.clone(), router.addresses.clone());
        Some(At { node: node_of(graph, router), addresses, name })
    })
}

/// What the router's own table says of an address.
fn own_route<'a>(view: &'a RouteView, at: &At, address: Address) -> Option<Found<'a>> {
    let first = *at.addresses.first()?;
    view.lookup(view.vantage(first, &at.addresses), address).filter(|found| found.provenance == Provenance::Router)
}

/// Whose next hop it is, where the router's own table has it.
fn set_neighbour(view: &RouteView, at: &At, address: Address, next_hop: Address, egress: &mut Egress) {
    if let Some(own) = own_route(view, at, address).filter(|own| own.path.next_hop == next_hop) {
        (egress.egress_by_own_table, egress.neighbour_as) = (true, own.path.first_as());
    }
}

/// Where traffic to `address` leaves that enters at `ingress` (a name or an address; `None`: anywhere) and has
/// there the next hop `next_hop`. Next-hop-self hides the neighbour: what the router that has the next hop would do
/// itself says who it is.
pub fn egress(
    view: &RouteView,
    network: &Network,
    graph: &Graph,
    ingress: Option<&str>,
    address: Address,
    next_hop: Address,
) -> Egress {
    let start = ingress.map(|text| {
        let node = locate(graph, network, text);
        let parsed = text.parse::<std::net::IpAddr>().ok().map(Address::from);
        let router = known(network, text, parsed);
        let mut addresses: Vec<Address> = parsed.into_iter().collect();
        addresses.extend(router.into_iter().flat_map(|router| router.addresses.iter().copied()));
        let at = node.and_then(|node| at_node(graph, network, node));
        at.unwrap_or_else(|| At { node, addresses, name: text.to_owned() })
    });
    let anywhere = At { node: None, addresses: Vec::new(), name: String::new() };
    let mut from = start.clone().unwrap_or(anywhere);
    let mut next_hop = next_hop;
    let mut egress = Egress::default();
    let mut last: Option<At> = None;
    let mut seen = HashSet::new();
    for _ in 0..EXITS_MAX {
        let Some(at) = owner(graph, network, &from, next_hop) else {
            // No way inside leads to it: it is the router's own neighbour.
            if from.node.is_some() && last.is_none() {
                egress.egress_router = Some(from.name.clone());
                egress.neighbour = Some(next_hop.to_string());
                set_neighbour(view, &from, address, next_hop, &mut egress);
                last = Some(from);
            }
            break;
        };
        // Its own subnet holds the next hop: that is the neighbour's.
        let is_own =
            at.addresses.contains(&next_hop) || at.node.is_some_and(|id| graph.router_at(next_hop) == Some(id));
        egress.egress_router = Some(at.name.clone());
        if !is_own {
            egress.neighbour = Some(next_hop.to_string());
            set_neighbour(view, &at, address, next_hop, &mut egress);
            last = Some(at);
            break;
        }
        let is_new = seen.insert(at.name.clone());
        last = Some(at.clone());
        let Some(own) = own_route(view, &at, address).filter(|_| is_new) else { break };
        egress.egress_by_own_table = true;
        egress.neighbour_as = own.path.first_as();
        if own.path.next_hop == next_hop {
            break;
        }
        next_hop = own.path.next_hop;
        // Nobody inside has it: it is the neighbour's.
        egress.neighbour = Some(next_hop.to_string());
        from = at;
    }
    if let Some(last) = &last {
        let peers: HashSet<String> = view
            .candidates(address)
            .iter()
            .filter(|candidate| last.addresses.contains(&candidate.found.peer.address))
            .map(|candidate| candidate.found.path.next_hop.to_string())
            .collect();
        // Paths beside the best one, of the same router (RFC 7911).
        egress.egress_ambiguous = peers.len() > 1;
    }
    let nodes = start.and_then(|start| start.node).zip(last.and_then(|last| last.node));
    if let Some((from, to)) = nodes {
        egress.graph_path = path(graph, network, !address.is_v4(), from, to).ok();
        if let Some((_, owners)) = graph.prefix_of(next_hop).filter(|_| graph.router_at(next_hop).is_none()) {
            let tree = graph.tree(!address.is_v4(), from);
            let costs = owners.iter().map(|owner| (tree.distance(owner.node).saturating_add(owner.metric), owner.node));
            let least = costs.clone().map(|(cost, _)| cost).min();
            let nearest: HashSet<NodeId> =
                costs.filter(|(cost, _)| Some(*cost) == least).map(|(_, node)| node).collect();
            egress.egress_ambiguous |= nearest.len() > 1;
        }
    }
    egress
}

/// A node as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub name: String,
    pub id: String,
    pub igp: String,
    pub asn: u32,
    pub broadcast: bool,
    pub overload: bool,
    pub areas: Vec<String>,
    pub router_ids: Vec<String>,
    /// Of the inventory's router that it is; absent where none is known.
    pub router: Option<u32>,
}

/// One direction of a link as it is shown; nodes by their place in the list of nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    pub from: usize,
    pub to: usize,
    pub metric: Option<u32>,
    pub te_metric: Option<u32>,
    pub bandwidth_bits_per_s: Option<u64>,
    pub delay_us: Option<u32>,
    pub admin_group: Option<u32>,
    pub local: Vec<String>,
    pub remote: Vec<String>,
    /// Both ends say it, and it has a metric.
    pub used: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphView {
    pub generation: u64,
    pub prefixes: usize,
    pub nodes: Vec<NodeView>,
    pub links: Vec<LinkView>,
}

/// All of the graph, for a map.
pub fn view(graph: &Graph, network: &Network) -> GraphView {
    let mut places = std::collections::HashMap::new();
    let by_address = network.router_index();
    let nodes = graph.nodes().enumerate().map(|(place, (id, node))| {
        places.insert(id, place);
        let router = node.facts.router_ids.iter().find_map(|address| by_address.get(address)).copied();
        NodeView {
            name: node.name(),
            id: node.key.to_string(),
            igp: benocs_model::graph::Igp::from_code(node.key.igp).map_or("other", |igp| igp.text()).to_owned(),
            asn: node.key.asn,
            broadcast: node.key.pseudonode,
            overload: node.facts.overload,
            areas: node.facts.areas.clone(),
            router_ids: texts(&node.facts.router_ids),
            router,
        }
    });
    let nodes = nodes.collect();
    let links = graph.links().filter_map(|(id, link)| {
        Some(LinkView {
            from: *places.get(&link.from)?,
            to: *places.get(&link.to)?,
            metric: link.facts.metric,
            te_metric: link.facts.te_metric,
            bandwidth_bits_per_s: link.facts.bandwidth_bits_per_s,
            delay_us: link.facts.delay_us,
            admin_group: link.facts.admin_group,
            local: texts(&link.local),
            remote: texts(&link.remote),
            used: graph.is_used(link.topology == benocs_model::graph::V6_TOPOLOGY, id),
        })
    });
    let links = links.collect();
    GraphView { generation: graph.generation(), prefixes: graph.prefix_count(), nodes, links }
}

#[cfg(test)]
mod tests {
    use benocs_model::graph::{GraphFile, Modification};
    use benocs_model::route::{Path, Peer, RouteBatch, RouteEvent, RouteTable, Segment};

    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<std::net::IpAddr>().expect("an address"))
    }

    /// r1 to r4 in a square at cost 10: r1 and r3 are opposite.
    fn graph(prefixes: &str) -> Arc<Graph> {
        let node = |n: u32| format!(r#"{{"name": "r{n}", "system_id": "s{n}", "router_id_v4": "10.0.0.{n}"}}"#);
        let link = |(a, b): (u32, u32)| {
            let one =
                |a, b| format!(r#"{{"local": "s{a}", "remote": "s{b}", "metric": 10, "local_v4": "10.1.{a}.{b}"}}"#);
            format!("{},{}", one(a, b), one(b, a))
        };
        let nodes: Vec<String> = (1..5).map(node).collect();
        let links: Vec<String> = [(1, 2), (2, 3), (3, 4), (4, 1)].map(link).into();
        let text =
            format!(r#"{{"nodes": [{}], "links": [{}], "prefixes": [{prefixes}]}}"#, nodes.join(","), links.join(","));
        let file: GraphFile = serde_json::from_str(&text).expect("a graph file");
        let mut network = Modification::new();
        network.apply(file.batch().expect("a sound file"));
        network.publish();
        network.reader().graph()
    }

    fn inventory() -> Network {
        let router = |n: u32| Router {
            id: n,
            name: format!("r{n}.example"),
            addresses: vec![address(&format!("10.0.0.{n}")), address(&format!("172.16.0.{n}"))],
            vendor: None,
        };
        Network { routers: (1..5).map(router).collect(), ..Network::default() }
    }

    /// Each (router, next hop, first AS) has a route to 203.0.113.0/24.
    fn routes(list: &[(u32, &str, u32)]) -> RouteView {
        let mut table = RouteTable::new();
        let mut events = Vec::new();
        for (number, next_hop, first_as) in list {
            let peer = Peer {
                id: *number,
                name: format!("r{number}"),
                address: address(&format!("172.16.0.{number}")),
                ..Peer::default()
            };
            events.push(RouteEvent::PeerUp(Arc::new(peer)));
            let path = Path {
                next_hop: address(next_hop),
                as_path: vec![Segment { kind: 2, asns: vec![*first_as] }],
                ..Path::default()
            };
            let prefix = benocs_model::address::Prefix::new(address("203.0.113.0"), 24);
            events.push(RouteEvent::Announce { peer: *number, path: Arc::new(path), prefixes: vec![(0, prefix)] });
        }
        table.apply(&RouteBatch { generation: 0, events });
        table.publish();
        table.reader().view()
    }

    #[test]
    fn next_hop_self_hides_the_neighbour_and_the_egress_router_names_it() {
        let view = routes(&[(1, "10.0.0.3", 64_501), (3, "198.51.100.9", 64_501)]);
        let (graph, network) = (graph(""), inventory());
        let found = egress(&view, &network, &graph, Some("r1.example"), address("203.0.113.1"), address("10.0.0.3"));
        assert_eq!(found.egress_router.as_deref(), Some("r3.example"));
        assert_eq!((found.neighbour.as_deref(), found.neighbour_as), (Some("198.51.100.9"), Some(64_501)));
        assert!(found.egress_by_own_table && !found.egress_ambiguous);
        let path = found.graph_path.expect("a path");
        assert_eq!((path.cost, path.hops, path.equal_cost_paths), (20, 2, 2));
        assert_eq!(path.next_hops, ["r2.example", "r4.example"]);
        let costs: Vec<(&str, u32)> = path.path.iter().map(|hop| (hop.router.as_str(), hop.cost)).collect();
        assert_eq!((costs[0], costs[2]), (("r1.example", 0), ("r3.example", 20)));
        // By its session's address it is the same router.
        let same = egress(&view, &network, &graph, Some("172.16.0.1"), address("203.0.113.1"), address("10.0.0.3"));
        assert_eq!(same.graph_path.map(|path| path.from), Some("r1.example".to_owned()));
    }

    #[test]
    fn a_neighbours_subnet_in_the_igp_leads_to_the_nearest_that_has_it() {
        let view = routes(&[(1, "198.51.100.9", 64_501), (3, "198.51.100.9", 64_501)]);
        let one = r#"{"node": "s3", "prefix": "198.51.100.0/24", "metric": 5}"#;
        let network = inventory();
        let asked = |graph: &Graph, router| {
            egress(&view, &network, graph, router, address("203.0.113.1"), address("198.51.100.9"))
        };
        let found = asked(&graph(one), Some("r1.example"));
        assert_eq!(found.egress_router.as_deref(), Some("r3.example"));
        assert_eq!((found.neighbour.as_deref(), found.neighbour_as), (Some("198.51.100.9"), Some(64_501)));
        assert!(!found.egress_ambiguous);
        // Two that are equally near.
        let two = r#"{"node": "s2", "prefix": "198.51.100.0/24"}, {"node": "s4", "prefix": "198.51.100.0/24"}"#;
        let found = asked(&graph(two), Some("r1.example"));
        assert!(found.egress_ambiguous);
        assert_eq!(found.graph_path.map(|path| path.cost), Some(10));
        // In no subnet of the IGP it is the router's own neighbour.
        let found = asked(&graph(""), Some("r1.example"));
        assert_eq!((found.egress_router.as_deref(), found.egress_by_own_table), (Some("r1.example"), true));
        assert_eq!(found.graph_path.map(|path| (path.cost, path.hops)), Some((0, 0)));
        // Without a router there is an egress, and no path to it.
        let found = asked(&graph(one), None);
        assert_eq!((found.egress_router.as_deref(), found.graph_path), (Some("r3.example"), None));
    }

    #[test]
    fn without_a_graph_the_inventory_names_the_egress() {
        let view = routes(&[(1, "10.0.0.3", 64_501), (3, "198.51.100.9", 64_501)]);
        let (graph, network) = (Graph::default(), inventory());
        let found = egress(&view, &network, &graph, Some("r1.example"), address("203.0.113.1"), address("10.0.0.3"));
        assert_eq!(found.egress_router.as_deref(), Some("r3.example"));
        assert_eq!((found.neighbour.as_deref(), found.graph_path), (Some("198.51.100.9"), None));
    }

    #[test]
    fn routers_that_point_at_each_other_end_the_search() {
        let view = routes(&[(1, "10.0.0.3", 64_501), (3, "10.0.0.2", 64_501), (2, "10.0.0.3", 64_501)]);
        let (graph, network) = (graph(""), inventory());
        let found = egress(&view, &network, &graph, Some("r1.example"), address("203.0.113.1"), address("10.0.0.3"));
        assert!(found.egress_router.is_some());
    }

    #[test]
    fn a_path_is_asked_for_by_name_address_or_system_id() {
        let (graph, network) = (graph(""), inventory());
        for (from, to) in [("r1.example", "r3.example"), ("172.16.0.1", "10.0.0.3"), ("s1", "r3"), ("10.1.1.2", "s3")] {
            let path = path_between(&graph, &network, from, to).expect("a path");
            assert_eq!(
                (path.from.as_str(), path.to.as_str(), path.cost),
                ("r1.example", "r3.example", 20),
                "{from} {to}"
            );
        }
        let unknown = path_between(&graph, &network, "r1.example", "r9").expect_err("nobody");
        assert!(unknown.to_string().contains("\"r9\""));
        assert_eq!(path_between(&Graph::default(), &network, "r1", "r2"), Err(PathError::NoGraph));
        let shown = view(&graph, &network);
        assert_eq!((shown.nodes.len(), shown.links.len()), (4, 8));
        assert!(shown.links.iter().all(|link| link.used) && shown.nodes[0].router == Some(1));
    }
}
