//! The modification network: what was said, by whom, and the graph that follows from it.

use std::collections::hash_map;
use std::sync::Arc;

use ahash::AHashMap;

use super::index::{Addresses, Prefixes};
use super::reading::{Graph, GraphReader, Topology};
use super::tree::{Change, Csr, Said, UNREACHABLE};
use super::{
    FILE, GraphBatch, GraphEvent, Igp, Link, LinkId, LinkObject, Name, Node, NodeFacts, NodeId, NodeKey, Object,
    SourceId, V6_TOPOLOGY,
};

/// Objects beyond these are not taken: twenty times a graph of 10,000 routers.
const OBJECTS_MAX: usize = 4_000_000;
/// Above so many (change, tree) pairs it costs less to make trees again than to look for those that are touched.
const CHECKS_MAX: usize = 20_000_000;
/// RFC 5305 3: a link of this metric is not for paths.
const METRIC_NOT_USED: u32 = 0x00ff_ffff;

/// What one source says of an object.
#[derive(Debug)]
struct Version {
    source: SourceId,
    stale: bool,
    object: Arc<Object>,
}

/// An object, whoever says it, and its place in the network.
#[derive(Debug)]
struct Entry {
    versions: Vec<Version>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Node(NodeId),
    Link(LinkId),
    Prefix(usize),
}

#[derive(Debug)]
struct NodeSlot {
    key: NodeKey,
    /// Objects that name it.
    uses: usize,
    /// What is said of it: in each level or area.
    facts: Vec<(Name, Arc<Object>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Dirty {
    nodes: bool,
    links: bool,
    /// Which links there are, or their addresses.
    ends: bool,
    prefixes: bool,
}

/// What a publication came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// False where nothing had changed.
    pub changed: bool,
    pub trees_kept: usize,
    pub trees_dropped: usize,
}

/// The one writer. What it applies is seen by readers after [`Modification::publish`].
#[derive(Debug, Default)]
pub struct Modification {
    reader: GraphReader,
    objects: AHashMap<Name, Entry>,
    nodes: Vec<Option<NodeSlot>>,
    free_nodes: Vec<NodeId>,
    by_key: AHashMap<NodeKey, NodeId>,
    /// Published as they are here.
    node_table: Vec<Option<Arc<Node>>>,
    link_table: Vec<Option<Arc<Link>>>,
    free_links: Vec<LinkId>,
    prefixes: Vec<Option<(NodeId, Arc<Object>)>>,
    free_prefixes: Vec<usize>,
    dirty: Dirty,
    changes: u64,
    refused: u64,
}

impl Modification {
    pub fn new() -> Self {
        Self::default()
    }

    /// What is published is seen through `reader`.
    pub fn with_reader(reader: GraphReader) -> Self {
        Self { reader, ..Self::default() }
    }

    pub fn reader(&self) -> GraphReader {
        self.reader.clone()
    }

    /// Objects that came, went, or are said otherwise, since the beginning.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Objects that there was no room for.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    pub fn apply(&mut self, batch: GraphBatch) {
        for event in batch.events {
            match event {
                GraphEvent::Announce { source, objects } => {
                    for (name, object) in objects {
                        self.announce(source, name, object);
                    }
                }
                GraphEvent::Withdraw { source, names } => {
                    for name in names {
                        self.remove(&name, |version| version.source == source);
                    }
                }
                GraphEvent::Stale(source) => self.set_stale(source),
                GraphEvent::Sweep(source) => self.remove_all(|version| version.source == source && version.stale),
                GraphEvent::Down(source) => self.remove_all(|version| version.source == source),
                GraphEvent::Clear => self.remove_all(|version| version.source != FILE),
            }
        }
    }

