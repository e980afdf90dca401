//! The operator behind every question: rows to sums by up to twelve keys and time
//! bucket, the largest N, and what is left.

use ahash::RandomState;
use benocs_model::question::{Order, Sums};
use hashbrown::HashMap;

/// Most dimensions of a question, time apart.
pub(crate) const KEYS_MAX: usize = 12;
/// Most that the page asks for.
const KEYS_FEW: usize = 6;

pub(crate) fn add(sums: &mut Sums, other: Sums) {
    sums.octets = sums.octets.saturating_add(other.octets);
    sums.packets = sums.packets.saturating_add(other.packets);
    sums.flows = sums.flows.saturating_add(other.flows);
}

pub(crate) fn subtract(sums: &mut Sums, other: Sums) {
    sums.octets = sums.octets.saturating_sub(other.octets);
    sums.packets = sums.packets.saturating_sub(other.packets);
    sums.flows = sums.flows.saturating_sub(other.flows);
}

pub(crate) fn measure(sums: &Sums, order: Order) -> u64 {
    match order {
        Order::Octets => sums.octets,
        Order::Packets => sums.packets,
        Order::Flows => sums.flows,
    }
}

pub(crate) fn is_zero(sums: &Sums) -> bool {
    *sums == Sums::default()
}

/// Codes of the dimensions; unused ones are zero.
pub(crate) type Key = [u64; KEYS_MAX];

/// Sums by key, and by key and bucket.
#[derive(Default)]
pub(crate) struct Groups {
    index: Index,
    pub(crate) keys: Vec<Key>,
    pub(crate) sums: Vec<Sums>,
    /// (group, bucket number); only where a series is asked for.
    pub(crate) series: HashMap<(u32, u32), Sums, RandomState>,
    pub(crate) totals: Sums,
    pub(crate) quality: u64,
}

/// Fewer keys hash and compare less.
enum Index {
    One(HashMap<u64, u32, RandomState>),
    Two(HashMap<[u64; 2], u32, RandomState>),
    Few(HashMap<[u64; KEYS_FEW], u32, RandomState>),
    Any(HashMap<Key, u32, RandomState>),
}

impl Default for Index {
    fn default() -> Self {
        Index::Any(HashMap::default())
    }
}

impl Groups {
    pub(crate) fn new(keys: usize) -> Self {
        let index = match keys {
            0 | 1 => Index::One(HashMap::default()),
            2 => Index::Two(HashMap::default()),
            3..=KEYS_FEW => Index::Few(HashMap::default()),
            _ => Index::default(),
        };
        Self { index, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.series.len()
    }

    #[inline]
    pub(crate) fn group(&mut self, key: &Key) -> u32 {
        let next = self.keys.len() as u32;
        let group = match &mut self.index {
            Index::One(map) => *map.entry(key[0]).or_insert(next),
            Index::Two(map) => *map.entry([key[0], key[1]]).or_insert(next),
            Index::Few(map) => {
                let mut few = [0; KEYS_FEW];
                few.copy_from_slice(&key[..KEYS_FEW]);
                *map.entry(few).or_insert(next)
            }
            Index::Any(map) => *map.entry(*key).or_insert(next),
        };
        if group == next {
            self.keys.push(*key);
            self.sums.push(Sums::default());
        }
        group
    }

    #[inline]
    pub(crate) fn add(&mut self, group: u32, sums: Sums) {
        add(&mut self.sums[group as usize], sums);
        add(&mut self.totals, sums);
    }

    #[inline]
    pub(crate) fn add_bucket(&mut self, group: u32, bucket: u32, sums: Sums) {
        add(self.series.entry((group, bucket)).or_default(), sums);
    }

    /// Takes in another thread's sums; `translate[i]` are its codes of dimension i in this one's.
    pub(crate) fn merge(&mut self, other: Groups, translate: &[Option<Vec<u64>>]) {
        let mut groups = Vec::with_capacity(other.keys.len());
        for (key, sums) in other.keys.iter().zip(&other.sums) {
            let mut key = *key;
            for (code, table) in key.iter_mut().zip(translate) {
                if let Some(table) = table {
                    *code = table.get(*code as usize).copied().unwrap_or(*code);
                }
            }
            let group = self.group(&key);
            add(&mut self.sums[group as usize], *sums);
            groups.push(group);
        }
        for ((group, bucket), sums) in other.series {
            self.add_bucket(groups[group as usize], bucket, sums);
        }
        add(&mut self.totals, other.totals);
        self.quality |= other.quality;
    }

    /// The largest groups, in order; equal ones by `compare`.
    pub(crate) fn largest(
        &self,
        limit: usize,
        order: Order,
        mut compare: impl FnMut(&Key, &Key) -> std::cmp::Ordering,
    ) -> Vec<u32> {
        let mut groups: Vec<u32> =
            (0..self.keys.len() as u32).filter(|group| !is_zero(&self.sums[*group as usize])).collect();
        let mut by_size = |a: &u32, b: &u32| {
            let size = |group: &u32| {
                let sums = &self.sums[*group as usize];
                (measure(sums, order), sums.octets, sums.flows)
            };
            size(b).cmp(&size(a)).then_with(|| compare(&self.keys[*a as usize], &self.keys[*b as usize]))
        };
        if limit < groups.len() {
            if limit > 0 {
                groups.select_nth_unstable_by(limit - 1, &mut by_size);
            }
            groups.truncate(limit);
        }
        groups.sort_unstable_by(by_size);
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(n: u64) -> Sums {
        Sums { octets: n, packets: n * 2, flows: 1 }
    }

    #[test]
    fn threads_are_merged_by_value_not_by_code() {
        let key = |code| std::array::from_fn(|at| if at == 0 { code } else { 0 });
        let (mut a, mut b) = (Groups::new(1), Groups::new(1));
        for (first, code, n) in [(true, 0, 5), (true, 1, 7), (false, 0, 11), (false, 1, 13)] {
            let groups = if first { &mut a } else { &mut b };
            let group = groups.group(&key(code));
            groups.add(group, sums(n));
            groups.add_bucket(group, 3, sums(n));
        }
        // What b calls 0 and 1, a calls 1 and 2.
        a.merge(b, &[Some(vec![1, 2])]);
        let octets: Vec<u64> = a.sums.iter().map(|sums| sums.octets).collect();
        assert_eq!(octets, [5, 18, 13]);
        assert_eq!(a.totals.octets, 36);
        assert_eq!(a.series[&(1, 3)].octets, 18);
        assert_eq!(a.largest(2, Order::Octets, |a, b| a.cmp(b)), [1, 2]);
        assert_eq!(a.largest(0, Order::Octets, |a, b| a.cmp(b)), [0u32; 0]);
    }
}
