//! The route table: one writer, any number of readers that never wait.
//!
//!   RouteBatch --apply--> [RouteTable] --publish--> RouteView <-- RouteReader (1..n)
//!
//! A view is a consistent snapshot: it holds the batches applied before it was
//! published, whole. Unchanged pages are shared between views.
//!
//! A look-up answers for one router: by its own table; where that has no route to
//! the address, by its labelled routes; else by a reflector's; else by any other
//! peer's, lowest number first. The answer says which.
//!
//! A VRF is a table of its own in the same structure: its peers answer for it alone.
//! Which peers answer at all, and which first, [`RibView`] says.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::family::{Column, Family, Hit, View};
use super::paths::{Paths, Shared};
use super::trie::Key;
use super::{Family as FamilyCode, Path, Peer, PeerId, Provenance, RouteBatch, RouteEvent};
use crate::address::{Address, Prefix};

/// Look-ups in flight together.
const BATCH: usize = super::trie::ALL;
/// Prefixes without routes that are taken out per applied batch, and per publication.
const COLLECT: usize = 4096;
const NO_COLUMN: u16 = u16::MAX;
/// Routes per batch of a snapshot.
const SNAPSHOT_ROUTES: usize = 16_384;

/// The writer.
#[derive(Debug, Default)]
pub struct RouteTable {
    v4: Family<u32>,
    v6: Family<u128>,
    paths: Paths,
    /// Peers by column; `None` is a column to be used again.
    peers: Vec<Option<Arc<Peer>>>,
    columns: HashMap<PeerId, usize>,
    next_hops: Arc<[(Address, u32)]>,
    next_hops_generation: u64,
    generation: u64,
    changed: bool,
    reader: RouteReader,
}

/// What one batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub announced: u64,
    pub withdrawn: u64,
    /// Events of peers that are not up: without effect.
    pub unknown_peer: u64,
}

impl RouteTable {
    pub fn new() -> Self {
        Self::default()
    }

    /// A table that is published where `reader` already looks, in place of what it saw.
    pub fn with_reader(reader: RouteReader) -> Self {
        Self { reader, changed: true, ..Self::default() }
    }

    /// Not seen by readers before [`RouteTable::publish`].
    pub fn apply(&mut self, batch: &RouteBatch) -> Applied {
        let mut applied = Applied::default();
        for event in &batch.events {
            self.apply_event(event, &mut applied);
        }
        self.v4.collect(COLLECT);
        self.v6.collect(COLLECT);
        self.generation = if batch.generation > self.generation { batch.generation } else { self.generation + 1 };
        self.changed = true;
        applied
    }

    fn apply_event(&mut self, event: &RouteEvent, applied: &mut Applied) {
        let column = |id: &PeerId, applied: &mut Applied| {
            let column = self.columns.get(id).copied();
            applied.unknown_peer += u64::from(column.is_none());
            column
        };
        match event {
            RouteEvent::PeerUp(peer) => self.peer_up(peer),
            RouteEvent::PeerDown(id) => self.peer_down(*id),
            RouteEvent::Announce { peer, path, prefixes } => {
                let Some(column) = column(peer, applied) else { return };
                let path = self.paths.intern(path);
                for (id, prefix) in prefixes {
                    let Prefix { address, len } = *prefix;
                    if address.is_v4() {
                        self.v4.announce(&mut self.paths, column, u32::of(&address.0), len.min(32), *id, path);
                    } else {
                        self.v6.announce(&mut self.paths, column, u128::of(&address.0), len.min(128), *id, path);
                    }
                }
                self.paths.release(path);
                applied.announced += prefixes.len() as u64;
            }
            RouteEvent::Withdraw { peer, prefixes } => {
                let Some(column) = column(peer, applied) else { return };
                for (id, prefix) in prefixes {
                    let Prefix { address, len } = *prefix;
                    if address.is_v4() {
                        self.v4.withdraw(&mut self.paths, column, u32::of(&address.0), len, *id);
                    } else {
                        self.v6.withdraw(&mut self.paths, column, u128::of(&address.0), len, *id);
                    }
                }
                applied.withdrawn += prefixes.len() as u64;
            }
            RouteEvent::EndOfRib { peer, family } => {
                let Some(column) = column(peer, applied) else { return };
                match FamilyCode::from_code(*family) {
                    Some(FamilyCode::V4Unicast) => self.v4.remove_stale(&mut self.paths, column),
                    Some(FamilyCode::V6Unicast) => self.v6.remove_stale(&mut self.paths, column),
                    None => {}
                }
            }
            RouteEvent::PeerStale(peer) => {
                let Some(column) = column(peer, applied) else { return };
                self.v4.mark_stale(&mut self.paths, column);
                self.v6.mark_stale(&mut self.paths, column);
            }
            RouteEvent::FamilyStale { peer, family } => {
                let Some(column) = column(peer, applied) else { return };
                match FamilyCode::from_code(*family) {
                    Some(FamilyCode::V4Unicast) => self.v4.mark_stale(&mut self.paths, column),
                    Some(FamilyCode::V6Unicast) => self.v6.mark_stale(&mut self.paths, column),
                    None => {}
                }
            }
            RouteEvent::Clear => {
                let ids: Vec<PeerId> = self.columns.keys().copied().collect();
                ids.into_iter().for_each(|id| self.peer_down(id));
            }
        }
    }

