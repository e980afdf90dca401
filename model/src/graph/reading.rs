//! The graph as it is read: never changed, its trees made when they are first asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::index::{Addresses, Owner, Prefixes};
use super::tree::{Csr, Edge, Tree, UNREACHABLE};
use super::{Link, LinkId, Node, NodeId};
use crate::address::{Address, Prefix};

/// Trees that are kept, of all roots together; further ones are made again whenever they are asked for.
pub(super) const TREES_OCTETS_MAX: usize = 256 << 20;

/// Edges of one topology, and the trees over them.
#[derive(Debug, Default)]
pub(super) struct Topology {
    pub(super) csr: Csr,
    pub(super) trees: Box<[ArcSwapOption<Tree>]>,
    pub(super) trees_octets: AtomicUsize,
}

impl Topology {
    pub(super) fn new(csr: Csr) -> Self {
        let trees = (0..csr.nodes()).map(|_| ArcSwapOption::empty()).collect();
        Self { csr, trees, trees_octets: AtomicUsize::new(0) }
    }

    /// Puts a tree where there is room.
    pub(super) fn keep(&self, tree: &Arc<Tree>) -> bool {
        let octets = tree.octets();
        let Some(slot) = self.trees.get(tree.root() as usize) else { return false };
        if self.trees_octets.fetch_add(octets, Ordering::Relaxed) + octets > TREES_OCTETS_MAX {
            self.trees_octets.fetch_sub(octets, Ordering::Relaxed);
            return false;
        }
        if slot.swap(Some(tree.clone())).is_some() {
            // Somebody else made the same meanwhile.
            self.trees_octets.fetch_sub(octets, Ordering::Relaxed);
        }
        true
    }

    fn tree(&self, root: NodeId) -> Arc<Tree> {
        let kept = self.trees.get(root as usize).and_then(|slot| slot.load_full());
        kept.unwrap_or_else(|| {
            let tree = Arc::new(self.csr.tree(root));
            self.keep(&tree);
            tree
        })
    }
}

#[derive(Debug, Default)]
pub struct Graph {
    pub(super) generation: u64,
    pub(super) nodes: Arc<Vec<Option<Arc<Node>>>>,
    pub(super) links: Arc<Vec<Option<Arc<Link>>>>,
    pub(super) addresses: Arc<Addresses>,
    pub(super) prefixes: Arc<Prefixes>,
    /// The default topology, and that of IPv6: the same where it has none of its own.
    pub(super) topologies: [Arc<Topology>; 2],
}

/// A node on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub node: NodeId,
    /// Over which it is reached; none at the root.
    pub link: Option<LinkId>,
    /// From the root to here.
    pub cost: u32,
}

/// How a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub cost: u32,
    /// One of the paths, from the root; broadcast networks are steps too.
    pub steps: Vec<Step>,
    /// Paths of equal cost.
    pub paths: u64,
    /// (link, router) at which they begin.
    pub next_hops: Vec<(LinkId, NodeId)>,
}

impl Graph {
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn is_empty(&self) -> bool {
        self.nodes().next().is_none()
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Arc<Node>)> {
        self.nodes.iter().enumerate().filter_map(|(id, node)| Some((id as NodeId, node.as_ref()?)))
    }

