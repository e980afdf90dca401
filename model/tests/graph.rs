//! Shortest paths against petgraph's, and what is kept over changes against what is made anew.

use std::collections::HashMap;
use std::sync::Arc;

use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::graph::{
    Graph, GraphBatch, GraphEvent, GraphFile, LinkFacts, LinkObject, Modification, Name, NodeFacts, NodeKey, Object,
    PrefixObject, SourceId, UNREACHABLE,
};
use petgraph::graph::{DiGraph, NodeIndex};
use proptest::prelude::*;

fn key(number: u32) -> NodeKey {
    let [a, b, c, d] = number.to_be_bytes();
    NodeKey {
        igp: 1,
        instance: 0,
        asn: 64_500,
        ls_id: 0,
        part: 0,
        id: Arc::from([0, 0, a, b, c, d]),
        pseudonode: false,
    }
}

fn lan(number: u32) -> NodeKey {
    let [a, b, c, d] = number.to_be_bytes();
    NodeKey { id: Arc::from([0, 0, a, b, c, d, 1]), pseudonode: true, part: 2, ..key(0) }
}

fn name(text: String) -> Name {
    Arc::from(text.as_bytes())
}

fn node_with(key: NodeKey, facts: NodeFacts) -> (Name, Object) {
    (name(format!("node {key}")), Object::Node(key, facts))
}

fn node(number: u32) -> (Name, Object) {
    let router_ids = vec![Address::from_v4((0x0a00_0000 + number).to_be_bytes())];
    node_with(key(number), NodeFacts { name: Some(format!("r{number}")), router_ids, ..NodeFacts::default() })
}

fn link_between(from: NodeKey, to: NodeKey, number: u32, metric: Option<u32>) -> (Name, Object) {
    let text = format!("link {from} {to} {number}");
    let facts = LinkFacts { metric, ..LinkFacts::default() };
    let link = LinkObject { from, to, part: 2, topology: 0, local: Vec::new(), remote: Vec::new(), facts };
    (name(text), Object::Link(Box::new(link)))
}

fn link(from: u32, to: u32, number: u32, metric: u32) -> (Name, Object) {
    link_between(key(from), key(to), number, Some(metric))
}

fn both(from: u32, to: u32, metric: u32) -> [(Name, Object); 2] {
    [link(from, to, 0, metric), link(to, from, 0, metric)]
}

fn announce(source: SourceId, objects: Vec<(Name, Object)>) -> GraphBatch {
    GraphBatch { events: vec![GraphEvent::Announce { source, objects }] }
}

fn withdraw(source: SourceId, object: &(Name, Object)) -> GraphBatch {
    GraphBatch { events: vec![GraphEvent::Withdraw { source, names: vec![object.0.clone()] }] }
}

fn built(objects: Vec<(Name, Object)>) -> (Modification, Arc<Graph>) {
    let mut network = Modification::new();
    network.apply(announce(1, objects));
    assert!(network.publish().changed);
    let graph = network.reader().graph();
    (network, graph)
}

fn at(graph: &Graph, number: u32) -> u32 {
    graph.node_named(&format!("r{number}")).unwrap()
}

fn cost(graph: &Graph, from: u32, to: u32) -> Option<u32> {
    graph.route(false, at(graph, from), at(graph, to)).map(|route| route.cost)
}