    /// A peer that is known keeps its routes: it may have restarted gracefully.
    fn peer_up(&mut self, peer: &Arc<Peer>) {
        if let Some(column) = self.columns.get(&peer.id) {
            self.peers[*column] = Some(peer.clone());
            return;
        }
        let free = self.peers.iter().position(Option::is_none);
        let column = free.unwrap_or_else(|| {
            self.peers.push(None);
            self.v4.view.columns.push(Column::default());
            self.v6.view.columns.push(Column::default());
            self.peers.len() - 1
        });
        self.peers[column] = Some(peer.clone());
        self.columns.insert(peer.id, column);
    }

    fn peer_down(&mut self, id: PeerId) {
        let Some(column) = self.columns.remove(&id) else { return };
        self.peers[column] = None;
        self.v4.clear(&mut self.paths, column);
        self.v6.clear(&mut self.paths, column);
    }

    /// Readers see everything applied so far from now on. Does nothing where nothing changed.
    pub fn publish(&mut self) {
        self.v4.collect(COLLECT);
        self.v6.collect(COLLECT);
        if !std::mem::take(&mut self.changed) {
            return;
        }
        if let Some(list) = self.paths.changed_next_hops() {
            self.next_hops = list;
            self.next_hops_generation = self.generation;
        }
        self.v4.note_default();
        self.v6.note_default();
        let inner = Inner {
            generation: self.generation,
            v4: self.v4.view.clone(),
            v6: self.v6.view.clone(),
            paths: self.paths.shared.clone(),
            vrfs: fallback_orders(&self.peers),
            peers: self.peers.clone(),
            next_hops: self.next_hops.clone(),
            next_hops_generation: self.next_hops_generation,
        };
        self.reader.0.store(Arc::new(inner));
    }

    pub fn reader(&self) -> RouteReader {
        self.reader.clone()
    }

    /// Of the last batch applied.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Prefixes in the structure, of either family; those that lost their last route may still be among them.
    pub fn prefixes(&self) -> (usize, usize) {
        (self.v4.prefixes(), self.v6.prefixes())
    }

    /// Prefixes with a route of one peer, IPv4 and IPv6; `None` where it is not up.
    pub fn routes_of(&self, peer: PeerId) -> Option<(u32, u32)> {
        let column = *self.columns.get(&peer)?;
        Some((self.v4.view.columns[column].routes, self.v6.view.columns[column].routes))
    }

    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Octets of the structure without the attributes of the paths.
    pub fn octets(&self) -> usize {
        self.v4.octets() + self.v6.octets()
    }

    /// What is published, as batches that build an equal table elsewhere.
    pub fn snapshot(&self) -> impl Iterator<Item = RouteBatch> + use<> {
        self.reader.view().snapshot()
    }
}

