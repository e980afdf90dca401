//! The prefixes of one address family, and each peer's routes to them.
//!
//! A prefix has a number, given once for all peers; a peer's table is a column of
//! path numbers by prefix number. The number's parent is the next shorter prefix
//! that covers it: where a peer has no route for the longest match, the answer is
//! up that chain.

use std::sync::Arc;

use hashbrown::HashTable;

use super::Path;
use super::paged::Paged;
use super::paths::Paths;
use super::trie::{Key, Trie, Unused};

/// High bit of a column's entry: the session in which the route was announced.
const EPOCH: u32 = 1 << 31;
const NO_PARENT: u32 = u32::MAX;
/// In `uses`: the number is free.
const FREE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stored<K> {
    pub(super) key: K,
    pub(super) len: u8,
}

/// One of several paths to a prefix (RFC 7911): path identifier, entry.
pub(super) type Extra = (u32, u32);

/// Shared between writer and readers.
#[derive(Clone, Debug, Default)]
pub(super) struct View<K: Key> {
    trie: Trie,
    prefixes: Paged<Stored<K>, 1024>,
    parents: Paged<u32, 2048>,
    pub(super) columns: Vec<Column>,
    /// Somebody has a route to everything.
    pub(super) has_default: bool,
}

/// One peer's routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    entries: Paged<u32, 1024>,
    /// All paths of a prefix, where there are several or they have identifiers.
    extra: Paged<Option<Arc<[Extra]>>, 256>,
    has_extra: bool,
    epoch: u32,
    /// Some entries are of the session before.
    pub(super) stale: bool,
    /// Prefixes with a route.
    pub(super) routes: u32,
}

/// Where a look-up ended: prefix number and column entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) slot: u32,
    pub(super) path: u32,
    pub(super) stale: bool,
}

impl Column {
    /// The entry at exactly this prefix; 0 is none.
    #[inline]
    pub(super) fn at(&self, slot: u32) -> u32 {
        self.entries.at(slot as usize)
    }

    #[inline]
    pub(super) fn hit(&self, slot: u32, entry: u32) -> Hit {
        Hit { slot, path: entry & !EPOCH, stale: self.is_stale(entry) }
    }

    fn is_stale(&self, entry: u32) -> bool {
        self.stale && entry & EPOCH != self.epoch
    }

    /// (prefix number, path identifier, path number, stale) of every path.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32, u32, bool)> {
        self.entries.written().flat_map(move |(first, page)| {
            let filled = page.iter().enumerate().filter(|(_, entry)| **entry != 0);
            filled.flat_map(move |(index, entry)| {
                let slot = first + index;
                let single = (0, *entry);
                let list = self.list(slot);
                let count = list.map_or(1, <[Extra]>::len);
                (0..count).map(move |number| {
                    let (id, entry) = list.map_or(single, |list| list[number]);
                    (slot as u32, id, entry & !EPOCH, self.is_stale(entry))
                })
            })
        })
    }

    fn list(&self, slot: usize) -> Option<&[Extra]> {
        if !self.has_extra {
            return None;
        }
        self.extra.get(slot)?.as_deref()
    }

    fn octets(&self) -> usize {
        self.entries.octets() + self.extra.octets()
    }
}

impl<K: Key> View<K> {
    #[inline]
    pub(super) fn slot(&self, key: K) -> u32 {
        self.trie.find(key)
    }

    /// Of at most [`super::trie::ALL`] keys.
    #[inline]
    pub(super) fn find_slots(&self, keys: &[K], slots: &mut [u32]) {
        self.trie.find_all(keys, slots);
    }

    /// The column's longest match at or above a prefix.
    pub(super) fn climb(&self, column: usize, mut slot: u32) -> Option<Hit> {
        let column = self.columns.get(column)?;
        if column.routes == 0 {
            return None;
        }
        loop {
            let entry = column.entries.at(slot as usize);
            if entry != 0 {
                return Some(column.hit(slot, entry));
            }
            if slot == 0 {
                return None;
            }
            slot = self.parents.at(slot as usize);
        }
    }

    /// Prefix numbers are below this.
    pub(super) fn slots(&self) -> u32 {
        self.prefixes.len() as u32
    }

    pub(super) fn prefix(&self, slot: u32) -> Stored<K> {
        self.prefixes.at(slot as usize)
    }

    /// Path numbers and identifiers of all of a peer's paths to one prefix.
    pub(super) fn paths_at(&self, column: usize, slot: u32) -> Vec<(u32, Hit)> {
        let Some(column) = self.columns.get(column) else { return Vec::new() };
        if let Some(list) = column.list(slot as usize) {
            return list.iter().map(|(id, entry)| (*id, column.hit(slot, *entry))).collect();
        }
        let entry = column.entries.at(slot as usize);
        if entry == 0 { Vec::new() } else { vec![(0, column.hit(slot, entry))] }
    }