#[test]
fn equal_paths_are_counted_and_begin_at_each_next_hop() {
    // 0 to 3 over 1 and over 2 (twice), and a longer one over 4.
    let mut objects: Vec<_> = (0..5).map(node).collect();
    objects.extend(
        [both(0, 1, 10), both(1, 3, 10), both(0, 2, 5), both(2, 3, 15), both(0, 4, 11), both(4, 3, 10)].concat(),
    );
    objects.extend([link(0, 2, 1, 5), link(2, 0, 1, 5)]);
    let (_, graph) = built(objects);
    let route = graph.route(false, at(&graph, 0), at(&graph, 3)).unwrap();
    assert_eq!((route.cost, route.paths), (20, 3));
    let routers: Vec<u32> = route.next_hops.iter().map(|(_, node)| *node).collect();
    assert_eq!(routers.len(), 3);
    assert!(!routers.contains(&at(&graph, 4)));
    let steps: Vec<u32> = route.steps.iter().map(|step| step.cost).collect();
    assert_eq!((steps.len(), steps[0], steps[2]), (3, 0, 20));
    for pair in route.steps.windows(2) {
        let link = graph.link(pair[1].link.unwrap()).unwrap();
        assert_eq!((link.from, link.to), (pair[0].node, pair[1].node));
        assert_eq!(pair[1].cost - pair[0].cost, link.facts.metric.unwrap());
    }
    let own = graph.route(false, at(&graph, 0), at(&graph, 0)).unwrap();
    assert_eq!((own.cost, own.paths, own.steps.len(), own.next_hops.len()), (0, 1, 1, 0));
}

#[test]
fn what_one_end_alone_says_is_not_used() {
    let mut objects: Vec<_> = (0..2).map(node).collect();
    objects.push(link(0, 1, 0, 10));
    let (mut network, graph) = built(objects);
    assert_eq!((cost(&graph, 0, 1), graph.edge_count(false)), (None, 0));
    // In another level it is another adjacency.
    let mut back = link(1, 0, 0, 7);
    if let Object::Link(link) = &mut back.1 {
        link.part = 1;
    }
    network.apply(announce(1, vec![back]));
    network.publish();
    assert_eq!(cost(&network.reader().graph(), 0, 1), None);
    network.apply(announce(1, vec![link(1, 0, 1, 7)]));
    network.publish();
    let graph = network.reader().graph();
    assert_eq!((cost(&graph, 0, 1), cost(&graph, 1, 0)), (Some(10), Some(7)));
    // Without a metric, and with the one that says so, only the other direction is there.
    for metric in [None, Some(0x00ff_ffff)] {
        network.apply(announce(1, vec![link_between(key(0), key(1), 0, metric)]));
        network.publish();
        let graph = network.reader().graph();
        assert_eq!((cost(&graph, 0, 1), cost(&graph, 1, 0)), (None, Some(7)));
    }
}

#[test]
fn a_broadcast_network_costs_nothing_on_the_way_out() {
    let mut objects: Vec<_> = (0..3).map(node).collect();
    objects.push(node_with(lan(0), NodeFacts::default()));
    for number in 0..3 {
        objects.push(link_between(key(number), lan(0), 0, Some(10 + number)));
        objects.push(link_between(lan(0), key(number), 0, None));
    }
    let (_, graph) = built(objects);
    assert_eq!((cost(&graph, 0, 2), cost(&graph, 2, 0)), (Some(10), Some(12)));
    let route = graph.route(false, at(&graph, 0), at(&graph, 2)).unwrap();
    assert_eq!((route.steps.len(), route.paths), (3, 1));
    assert_eq!(
        route.next_hops.iter().map(|(_, node)| *node).collect::<Vec<_>>(),
        [at(&graph, 2)],
        "the router behind it"
    );
}

#[test]
fn an_overloaded_router_is_reached_and_not_passed() {
    let mut objects: Vec<_> = (0..4).map(node).collect();
    objects.extend([both(0, 1, 1), both(1, 2, 1), both(0, 3, 10), both(3, 2, 10)].concat());
    let (mut network, graph) = built(objects);
    assert_eq!(cost(&graph, 0, 2), Some(2));
    let overload = |overload| {
        let facts = NodeFacts { name: Some("r1".to_owned()), overload, ..NodeFacts::default() };
        announce(1, vec![node_with(key(1), facts)])
    };
    network.apply(overload(true));
    network.publish();
    let graph = network.reader().graph();
    assert_eq!((cost(&graph, 0, 2), cost(&graph, 0, 1), cost(&graph, 1, 2)), (Some(20), Some(1), Some(1)));
    network.apply(overload(false));
    network.publish();
    assert_eq!(cost(&network.reader().graph(), 0, 2), Some(2));
}