/// The global table first.
fn fallback_orders(peers: &[Option<Arc<Peer>>]) -> Vec<Vrf> {
    let mut order: Vec<(&str, u8, bool, bool, PeerId, u16)> = peers
        .iter()
        .enumerate()
        .filter_map(|(column, peer)| {
            let peer = peer.as_ref()?;
            let rank = peer.view.rank().unwrap_or(u8::MAX);
            Some((&*peer.vrf, rank, !peer.reflector, peer.labelled, peer.id, column as u16))
        })
        .collect();
    order.sort_unstable();
    let provenance = |other| if other { Provenance::Fallback } else { Provenance::Reflector };
    let mut vrfs = vec![Vrf::default()];
    for (name, rank, other, _, _, column) in order {
        if vrfs.last().is_none_or(|vrf| vrf.name != name) {
            vrfs.push(Vrf { name: name.to_owned(), ..Vrf::default() });
        }
        if let Some(vrf) = vrfs.last_mut() {
            match rank {
                u8::MAX => vrf.shown.push((column, Provenance::None)),
                _ => vrf.order.push((column, provenance(other))),
            }
        }
    }
    vrfs
}

/// A table of its own, and who answers for it in which order.
#[derive(Clone, Debug, Default)]
struct Vrf {
    name: String,
    order: Vec<(u16, Provenance)>,
    /// Who answers for nobody.
    shown: Vec<(u16, Provenance)>,
}

impl Vrf {
    fn columns(&self) -> impl Iterator<Item = &(u16, Provenance)> {
        self.order.iter().chain(&self.shown)
    }
}

/// Where views come from; clones read the same table.
#[derive(Clone, Debug)]
pub struct RouteReader(Arc<ArcSwap<Inner>>);

impl Default for RouteReader {
    fn default() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Inner::default())))
    }
}

impl RouteReader {
    /// What was published last. Take one per batch, not per record.
    pub fn view(&self) -> RouteView {
        RouteView(self.0.load_full())
    }
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    generation: u64,
    pub(super) v4: View<u32>,
    pub(super) v6: View<u128>,
    pub(super) paths: Shared,
    pub(super) peers: Vec<Option<Arc<Peer>>>,
    /// In order of their names, from the global table, which has none.
    vrfs: Vec<Vrf>,
    next_hops: Arc<[(Address, u32)]>,
    next_hops_generation: u64,
}

/// A consistent snapshot.
#[derive(Clone, Debug)]
pub struct RouteView(pub(super) Arc<Inner>);

/// Whose table answers first; valid in the view that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vantage {
    v4: u16,
    v6: u16,
    labelled_v4: u16,
    labelled_v6: u16,
    /// Number of the table in its view.
    vrf: u16,
}

impl Vantage {
    /// No router's own: reflectors, then the others.
    pub const NONE: Self = Self::none(0);

    const fn none(vrf: u16) -> Self {
        Self { v4: NO_COLUMN, v6: NO_COLUMN, labelled_v4: NO_COLUMN, labelled_v6: NO_COLUMN, vrf }
    }

    /// The router has a session of its own.
    pub fn is_router(&self) -> bool {
        *self != Self::none(self.vrf)
    }
}

/// A route by its numbers; [`RouteView::get`] of the same view has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRef {
    slot: u32,
    path: u32,
    column: u16,
    provenance: Provenance,
    /// Bit 0: IPv6. Bit 1: stale.
    bits: u8,
}

impl RouteRef {
    pub const NONE: Self = Self { slot: 0, path: 0, column: NO_COLUMN, provenance: Provenance::None, bits: 0 };

    pub fn is_none(&self) -> bool {
        self.path == 0
    }

    pub fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// Equal for routes of one path within one view: a key for what is derived from the path.
    pub fn path_number(&self) -> u32 {
        self.path
    }

    fn new(hit: Hit, column: u16, provenance: Provenance, v6: bool) -> Self {
        Self { slot: hit.slot, path: hit.path, column, provenance, bits: u8::from(v6) | u8::from(hit.stale) << 1 }
    }
}

/// A route, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub prefix: Prefix,
    pub path: &'a Arc<Path>,
    /// [`Path::stable_hash`].
    pub path_hash: u64,
    pub provenance: Provenance,
    pub peer: &'a Arc<Peer>,
    /// Of a session that ended; the peer has not announced it again yet.
    pub stale: bool,
}

/// One peer and how much it announced.
#[derive(Clone, Copy, Debug)]
pub struct PeerRoutes<'a> {
    pub peer: &'a Arc<Peer>,
    /// Prefixes with a route.
    pub v4: u32,
    pub v6: u32,
    pub stale: bool,
}

