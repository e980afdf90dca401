//! Shortest paths with equal cost, from one root to all nodes (Dijkstra over arrays of edges).

use std::collections::BinaryHeap;

use super::{LinkId, NodeId};

/// Distance of what no path leads to.
pub const UNREACHABLE: u32 = u32::MAX;

/// One direction of an adjacency. At a cost of [`UNREACHABLE`] it is there, and no path uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub to: NodeId,
    pub cost: u32,
    pub link: LinkId,
}

/// Edges by node they leave, of each node ordered by where they lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Csr {
    /// One more than there are nodes.
    offsets: Vec<u32>,
    edges: Vec<Edge>,
    /// Nodes that paths end at and do not pass through.
    ends: Vec<bool>,
}

/// An edge as it is said: whether it is used depends on the other direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub from: NodeId,
    pub to: NodeId,
    pub part: u32,
    pub cost: u32,
    pub link: LinkId,
}

impl Csr {
    /// RFC 2328 16.1 (2 b), ISO 10589 7.2.8.2: only what both ends say is used.
    pub(super) fn build(nodes: usize, said: &[Said], ends: Vec<bool>) -> Self {
        let mut starts = vec![0u32; nodes + 1];
        for edge in said {
            starts[edge.from as usize + 1] += 1;
        }
        for at in 0..nodes {
            starts[at + 1] += starts[at];
        }
        let mut fill = starts.clone();
        let mut sorted = vec![Said { from: 0, to: 0, part: 0, cost: 0, link: 0 }; said.len()];
        for edge in said {
            let at = &mut fill[edge.from as usize];
            sorted[*at as usize] = *edge;
            *at += 1;
        }
        for at in 0..nodes {
            let own = &mut sorted[starts[at] as usize..starts[at + 1] as usize];
            own.sort_unstable_by_key(|edge| (edge.to, edge.part, edge.cost, edge.link));
        }
        let of = |node: NodeId| &sorted[starts[node as usize] as usize..starts[node as usize + 1] as usize];
        let mut csr = Self { offsets: Vec::with_capacity(nodes + 1), edges: Vec::with_capacity(said.len()), ends };
        csr.offsets.push(0);
        for node in 0..nodes as NodeId {
            for edge in of(node) {
                let back = (node, edge.part);
                let both = || of(edge.to).binary_search_by_key(&back, |back| (back.to, back.part)).is_ok();
                if edge.to != node && both() {
                    csr.edges.push(Edge { to: edge.to, cost: edge.cost, link: edge.link });
                }
            }
            // The parts do not matter any more.
            let start = csr.offsets[node as usize] as usize;
            csr.edges[start..].sort_unstable();
            csr.offsets.push(csr.edges.len() as u32);
        }
        csr
    }