#[test]
fn what_two_say_stays_until_both_take_it_back() {
    let objects: Vec<_> = [vec![node(0), node(1)], both(0, 1, 10).to_vec()].concat();
    let (mut network, _) = built(objects.clone());
    network.apply(announce(2, objects.clone()));
    assert!(!network.publish().changed, "nothing new was said");
    network.apply(withdraw(1, &objects[2]));
    network.publish();
    assert_eq!(cost(&network.reader().graph(), 0, 1), Some(10));
    // One says it otherwise and goes stale: the other's word counts.
    network.apply(announce(1, vec![link(0, 1, 0, 5)]));
    network.publish();
    assert_eq!(cost(&network.reader().graph(), 0, 1), Some(5));
    network.apply(GraphBatch { events: vec![GraphEvent::Stale(1)] });
    network.publish();
    assert_eq!(cost(&network.reader().graph(), 0, 1), Some(10));
    network.apply(GraphBatch { events: vec![GraphEvent::Sweep(1), GraphEvent::Sweep(2)] });
    network.publish();
    assert_eq!(cost(&network.reader().graph(), 0, 1), Some(10), "the other is not stale");
    network.apply(GraphBatch { events: vec![GraphEvent::Stale(2)] });
    network.publish();
    assert_eq!(cost(&network.reader().graph(), 0, 1), Some(10), "what is stale stays until it is swept");
    network.apply(GraphBatch { events: vec![GraphEvent::Down(2)] });
    network.publish();
    assert!(network.reader().graph().is_empty());
    assert_eq!(network.objects(), 0);
}

#[test]
fn an_address_leaves_where_it_is_or_at_the_nearest_that_reaches_it() {
    let mut objects: Vec<_> = (0..4).map(node).collect();
    objects.extend([both(0, 1, 10), both(1, 2, 10), both(2, 3, 10)].concat());
    let prefix = |number: u32, text: &str, len, metric| {
        let prefix = Prefix::new(Address::from(text.parse::<std::net::IpAddr>().unwrap()), len);
        let object = PrefixObject { node: key(number), prefix, topology: 0, metric };
        (name(format!("prefix {number} {prefix}")), Object::Prefix(object))
    };
    objects.push(prefix(1, "192.0.2.0", 24, 100));
    objects.push(prefix(3, "192.0.2.0", 24, 10));
    objects.push(prefix(2, "192.0.2.128", 25, 0));
    objects.push(prefix(3, "2001:db8::", 64, 0));
    objects.extend([prefix(1, "203.0.113.0", 24, 5), prefix(3, "203.0.113.0", 24, 5)]);
    let (_, graph) = built(objects);
    let address = |text: &str| Address::from(text.parse::<std::net::IpAddr>().unwrap());
    let resolve = |text: &str| graph.resolve(at(&graph, 0), address(text));
    assert_eq!(resolve("10.0.0.2"), Some((at(&graph, 2), 20)), "a router id");
    assert_eq!(resolve("192.0.2.1"), Some((at(&graph, 3), 40)), "with the metric of the prefix");
    assert_eq!(resolve("192.0.2.129"), Some((at(&graph, 2), 20)), "the longest");
    assert_eq!(resolve("2001:db8::1"), Some((at(&graph, 3), 30)));
    assert_eq!(resolve("198.51.100.1"), None);
    assert_eq!(graph.owner(address("192.0.2.1")), Some(at(&graph, 3)), "the least metric");
    assert_eq!(graph.owner(address("203.0.113.1")), None, "of two nobody's");
    assert_eq!((graph.owner(address("192.0.2.200")), graph.prefix_count()), (Some(at(&graph, 2)), 4));
}