/// One peer's path to a prefix: what `rib lookup` lists.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// RFC 7911; 0 where not agreed.
    pub path_id: u32,
    pub found: Found<'a>,
}

impl RouteView {
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// The table of a router, by its address or any other address that is known to be its: a
    /// peer's session address or BGP identifier. Of several tables, those that have routes of the family, of these
    /// the one that says most of the router ([`RibView::rank`](super::RibView::rank)), of equals the fullest.
    pub fn vantage(&self, router: Address, router_aliases: &[Address]) -> Vantage {
        self.vantage_of_table(0, "", router, router_aliases)
    }

    /// The same in a VRF; `None` where no peer has routes of a VRF of that name.
    pub fn vantage_in(&self, vrf: &str, router: Address, router_aliases: &[Address]) -> Option<Vantage> {
        let number = self.vrf(vrf)?;
        Some(self.vantage_of_table(number, vrf, router, router_aliases))
    }

    /// No router's own, in a VRF.
    pub fn vantage_of_none(&self, vrf: &str) -> Option<Vantage> {
        self.vrf(vrf).map(Vantage::none)
    }

    fn vrf(&self, name: &str) -> Option<u16> {
        if name.is_empty() {
            return Some(0);
        }
        self.0.vrfs.iter().position(|vrf| vrf.name == name).map(|number| number as u16)
    }

    /// Names of the VRFs that have routes.
    pub fn vrfs(&self) -> impl Iterator<Item = &str> {
        self.0.vrfs.iter().skip(1).map(|vrf| &*vrf.name)
    }

    fn vantage_of_table(&self, vrf: u16, name: &str, router: Address, router_aliases: &[Address]) -> Vantage {
        let inner = &*self.0;
        let mut vantage = Vantage::none(vrf);
        let mut most = [(false, 0, 0); 4];
        let addresses: Vec<Address> = std::iter::once(router).chain(router_aliases.iter().copied()).collect();
        for (column, peer) in inner.peers.iter().enumerate() {
            let Some(peer) = peer.as_ref().filter(|peer| peer.vrf == name && peer.is_of(&addresses)) else { continue };
            let Some(rank) = peer.view.rank() else { continue };
            let (v4, v6) = (inner.v4.columns[column].routes, inner.v6.columns[column].routes);
            let own = if peer.labelled {
                [(&mut vantage.labelled_v4, 2, v4), (&mut vantage.labelled_v6, 3, v6)]
            } else {
                [(&mut vantage.v4, 0, v4), (&mut vantage.v6, 1, v6)]
            };
            for (own, kind, routes) in own {
                let says = (routes > 0, u8::MAX - rank, routes);
                if *own == NO_COLUMN || says > most[kind] {
                    (*own, most[kind]) = (column as u16, says);
                }
            }
        }
        vantage
    }

    /// The vantage of a peer.
    pub fn vantage_of(&self, peer: PeerId) -> Vantage {
        let found = self.0.peers.iter().position(|other| other.as_ref().is_some_and(|other| other.id == peer));
        let Some(column) = found else { return Vantage::NONE };
        let vrf = self.0.peers[column].as_ref().and_then(|peer| self.vrf(&peer.vrf)).unwrap_or(0);
        Vantage { v4: column as u16, v6: column as u16, ..Vantage::none(vrf) }
    }