    fn announce(&mut self, source: SourceId, name: Name, object: Object) {
        if !self.objects.contains_key(&name) && self.objects.len() >= OBJECTS_MAX {
            self.refused += 1;
            return;
        }
        match self.objects.entry(name.clone()) {
            hash_map::Entry::Vacant(vacant) => {
                let object = Arc::new(object);
                let place = match &*object {
                    Object::Node(..) => Place::Node(0),
                    Object::Link(_) => Place::Link(0),
                    Object::Prefix(_) => Place::Prefix(0),
                };
                let versions = vec![Version { source, stale: false, object: object.clone() }];
                vacant.insert(Entry { versions, place });
                let place = self.place(&name, &object);
                if let Some(entry) = self.objects.get_mut(&name) {
                    entry.place = place;
                }
                self.changes += 1;
            }
            hash_map::Entry::Occupied(mut occupied) => {
                let entry = occupied.get_mut();
                let before = effective(&entry.versions).clone();
                // Reflectors say the same: one copy.
                let same = entry.versions.iter().find(|version| *version.object == object);
                let object = same.map_or_else(|| Arc::new(object), |same| same.object.clone());
                match entry.versions.iter_mut().find(|version| version.source == source) {
                    Some(version) => (version.object, version.stale) = (object, false),
                    None => {
                        let at = entry.versions.partition_point(|version| version.source < source);
                        entry.versions.insert(at, Version { source, stale: false, object });
                    }
                }
                let after = effective(&entry.versions).clone();
                if !Arc::ptr_eq(&before, &after) {
                    let place = entry.place;
                    self.change(&name, place, &before, &after);
                }
            }
        }
    }

    /// Where another source says it still, that one's word counts from now on.
    fn set_stale(&mut self, source: SourceId) {
        let mut switched = Vec::new();
        for (name, entry) in &mut self.objects {
            let before = effective(&entry.versions).clone();
            let Some(own) = entry.versions.iter_mut().find(|version| version.source == source) else { continue };
            own.stale = true;
            let after = effective(&entry.versions).clone();
            if !Arc::ptr_eq(&before, &after) {
                switched.push((name.clone(), entry.place, before, after));
            }
        }
        for (name, place, before, after) in switched {
            self.change(&name, place, &before, &after);
        }
    }

    fn remove(&mut self, name: &Name, gone: impl Fn(&Version) -> bool) {
        let Some(entry) = self.objects.get_mut(name) else { return };
        let before = effective(&entry.versions).clone();
        entry.versions.retain(|version| !gone(version));
        let place = entry.place;
        if entry.versions.is_empty() {
            self.objects.remove(name);
            self.displace(name, place, &before);
            self.changes += 1;
            return;
        }
        let after = effective(&entry.versions).clone();
        if !Arc::ptr_eq(&before, &after) {
            self.change(name, place, &before, &after);
        }
    }

    fn remove_all(&mut self, gone: impl Fn(&Version) -> bool) {
        let touched = |entry: &Entry| entry.versions.iter().any(&gone);
        let names: Vec<Name> =
            self.objects.iter().filter(|(_, entry)| touched(entry)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.remove(&name, &gone);
        }
    }

    /// The same object, said otherwise: what it names does not change, what is said of it does.
    fn change(&mut self, name: &Name, place: Place, before: &Arc<Object>, after: &Arc<Object>) {
        self.changes += 1;
        match (place, &**before, &**after) {
            (Place::Link(id), Object::Link(old), Object::Link(new)) if ends(old) == ends(new) => {
                self.dirty.links = true;
                self.dirty.ends |= (&old.local, &old.remote) != (&new.local, &new.remote);
                let slot = &mut self.link_table[id as usize];
                if let Some(link) = slot.as_deref() {
                    *slot = Some(Arc::new(link_of(new, link.from, link.to)));
                }
            }
            _ => {
                // First the new place, so that a node that both name stays the same one.
                let new = self.place(name, after);
                if let Some(entry) = self.objects.get_mut(name) {
                    entry.place = new;
                }
                self.displace(name, place, before);
            }
        }
    }

    fn place(&mut self, name: &Name, object: &Arc<Object>) -> Place {
        match &**object {
            Object::Node(key, _) => {
                let id = self.take_node(key);
                if let Some(slot) = self.nodes[id as usize].as_mut() {
                    slot.facts.push((name.clone(), object.clone()));
                }
                self.dirty.nodes = true;
                self.describe(id);
                Place::Node(id)
            }
            Object::Link(link) => {
                let (from, to) = (self.take_node(&link.from), self.take_node(&link.to));
                (self.dirty.links, self.dirty.ends) = (true, true);
                let made = Some(Arc::new(link_of(link, from, to)));
                let id = match self.free_links.pop() {
                    Some(id) => id,
                    None => {
                        self.link_table.push(None);
                        (self.link_table.len() - 1) as LinkId
                    }
                };
                self.link_table[id as usize] = made;
                Place::Link(id)
            }
            Object::Prefix(prefix) => {
                let node = self.take_node(&prefix.node);
                self.dirty.prefixes = true;
                let made = Some((node, object.clone()));
                let at = match self.free_prefixes.pop() {
                    Some(at) => at,
                    None => {
                        self.prefixes.push(None);
                        self.prefixes.len() - 1
                    }
                };
                self.prefixes[at] = made;
                Place::Prefix(at)
            }
        }
    }

