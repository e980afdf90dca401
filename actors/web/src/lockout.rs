//! Back-off after wrong passwords, by address, by user, and by both.
//!
//! Bounded: at the limit, the entry that failed longest ago goes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

const ENTRIES_MAX: usize = 20_000;
/// A failure is forgotten after this long.
const FORGET_MS: i64 = 3_600_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pair(String, IpAddr),
    User(String),
    Network([u8; 8]),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    last_ms: i64,
}

#[derive(Debug, Default)]
pub struct Lockout {
    entries: Mutex<HashMap<Key, Entry>>,
}

/// IPv4 address, or IPv6 /64: what one customer has.
fn network(address: IpAddr) -> [u8; 8] {
    let mut octets = [0; 8];
    match address {
        IpAddr::V4(v4) => octets[4..].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => octets[4..].copy_from_slice(&v4.octets()),
            None => octets.copy_from_slice(&v6.octets()[..8]),
        },
    }
    octets
}

impl Key {
    /// Failures that are free, and the longest wait, milliseconds. A user as such waits
    /// briefly: else anybody could lock anybody out.
    fn policy(&self) -> (u32, i64) {
        match self {
            Self::Pair(..) => (5, 900_000),
            Self::Network(_) => (20, 900_000),
            Self::User(_) => (30, 30_000),
        }
    }

    fn all(user: &str, address: IpAddr) -> [Self; 3] {
        let user = user.to_lowercase();
        [Self::Pair(user.clone(), address), Self::User(user), Self::Network(network(address))]
    }
}

impl Entry {
    fn wait_ms(&self, key: &Key, now_ms: i64) -> i64 {
        let (free, longest_ms) = key.policy();
        if self.failures < free {
            return 0;
        }
        let wait = (1_000_i64 << (self.failures - free).min(20)).min(longest_ms);
        (self.last_ms + wait - now_ms).max(0)
    }
}

impl Lockout {
    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds until the next attempt is looked at; 0 is now.
    pub fn wait_ms(&self, user: &str, address: IpAddr, now_ms: i64) -> i64 {
        let entries = self.entries();
        let waits = Key::all(user, address).into_iter();
        waits.filter_map(|key| entries.get(&key).map(|entry| entry.wait_ms(&key, now_ms))).max().unwrap_or(0)
    }

    pub fn failed(&self, user: &str, address: IpAddr, now_ms: i64) {
        let mut entries = self.entries();
        for key in Key::all(user, address) {
            if entries.len() >= ENTRIES_MAX && !entries.contains_key(&key) {
                entries.retain(|_, entry| now_ms - entry.last_ms < FORGET_MS);
                if entries.len() >= ENTRIES_MAX {
                    let oldest = entries.iter().min_by_key(|(_, entry)| entry.last_ms).map(|(key, _)| key.clone());
                    oldest.map(|key| entries.remove(&key));
                }
            }
            let entry = entries.entry(key).or_insert(Entry { failures: 0, last_ms: now_ms });
            if now_ms - entry.last_ms >= FORGET_MS {
                entry.failures = 0;
            }
            entry.failures = entry.failures.saturating_add(1);
            entry.last_ms = now_ms;
        }
    }

    /// The right password forgives the pair, not the address or others' attempts on the user.
    pub fn succeeded(&self, user: &str, address: IpAddr) {
        let [pair, ..] = Key::all(user, address);
        self.entries().remove(&pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_forgiven() {
        let lockout = Lockout::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..4 {
            lockout.failed("admin", address, 0);
        }
        assert_eq!(lockout.wait_ms("admin", address, 0), 0);
        lockout.failed("admin", address, 0);
        assert_eq!(lockout.wait_ms("ADMIN", address, 0), 1_000);
        assert_eq!(lockout.wait_ms("admin", IpAddr::from([192, 0, 2, 2]), 0), 0);
        lockout.failed("admin", address, 1_000);
        assert_eq!(lockout.wait_ms("admin", address, 1_000), 2_000);
        assert_eq!(lockout.wait_ms("admin", address, 3_000), 0);
        lockout.succeeded("admin", address);
        assert_eq!(lockout.wait_ms("admin", address, 1_000), 0);
    }

    #[test]
    fn many_addresses_slow_a_user_and_many_users_an_address() {
        let lockout = Lockout::default();
        for last in 0..30 {
            lockout.failed("admin", IpAddr::from([198, 51, 100, last]), 0);
        }
        assert!(lockout.wait_ms("admin", IpAddr::from([203, 0, 113, 1]), 0) > 0);
        for user in 0..20 {
            lockout.failed(&format!("user{user}"), IpAddr::from([203, 0, 113, 9]), 0);
        }
        assert!(lockout.wait_ms("somebody", IpAddr::from([203, 0, 113, 9]), 0) > 0);
    }

    #[test]
    fn it_is_bounded() {
        let lockout = Lockout::default();
        for number in 0..u32::try_from(ENTRIES_MAX).unwrap_or(0) {
            lockout.failed("x", IpAddr::from(number.to_be_bytes()), i64::from(number));
            if number > 12_000 {
                break;
            }
        }
        assert!(lockout.entries().len() <= ENTRIES_MAX);
    }
}
