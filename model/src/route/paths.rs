//! Paths, each kept once, with a hash that is the same on every machine and for ever.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::paged::Paged;
use super::{Further, Path};
use crate::address::Address;

/// A path in the table; number 0 is none.
#[derive(Clone, Debug)]
pub(super) struct Interned {
    pub(super) path: Arc<Path>,
    pub(super) hash: u64,
}

pub(super) type Shared = Paged<Option<Interned>, 256>;

/// The writer's side: which are live, and how many routes use each.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) shared: Shared,
    index: HashTable<(u64, u32)>,
    uses: Vec<u32>,
    free: Vec<u32>,
    /// Live paths by (next hop, first AS).
    next_hops: HashMap<(Address, u32), u32>,
    next_hops_changed: bool,
}

impl Paths {
    /// The number of an equal path, used once more.
    pub(super) fn intern(&mut self, path: &Arc<Path>) -> u32 {
        let hash = path.stable_hash();
        let shared = &self.shared;
        let known = self.index.find(hash, |(other_hash, other)| {
            *other_hash == hash && shared.get(*other as usize).is_some_and(|slot| is(slot, path))
        });
        if let Some((_, number)) = known {
            let number = *number;
            self.retain(number);
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            if self.uses.is_empty() {
                self.uses.push(0);
            }
            self.uses.push(0);
            (self.uses.len() - 1) as u32
        });
        self.uses[number as usize] = 1;
        self.shared.set(number as usize, Some(Interned { path: path.clone(), hash }));
        self.index.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        let uses = self.next_hops.entry(next_hop_key(path)).or_insert(0);
        *uses += 1;
        self.next_hops_changed |= *uses == 1;
        number
    }

    pub(super) fn retain(&mut self, number: u32) {
        self.uses[number as usize] += 1;
    }

    pub(super) fn release(&mut self, number: u32) {
        let uses = &mut self.uses[number as usize];
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        let Some(gone) = self.shared.slot(number as usize).take() else { return };
        if let Ok(entry) = self.index.find_entry(gone.hash, |(_, other)| *other == number) {
            entry.remove();
        }
        self.free.push(number);
        let key = next_hop_key(&gone.path);
        if let Some(uses) = self.next_hops.get_mut(&key) {
            *uses -= 1;
            if *uses == 0 {
                self.next_hops.remove(&key);
                self.next_hops_changed = true;
            }
        }
    }

    pub(super) fn path(&self, number: u32) -> Option<&Arc<Path>> {
        self.shared.get(number as usize)?.as_ref().map(|interned| &interned.path)
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// (next hop, first AS) of the live paths, where that set changed since it was last asked for.
    pub(super) fn changed_next_hops(&mut self) -> Option<Arc<[(Address, u32)]>> {
        if !std::mem::take(&mut self.next_hops_changed) {
            return None;
        }
        let mut list: Vec<_> = self.next_hops.keys().copied().collect();
        list.sort_unstable();
        Some(list.into())
    }
}

fn is(slot: &Option<Interned>, path: &Arc<Path>) -> bool {
    slot.as_ref().is_some_and(|interned| Arc::ptr_eq(&interned.path, path) || interned.path == *path)
}

fn next_hop_key(path: &Path) -> (Address, u32) {
    (path.next_hop, path.first_as().unwrap_or(0))
}

impl Path {
    /// 64 bits over every attribute, never 0; frozen: flow rows on disk refer to it.
    pub fn stable_hash(&self) -> u64 {
        let mut state = Mixer(0x243f_6a88_85a3_08d3);
        state.add(u64::from(self.origin));
        state.add_octets(&self.next_hop.0);
        for value in [self.med, self.local_pref] {
            state.add(value.map_or(u64::MAX, u64::from));
        }
        state.add(self.originator_id.map_or(u64::MAX, |id| u64::from(u32::from_be_bytes(id))));
        state.add(self.as_path.len() as u64);
        for segment in &self.as_path {
            state.add(u64::from(segment.kind) << 32 | segment.asns.len() as u64);
            segment.asns.iter().for_each(|asn| state.add(u64::from(*asn)));
        }
        state.add(self.communities.len() as u64);
        self.communities.iter().for_each(|community| state.add(u64::from(*community)));
        state.add(self.large_communities.len() as u64);
        for [global, a, b] in &self.large_communities {
            state.add(u64::from(*global));
            state.add(u64::from(*a) << 32 | u64::from(*b));
        }
        state.add(self.ext_communities.len() as u64);
        self.ext_communities.iter().for_each(|community| state.add(u64::from_be_bytes(*community)));
        state.add(self.cluster_list.len() as u64);
        self.cluster_list.iter().for_each(|id| state.add(u64::from(u32::from_be_bytes(*id))));
        if let Some(further) = &self.further {
            further.mix(&mut state);
        }
        state.0.max(1)
    }
}

impl Further {
    fn mix(&self, state: &mut Mixer) {
        state.add(self.labels.len() as u64);
        self.labels.iter().for_each(|label| state.add(u64::from(*label)));
        // Each with a number before it, so that none is another's value.
        let present = [
            (1, self.rd.map(u64::from_be_bytes)),
            (2, self.aigp),
            (3, self.only_to_customer.map(u64::from)),
            (4, self.aggregator.map(|(asn, id)| u64::from(asn) << 32 | u64::from(u32::from_be_bytes(id)))),
        ];
        for (number, value) in present {
            if let Some(value) = value {
                state.add(number);
                state.add(value);
            }
        }
        for (flags, code, value) in &self.unknown {
            state.add(u64::from(*flags) << 40 | u64::from(*code) << 32 | value.len() as u64);
            for chunk in value.chunks(8) {
                state.add(chunk.iter().fold(0, |word, octet| word << 8 | u64::from(*octet)));
            }
        }
    }
}

/// Multiply to 128 bits, fold, repeat; the constants are digits of pi.
struct Mixer(u64);

impl Mixer {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x1319_8a2e_0370_7344) * 0xa409_3822_299f_31d1;
        self.0 = (product as u64) ^ ((product >> 64) as u64).rotate_left(23);
    }

    fn add_octets(&mut self, octets: &[u8; 16]) {
        let value = u128::from_be_bytes(*octets);
        self.add((value >> 64) as u64);
        self.add(value as u64);
    }
}
