//! Sampling: which fraction of the packets a record stands for, and who said so.
//!
//! In order of trust: the record (34, 50, 305/306, 309/310), options (by sampler
//! id 48 or 302, by template 145, or for the whole domain), the header of
//! version 5, configuration of the interface, of the exporter. What nobody says
//! is 1/1, and flagged.

use std::collections::HashMap;

use benocs_model::flow::SamplingSource;
use benocs_model::flow::quality;
use serde::{Deserialize, Serialize};

/// `num` of `den` packets were seen; reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraction {
    pub num: u32,
    pub den: u32,
}

impl Fraction {
    pub const ONE: Self = Self { num: 1, den: 1 };

    /// `None` where either is zero, or more would have been seen than there was.
    pub fn new(num: u64, den: u64) -> Option<Self> {
        if num == 0 || den < num {
            return None;
        }
        let divisor = gcd(num, den);
        let (num, den) = (num / divisor, den / divisor);
        Some(Self { num: u32::try_from(num).ok()?, den: u32::try_from(den).ok()? })
    }

    /// One of `interval` packets.
    pub fn one_of(interval: u64) -> Option<Self> {
        Self::new(1, interval)
    }

    /// 305 and 306: `interval` packets taken, then `space` left out (RFC 5476
    /// 8.2). Without a space, exporters mean one of `interval`.
    pub fn count_based(interval: u64, space: Option<u64>) -> Option<Self> {
        match space {
            Some(space) => Self::new(interval, interval.checked_add(space)?),
            None => Self::one_of(interval),
        }
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    pub fraction: Fraction,
    pub source: SamplingSource,
}

impl Sampling {
    pub const UNKNOWN: Self = Self { fraction: Fraction::ONE, source: SamplingSource::Unknown };

    pub fn new(fraction: Fraction, source: SamplingSource) -> Self {
        Self { fraction, source }
    }

    pub fn quality(self) -> u64 {
        match self.source {
            SamplingSource::Unknown => quality::SAMPLING_UNKNOWN,
            _ => 0,
        }
    }
}

/// What configuration says of an exporter's interfaces, by ifIndex.
#[derive(Clone, Debug, Default)]
pub struct Interfaces(HashMap<u32, Fraction, ahash::RandomState>);

impl Interfaces {
    /// `None` where it says nothing.
    pub fn new(interfaces: impl Iterator<Item = (u32, Fraction)>) -> Option<Self> {
        Some(Self(interfaces.collect())).filter(|interfaces| !interfaces.0.is_empty())
    }

    /// What holds instead, where nobody but configuration said anything: of the
    /// interface that traffic came in on, else of the one that it left by.
    pub fn instead_of(&self, said: Sampling, (input, output): (Option<u32>, Option<u32>)) -> Option<Sampling> {
        if !matches!(said.source, SamplingSource::Unknown | SamplingSource::Configuration) {
            return None;
        }
        let of = |port: Option<u32>| self.0.get(&port?);
        of(input).or_else(|| of(output)).map(|fraction| Sampling::new(*fraction, SamplingSource::Configuration))
    }
}

/// What a domain's options say.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Samplers {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    key: Key,
    fraction: Fraction,
    /// The options template that said so: its redefinition takes this back.
    template: u16,
}

/// Whom an options record speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    Sampler(u64),
    Template(u16),
    Domain,
}

impl Samplers {
    /// False where there is no room.
    pub fn set(&mut self, key: Key, fraction: Fraction, template: u16, max: usize) -> bool {
        let entry = Entry { key, fraction, template };
        let room = self.entries.len() < max;
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(known) => *known = entry,
            None if room => self.entries.push(entry),
            None => return false,
        }
        true
    }

    pub fn forget_template(&mut self, template: u16) {
        self.entries.retain(|entry| entry.template != template);
    }

    pub fn get(&self, key: Key) -> Option<Fraction> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.fraction)
    }

    #[inline]
    pub fn sampler(&self, id: u64) -> Option<Fraction> {
        self.get(Key::Sampler(id))
    }

    /// For records of a template that name no sampler. Samplers that all agree
    /// are as good as one for the domain.
    pub fn of_template(&self, template: u16) -> Option<Fraction> {
        if self.entries.is_empty() {
            return None;
        }
        self.get(Key::Template(template)).or_else(|| self.get(Key::Domain)).or_else(|| {
            let mut samplers = self.entries.iter().filter(|entry| matches!(entry.key, Key::Sampler(_)));
            let first = samplers.next()?.fraction;
            samplers.all(|entry| entry.fraction == first).then_some(first)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_reduced() {
        assert_eq!(Fraction::count_based(1, Some(999)), Some(Fraction { num: 1, den: 1000 }));
        assert_eq!(Fraction::count_based(10, Some(90)), Some(Fraction { num: 1, den: 10 }));
        assert_eq!(Fraction::count_based(2, Some(1)), Some(Fraction { num: 2, den: 3 }));
        assert_eq!(Fraction::count_based(512, None), Some(Fraction { num: 1, den: 512 }));
        assert_eq!(Fraction::new(3, 3), Some(Fraction::ONE));
        assert_eq!(
            (Fraction::one_of(0), Fraction::new(5, 4), Fraction::count_based(u64::MAX, Some(1))),
            (None, None, None)
        );
    }

    #[test]
    fn samplers_that_disagree_are_not_guessed_between() {
        let mut samplers = Samplers::default();
        let (ten, hundred) = (Fraction { num: 1, den: 10 }, Fraction { num: 1, den: 100 });
        assert!(samplers.set(Key::Sampler(1), ten, 256, 3));
        assert_eq!(samplers.of_template(300), Some(ten));
        assert!(samplers.set(Key::Sampler(2), hundred, 257, 3));
        assert_eq!(samplers.of_template(300), None);
        assert!(samplers.set(Key::Template(300), hundred, 258, 3));
        assert_eq!(samplers.of_template(300), Some(hundred));
        assert!(!samplers.set(Key::Domain, ten, 258, 3));
        samplers.forget_template(257);
        assert_eq!((samplers.sampler(2), samplers.sampler(1)), (None, Some(ten)));
    }
}
