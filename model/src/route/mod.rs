//! Routes: what each router would do with a packet.
//!
//! The BGP speaker (and the BMP station) turn sessions into [`RouteEvent`]s; a
//! [`RouteTable`] is built from them by one writer wherever readers are: in the
//! speaker's process for `rib lookup`, in the enricher's for the join.

mod by_prefix;
mod family;
mod paged;
mod paths;
mod rib_view;
pub mod table;
mod trie;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Prefix};
use crate::flow::codes;

pub use by_prefix::PeerPath;
pub use rib_view::RibView;
pub use table::{Applied, Candidate, Found, PeerRoutes, RouteReader, RouteRef, RouteTable, RouteView, Vantage};

codes! {
    /// Whose table named a flow's route.
    Provenance {
        /// Nobody's.
        None = 0 "none",
        /// The exporter's own.
        Router = 1 "router",
        /// Its route reflector's.
        Reflector = 2 "reflector",
        /// Another router's.
        Fallback = 3 "fallback",
        /// The exporter said so in the record.
        Record = 4 "record",
    }
}

codes! {
    Family { V4Unicast = 1 "ipv4-unicast", V6Unicast = 2 "ipv6-unicast" }
}

/// Number of a peer in its speaker, kept while the speaker lives. A peer with routes in several tables has one
/// for each: see [`in_table`].
pub type PeerId = u32;

/// Bits of a [`PeerId`] that number the peer; those above number its tables.
const PEER_BITS: u32 = 20;
/// Peers that ids have room for.
pub const PEERS_MAX: u32 = 1 << PEER_BITS;
/// Tables of a peer that ids have room for.
pub const TABLES_MAX: u32 = 1 << (32 - PEER_BITS);

/// The id of a peer in one of its tables; table 0 is its unicast routes, whose id is the peer's own.
pub fn in_table(peer: PeerId, table: u32) -> PeerId {
    debug_assert!(peer < PEERS_MAX && table < TABLES_MAX);
    peer | table << PEER_BITS
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub id: PeerId,
    pub name: String,
    /// Remote address of the session.
    pub address: Address,
    pub bgp_id: [u8; 4],
    pub remote_as: u32,
    pub local_as: u32,
    /// Its paths are those of other routers too.
    pub reflector: bool,
    /// Whose table its routes are in; empty is the global one.
    pub vrf: String,
    /// Its routes came with labels (RFC 8277): they answer where it has no unicast route.
    pub labelled: bool,
    pub view: RibView,
    /// Address of the router whose table it is, where that is not [`Peer::address`].
    pub router: Option<Address>,
}

impl Peer {
    /// Its routes are of the router that has one of these addresses.
    pub fn is_of(&self, addresses: &[Address]) -> bool {
        let own = self.router.unwrap_or(self.address);
        let id = self.view.is_of_router().then(|| Address::from_v4(self.bgp_id));
        addresses.iter().any(|address| *address == own || Some(*address) == id)
    }
}

/// Attributes of a path, interned: equal ones are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Path {
    /// RFC 4271 5.1.1: 0 IGP, 1 EGP, 2 incomplete.
    pub origin: u8,
    pub as_path: Vec<Segment>,
    pub next_hop: Address,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub communities: Vec<u32>,
    pub large_communities: Vec<[u32; 3]>,
    pub ext_communities: Vec<[u8; 8]>,
    pub originator_id: Option<[u8; 4]>,
    pub cluster_list: Vec<[u8; 4]>,
    pub further: Option<Box<Further>>,
}

/// What few paths have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Further {
    /// RFC 8277: top of the stack first, 20 bits each.
    pub labels: Vec<u32>,
    /// Route distinguisher (RFC 4364 4.2).
    pub rd: Option<[u8; 8]>,
    /// Accumulated IGP metric (RFC 7311).
    pub aigp: Option<u64>,
    /// The AS that said so first (RFC 9234 5).
    pub only_to_customer: Option<u32>,
    /// AS and identifier of the aggregator (RFC 4271 5.1.7).
    pub aggregator: Option<(u32, [u8; 4])>,
    /// Flags, code and value of transitive attributes that are not read (RFC 4271 9).
    pub unknown: Vec<(u8, u8, Vec<u8>)>,
}

/// RFC 4271 4.3, RFC 5065: kind 1 set, 2 sequence, 3 confederation sequence, 4 confederation set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Segment {
    pub kind: u8,
    pub asns: Vec<u32>,
}

impl Path {
    /// Route distinguisher (RFC 4364 4.2).
    pub fn rd(&self) -> Option<[u8; 8]> {
        self.further.as_ref()?.rd
    }

    /// RFC 8277: top of the stack first.
    pub fn labels(&self) -> &[u32] {
        self.further.as_ref().map_or(&[], |further| &further.labels)
    }

    /// First AS outside the own network: the neighbour.
    pub fn first_as(&self) -> Option<u32> {
        let segment = self.as_path.iter().find(|segment| matches!(segment.kind, 1 | 2) && !segment.asns.is_empty())?;
        segment.asns.first().copied()
    }

    /// The origin AS: last of the path; of a trailing set, its first.
    pub fn origin_as(&self) -> Option<u32> {
        let segment =
            self.as_path.iter().rev().find(|segment| matches!(segment.kind, 1 | 2) && !segment.asns.is_empty())?;
        if segment.kind == 1 { segment.asns.first().copied() } else { segment.asns.last().copied() }
    }

    /// "64500 64501 {64502,64503}".
    pub fn as_path_text(&self) -> String {
        let words = self.as_path.iter().flat_map(|segment| {
            let join = |open: &str, close: &str, separator: &str| {
                let asns: Vec<String> = segment.asns.iter().map(u32::to_string).collect();
                format!("{open}{}{close}", asns.join(separator))
            };
            match segment.kind {
                1 => vec![join("{", "}", ",")],
                3 => vec![join("(", ")", " ")],
                4 => vec![join("[", "]", ",")],
                _ => segment.asns.iter().map(u32::to_string).collect(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// A path that flow rows refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathEntry {
    pub hash: u64,
    pub path: Arc<Path>,
}

/// What happens to the table, in order. `path_id` of ADD-PATH (RFC 7911) is 0 where not agreed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RouteEvent {
    PeerUp(Arc<Peer>),
    /// Everything of the peer goes.
    PeerDown(PeerId),
    Announce {
        peer: PeerId,
        path: Arc<Path>,
        prefixes: Vec<(u32, Prefix)>,
    },
    Withdraw {
        peer: PeerId,
        prefixes: Vec<(u32, Prefix)>,
    },
    /// Routes of the family that are still stale go.
    EndOfRib {
        peer: PeerId,
        family: u8,
    },
    /// The peer's routes stay, marked, until End-of-RIB or [`RouteEvent::PeerDown`] (RFC 4724).
    PeerStale(PeerId),
    /// Everything of all peers goes: a snapshot follows.
    Clear,
    /// The peer's routes of one family stay, marked, until End-of-RIB (RFC 7313 4).
    FamilyStale {
        peer: PeerId,
        family: u8,
    },
}

/// What is asked of the history of routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryQuestion {
    /// A prefix, or an address: every prefix that covers it.
    pub prefix: String,
    /// Unix ms.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Name or address of a session; every one without it.
    pub router: Option<String>,
    /// Of more, the newest.
    pub limit: usize,
}

/// Events of one or more sessions, in the order in which they arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RouteBatch {
    pub generation: u64,
    pub events: Vec<RouteEvent>,
}
