//! A graph of 10,000 routers and 50,000 links: its trees beside petgraph's, and a change from its arrival to readers.

use std::sync::{Arc, LazyLock};

use benocs_model::Address;
use benocs_model::graph::{
    GraphBatch, GraphEvent, LinkFacts, LinkObject, Modification, Name, NodeFacts, NodeKey, Object,
};
use divan::Bencher;
use petgraph::graph::{DiGraph, NodeIndex};

const ROUTERS: u32 = 10_000;
const LINKS: u32 = 50_000;

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

fn name(text: String) -> Name {
    Arc::from(text.as_bytes())
}

/// (near, far, metric): a ring, so that all are reached, and links at random.
static NETWORK: LazyLock<Vec<(u32, u32, u32)>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |limit: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 32) as u32) % limit
    };
    let mut list: Vec<_> = (0..ROUTERS).map(|near| (near, (near + 1) % ROUTERS, 10 + random(1000))).collect();
    while list.len() < LINKS as usize {
        let (near, far) = (random(ROUTERS), random(ROUTERS));
        if near != far {
            list.push((near, far, 10 + random(1000)));
        }
    }
    list
});

fn link(number: usize, from: u32, to: u32, metric: u32, end: u32) -> (Name, Object) {
    let address = |end: u32| Address::from_v4((0x6440_0000 + number as u32 * 2 + end).to_be_bytes());
    let link = LinkObject {
        from: key(from),
        to: key(to),
        part: 2,
        topology: 0,
        local: vec![address(end)],
        remote: vec![address(1 - end)],
        facts: LinkFacts { metric: Some(metric), ..LinkFacts::default() },
    };
    (name(format!("link {number} {end}")), Object::Link(Box::new(link)))
}

fn both(number: usize, metric: u32) -> Vec<(Name, Object)> {
    let (near, far, _) = NETWORK[number];
    vec![link(number, near, far, metric, 0), link(number, far, near, metric, 1)]
}

fn announce(objects: Vec<(Name, Object)>) -> GraphBatch {
    GraphBatch { events: vec![GraphEvent::Announce { source: 1, objects }] }
}

fn network() -> Modification {
    let mut network = Modification::new();
    let nodes = (0..ROUTERS).map(|number| {
        let router_ids = vec![Address::from_v4((0x0a00_0000 + number).to_be_bytes())];
        let facts = NodeFacts { name: Some(format!("r{number}")), router_ids, ..NodeFacts::default() };
        (name(format!("node {number}")), Object::Node(key(number), facts))
    });
    network.apply(announce(nodes.collect()));
    for (number, (_, _, metric)) in NETWORK.iter().enumerate() {
        network.apply(announce(both(number, *metric)));
    }
    network.publish();
    network
}

#[divan::bench(sample_count = 20)]
fn tree(bencher: Bencher) {
    let network = network();
    let graph = network.reader().graph();
    let csr = graph.csr(false);
    let mut root = 0;
    bencher.bench_local(|| {
        root = (root + 1) % ROUTERS;
        csr.tree(root)
    });
}

#[divan::bench(sample_count = 20)]
fn tree_by_petgraph(bencher: Bencher) {
    let mut graph = DiGraph::<(), u32>::new();
    for _ in 0..ROUTERS {
        graph.add_node(());
    }
    for (near, far, metric) in NETWORK.iter() {
        let (near, far) = (NodeIndex::new(*near as usize), NodeIndex::new(*far as usize));
        graph.add_edge(near, far, *metric);
        graph.add_edge(far, near, *metric);
    }
    let mut root = 0;
    bencher.bench_local(|| {
        root = (root + 1) % ROUTERS as usize;
        petgraph::algo::dijkstra(&graph, NodeIndex::new(root), None, |edge| *edge.weight())
    });
}

/// With as many trees kept as a provider has ingress routers.
#[divan::bench(sample_count = 20)]
fn change_of_a_metric_published(bencher: Bencher) {
    let mut network = network();
    let graph = network.reader().graph();
    (0..200).for_each(|root| drop(graph.tree(false, root)));
    let mut metric = 10;
    bencher.bench_local(|| {
        metric += 1;
        network.apply(announce(both(40_000, metric)));
        network.publish()
    });
}

#[divan::bench(sample_count = 20)]
fn link_gone_and_come_published(bencher: Bencher) {
    let mut network = network();
    bencher.bench_local(|| {
        let objects = both(40_000, 17);
        let names = objects.iter().map(|(name, _)| name.clone()).collect();
        network.apply(GraphBatch { events: vec![GraphEvent::Withdraw { source: 1, names }] });
        network.publish();
        network.apply(announce(objects));
        network.publish()
    });
}

/// From the first announcement to readers.
#[divan::bench(sample_count = 5)]
fn all_built(bencher: Bencher) {
    bencher.bench_local(network);
}

fn main() {
    divan::main();
}