    pub fn lookup(&self, vantage: Vantage, address: Address) -> Option<Found<'_>> {
        self.get(self.find(vantage, &address.0))
    }

    /// [`RouteView::lookup`] by numbers.
    pub fn find(&self, vantage: Vantage, address: &[u8; 16]) -> RouteRef {
        if is_v4(address) {
            let slot = self.0.v4.slot(u32::of(address));
            self.route(&self.0.v4, [vantage.v4, vantage.labelled_v4], vantage.vrf, slot, false)
        } else {
            let slot = self.0.v6.slot(u128::of(address));
            self.route(&self.0.v6, [vantage.v6, vantage.labelled_v6], vantage.vrf, slot, true)
        }
    }

    /// One answer an address, in order; `out` is cleared first.
    pub fn lookup_batch(&self, vantage: Vantage, addresses: &[[u8; 16]], out: &mut Vec<RouteRef>) {
        out.clear();
        out.resize(addresses.len(), RouteRef::NONE);
        let Inner { v4, v6, .. } = &*self.0;
        let (own_v4, own_v6) = ([vantage.v4, vantage.labelled_v4], [vantage.v6, vantage.labelled_v6]);
        for (addresses, out) in addresses.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            let (mut four, mut six) = (Keys::<u32>::new(), Keys::<u128>::new());
            for (place, address) in addresses.iter().enumerate() {
                if is_v4(address) {
                    four.push(u32::of(address), place);
                } else {
                    six.push(u128::of(address), place);
                }
            }
            self.find_all(v4, own_v4, vantage.vrf, &four, false, out);
            self.find_all(v6, own_v6, vantage.vrf, &six, true, out);
        }
    }

    /// Each loop's reads do not depend on each other, so that they overlap.
    #[inline]
    fn find_all<K: Key>(
        &self,
        family: &View<K>,
        own: [u16; 2],
        vrf: u16,
        keys: &Keys<K>,
        v6: bool,
        out: &mut [RouteRef],
    ) {
        let mut slots = [0u32; BATCH];
        let mut entries = [0u32; BATCH];
        let Keys { keys, places, count } = keys;
        let (slots, entries) = (&mut slots[..*count], &mut entries[..*count]);
        family.find_slots(&keys[..*count], slots);
        let column = family.columns.get(usize::from(own[0]));
        if let Some(column) = column {
            for (entry, slot) in entries.iter_mut().zip(&*slots) {
                *entry = column.at(*slot);
            }
        }
        for ((entry, slot), place) in entries.iter().zip(&*slots).zip(places) {
            out[usize::from(*place)] = match column {
                Some(column) if *entry != 0 => RouteRef::new(column.hit(*slot, *entry), own[0], Provenance::Router, v6),
                _ => self.route(family, own, vrf, *slot, v6),
            };
        }
    }

    /// `own`: the router's columns, the first that has a route answers.
    fn route<K: Key>(&self, family: &View<K>, own: [u16; 2], vrf: u16, slot: u32, v6: bool) -> RouteRef {
        if slot == 0 && !family.has_default {
            return RouteRef::NONE;
        }
        for column in own {
            if let Some(hit) = family.climb(usize::from(column), slot) {
                return RouteRef::new(hit, column, Provenance::Router, v6);
            }
        }
        let Some(vrf) = self.0.vrfs.get(usize::from(vrf)) else { return RouteRef::NONE };
        let others = vrf.order.iter().filter(|(column, _)| !own.contains(column));
        for (column, provenance) in others {
            if let Some(hit) = family.climb(usize::from(*column), slot) {
                return RouteRef::new(hit, *column, *provenance, v6);
            }
        }
        RouteRef::NONE
    }

    pub fn get(&self, route: RouteRef) -> Option<Found<'_>> {
        let interned = self.0.paths.get(route.path as usize)?.as_ref()?;
        let peer = self.0.peers.get(usize::from(route.column))?.as_ref()?;
        Some(Found {
            prefix: if route.bits & 1 != 0 { prefix(&self.0.v6, route.slot) } else { prefix(&self.0.v4, route.slot) },
            path: &interned.path,
            path_hash: interned.hash,
            provenance: route.provenance,
            peer,
            stale: route.bits & 2 != 0,
        })
    }

    /// [`Path::stable_hash`] of the route's path; 0 where there is none.
    pub fn path_hash(&self, route: RouteRef) -> u64 {
        self.0.paths.get(route.path as usize).and_then(Option::as_ref).map_or(0, |interned| interned.hash)
    }

    /// Every peer's paths at its own longest match for the address, peers in fallback order.
    pub fn candidates(&self, address: Address) -> Vec<Candidate<'_>> {
        self.candidates_in("", address)
    }

    /// The same in a VRF; nothing where no peer has routes of a VRF of that name.
    pub fn candidates_in(&self, vrf: &str, address: Address) -> Vec<Candidate<'_>> {
        let Some(vrf) = self.vrf(vrf).and_then(|number| self.0.vrfs.get(usize::from(number))) else {
            return Vec::new();
        };
        if address.is_v4() {
            self.candidates_of(&self.0.v4, vrf, u32::of(&address.0), false)
        } else {
            self.candidates_of(&self.0.v6, vrf, u128::of(&address.0), true)
        }
    }

    fn candidates_of<K: Key>(&self, family: &View<K>, vrf: &Vrf, key: K, v6: bool) -> Vec<Candidate<'_>> {
        let slot = family.slot(key);
        let mut list = Vec::new();
        for (column, provenance) in vrf.columns() {
            let Some(hit) = family.climb(usize::from(*column), slot) else { continue };
            for (path_id, hit) in family.paths_at(usize::from(*column), hit.slot) {
                let found = self.get(RouteRef::new(hit, *column, *provenance, v6));
                list.extend(found.map(|found| Candidate { path_id, found }));
            }
        }
        list
    }

    /// Distinct (next hop, first AS; 0 is none) of all live paths, sorted.
    pub fn next_hops(&self) -> impl Iterator<Item = (Address, u32)> + '_ {
        self.0.next_hops.iter().copied()
    }

    /// Changes when [`RouteView::next_hops`] does.
    pub fn next_hops_generation(&self) -> u64 {
        self.0.next_hops_generation
    }

    /// Distinct (next hop, first AS; 0 is none) of one peer's paths, sorted. Reads the peer's whole table.
    pub fn next_hops_of(&self, peer: PeerId) -> Vec<(Address, u32)> {
        let inner = &*self.0;
        let columns = self.vantage_of(peer);
        let v4 = inner.column(&inner.v4, columns.v4).map(|column| inner.v4.columns[column].iter());
        let v6 = inner.column(&inner.v6, columns.v6).map(|column| inner.v6.columns[column].iter());
        let mut numbers: Vec<u32> =
            v4.into_iter().flatten().chain(v6.into_iter().flatten()).map(|(_, _, path, _)| path).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let paths = numbers.iter().filter_map(|number| inner.paths.get(*number as usize)?.as_ref());
        let mut list: Vec<_> =
            paths.map(|interned| (interned.path.next_hop, interned.path.first_as().unwrap_or(0))).collect();
        list.sort_unstable();
        list.dedup();
        list
    }

    /// Peers that are up, in no particular order.
    pub fn peers(&self) -> impl Iterator<Item = PeerRoutes<'_>> {
        let inner = &*self.0;
        inner.peers.iter().enumerate().filter_map(|(column, peer)| {
            let (v4, v6) = (&inner.v4.columns[column], &inner.v6.columns[column]);
            Some(PeerRoutes { peer: peer.as_ref()?, v4: v4.routes, v6: v6.routes, stale: v4.stale || v6.stale })
        })
    }

    /// (path identifier, prefix, path, stale) of every route of a peer, IPv4 first.
    pub fn routes_of(&self, peer: PeerId) -> impl Iterator<Item = (u32, Prefix, &Arc<Path>, bool)> {
        let inner = &*self.0;
        let columns = self.vantage_of(peer);
        let v4 = inner.column(&inner.v4, columns.v4).map(|column| inner.routes(&inner.v4, column));
        let v6 = inner.column(&inner.v6, columns.v6).map(|column| inner.routes(&inner.v6, column));
        v4.into_iter().flatten().chain(v6.into_iter().flatten())
    }

    /// Batches that build an equal table elsewhere.
    pub fn snapshot(&self) -> impl Iterator<Item = RouteBatch> + use<> {
        let view = self.clone();
        let generation = self.generation();
        let start = std::iter::once(vec![RouteEvent::Clear]);
        let columns: Vec<u16> = self.0.vrfs.iter().flat_map(Vrf::columns).map(|(column, _)| *column).collect();
        let rest = columns.into_iter().flat_map(move |column| PeerSnapshot::new(view.clone(), usize::from(column)));
        start.chain(rest).map(move |events| RouteBatch { generation, events })
    }
}

