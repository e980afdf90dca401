//! Who may send, and how much: looked at before anything is decoded.
//!
//! A gate a thread, so that nothing is locked; what it refused is told to the
//! exporters a few times a second. The rate is a leaky bucket: each datagram moves
//! the time at which its exporter's bucket is empty, and one that would move it
//! further ahead than the burst is too much.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;
use serde::Serialize;

use crate::config::Config;
use crate::decode::{Cause, Shared};
use crate::metrics::Metrics;

/// Sources whose rate is measured, a thread; further ones share a bucket.
const SOURCES_MAX: usize = 65_536;
/// Sources whose refusals are told apart between two tellings, and that are remembered as denied.
const REFUSED_MAX: usize = 256;
/// Stands for all sources that are not told apart.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

type Map<V> = HashMap<IpAddr, V, ahash::RandomState>;

/// A source that may not send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// 0.0.0.0 is all that are too many to be told apart.
    pub address: IpAddr,
    pub datagrams: u64,
    /// Unix ms.
    pub last_ms: i64,
}

/// Sources that were denied, of all threads.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<Map<(u64, i64)>>);

impl Strangers {
    pub(crate) fn add(&self, address: IpAddr, datagrams: u64, now_ms: i64) {
        let mut known = self.0.lock();
        let full = known.len() >= REFUSED_MAX && !known.contains_key(&address);
        let entry = known.entry(if full { OTHERS } else { address }).or_default();
        *entry = (entry.0 + datagrams, now_ms);
    }

    /// Most datagrams first.
    pub(crate) fn status(&self) -> Vec<Denied> {
        let known = self.0.lock();
        let mut all: Vec<Denied> = known
            .iter()
            .map(|(address, &(datagrams, last_ms))| Denied { address: *address, datagrams, last_ms })
            .collect();
        all.sort_unstable_by_key(|denied| (std::cmp::Reverse(denied.datagrams), denied.address));
        all
    }
}

pub(crate) struct Gate {
    allow: Vec<IpNet>,
    rate: Option<Rate>,
    denied: Map<u64>,
    limited: Map<u64>,
}

struct Rate {
    /// Nanoseconds that a datagram takes at the highest rate.
    interval_ns: u64,
    burst_ns: u64,
    began: Instant,
    now_ns: u64,
    /// When the bucket of a source is empty.
    empty_ns: Map<u64>,
    /// Buckets that are empty were given up for this look at the clock.
    tidied: bool,
}

impl Gate {
    pub(crate) fn new(config: &Config) -> Self {
        let rate = (config.rate_max > 0).then(|| {
            let interval_ns = 1_000_000_000 / u64::from(config.rate_max);
            Rate {
                interval_ns,
                burst_ns: interval_ns * u64::from(config.rate_burst.max(1)),
                began: Instant::now(),
                now_ns: 0,
                empty_ns: Map::default(),
                tidied: false,
            }
        });
        Self { allow: config.allowed(), rate, denied: Map::default(), limited: Map::default() }
    }

    /// Looks at the clock, once for all datagrams of a batch.
    pub(crate) fn open(&mut self) {
        if let Some(rate) = &mut self.rate {
            rate.now_ns = rate.began.elapsed().as_nanos() as u64;
            rate.tidied = false;
        }
    }

    /// Whether a datagram is taken; one that is not is counted.
    #[inline]
    pub(crate) fn admits(&mut self, source: IpAddr) -> bool {
        if !self.allow.is_empty() && !self.knows(source) {
            count(&mut self.denied, source);
            return false;
        }
        let Some(rate) = &mut self.rate else { return true };
        let admitted = rate.take(source);
        if !admitted {
            count(&mut self.limited, source);
        }
        admitted
    }

    /// Whether a connection is taken; one that is not is counted.
    pub(crate) fn admits_session(&mut self, source: IpAddr) -> bool {
        let admitted = self.allow.is_empty() || self.knows(source);
        if !admitted {
            count(&mut self.denied, source);
        }
        admitted
    }

    fn knows(&self, source: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(&source))
    }

    /// For how long a source that can be held back has to be, after another message.
    pub(crate) fn delay(&mut self, source: IpAddr) -> Duration {
        self.rate.as_mut().map_or(Duration::ZERO, |rate| rate.delay(source))
    }

    /// Tells what was refused since the last time.
    pub(crate) fn settle(&mut self, shared: &Shared, strangers: &Strangers, metrics: &Metrics, now_ms: i64) {
        for (source, datagrams) in self.limited.drain() {
            shared.lose_datagrams(source, Cause::RateLimited, datagrams);
            metrics.dropped_rate_limited.add(datagrams);
        }
        for (source, datagrams) in self.denied.drain() {
            strangers.add(source, datagrams, now_ms);
            metrics.dropped_denied.add(datagrams);
        }
    }
}

impl Rate {
    fn bucket(&mut self, source: IpAddr) -> &mut u64 {
        let full = self.empty_ns.len() >= SOURCES_MAX && !self.empty_ns.contains_key(&source);
        if full && !self.tidied {
            self.tidied = true;
            let now_ns = self.now_ns;
            self.empty_ns.retain(|_, empty_ns| *empty_ns > now_ns);
        }
        let full = full && self.empty_ns.len() >= SOURCES_MAX;
        self.empty_ns.entry(if full { OTHERS } else { source }).or_default()
    }