    pub fn links(&self) -> impl Iterator<Item = (LinkId, &Arc<Link>)> {
        self.links.iter().enumerate().filter_map(|(id, link)| Some((id as LinkId, link.as_ref()?)))
    }

    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(id as usize)?.as_ref()
    }

    pub fn link(&self, id: LinkId) -> Option<&Arc<Link>> {
        self.links.get(id as usize)?.as_ref()
    }

    /// Distinct prefixes.
    pub fn prefix_count(&self) -> usize {
        self.prefixes.len()
    }

    /// Directions of links that paths may use.
    pub fn edge_count(&self, v6: bool) -> usize {
        self.topology(v6).csr.edge_count()
    }

    /// Links that the IGP may send over, in the topology: those that both ends say, with a metric.
    pub fn is_used(&self, v6: bool, id: LinkId) -> bool {
        let is_it = |edge: &Edge| edge.link == id && edge.cost != UNREACHABLE;
        self.link(id).is_some_and(|link| self.topology(v6).csr.edges(link.from).iter().any(is_it))
    }

    /// The router that has the address: a router id or one of its interfaces.
    pub fn router_at(&self, address: Address) -> Option<NodeId> {
        self.addresses.owner(address)
    }

    /// A node by name, or by what its protocol calls it.
    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        self.addresses.named(name)
    }

    /// The longest prefix that holds the address, and the nodes that reach it.
    pub fn prefix_of(&self, address: Address) -> Option<(Prefix, &[Owner])> {
        self.prefixes.find(address)
    }

    /// Where a packet to the address leaves the IGP, from a root, and at what cost: at the router that has it, else
    /// at the nearest of those that say that they reach it.
    pub fn resolve(&self, root: NodeId, address: Address) -> Option<(NodeId, u32)> {
        let v6 = !address.is_v4();
        let tree = self.tree(v6, root);
        if let Some(owner) = self.router_at(address) {
            return Some((owner, tree.distance(owner))).filter(|(_, cost)| *cost != UNREACHABLE);
        }
        let (_, owners) = self.prefix_of(address)?;
        // Of equally near ones the one that did not hear of it from another: that is in its metric.
        let reached = owners
            .iter()
            .map(|owner| (tree.distance(owner.node).saturating_add(owner.metric), owner.metric, owner.node));
        let nearest = reached.filter(|(cost, ..)| *cost != UNREACHABLE).min();
        nearest.map(|(cost, _, node)| (node, cost))
    }

    /// The router that an address belongs to, whoever asks: of those that reach it the one at the least metric,
    /// which the others have it from; `None` where several may.
    pub fn owner(&self, address: Address) -> Option<NodeId> {
        self.router_at(address).or_else(|| {
            let (_, owners) = self.prefix_of(address)?;
            let least = owners.iter().map(|owner| owner.metric).min()?;
            let mut nearest = owners.iter().filter(|owner| owner.metric == least).map(|owner| owner.node);
            let first = nearest.next()?;
            nearest.all(|node| node == first).then_some(first)
        })
    }

    pub(super) fn topology(&self, v6: bool) -> &Topology {
        &self.topologies[usize::from(v6)]
    }

    /// Adjacencies of the topology.
    pub fn csr(&self, v6: bool) -> &Csr {
        &self.topology(v6).csr
    }

    /// The tree of a root, made now where nobody asked before.
    pub fn tree(&self, v6: bool, root: NodeId) -> Arc<Tree> {
        self.topology(v6).tree(root)
    }

    /// Trees that are kept.
    pub fn trees(&self) -> usize {
        let kept = |topology: &Topology| topology.trees.iter().filter(|slot| slot.load().is_some()).count();
        let [first, second] = &self.topologies;
        kept(first) + if Arc::ptr_eq(first, second) { 0 } else { kept(second) }
    }

    /// Shortest paths between two nodes; `None` where there is none.
    pub fn route(&self, v6: bool, from: NodeId, to: NodeId) -> Option<Route> {
        self.node(from)?;
        self.node(to)?;
        let tree = self.tree(v6, from);
        let csr = &self.topology(v6).csr;
        let cost = tree.distance(to);
        if cost == UNREACHABLE {
            return None;
        }
        // Backwards from the end, over all that shortest paths come over.
        let mut seen: BTreeMap<NodeId, Vec<(NodeId, LinkId)>> = BTreeMap::new();
        let mut open = vec![to];
        while let Some(node) = open.pop() {
            if seen.contains_key(&node) {
                continue;
            }
            let before: Vec<(NodeId, LinkId)> =
                tree.last_edges(csr, node).map(|(near, edge)| (near, edge.link)).collect();
            open.extend(before.iter().map(|(near, _)| *near));
            seen.insert(node, before);
        }
        let mut order: Vec<NodeId> = seen.keys().copied().collect();
        order.sort_unstable_by_key(|node| tree.rank(*node));
        let mut paths: BTreeMap<NodeId, u64> = BTreeMap::from([(from, 1)]);
        let mut next_hops = Vec::new();
        for node in order {
            let before = &seen[&node];
            if node != from {
                let count = before.iter().fold(0u64, |sum, (near, _)| sum.saturating_add(paths[near]));
                paths.insert(node, count);
            }
            for (near, link) in before {
                if *near == from && !self.is_pseudonode(node) {
                    next_hops.push((*link, node));
                } else if self.is_pseudonode(*near) {
                    let own = seen[near].iter().filter(|(root, _)| *root == from);
                    next_hops.extend(own.map(|(_, link)| (*link, node)));
                }
            }
        }
        next_hops.sort_unstable();
        next_hops.dedup();
        let mut steps = vec![];
        let mut node = to;
        while node != from {
            let (near, link) = *seen[&node].iter().min()?;
            steps.push(Step { node, link: Some(link), cost: tree.distance(node) });
            node = near;
        }
        steps.push(Step { node: from, link: None, cost: 0 });
        steps.reverse();
        Some(Route { cost, steps, paths: paths[&to], next_hops })
    }

    fn is_pseudonode(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.key.pseudonode)
    }
}

/// Access to the latest graph; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct GraphReader(pub(super) Arc<ArcSwap<Graph>>);

impl GraphReader {
    pub fn graph(&self) -> Arc<Graph> {
        self.0.load_full()
    }
}
