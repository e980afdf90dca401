//! Names that exporters give to numbers of theirs, in options: interfaces, VRFs,
//! applications. They go when their options template does.

use std::collections::HashMap;

use benocs_model::network::LabelKind;
use serde::{Deserialize, Serialize};

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: LabelKind,
    /// ifIndex, VRF id, or application id.
    pub number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Box<str>,
    description: Box<str>,
    /// The options template that said so: its redefinition takes this back.
    template: u16,
}

/// Names of one observation domain.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    entries: HashMap<Key, Entry, ahash::RandomState>,
    octets: usize,
    /// Entries by kind.
    counts: [usize; LabelKind::ALL.len()],
}

/// An entry as it is kept over a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptLabel {
    kind: u8,
    number: u64,
    name: String,
    description: String,
    pub(crate) template: u16,
}

/// Octets that an entry takes beside its texts.
const ENTRY_OCTETS: usize = 96;

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Known,
    Changed,
    /// There was no room.
    Refused,
}

impl Labels {
    /// Keeps a name; `reserve` is asked for more octets, and told of fewer by a negative number.
    pub fn put(
        &mut self,
        key: Key,
        name: &[u8],
        description: &[u8],
        template: u16,
        max: usize,
        reserve: impl FnOnce(isize) -> bool,
    ) -> Put {
        let same = |entry: &Entry| {
            entry.name.as_bytes() == name && entry.description.as_bytes() == description && entry.template == template
        };
        let known = self.entries.get(&key);
        if known.is_some_and(same) {
            return Put::Known;
        }
        let entry = Entry { name: text(name), description: text(description), template };
        // Octets that are not UTF-8 differ from what they were made into, every time.
        if known == Some(&entry) {
            return Put::Known;
        }
        let before = known.map_or(0, Entry::octets);
        let more = entry.octets() as isize - before as isize;
        if known.is_none() && self.entries.len() >= max || !reserve(more) {
            return Put::Refused;
        }
        self.octets = self.octets.saturating_add_signed(more);
        if self.entries.insert(key, entry).is_none() {
            self.counts[key.kind as usize - 1] += 1;
        }
        Put::Changed
    }

    /// Octets that became free.
    pub fn forget_template(&mut self, template: u16) -> usize {
        let before = self.octets;
        self.entries.retain(|key, entry| {
            let keep = entry.template != template;
            if !keep {
                self.octets -= entry.octets();
                self.counts[key.kind as usize - 1] -= 1;
            }
            keep
        });
        before - self.octets
    }

    /// Key, name, description.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &str, &str)> {
        self.entries.iter().map(|(key, entry)| (*key, &*entry.name, &*entry.description))
    }

    /// How many there are of each kind that there is.
    pub fn counts(&self) -> impl Iterator<Item = (LabelKind, usize)> {
        LabelKind::ALL.iter().copied().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn keep(&self) -> Vec<KeptLabel> {
        let keep = |(key, entry): (&Key, &Entry)| KeptLabel {
            kind: key.kind as u8,
            number: key.number,
            name: entry.name.to_string(),
            description: entry.description.to_string(),
            template: entry.template,
        };
        self.entries.iter().map(keep).collect()
    }
}

impl Entry {
    fn octets(&self) -> usize {
        self.name.len() + self.description.len() + ENTRY_OCTETS
    }
}

impl KeptLabel {
    pub(crate) fn key(&self) -> Option<Key> {
        LabelKind::from_code(self.kind).map(|kind| Key { kind, number: self.number })
    }

    pub(crate) fn texts(&self) -> (&[u8], &[u8]) {
        (self.name.as_bytes(), self.description.as_bytes())
    }
}

/// Control characters are none of a name's.
fn text(octets: &[u8]) -> Box<str> {
    String::from_utf8_lossy(octets).chars().filter(|c| !c.is_control()).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { kind: LabelKind::Interface, number: 7 };

    #[test]
    fn names_change_are_bounded_and_go_with_their_template() {
        let mut labels = Labels::default();
        let mut octets = 0isize;
        let mut put = |labels: &mut Labels, key, name: &[u8], template| {
            labels.put(key, name, b"", template, 2, |more| {
                octets += more;
                true
            })
        };
        assert_eq!(put(&mut labels, KEY, b"et-0/0/1", 256), Put::Changed);
        assert_eq!(put(&mut labels, KEY, b"et-0/0/1", 256), Put::Known);
        assert_eq!(put(&mut labels, KEY, b"et-0\xff", 256), Put::Changed);
        assert_eq!(put(&mut labels, KEY, b"et-0\xff", 256), Put::Known);
        let other = Key { kind: LabelKind::Vrf, number: 7 };
        assert_eq!(put(&mut labels, other, b"red\x1b", 257), Put::Changed);
        assert_eq!(put(&mut labels, Key { number: 8, ..KEY }, b"third", 257), Put::Refused);
        assert_eq!(labels.iter().find(|(key, ..)| *key == other).map(|(_, name, _)| name), Some("red"));
        assert_eq!(octets as usize, labels.octets);
        assert_eq!(labels.counts().collect::<Vec<_>>(), [(LabelKind::Interface, 1), (LabelKind::Vrf, 1)]);
        let freed = labels.forget_template(256);
        assert_eq!((labels.iter().count(), octets as usize), (1, labels.octets + freed));
        assert_eq!(labels.put(KEY, b"x", b"", 256, 2, |_| false), Put::Refused, "no octets are left");
    }
}