    fn take(&mut self, source: IpAddr) -> bool {
        let (now_ns, interval_ns, burst_ns) = (self.now_ns, self.interval_ns, self.burst_ns);
        let empty_ns = self.bucket(source);
        let next_ns = (*empty_ns).max(now_ns) + interval_ns;
        let fits = next_ns - now_ns <= burst_ns;
        if fits {
            *empty_ns = next_ns;
        }
        fits
    }

    fn delay(&mut self, source: IpAddr) -> Duration {
        let (now_ns, interval_ns, burst_ns) = (self.now_ns, self.interval_ns, self.burst_ns);
        let empty_ns = self.bucket(source);
        *empty_ns = (*empty_ns).max(now_ns) + interval_ns;
        Duration::from_nanos((*empty_ns - now_ns).saturating_sub(burst_ns))
    }
}

fn count(refused: &mut Map<u64>, source: IpAddr) {
    let full = refused.len() >= REFUSED_MAX && !refused.contains_key(&source);
    *refused.entry(if full { OTHERS } else { source }).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn gate(rate_max: u32, rate_burst: u32) -> Gate {
        Gate::new(&Config { rate_max, rate_burst, ..Config::default() })
    }

    /// The gate's clock, set by hand.
    fn at(gate: &mut Gate, ms: u64) {
        let rate = gate.rate.as_mut().unwrap();
        (rate.now_ns, rate.tidied) = (ms * 1_000_000, false);
    }

    #[test]
    fn a_flood_is_cut_to_its_rate_and_others_are_not_touched() {
        let mut gate = gate(100, 20);
        let mut taken = [0, 0];
        for ms in 0..1000 {
            at(&mut gate, ms);
            taken[0] += (0..50).filter(|_| gate.admits(ip(1))).count();
            taken[1] += usize::from(ms % 20 == 0 && gate.admits(ip(2)));
        }
        assert_eq!(taken, [20 + 99, 50], "a burst, then one every 10 ms");
        assert_eq!(gate.limited.get(&ip(1)), Some(&(50_000 - 119)));
        assert_eq!(gate.limited.get(&ip(2)), None);
        at(&mut gate, 60_000);
        assert_eq!((0..50).filter(|_| gate.admits(ip(1))).count(), 20, "the bucket empties and is no deeper");
    }

    #[test]
    fn who_can_be_held_back_is_delayed_by_what_was_too_much() {
        let mut gate = gate(100, 20);
        at(&mut gate, 0);
        let delays: Vec<u64> = (0..23).map(|_| gate.delay(ip(1)).as_millis() as u64).collect();
        assert_eq!(delays[19..], [0, 10, 20, 30]);
        at(&mut gate, 30);
        assert_eq!(gate.delay(ip(1)), Duration::from_millis(10));
    }

    #[test]
    fn without_limits_everything_is_taken_and_nothing_is_remembered() {
        let mut gate = gate(0, 0);
        gate.open();
        assert!((0..1000).all(|_| gate.admits(ip(1))));
        assert_eq!(gate.delay(ip(1)), Duration::ZERO);
        assert!(gate.limited.is_empty() && gate.denied.is_empty());
    }

    #[test]
    fn spoofed_sources_are_bounded() {
        let mut gate = gate(10, 1);
        at(&mut gate, 1);
        for source in 0..SOURCES_MAX as u32 + 5000 {
            gate.admits(IpAddr::from(source.to_be_bytes()));
        }
        let rate = gate.rate.as_ref().unwrap();
        assert!(rate.empty_ns.len() <= SOURCES_MAX + 1 && gate.limited.len() <= REFUSED_MAX + 1);
        at(&mut gate, 5000);
        assert!(gate.admits(ip(1)), "those that are idle make room");
        let strangers = Strangers::default();
        for source in 0..1000u32 {
            strangers.add(IpAddr::from((1 << 24 | source).to_be_bytes()), 1, 7);
        }
        let status = strangers.status();
        assert_eq!(status.len(), REFUSED_MAX + 1);
        assert_eq!(status[0], Denied { address: OTHERS, datagrams: 1000 - REFUSED_MAX as u64, last_ms: 7 });
    }

    #[test]
    fn only_configured_networks_may_send() {
        let allow = ["192.0.2.0/30", "2001:db8::/64"].iter().map(|text| text.parse().unwrap()).collect();
        let mut gate = Gate::new(&Config { allow, ..Config::default() });
        assert!(gate.admits(ip(1)) && gate.admits("2001:db8::9".parse().unwrap()));
        assert!(!gate.admits(ip(9)) && !gate.admits(ip(9)) && !gate.admits("2001:db8:1::9".parse().unwrap()));
        let (shared, strangers) = (Shared::new(crate::decode::Config::default(), Vec::new()), Strangers::default());
        gate.settle(&shared, &strangers, &Metrics::new(), 5);
        let denied = strangers.status();
        assert_eq!((denied.len(), denied[0].address, denied[0].datagrams), (2, ip(9), 2));
    }
}
