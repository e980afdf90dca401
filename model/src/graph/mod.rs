//! The network graph: nodes, links and prefixes as the IGP tells them (RFC 9552), or a file.
//!
//!   GraphBatch --> [Modification: one writer] --publish--> [Graph: immutable] <-- GraphReader (n, never lock)
//!
//! Batches of events change a private network; what is published of it is never changed again, and keeps the
//! shortest-path trees that its changes cannot touch.
//!
//! A router that is in both levels of IS-IS, or in several areas of OSPF, is one node. Paths are the shortest over
//! all levels and areas of a topology: that routers prefer paths within their level or area is not followed, nor are
//! flexible algorithms. IPv6 has a topology of its own where links are in the IPv6 unicast one (RFC 5120).

mod file;
mod index;
mod modification;
mod reading;
mod tree;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Prefix};
use crate::flow::codes;

pub use file::{FileError, GraphFile};
pub use index::Owner;
pub use modification::{Modification, Published};
pub use reading::{Graph, GraphReader, Route, Step};
pub use tree::{Csr, Edge, Tree, UNREACHABLE};

/// Who said so: a BGP peer by its number, or the file.
pub type SourceId = u32;
pub const FILE: SourceId = SourceId::MAX;
/// Number of a node in a [`Graph`]; it stays while the node does.
pub type NodeId = u32;
pub type LinkId = u32;

/// Topology 2 of IS-IS (RFC 5120 7.5): IPv6 unicast.
pub const V6_TOPOLOGY: u16 = 2;

codes! {
    /// Whose names the nodes have.
    Igp { File = 0 "file", Isis = 1 "is-is", Ospf = 3 "ospf", Direct = 4 "direct", Static = 5 "static", Ospf3 = 6 "ospfv3", Bgp = 7 "bgp", Other = 255 "other" }
}

/// What tells a node from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeKey {
    /// [`Igp`] by code.
    pub igp: u8,
    /// Of several instances of the protocol.
    pub instance: u64,
    pub asn: u32,
    /// BGP-LS identifier of old speakers.
    pub ls_id: u32,
    /// Level or area of a broadcast network; a router is one in all of them.
    pub part: u32,
    /// System id, router id, or the file's name for it.
    pub id: Arc<[u8]>,
    pub pseudonode: bool,
}

impl fmt::Display for NodeKey {
    /// "1921.6800.0001", a broadcast network "1921.6800.0001.05"; "10.0.0.1", "10.0.0.1:10.0.0.2".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.id, self.igp) {
            ([a, b, c, d, e, g], 1) => write!(f, "{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{g:02x}"),
            ([a, b, c, d, e, g, n], 1) => write!(f, "{a:02x}{b:02x}.{c:02x}{d:02x}.{e:02x}{g:02x}.{n:02x}"),
            (_, 0) => f.write_str(&String::from_utf8_lossy(&self.id)),
            ([a, b, c, d], _) => write!(f, "{a}.{b}.{c}.{d}"),
            ([a, b, c, d, w, x, y, z], _) => write!(f, "{a}.{b}.{c}.{d}:{w}.{x}.{y}.{z}"),
            _ => self.id.iter().try_for_each(|octet| write!(f, "{octet:02x}")),
        }
    }
}

/// What is said of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    pub name: Option<String>,
    /// Of the router as a whole, loopbacks by habit.
    pub router_ids: Vec<Address>,
    /// Nothing is to be sent through it (ISO 10589 7.2.8.1).
    pub overload: bool,
    /// "level 1", "level 2", "area 0.0.0.0", with IS-IS area addresses.
    pub areas: Vec<String>,
    /// Range of labels (RFC 9085): first, count.
    pub label_ranges: Vec<(u32, u32)>,
}

/// What is said of one direction of a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// Without one nothing is sent over it, except from a broadcast network to its routers.
    pub metric: Option<u32>,
    pub te_metric: Option<u32>,
    pub admin_group: Option<u32>,
    pub bandwidth_bits_per_s: Option<u64>,
    /// RFC 8571: the least.
    pub delay_us: Option<u32>,
    pub name: Option<String>,
    /// Labels or indices of the adjacency (RFC 9085).
    pub adjacency_sids: Vec<u32>,
    pub shared_risk_groups: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkObject {
    pub from: NodeKey,
    pub to: NodeKey,
    /// Level or area: both directions of a link are in the same.
    pub part: u32,
    pub topology: u16,
    /// Addresses of its near and of its far end.
    pub local: Vec<Address>,
    pub remote: Vec<Address>,
    pub facts: LinkFacts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrefixObject {
    pub node: NodeKey,
    pub prefix: Prefix,
    pub topology: u16,
    pub metric: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Object {
    Node(NodeKey, NodeFacts),
    Link(Box<LinkObject>),
    Prefix(PrefixObject),
}

/// What names an object, whoever says it: its NLRI.
pub type Name = Arc<[u8]>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GraphEvent {
    Announce {
        source: SourceId,
        objects: Vec<(Name, Object)>,
    },
    Withdraw {
        source: SourceId,
        names: Vec<Name>,
    },
    /// What the source said stays, and goes at the next [`GraphEvent::Sweep`] unless it says it again.
    Stale(SourceId),
    Sweep(SourceId),
    Down(SourceId),
    /// All that BGP said goes: the speaker began anew.
    Clear,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GraphBatch {
    pub events: Vec<GraphEvent>,
}

/// A node of a published graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub key: NodeKey,
    pub facts: NodeFacts,
}

impl Node {
    /// Its name, or what its protocol calls it.
    pub fn name(&self) -> String {
        self.facts.name.clone().unwrap_or_else(|| self.key.to_string())
    }
}

/// One direction of a link of a published graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub from: NodeId,
    pub to: NodeId,
    pub part: u32,
    pub topology: u16,
    pub local: Vec<Address>,
    pub remote: Vec<Address>,
    pub facts: LinkFacts,
}