    pub fn nodes(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Edges that paths may use.
    pub fn edge_count(&self) -> usize {
        self.edges.iter().filter(|edge| edge.cost != UNREACHABLE).count()
    }

    pub fn edges(&self, node: NodeId) -> &[Edge] {
        let at = node as usize;
        match (self.offsets.get(at), self.offsets.get(at + 1)) {
            (Some(start), Some(end)) => &self.edges[*start as usize..*end as usize],
            _ => &[],
        }
    }

    fn between(&self, from: NodeId, to: NodeId) -> &[Edge] {
        let edges = self.edges(from);
        let start = edges.partition_point(|edge| edge.to < to);
        let count = edges[start..].iter().take_while(|edge| edge.to == to).count();
        &edges[start..start + count]
    }

    fn is_end(&self, node: NodeId) -> bool {
        self.ends.get(node as usize).copied().unwrap_or(false)
    }

    /// The tree of a root.
    pub fn tree(&self, root: NodeId) -> Tree {
        let nodes = self.nodes();
        let mut distance = vec![UNREACHABLE; nodes];
        let mut rank = vec![u32::MAX; nodes];
        // The heap gives the greatest: distance and node, all bits turned over.
        let mut heap: BinaryHeap<u64> = BinaryHeap::with_capacity(nodes);
        let mut settled = 0;
        if (root as usize) < nodes {
            distance[root as usize] = 0;
            heap.push(!u64::from(root));
        }
        while let Some(entry) = heap.pop() {
            let (so_far, node) = ((!entry >> 32) as u32, !entry as u32);
            if so_far != distance[node as usize] {
                continue;
            }
            rank[node as usize] = settled;
            settled += 1;
            if self.is_end(node) && node != root {
                continue;
            }
            for edge in self.edges(node) {
                // A sum that has no 32 bits is no path (RFC 5305 3: beyond the greatest metric of a path).
                let over = so_far.saturating_add(edge.cost);
                let to = &mut distance[edge.to as usize];
                if over < *to {
                    *to = over;
                    heap.push(!(u64::from(over) << 32 | u64::from(edge.to)));
                }
            }
        }
        Tree { root, distance, rank }
    }

    /// Edges that are in one and not in the other: those that went, those that came.
    pub(super) fn changes(&self, new: &Self) -> Vec<Change> {
        let mut list = Vec::new();
        for node in 0..self.nodes().max(new.nodes()) as NodeId {
            let (old_edges, new_edges) = (self.edges(node), new.edges(node));
            let (was_end, is_end) = (self.is_end(node), new.is_end(node));
            let change =
                |edge: &Edge, added, passing| Change { from: node, to: edge.to, cost: edge.cost, added, passing };
            if was_end != is_end {
                // To others than itself all its edges go or come.
                let passing = if is_end { old_edges } else { new_edges };
                list.extend(passing.iter().map(|edge| change(edge, !is_end, true)));
            }
            let same = |one: &Edge, other: &Edge| (one.to, one.cost) == (other.to, other.cost);
            let equal = old_edges.len() == new_edges.len()
                && old_edges.iter().zip(new_edges).all(|(one, other)| same(one, other));
            if equal {
                continue;
            }
            let (mut old, mut new) = (old_edges.iter().peekable(), new_edges.iter().peekable());
            loop {
                match (old.peek(), new.peek()) {
                    (None, None) => break,
                    (Some(one), Some(other)) if same(one, other) => {
                        old.next();
                        new.next();
                    }
                    (Some(one), other) if other.is_none_or(|other| (one.to, one.cost) < (other.to, other.cost)) => {
                        list.push(change(one, false, false));
                        old.next();
                    }
                    (_, Some(other)) => {
                        list.push(change(other, true, false));
                        new.next();
                    }
                    (Some(_), None) => break,
                }
            }
        }
        list
    }
}

/// An edge that came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    from: NodeId,
    to: NodeId,
    cost: u32,
    added: bool,
    /// Only for paths through the node.
    passing: bool,
}

/// Distances from a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    root: NodeId,
    distance: Vec<u32>,
    /// Order in which nodes were reached: a path leads upwards in it, also over edges that cost nothing.
    rank: Vec<u32>,
}

impl Tree {
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// [`UNREACHABLE`] where no path leads.
    pub fn distance(&self, node: NodeId) -> u32 {
        self.distance.get(node as usize).copied().unwrap_or(UNREACHABLE)
    }

    pub(super) fn rank(&self, node: NodeId) -> u32 {
        self.rank.get(node as usize).copied().unwrap_or(u32::MAX)
    }

    pub fn octets(&self) -> usize {
        8 * self.distance.len()
    }

    /// Whether the tree can be another one after the change. An edge that went was on a shortest path, or one that
    /// came makes a path that is as short: of each change by itself it is enough to know that it does neither.
    pub(super) fn is_touched(&self, change: &Change) -> bool {
        if change.passing && change.from == self.root {
            return false;
        }
        let from = self.distance(change.from);
        if from == UNREACHABLE {
            return false;
        }
        let (over, to) = (from.saturating_add(change.cost), self.distance(change.to));
        if over == UNREACHABLE {
            return false;
        }
        if change.added { over <= to } else { over == to }
    }

    /// Edges over which shortest paths reach a node, with where they leave.
    pub fn last_edges<'a>(&'a self, csr: &'a Csr, node: NodeId) -> impl Iterator<Item = (NodeId, Edge)> + use<'a> {
        let rank = self.rank.get(node as usize).copied().unwrap_or(0);
        let distance = self.distance(node);
        let neighbours = csr.edges(node);
        // Both directions are there, so whoever leads here is a neighbour.
        let firsts = neighbours.iter().enumerate().filter(|(at, edge)| *at == 0 || neighbours[at - 1].to != edge.to);
        let nearer = firsts.map(|(_, edge)| edge.to).filter(move |near| {
            self.distance(*near) != UNREACHABLE
                && self.rank[*near as usize] < rank
                && (*near == self.root || !csr.is_end(*near))
        });
        nearer.flat_map(move |near| {
            let from = self.distance(near);
            let edges = csr.between(near, node).iter();
            edges.filter(move |edge| from.saturating_add(edge.cost) == distance).map(move |edge| (near, *edge))
        })
    }
}