impl Inner {
    fn column<K: Key>(&self, family: &View<K>, column: u16) -> Option<usize> {
        let column = usize::from(column);
        (column < family.columns.len()).then_some(column)
    }

    fn routes<'a, K: Key>(
        &'a self,
        family: &'a View<K>,
        column: usize,
    ) -> impl Iterator<Item = (u32, Prefix, &'a Arc<Path>, bool)> {
        family.columns[column].iter().filter_map(move |(slot, id, path, stale)| {
            let interned = self.paths.get(path as usize)?.as_ref()?;
            Some((id, prefix(family, slot), &interned.path, stale))
        })
    }
}

pub(super) fn prefix<K: Key>(family: &View<K>, slot: u32) -> Prefix {
    let stored = family.prefix(slot);
    let address = if slot == 0 && K::STRIDES[0] == 24 { Address::from_v4([0; 4]) } else { stored.key.address() };
    Prefix { address, len: stored.len }
}

/// Addresses of one family out of a batch, and where their answers belong.
struct Keys<K> {
    keys: [K; BATCH],
    places: [u8; BATCH],
    count: usize,
}

impl<K: Key> Keys<K> {
    fn new() -> Self {
        Self { keys: [K::default(); BATCH], places: [0; BATCH], count: 0 }
    }

