//! Longest matching prefix, over the prefixes of all peers at once.
//!
//! A multi-bit trie with leaves pushed down. A cell is the number of the longest
//! prefix that covers it, or, with the high bit, the number of a deeper node.
//! Number 0 is the prefix of length 0, which is always there: blank is right.
//!
//! IPv4:  | 24 bits | 8 |            one read for nearly every address
//! IPv6:  | 16 | 8 | 8 | 4 | 4 ...   a node of 4 bits is one cache line

use std::fmt::Debug;
use std::hash::Hash;

use super::paged::Paged;
use crate::address::Address;

const CHILD: u32 = 1 << 31;
const CELLS: usize = 4096;
/// Keys that are looked for together, at most.
pub(super) const ALL: usize = 64;

/// An address of one family as an integer.
pub(super) trait Key: Copy + Eq + Hash + Default + Debug + Send + Sync + 'static {
    const STRIDES: &'static [u8];
    /// Bits `offset..offset + stride` from the most significant.
    fn chunk(self, offset: u8, stride: u8) -> usize;
    fn of(address: &[u8; 16]) -> Self;
    fn address(self) -> Address;
}

impl Key for u32 {
    const STRIDES: &'static [u8] = &[24, 8];

    #[inline]
    fn chunk(self, offset: u8, stride: u8) -> usize {
        ((self << offset) >> (32 - stride)) as usize
    }

    #[inline]
    fn of(address: &[u8; 16]) -> Self {
        let [.., a, b, c, d] = *address;
        Self::from_be_bytes([a, b, c, d])
    }

    fn address(self) -> Address {
        Address::from_v4(self.to_be_bytes())
    }
}

impl Key for u128 {
    const STRIDES: &'static [u8] = &[16, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4];

    #[inline]
    fn chunk(self, offset: u8, stride: u8) -> usize {
        ((self << offset) >> (128 - stride)) as usize
    }

    #[inline]
    fn of(address: &[u8; 16]) -> Self {
        Self::from_be_bytes(*address)
    }

    fn address(self) -> Address {
        Address(self.to_be_bytes())
    }
}

/// Nodes of one size.
#[derive(Clone, Debug, Default)]
struct Nodes {
    cells: Paged<u32, CELLS>,
    next: u32,
}

/// What readers see. Level 0 is the root; deeper nodes are of 256 or 16 cells.
#[derive(Clone, Debug, Default)]
pub(super) struct Trie {
    root: Paged<u32, CELLS>,
    wide: Nodes,
    narrow: Nodes,
}

/// The writer's own: nodes to be used again.
#[derive(Debug, Default)]
pub(super) struct Unused {
    wide: Vec<u32>,
    narrow: Vec<u32>,
}

impl Trie {
    #[inline]
    pub(super) fn find<K: Key>(&self, key: K) -> u32 {
        let mut offset = K::STRIDES[0];
        let mut cell = self.root.at(key.chunk(0, offset));
        let mut level = 1;
        while cell & CHILD != 0 {
            let stride = K::STRIDES[level];
            let nodes = if stride == 8 { &self.wide.cells } else { &self.narrow.cells };
            let node = (cell & !CHILD) as usize;
            cell = nodes.at((node << stride) + key.chunk(offset, stride));
            offset += stride;
            level += 1;
        }
        cell
    }

    /// [`Trie::find`] of several keys, a level at a time: reads of one level do not depend on each other, so that they
    /// overlap. As many cells as keys.
    #[inline]
    pub(super) fn find_all<K: Key>(&self, keys: &[K], cells: &mut [u32]) {
        for (cell, key) in cells.iter_mut().zip(keys) {
            *cell = self.root.at(key.chunk(0, K::STRIDES[0]));
        }
        let mut deeper: [u8; ALL] = [0; ALL];
        let mut count = 0;
        for (at, cell) in cells.iter().take(keys.len().min(ALL)).enumerate() {
            deeper[count] = at as u8;
            count += usize::from(cell & CHILD != 0);
        }
        let mut offset = K::STRIDES[0];
        for stride in &K::STRIDES[1..] {
            if count == 0 {
                return;
            }
            let nodes = if *stride == 8 { &self.wide.cells } else { &self.narrow.cells };
            for at in &deeper[..count] {
                let at = usize::from(*at);
                let node = (cells[at] & !CHILD) as usize;
                cells[at] = nodes.at((node << stride) + keys[at].chunk(offset, *stride));
            }
            let mut left = 0;
            for number in 0..count {
                let at = deeper[number];
                deeper[left] = at;
                left += usize::from(cells[usize::from(at)] & CHILD != 0);
            }
            count = left;
            offset += stride;
        }
    }