    pub(super) fn octets(&self) -> usize {
        let shared = self.trie.octets() + self.prefixes.octets() + self.parents.octets();
        shared + self.columns.iter().map(Column::octets).sum::<usize>()
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Family<K: Key> {
    pub(super) view: View<K>,
    unused: Unused,
    index: HashTable<u32>,
    hasher: ahash::RandomState,
    /// Peers with a route, by prefix number.
    uses: Vec<u32>,
    free: Vec<u32>,
    /// Prefixes that nobody had a route to at some time; taken out a few at a time.
    garbage: Vec<u32>,
}

impl<K: Key> Default for Family<K> {
    fn default() -> Self {
        let mut view = View::default();
        view.parents.set(0, NO_PARENT);
        view.prefixes.set(0, Stored::default());
        Self {
            view,
            unused: Unused::default(),
            index: HashTable::new(),
            hasher: ahash::RandomState::new(),
            uses: vec![0],
            free: Vec::new(),
            garbage: Vec::new(),
        }
    }
}

impl<K: Key> Family<K> {
    pub(super) fn announce(&mut self, paths: &mut Paths, column: usize, key: K, len: u8, id: u32, path: u32) {
        let slot = self.slot_for(key, len);
        let column = &mut self.view.columns[column];
        let entry = path | column.epoch;
        paths.retain(path);
        let old = column.entries.at(slot as usize);
        if old == 0 {
            self.uses[slot as usize] += 1;
            column.routes += 1;
        }
        if id == 0 && column.list(slot as usize).is_none() {
            column.entries.set(slot as usize, entry);
            if old != 0 {
                paths.release(old & !EPOCH);
            }
            return;
        }
        let mut list: Vec<Extra> = match column.list(slot as usize) {
            Some(list) => list.to_vec(),
            None if old != 0 => vec![(0, old)],
            None => Vec::new(),
        };
        match list.iter_mut().find(|(other, _)| *other == id) {
            Some((_, known)) => paths.release(std::mem::replace(known, entry) & !EPOCH),
            None => list.push((id, entry)),
        }
        store_list(column, paths, slot, list);
    }

    pub(super) fn withdraw(&mut self, paths: &mut Paths, column: usize, key: K, len: u8, id: u32) {
        let Some(slot) = self.known(key, len) else { return };
        let column = &mut self.view.columns[column];
        let old = column.entries.at(slot as usize);
        if old == 0 {
            return;
        }
        match column.list(slot as usize) {
            None if id == 0 => {
                column.entries.set(slot as usize, 0);
                paths.release(old & !EPOCH);
            }
            None => return,
            Some(list) => {
                let mut list = list.to_vec();
                let Some(at) = list.iter().position(|(other, _)| *other == id) else { return };
                paths.release(list.swap_remove(at).1 & !EPOCH);
                let empty = list.is_empty();
                store_list(column, paths, slot, list);
                if !empty {
                    return;
                }
            }
        }
        column.routes -= 1;
        self.unuse(slot);
    }

    /// Everything of a peer goes; its column is blank at once.
    pub(super) fn clear(&mut self, paths: &mut Paths, column: usize) {
        let old = std::mem::take(&mut self.view.columns[column]);
        let mut last = u32::MAX;
        for (slot, _, path, _) in old.iter() {
            paths.release(path);
            if slot != last {
                self.unuse(slot);
            }
            last = slot;
        }
    }

    /// What the peer announced so far is of a session that ended (RFC 4724, 4.2).
    pub(super) fn mark_stale(&mut self, paths: &mut Paths, column: usize) {
        self.remove_stale(paths, column);
        let column = &mut self.view.columns[column];
        if column.routes > 0 {
            column.epoch ^= EPOCH;
            column.stale = true;
        }
    }

    /// Routes that the new session did not announce again go (RFC 4724, 4.2).
    pub(super) fn remove_stale(&mut self, paths: &mut Paths, column: usize) {
        let number = column;
        let column = &self.view.columns[column];
        if !column.stale {
            return;
        }
        let gone: Vec<(u32, u32)> = column.iter().filter(|route| route.3).map(|(slot, id, _, _)| (slot, id)).collect();
        for (slot, id) in gone {
            let Stored { key, len } = self.view.prefix(slot);
            self.withdraw(paths, number, key, len, id);
        }
        self.view.columns[number].stale = false;
    }

    /// Takes up to `limit` prefixes without routes out of the structure.
    pub(super) fn collect(&mut self, limit: usize) {
        for _ in 0..limit {
            let Some(slot) = self.garbage.pop() else { return };
            if slot != 0 && self.uses[slot as usize] == 0 {
                self.remove(slot);
            }
        }
    }

    /// Before the view is published.
    pub(super) fn note_default(&mut self) {
        self.view.has_default = self.uses[0] > 0;
    }

    pub(super) fn prefixes(&self) -> usize {
        self.index.len()
    }

    pub(super) fn octets(&self) -> usize {
        self.view.octets() + self.uses.capacity() * 4 + self.index.capacity() * 5 + self.garbage.capacity() * 4
    }

    fn unuse(&mut self, slot: u32) {
        let uses = &mut self.uses[slot as usize];
        *uses -= 1;
        if *uses == 0 {
            self.garbage.push(slot);
        }
    }

    fn known(&self, key: K, len: u8) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        let prefixes = &self.view.prefixes;
        let same = |slot: &u32| {
            let stored = prefixes.at(*slot as usize);
            stored.len == len && stored.key == key
        };
        self.index.find(self.hasher.hash_one((key, len)), same).copied()
    }

    fn slot_for(&mut self, key: K, len: u8) -> u32 {
        if let Some(slot) = self.known(key, len) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.uses.push(0);
            (self.uses.len() - 1) as u32
        });
        self.uses[slot as usize] = 0;
        self.view.prefixes.set(slot as usize, Stored { key, len });
        let (prefixes, hasher) = (&self.view.prefixes, &self.hasher);
        self.index.insert_unique(hasher.hash_one((key, len)), slot, |slot| {
            let stored = prefixes.at(*slot as usize);
            hasher.hash_one((stored.key, stored.len))
        });
        self.insert(slot, key, len);
        slot
    }

    fn insert(&mut self, slot: u32, key: K, len: u8) {
        let View { trie, prefixes, parents, .. } = &mut self.view;
        let mut parent = trie.find(key);
        while prefixes.at(parent as usize).len >= len {
            parent = parents.at(parent as usize);
        }
        parents.set(slot as usize, parent);
        trie.change(&mut self.unused, key, len, &mut |leaf| {
            if prefixes.at(leaf as usize).len < len {
                return slot;
            }
            // A longer prefix: the shortest of its chain within this one gets a new parent.
            let mut below = leaf;
            loop {
                let above = parents.at(below as usize);
                if prefixes.at(above as usize).len < len {
                    parents.set(below as usize, slot);
                    return leaf;
                }
                if above == slot {
                    return leaf;
                }
                below = above;
            }
        });
    }

    fn remove(&mut self, slot: u32) {
        let View { trie, prefixes, parents, .. } = &mut self.view;
        let Stored { key, len } = prefixes.at(slot as usize);
        let parent = parents.at(slot as usize);
        trie.change(&mut self.unused, key, len, &mut |leaf| {
            if leaf == slot {
                return parent;
            }
            let mut below = leaf;
            loop {
                let above = parents.at(below as usize);
                if above == slot {
                    parents.set(below as usize, parent);
                    return leaf;
                }
                if prefixes.at(above as usize).len <= len {
                    return leaf;
                }
                below = above;
            }
        });
        let hash = self.hasher.hash_one((key, len));
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.uses[slot as usize] = FREE;
        self.free.push(slot);
    }
}

