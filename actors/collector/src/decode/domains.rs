//! An exporter's observation domains, and a domain's templates: few as a rule, found without hashing.
//!
//! Keys lie together and apart from what they name, so that a search touches one cache line.

use std::collections::HashMap;

use super::shared::{Domain, DomainKey, Known};

/// So many keys are compared one by one.
const FEW: usize = 16;

type Index = HashMap<DomainKey, u32, ahash::RandomState>;

/// Domains by key. Positions hold until one is removed.
#[derive(Default)]
pub(crate) struct Domains {
    keys: Vec<DomainKey>,
    /// Each by itself: a vector of things so large would hold room for four.
    #[expect(clippy::vec_box, reason = "ten thousand exporters with one domain each")]
    domains: Vec<Box<Domain>>,
    /// Positions, once there were more than [`FEW`].
    index: Option<Box<Index>>,
}

impl Domains {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    #[inline]
    pub(crate) fn position(&self, key: &DomainKey) -> Option<usize> {
        match &self.index {
            None => self.keys.iter().position(|known| known == key),
            Some(index) => index.get(key).map(|position| *position as usize),
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: &DomainKey) -> Option<&Domain> {
        self.domains.get(self.position(key)?).map(|domain| &**domain)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: &DomainKey) -> Option<&mut Domain> {
        let position = self.position(key)?;
        self.domains.get_mut(position).map(|domain| &mut **domain)
    }

    #[inline]
    pub(crate) fn get_or_insert_with(&mut self, key: DomainKey, make: impl FnOnce() -> Domain) -> &mut Domain {
        let position = self.position(&key).unwrap_or_else(|| {
            self.keys.push(key);
            self.domains.push(Box::new(make()));
            let position = self.keys.len() - 1;
            match &mut self.index {
                Some(index) => _ = index.insert(key, position as u32),
                None if position < FEW => {}
                None => {
                    let positions = self.keys.iter().enumerate().map(|(position, key)| (*key, position as u32));
                    self.index = Some(Box::new(positions.collect()));
                }
            }
            position
        });
        &mut self.domains[position]
    }

    pub(crate) fn remove(&mut self, key: &DomainKey) -> Option<Box<Domain>> {
        let position = self.position(key)?;
        self.keys.swap_remove(position);
        let domain = self.domains.swap_remove(position);
        if let Some(index) = &mut self.index {
            index.remove(key);
            if let Some(known) = self.keys.get(position).and_then(|moved| index.get_mut(moved)) {
                *known = position as u32;
            }
        }
        Some(domain)
    }

    /// Those for which `keep` is false go.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&DomainKey, &mut Domain) -> bool) {
        let all = self.keys.iter().zip(&mut self.domains);
        let gone: Vec<DomainKey> = all.filter_map(|(key, domain)| (!keep(key, domain)).then_some(*key)).collect();
        for key in gone {
            self.remove(&key);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DomainKey, &Domain)> {
        self.keys.iter().zip(self.domains.iter().map(|domain| &**domain))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter().map(|domain| &**domain)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Domain> {
        self.domains.iter_mut().map(|domain| &mut **domain)
    }

    /// Where the keys lie: to ask memory for.
    pub(crate) fn near(&self) -> usize {
        self.keys.as_ptr().addr()
    }
}

/// Templates by id, in order of it.
#[derive(Default)]
pub(crate) struct Templates {
    ids: Vec<u16>,
    known: Vec<Known>,
}

impl Templates {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Ids without a gap between them, which is the rule, are found at once.
    #[inline]
    fn position(&self, id: u16) -> Result<usize, usize> {
        let first = self.ids.first().copied().unwrap_or_default();
        let guess = usize::from(id.wrapping_sub(first));
        match self.ids.get(guess) {
            Some(known) if *known == id => Ok(guess),
            _ => self.ids.binary_search(&id),
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: u16) -> Option<&Known> {
        self.known.get(self.position(id).ok()?)
    }

    pub(crate) fn contains(&self, id: u16) -> bool {
        self.position(id).is_ok()
    }

    /// Whether it replaced one.
    pub(crate) fn insert(&mut self, id: u16, known: Known) -> bool {
        match self.position(id) {
            Ok(position) => self.known[position] = known,
            Err(position) => {
                self.ids.insert(position, id);
                self.known.insert(position, known);
                return false;
            }
        }
        true
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, id: u16) -> bool {
        let Ok(position) = self.position(id) else { return false };
        self.ids.remove(position);
        self.known.remove(position);
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Known)> {
        self.ids.iter().copied().zip(&self.known)
    }

    /// Where they lie.
    pub(crate) fn near(&self) -> NearTemplates {
        NearTemplates {
            ids: self.ids.as_ptr().addr(),
            known: self.known.as_ptr().addr(),
            first: self.ids.first().copied().unwrap_or_default(),
            count: self.ids.len() as u32,
        }
    }
}

/// Where templates lay when they were last used: to ask memory for, never to read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NearTemplates {
    ids: usize,
    known: usize,
    first: u16,
    count: u32,
}

impl NearTemplates {
    #[inline]
    pub(crate) fn prefetch(&self, id: u16) {
        let guess = u32::from(id.wrapping_sub(self.first));
        if guess < self.count {
            benocs_sys::prefetch(self.ids + guess as usize * size_of::<u16>(), size_of::<u16>());
            benocs_sys::prefetch(self.known + guess as usize * size_of::<Known>(), size_of::<Known>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::{Protocol, Session};
    use super::*;

    fn key(domain: u32) -> DomainKey {
        DomainKey { protocol: Protocol::Ipfix, domain, session: Session::NONE }
    }

    #[test]
    fn domains_are_found_however_many_there_are_and_whichever_go() {
        let mut domains = Domains::default();
        let mut expected = std::collections::BTreeMap::new();
        let mut random = 7u32;
        for _ in 0..4000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = random >> 16 & 63;
            match random >> 28 {
                0..=5 => {
                    let domain = domains.get_or_insert_with(key(number), || Domain::new(Protocol::Ipfix));
                    domain.datagrams = u64::from(random);
                    expected.insert(number, u64::from(random));
                }
                6..=14 => assert_eq!(domains.remove(&key(number)).is_some(), expected.remove(&number).is_some()),
                _ => {
                    domains.retain(|key, _| key.domain % 3 != number % 3);
                    expected.retain(|domain, _| domain % 3 != number % 3);
                }
            }
            assert_eq!(domains.len(), expected.len());
            for number in 0..64 {
                let found = domains.get(&key(number)).map(|domain| domain.datagrams);
                assert_eq!(found, expected.get(&number).copied());
            }
        }
        assert!(domains.iter().all(|(key, domain)| expected[&key.domain] == domain.datagrams));
    }
}