#[test]
fn ipv6_has_paths_of_its_own_where_it_has_a_topology() {
    let mut objects: Vec<_> = (0..3).map(node).collect();
    objects.extend([both(0, 1, 1), both(1, 2, 1)].concat());
    let (mut network, graph) = built(objects);
    assert_eq!(graph.route(true, at(&graph, 0), at(&graph, 2)).map(|route| route.cost), Some(2), "there is but one");
    let other = both(0, 2, 50).map(|(name, object)| match object {
        Object::Link(link) => (name, Object::Link(Box::new(LinkObject { topology: 2, ..*link }))),
        other => (name, other),
    });
    network.apply(announce(1, other.to_vec()));
    network.publish();
    let graph = network.reader().graph();
    let of = |v6| graph.route(v6, at(&graph, 0), at(&graph, 2)).map(|route| route.cost);
    assert_eq!((of(false), of(true)), (Some(2), Some(50)));
}

#[test]
fn a_file_is_a_graph_and_says_what_is_wrong_with_it() {
    let file: GraphFile = serde_json::from_str(
        r#"{"nodes": [{"name": "r1", "system_id": "a", "router_id_v4": "192.0.2.1"}, {"name": "r2", "system_id": "b"}],
            "links": [{"local": "a", "remote": "b", "metric": 3, "local_v4": "198.51.100.0"}, {"local": "b", "remote": "a", "metric": 4}],
            "prefixes": [{"node": "b", "prefix": "203.0.113.0/24"}], "distances": [[0, 3]]}"#,
    )
    .unwrap();
    let mut network = Modification::new();
    network.apply(file.batch().unwrap());
    network.publish();
    let graph = network.reader().graph();
    let (one, two) = (graph.node_named("R1").unwrap(), graph.node_named("b").unwrap());
    assert_eq!(graph.route(false, one, two).unwrap().cost, 3);
    assert_eq!(graph.router_at(Address::from_v4([198, 51, 100, 0])), Some(one));
    assert_eq!(graph.resolve(one, Address::from_v4([203, 0, 113, 9])), Some((two, 3)));
    // Read again with less, what is not there any more is gone; what BGP begins anew does not touch it.
    let less = GraphFile { links: Vec::new(), ..file.clone() };
    network.apply(less.batch().unwrap());
    network.apply(GraphBatch { events: vec![GraphEvent::Clear] });
    network.publish();
    let graph = network.reader().graph();
    assert_eq!((graph.links().count(), graph.nodes().count()), (0, 2));
    let mut wrong = file.clone();
    wrong.links[1].remote = "c".to_owned();
    assert_eq!(wrong.batch().unwrap_err().to_string(), "link 1 is of a node \"c\" that is not there: add it to nodes");
    wrong.nodes.push(wrong.nodes[0].clone());
    assert!(wrong.batch().unwrap_err().to_string().contains("twice"));
}

/// Costs by (from, to, number), both directions of which are there or not.
type Costs = HashMap<(u32, u32, u32), u32>;

fn peer_distances(nodes: u32, costs: &Costs, root: u32) -> HashMap<u32, u32> {
    let mut graph = DiGraph::<(), u32>::new();
    for _ in 0..nodes {
        graph.add_node(());
    }
    for ((from, to, _), cost) in costs {
        if costs.keys().any(|(back, there, _)| (back, there) == (to, from)) {
            graph.add_edge(NodeIndex::new(*from as usize), NodeIndex::new(*to as usize), *cost);
        }
    }
    let distances = petgraph::algo::dijkstra(&graph, NodeIndex::new(root as usize), None, |edge| *edge.weight());
    distances.into_iter().map(|(node, cost)| (node.index() as u32, cost)).collect()
}