    /// Replaces every leaf under `key`/`len` by what `change` makes of it.
    pub(super) fn change<K: Key>(&mut self, unused: &mut Unused, key: K, len: u8, change: &mut impl FnMut(u32) -> u32) {
        self.descend::<K>(unused, Place { level: 0, node: 0, offset: 0 }, key, len, change);
    }

    fn descend<K: Key>(
        &mut self,
        unused: &mut Unused,
        at: Place,
        key: K,
        len: u8,
        change: &mut impl FnMut(u32) -> u32,
    ) {
        let stride = K::STRIDES[at.level];
        let end = at.offset + stride;
        let index = key.chunk(at.offset, stride);
        if len <= end {
            let count = 1usize << (end - len);
            self.sweep::<K>(unused, at, index & !(count - 1), count, change);
            return;
        }
        let cell = self.cell::<K>(at, index);
        let child = if cell & CHILD != 0 {
            cell & !CHILD
        } else {
            let child = self.allocate::<K>(unused, at.level + 1, cell);
            self.set_cell::<K>(at, index, child | CHILD);
            child
        };
        let below = Place { level: at.level + 1, node: child, offset: end };
        self.descend(unused, below, key, len, change);
        self.collapse::<K>(unused, at, index, below);
    }

    fn sweep<K: Key>(
        &mut self,
        unused: &mut Unused,
        at: Place,
        first: usize,
        count: usize,
        change: &mut impl FnMut(u32) -> u32,
    ) {
        for index in first..first + count {
            let cell = self.cell::<K>(at, index);
            if cell & CHILD == 0 {
                let changed = change(cell);
                if changed != cell {
                    self.set_cell::<K>(at, index, changed);
                }
                continue;
            }
            let offset = at.offset + K::STRIDES[at.level];
            let below = Place { level: at.level + 1, node: cell & !CHILD, offset };
            self.sweep::<K>(unused, below, 0, 1 << K::STRIDES[below.level], change);
            self.collapse::<K>(unused, at, index, below);
        }
    }

    /// A node whose cells are all the same leaf becomes that leaf.
    fn collapse<K: Key>(&mut self, unused: &mut Unused, at: Place, index: usize, below: Place) {
        let stride = K::STRIDES[below.level];
        let nodes = if stride == 8 { &self.wide } else { &self.narrow };
        let cells = nodes.cells.run((below.node as usize) << stride, 1 << stride);
        let Some(&first) = cells.first() else { return };
        if first & CHILD != 0 || cells.iter().any(|cell| *cell != first) {
            return;
        }
        self.set_cell::<K>(at, index, first);
        if stride == 8 { unused.wide.push(below.node) } else { unused.narrow.push(below.node) }
    }

    fn allocate<K: Key>(&mut self, unused: &mut Unused, level: usize, fill: u32) -> u32 {
        let stride = K::STRIDES[level];
        let (nodes, unused) =
            if stride == 8 { (&mut self.wide, &mut unused.wide) } else { (&mut self.narrow, &mut unused.narrow) };
        let node = unused.pop().unwrap_or_else(|| {
            nodes.next += 1;
            nodes.next - 1
        });
        nodes.cells.run_mut((node as usize) << stride, 1 << stride).fill(fill);
        node
    }

    fn cell<K: Key>(&self, at: Place, index: usize) -> u32 {
        match (at.level, K::STRIDES[at.level]) {
            (0, _) => self.root.at(index),
            (_, 8) => self.wide.cells.at(((at.node as usize) << 8) + index),
            (_, stride) => self.narrow.cells.at(((at.node as usize) << stride) + index),
        }
    }

    fn set_cell<K: Key>(&mut self, at: Place, index: usize, value: u32) {
        match (at.level, K::STRIDES[at.level]) {
            (0, stride) => {
                self.root.grow(1 << stride);
                self.root.set(index, value);
            }
            (_, 8) => self.wide.cells.set(((at.node as usize) << 8) + index, value),
            (_, stride) => self.narrow.cells.set(((at.node as usize) << stride) + index, value),
        }
    }

    pub(super) fn octets(&self) -> usize {
        self.root.octets() + self.wide.cells.octets() + self.narrow.cells.octets()
    }
}

/// A node on the way down.
#[derive(Clone, Copy)]
struct Place {
    level: usize,
    node: u32,
    /// Bits consumed above it.
    offset: u8,
}
