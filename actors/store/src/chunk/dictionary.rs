//! Dictionaries of a chunk: each value once, in the order in which it first
//! comes, and a code for each row. Only where that is smaller than the values.

use std::hash::Hash;
use std::ops::Range;

use ahash::RandomState;

use super::pack;

/// A range this narrow is looked up by position, not by hash.
const NARROW: u64 = 1 << 16;
const NONE: u32 = u32::MAX;

/// A value that may be in a dictionary.
pub(super) trait Key: Copy + Eq + Hash {
    /// Octets of a value, as far as compression leaves them.
    const OCTETS: usize;
    /// Least and greatest.
    fn range(values: &[Self]) -> Option<(Self, Self)>;
    /// Distance from the least value; `None` where values are not numbers.
    fn above(self, min: Self) -> Option<u64>;
}

macro_rules! number {
    ($($type:ty, $unsigned:ty);*) => { $(impl Key for $type {
        const OCTETS: usize = size_of::<$type>();

        fn range(values: &[Self]) -> Option<(Self, Self)> {
            let first = *values.first()?;
            Some(values.iter().fold((first, first), |(min, max), value| (min.min(*value), max.max(*value))))
        }

        fn above(self, min: Self) -> Option<u64> {
            Some(u64::from(self.wrapping_sub(min) as $unsigned))
        }
    })* };
}

number!(u32, u32; u64, u64; i64, u64);

impl Key for [u8; 16] {
    // Most are IPv4 addresses behind twelve octets that are all the same.
    const OCTETS: usize = 8;

    fn range(values: &[Self]) -> Option<(Self, Self)> {
        let number = |value: &Self| u128::from_be_bytes(*value);
        let first = number(values.first()?);
        let (min, max) =
            values.iter().map(number).fold((first, first), |(min, max), value| (min.min(value), max.max(value)));
        Some((min.to_be_bytes(), max.to_be_bytes()))
    }

    fn above(self, _: Self) -> Option<u64> {
        None
    }
}

pub(super) struct Dictionary<V> {
    pub(super) values: Vec<V>,
    /// Empty where there is one value.
    codes: Vec<u32>,
    width: u32,
}

impl<V: Key> Dictionary<V> {
    /// `None` where one would not be smaller; with `dense` false, only for what is constant.
    pub(super) fn of(values: &[V], min: V, max: V, dense: bool) -> Option<Self> {
        if min == max {
            return Some(Self { values: vec![min], codes: Vec::new(), width: 1 });
        }
        if !dense {
            return None;
        }
        let spread = max.above(min);
        // Without a dictionary a value takes about this many bits.
        let bits = spread.map_or(V::OCTETS as u64 * 8, |spread| u64::from(pack::width(spread)) + 1) as usize;
        let limit = (values.len() * bits / (8 * V::OCTETS)).min(values.len() / 2);
        let mut built = match spread {
            Some(spread) if spread < NARROW => by_position(values, min, spread, limit)?,
            _ => by_hash(values, limit)?,
        };
        built.width = pack::width(built.values.len() as u64 - 1).max(1);
        let octets = built.values.len() * V::OCTETS + values.len() * built.width as usize / 8;
        (octets < values.len() * bits / 8).then_some(built)
    }

    /// Codes of some of the values, behind their width.
    pub(super) fn encode(&self, range: Range<usize>, out: &mut Vec<u8>) {
        out.push(self.width as u8);
        if self.codes.is_empty() {
            if !range.is_empty() {
                pack::run(0, range.len(), self.width, out);
            }
        } else {
            pack::hybrid(&self.codes[range], self.width, out);
        }
    }
}

fn by_position<V: Key>(values: &[V], min: V, spread: u64, limit: usize) -> Option<Dictionary<V>> {
    let mut codes_by_value = vec![NONE; spread as usize + 1];
    let mut found = Vec::new();
    let mut codes = Vec::with_capacity(values.len());
    for value in values {
        let code = &mut codes_by_value[value.above(min)? as usize];
        if *code == NONE {
            if found.len() == limit {
                return None;
            }
            *code = found.len() as u32;
            found.push(*value);
        }
        codes.push(*code);
    }
    Some(Dictionary { values: found, codes, width: 0 })
}

fn by_hash<V: Key>(values: &[V], limit: usize) -> Option<Dictionary<V>> {
    // Half full at most.
    let mut table = vec![NONE; (limit.max(1) * 2).next_power_of_two()];
    let mask = table.len() - 1;
    let state = RandomState::with_seeds(1, 2, 3, 4);
    let mut found: Vec<V> = Vec::new();
    let mut codes = Vec::with_capacity(values.len());
    let mut last: Option<(V, u32)> = None;
    for value in values {
        if let Some((same, code)) = last
            && same == *value
        {
            codes.push(code);
            continue;
        }
        let mut slot = state.hash_one(value) as usize & mask;
        let code = loop {
            match table[slot] {
                NONE if found.len() == limit => return None,
                NONE => {
                    table[slot] = found.len() as u32;
                    found.push(*value);
                    break table[slot];
                }
                code if found[code as usize] == *value => break code,
                _ => slot = (slot + 1) & mask,
            }
        };
        codes.push(code);
        last = Some((*value, code));
    }
    Some(Dictionary { values: found, codes, width: 0 })
}