    #[inline]
    fn push(&mut self, key: K, place: usize) {
        self.keys[self.count] = key;
        self.places[self.count] = place as u8;
        self.count += 1;
    }
}

#[inline]
fn is_v4(address: &[u8; 16]) -> bool {
    let high = u64::from_be_bytes([
        address[0], address[1], address[2], address[3], address[4], address[5], address[6], address[7],
    ]);
    let low = u32::from_be_bytes([address[8], address[9], address[10], address[11]]);
    high == 0 && low == 0xffff
}

/// One peer's part of a snapshot: up, stale routes, the mark, the others, End-of-RIB where none is stale.
struct PeerSnapshot {
    view: RouteView,
    column: usize,
    step: u8,
    /// Routes of the step that were given out.
    done: usize,
}

impl PeerSnapshot {
    fn new(view: RouteView, column: usize) -> Self {
        Self { view, column, step: 0, done: 0 }
    }

    fn routes(&self, v6: bool, stale: bool) -> Vec<RouteEvent> {
        let inner = &*self.view.0;
        let Some(peer) = inner.peers[self.column].as_ref() else { return Vec::new() };
        // By path, so that routes of one path share an event.
        let mut routes: Vec<(u32, u32, Prefix)> = if v6 {
            pick(&inner.v6, self.column, stale, self.done)
        } else {
            pick(&inner.v4, self.column, stale, self.done)
        };
        routes.sort_unstable_by_key(|(path, id, prefix)| (*path, *prefix, *id));
        let groups = routes.chunk_by(|a, b| a.0 == b.0);
        let event = |group: &[(u32, u32, Prefix)]| {
            let path = inner.paths.get(group.first()?.0 as usize)?.as_ref()?.path.clone();
            let prefixes = group.iter().map(|(_, id, prefix)| (*id, *prefix)).collect();
            Some(RouteEvent::Announce { peer: peer.id, path, prefixes })
        };
        groups.filter_map(event).collect()
    }
}

fn pick<K: Key>(family: &View<K>, column: usize, stale: bool, skip: usize) -> Vec<(u32, u32, Prefix)> {
    let routes = family.columns[column].iter().filter(|route| route.3 == stale).skip(skip).take(SNAPSHOT_ROUTES);
    routes.map(|(slot, id, path, _)| (path, id, prefix(family, slot))).collect()
}

impl Iterator for PeerSnapshot {
    type Item = Vec<RouteEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let peer = self.view.0.peers[self.column].clone()?;
            let step = self.step;
            if let 1 | 2 | 4 | 5 = step {
                let events = self.routes(step % 3 == 2, step < 3);
                let count = |event: &RouteEvent| match event {
                    RouteEvent::Announce { prefixes, .. } => prefixes.len(),
                    _ => 0,
                };
                self.done += events.iter().map(count).sum::<usize>();
                if !events.is_empty() {
                    return Some(events);
                }
            }
            self.step += 1;
            self.done = 0;
            let columns = (&self.view.0.v4.columns[self.column], &self.view.0.v6.columns[self.column]);
            let stale = columns.0.stale || columns.1.stale;
            match step {
                0 => return Some(vec![RouteEvent::PeerUp(peer)]),
                3 if stale => return Some(vec![RouteEvent::PeerStale(peer.id)]),
                6 => return None,
                _ => {}
            }
        }
    }
}