/// Keeps the list, and its best path as the column's entry.
fn store_list(column: &mut Column, paths: &Paths, slot: u32, list: Vec<Extra>) {
    column.has_extra = true;
    let best = list.iter().min_by(|a, b| rank(paths, a).cmp(&rank(paths, b)));
    column.entries.set(slot as usize, best.map_or(0, |(_, entry)| *entry));
    let plain = matches!(list.as_slice(), [] | [(0, _)]);
    column.extra.set(slot as usize, if plain { None } else { Some(list.into()) });
}

/// Order of preference (RFC 4271, 9.1), as far as one peer's paths can tell; lowest first.
fn rank(paths: &Paths, (id, entry): &Extra) -> (u32, usize, u8, u32, u32) {
    let Some(path) = paths.path(entry & !EPOCH) else { return (u32::MAX, usize::MAX, u8::MAX, u32::MAX, *id) };
    let preference = u32::MAX - path.local_pref.unwrap_or(100);
    (preference, path_length(path), path.origin, path.med.unwrap_or(0), *id)
}

/// RFC 4271 9.1.2.2 a: a set counts one; RFC 5065 5.3: confederation segments do not count.
fn path_length(path: &Path) -> usize {
    let count = |segment: &super::Segment| match segment.kind {
        1 => 1,
        2 => segment.asns.len(),
        _ => 0,
    };
    path.as_path.iter().map(count).sum()
}