fn check(network: &Modification, costs: &Costs, nodes: u32) {
    let graph = network.reader().graph();
    // The same, built by one who has seen no change.
    let mut objects: Vec<_> = (0..nodes).map(node).collect();
    objects.extend(costs.iter().map(|((from, to, number), cost)| link(*from, *to, *number, *cost)));
    let (_, fresh) = built(objects);
    for root in 0..nodes {
        let expected = peer_distances(nodes, costs, root);
        let tree = graph.tree(false, at(&graph, root));
        for to in 0..nodes {
            let distance = tree.distance(at(&graph, to));
            assert_eq!(distance, expected.get(&to).copied().unwrap_or(UNREACHABLE), "{root} {to}");
            let (kept, anew) = (
                graph.route(false, at(&graph, root), at(&graph, to)),
                fresh.route(false, at(&fresh, root), at(&fresh, to)),
            );
            let shape = |route: benocs_model::graph::Route| (route.cost, route.paths, route.next_hops.len());
            assert_eq!(kept.map(shape), anew.map(shape), "{root} {to}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn after_any_changes_the_trees_are_those_made_anew(
        nodes in 2u32..9,
        changes in prop::collection::vec((0u32..9, 0u32..9, 0u32..2, 1u32..6, 0u8..4), 1..60),
    ) {
        let mut network = Modification::new();
        network.apply(announce(1, (0..nodes).map(node).collect()));
        network.publish();
        let mut costs = Costs::new();
        for chunk in changes.chunks(4) {
            // Every tree is there before the change, so that it must be dropped where it is wrong.
            let graph = network.reader().graph();
            graph.nodes().for_each(|(id, _)| drop(graph.tree(false, id)));
            for (from, to, number, cost, kind) in chunk {
                let (from, to) = (from % nodes, to % nodes);
                if from == to {
                    continue;
                }
                let directions = if *kind == 1 { vec![(from, to)] } else { vec![(from, to), (to, from)] };
                for (from, to) in directions {
                    if *kind == 0 {
                        if costs.remove(&(from, to, *number)).is_some() {
                            network.apply(withdraw(1, &link(from, to, *number, 0)));
                        }
                    } else {
                        costs.insert((from, to, *number), *cost);
                        network.apply(announce(1, vec![link(from, to, *number, *cost)]));
                    }
                }
            }
            network.publish();
            check(&network, &costs, nodes);
        }
    }
}

#[test]
fn a_change_drops_only_the_trees_that_it_touches() {
    // A ring of ten at cost 10, with a chord that is too dear for anyone.
    let mut objects: Vec<_> = (0..10).map(node).collect();
    for number in 0..10 {
        objects.extend(both(number, (number + 1) % 10, 10));
    }
    objects.extend(both(0, 5, 1000));
    let (mut network, graph) = built(objects);
    graph.nodes().for_each(|(id, _)| drop(graph.tree(false, id)));
    assert_eq!(graph.trees(), 10);
    network.apply(announce(1, both(0, 5, 900).to_vec()));
    let published = network.publish();
    assert_eq!((published.trees_kept, published.trees_dropped), (10, 0));
    // At 50 it is as short as the way round for those at its ends, alone.
    network.apply(announce(1, both(0, 5, 50).to_vec()));
    let published = network.publish();
    assert_eq!((published.trees_kept, published.trees_dropped), (8, 2));
    let graph = network.reader().graph();
    assert_eq!(graph.route(false, at(&graph, 0), at(&graph, 5)).unwrap().paths, 3);
    // A router that goes takes the trees that pass it, and its own.
    network.apply(withdraw(1, &both(0, 1, 10)[0]));
    assert!(network.publish().trees_dropped > 0);
}

#[test]
fn a_place_that_is_given_again_brings_no_tree_along() {
    let (mut network, graph) = built([vec![node(0), node(1)], both(0, 1, 10).to_vec()].concat());
    let old = at(&graph, 1);
    drop(graph.tree(false, old));
    for object in [&node(1), &both(0, 1, 10)[0], &both(0, 1, 10)[1]] {
        network.apply(withdraw(1, object));
    }
    network.apply(announce(1, [vec![node(7)], both(0, 7, 3).to_vec()].concat()));
    network.publish();
    let graph = network.reader().graph();
    assert_eq!(at(&graph, 7), old, "the number is used again");
    assert_eq!((cost(&graph, 7, 0), graph.node_named("r1")), (Some(3), None));
}