    fn displace(&mut self, name: &Name, place: Place, object: &Arc<Object>) {
        match place {
            Place::Node(_) => self.displace_node(name, object),
            Place::Link(id) => {
                (self.dirty.links, self.dirty.ends) = (true, true);
                if let Some(link) = self.link_table[id as usize].take() {
                    self.free_links.push(id);
                    self.leave_node(link.from);
                    self.leave_node(link.to);
                }
            }
            Place::Prefix(at) => {
                self.dirty.prefixes = true;
                if let Some((node, _)) = self.prefixes[at].take() {
                    self.free_prefixes.push(at);
                    self.leave_node(node);
                }
            }
        }
    }

    fn displace_node(&mut self, name: &Name, object: &Arc<Object>) {
        let Object::Node(key, _) = &**object else { return };
        let Some(id) = self.by_key.get(key).copied() else { return };
        if let Some(slot) = self.nodes[id as usize].as_mut()
            && let Some(at) = slot.facts.iter().position(|(other, said)| other == name && Arc::ptr_eq(said, object))
        {
            slot.facts.remove(at);
        }
        self.dirty.nodes = true;
        self.describe(id);
        self.leave_node(id);
    }

    /// The node of that name, made where there is none; one more object names it.
    fn take_node(&mut self, key: &NodeKey) -> NodeId {
        if let Some(id) = self.by_key.get(key).copied() {
            if let Some(slot) = self.nodes[id as usize].as_mut() {
                slot.uses += 1;
            }
            return id;
        }
        let id = match self.free_nodes.pop() {
            Some(id) => id,
            None => {
                self.nodes.push(None);
                self.node_table.push(None);
                (self.nodes.len() - 1) as NodeId
            }
        };
        self.nodes[id as usize] = Some(NodeSlot { key: key.clone(), uses: 1, facts: Vec::new() });
        self.by_key.insert(key.clone(), id);
        self.dirty.nodes = true;
        self.describe(id);
        id
    }

    fn leave_node(&mut self, id: NodeId) {
        let Some(slot) = self.nodes[id as usize].as_mut() else { return };
        slot.uses -= 1;
        if slot.uses == 0 {
            self.by_key.remove(&slot.key);
            self.nodes[id as usize] = None;
            self.node_table[id as usize] = None;
            self.free_nodes.push(id);
            self.dirty.nodes = true;
        }
    }

    /// Puts together what is said of a node in its levels and areas.
    fn describe(&mut self, id: NodeId) {
        let Some(slot) = self.nodes[id as usize].as_ref() else { return };
        let mut facts = NodeFacts::default();
        for (_, object) in &slot.facts {
            let Object::Node(_, said) = &**object else { continue };
            facts.name = facts.name.take().or_else(|| said.name.clone());
            facts.overload |= said.overload;
            facts.router_ids.extend(&said.router_ids);
            facts.areas.extend(said.areas.iter().cloned());
            facts.label_ranges.extend(&said.label_ranges);
        }
        facts.router_ids.sort_unstable();
        facts.router_ids.dedup();
        facts.areas.sort_unstable();
        facts.areas.dedup();
        facts.label_ranges.sort_unstable();
        facts.label_ranges.dedup();
        self.node_table[id as usize] = Some(Arc::new(Node { key: slot.key.clone(), facts }));
    }

    /// What was applied is seen from now on.
    pub fn publish(&mut self) -> Published {
        let dirty = std::mem::take(&mut self.dirty);
        let old = self.reader.graph();
        if !(dirty.nodes || dirty.links || dirty.ends || dirty.prefixes) {
            return Published::default();
        }
        let nodes = if dirty.nodes { Arc::new(self.node_table.clone()) } else { old.nodes.clone() };
        let links = if dirty.links { Arc::new(self.link_table.clone()) } else { old.links.clone() };
        let addresses = if dirty.nodes || dirty.ends { Arc::new(self.addresses()) } else { old.addresses.clone() };
        let prefixes = if dirty.nodes || dirty.prefixes { Arc::new(self.prefix_index()) } else { old.prefixes.clone() };
        let mut published = Published { changed: true, ..Published::default() };
        let topologies =
            if dirty.nodes || dirty.links { self.topologies(&old, &mut published) } else { old.topologies.clone() };
        let graph = Graph { generation: old.generation + 1, nodes, links, addresses, prefixes, topologies };
        self.reader.0.store(Arc::new(graph));
        published
    }

    fn addresses(&self) -> Addresses {
        let nodes = self.node_table.iter().enumerate();
        let nodes = nodes.filter_map(|(id, node)| Some((id as NodeId, &**node.as_ref()?)));
        let links = self.link_table.iter().flatten();
        Addresses::build(nodes, links.map(|link| (link.from, &link.local[..])))
    }

    fn prefix_index(&self) -> Prefixes {
        Prefixes::build(self.prefixes.iter().flatten().filter_map(|(node, object)| match &**object {
            Object::Prefix(prefix) => Some((*node, prefix)),
            _ => None,
        }))
    }

    fn topologies(&self, old: &Graph, published: &mut Published) -> [Arc<Topology>; 2] {
        let links = || self.link_table.iter().flatten();
        let has_own = links().any(|link| link.topology == V6_TOPOLOGY);
        // A network that has no other topology has that one for both.
        let has_default = !has_own || links().any(|link| link.topology == 0);
        let first = if has_default { 0 } else { V6_TOPOLOGY };
        let make = |topology: u16, before: &Topology, published: &mut Published| {
            let new = Topology::new(self.csr(topology));
            self.keep_trees(&old.nodes, before, &new, published);
            Arc::new(new)
        };
        let default = make(first, &old.topologies[0], published);
        let v6 = match has_own && has_default {
            true => make(V6_TOPOLOGY, &old.topologies[1], published),
            false => default.clone(),
        };
        [default, v6]
    }

    fn csr(&self, topology: u16) -> Csr {
        let node = |id: NodeId| self.node_table[id as usize].as_deref();
        let is_pseudonode = |id| node(id).is_some_and(|node| node.key.pseudonode);
        let links = self.link_table.iter().enumerate();
        let said = links.filter_map(|(id, link)| {
            let link = link.as_deref().filter(|link| link.topology == topology)?;
            // ISO 10589 7.2.5: from a broadcast network to its routers costs nothing.
            let cost = match link.facts.metric {
                _ if is_pseudonode(link.from) => 0,
                Some(METRIC_NOT_USED) if node(link.from).is_some_and(|node| node.key.igp == Igp::Isis as u8) => {
                    UNREACHABLE
                }
                metric => metric.unwrap_or(UNREACHABLE),
            };
            Some(Said { from: link.from, to: link.to, part: link.part, cost, link: id as LinkId })
        });
        let said: Vec<Said> = said.collect();
        let ends = self.node_table.iter().map(|node| node.as_ref().is_some_and(|node| node.facts.overload)).collect();
        Csr::build(self.node_table.len(), &said, ends)
    }

    /// Trees that no change can touch go on in the new graph.
    fn keep_trees(&self, old_nodes: &[Option<Arc<Node>>], old: &Topology, new: &Topology, published: &mut Published) {
        let kept = old.trees.iter().filter_map(|slot| slot.load_full());
        let trees: Vec<_> = kept.collect();
        if trees.is_empty() {
            return;
        }
        let changes: Vec<Change> = old.csr.changes(&new.csr);
        let is_cheap = changes.len().saturating_mul(trees.len()) <= CHECKS_MAX;
        for tree in trees {
            let root = tree.root() as usize;
            let same = |node: &Arc<Node>| {
                self.node_table.get(root).and_then(Option::as_ref).is_some_and(|new| new.key == node.key)
            };
            let is_same = old_nodes.get(root).and_then(Option::as_ref).is_some_and(same);
            let keeps = is_cheap && is_same && !changes.iter().any(|change| tree.is_touched(change));
            if keeps && new.keep(&tree) {
                published.trees_kept += 1;
            } else {
                published.trees_dropped += 1;
            }
        }
    }
}

/// The first source that still says it, else the first that did.
fn effective(versions: &[Version]) -> &Arc<Object> {
    let fresh = versions.iter().find(|version| !version.stale);
    &fresh.unwrap_or(&versions[0]).object
}

fn ends(link: &LinkObject) -> (&NodeKey, &NodeKey) {
    (&link.from, &link.to)
}

fn link_of(said: &LinkObject, from: NodeId, to: NodeId) -> Link {
    let LinkObject { part, topology, local, remote, facts, .. } = said.clone();
    Link { from, to, part, topology, local, remote, facts }
}
