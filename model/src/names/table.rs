//! The name table: address -> services, and (address, client prefix) -> services.
//!
//! The method is FlowDNS (CoNEXT 2022) with its faults mended: an address keeps
//! several candidates, each with its first and last sight, TTL and count; time is
//! the records' own; the answer that the flow's own client prefix got is
//! preferred; what remains ambiguous says so.
//!
//! Both maps are one structure: buckets of sixteen slots, three words a slot,
//! all of them atomics, sized once. One writer changes words in place, readers
//! never wait: a slot's key is cleared before its words change and set after,
//! and a reader looks at the key before and after it reads. Where a bucket is
//! full the slot that was seen longest ago goes, and is counted. So memory is
//! what was configured, for ever.
//!
//!   bucket: | key x 16 (two cache lines) | service, first seen x 16 | last seen, TTL, count x 16 |

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64};

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

use super::{ClientPrefix, MIX, NameBatch, Row, mix};
use crate::address::Address;

const WAYS: usize = 16;
const WORDS: usize = 3 * WAYS;
/// Of one key; the one seen longest ago makes room.
const CANDIDATES_MAX: usize = 8;
/// Of one canonical name.
const OWNERS_MAX: usize = 4;
/// CNAME hops that are followed back.
const HOPS_MAX: usize = 6;
const TTL_MAX_S: u32 = (1 << 24) - 1;
/// Rows of one batch of a snapshot.
const SNAPSHOT_ROWS: usize = 4096;
/// One of so many parts is swept at each publication.
const SWEEP_PARTS: usize = 256;

/// Bounds and times.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Names kept, and as many (name, client prefix) pairs; 24 octets each, a third more for the hash.
    pub names_max: usize,
    /// A name is used for this long after its answer, whatever its TTL: clients keep connections open.
    pub linger_s: u32,
    /// A name is used for no longer than this, whatever its TTL.
    pub keep_max_s: u32,
    /// An answer that came this much later than the flow still names it.
    pub late_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { names_max: 3_000_000, linger_s: 3600, keep_max_s: 3 * 86_400, late_ms: 2000 }
    }
}

/// What an address was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub service_id: u32,
    /// Per cent.
    pub confidence: u8,
    /// Another service is as valid there.
    pub ambiguous: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NameStats {
    pub answers: u64,
    /// Slots in use: (address, service), and (address, client prefix, service).
    pub names: u64,
    pub client_names: u64,
    pub aliases: u64,
    /// Slots that made room for others while they were valid.
    pub evicted: u64,
    /// Candidates that made room for others of the same address.
    pub candidates_evicted: u64,
    /// Canonical names that found no room.
    pub aliases_refused: u64,
    pub memory_octets: u64,
    /// Unix seconds of the newest answer.
    pub newest_s: u32,
}

/// One slot, read.
#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    service: u32,
    first_s: u32,
    last_s: u32,
    ttl_s: u32,
    count: u8,
}

impl Candidate {
    fn words(&self) -> (u64, u64) {
        (
            u64::from(self.service) << 32 | u64::from(self.first_s),
            u64::from(self.last_s) << 32 | u64::from(self.ttl_s.min(TTL_MAX_S)) << 8 | u64::from(self.count),
        )
    }

    fn from_words(origin: u64, sight: u64) -> Self {
        Self {
            service: (origin >> 32) as u32,
            first_s: origin as u32,
            last_s: (sight >> 32) as u32,
            ttl_s: (sight >> 8) as u32 & TTL_MAX_S,
            count: sight as u8,
        }
    }

    fn gone_s(&self, settings: &Settings) -> u32 {
        self.last_s.saturating_add(self.ttl_s.max(settings.linger_s).min(settings.keep_max_s))
    }
}

/// Candidates of one key.
struct Found {
    list: [Candidate; CANDIDATES_MAX],
    len: usize,
}

impl Found {
    fn as_slice(&self) -> &[Candidate] {
        self.list.get(..self.len).unwrap_or_default()
    }
}

/// A map of atomics.
#[derive(Debug)]
struct Slots {
    words: Vec<AtomicU64>,
    /// Words before the first bucket, so that buckets begin with a cache line.
    skip: usize,
    mask: usize,
    /// Something was written once.
    used: AtomicBool,
}

impl Slots {
    fn new(names_max: usize) -> Self {
        let buckets = (names_max / 12).max(4).next_power_of_two();
        // Zeroed by the kernel as it is first used; collected in place.
        let zeroed = vec![0u64; buckets * WORDS + 8];
        let words: Vec<AtomicU64> = zeroed.into_iter().map(AtomicU64::new).collect();
        let skip = (64 - words.as_ptr() as usize % 64) % 64 / 8;
        Self { words, skip, mask: buckets - 1, used: AtomicBool::new(false) }
    }

    fn buckets(&self) -> usize {
        self.mask + 1
    }

    fn octets(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    fn bucket(&self, at: usize) -> &[AtomicU64; WORDS] {
        let from = self.skip + (at & self.mask) * WORDS;
        self.words[from..from + WORDS].try_into().expect("a bucket is WORDS long")
    }

    fn of_key(&self, key: u64) -> usize {
        key as usize & self.mask
    }

    /// Makes the cache fetch the bucket.
    fn touch(&self, key: u64) -> u64 {
        self.bucket(self.of_key(key))[0].load(Relaxed)
    }

    fn read(bucket: &[AtomicU64; WORDS], way: usize, key: u64) -> Option<Candidate> {
        let candidate = Candidate::from_words(bucket[WAYS + way].load(Acquire), bucket[2 * WAYS + way].load(Acquire));
        (bucket[way].load(Acquire) == key).then_some(candidate)
    }

    fn write(bucket: &[AtomicU64; WORDS], way: usize, key: u64, candidate: &Candidate) {
        let (origin, sight) = candidate.words();
        // A slot that keeps its key and service moves forward in time only: no reader minds.
        if bucket[way].load(Relaxed) != key {
            bucket[way].store(0, Release);
        }
        bucket[WAYS + way].store(origin, Release);
        bucket[2 * WAYS + way].store(sight, Release);
        bucket[way].store(key, Release);
    }

    fn find(&self, key: u64) -> Found {
        let mut found = Found { list: [Candidate::default(); CANDIDATES_MAX], len: 0 };
        let bucket = self.bucket(self.of_key(key));
        for way in 0..WAYS {
            if bucket[way].load(Acquire) == key
                && found.len < CANDIDATES_MAX
                && let Some(candidate) = Self::read(bucket, way, key)
            {
                found.list[found.len] = candidate;
                found.len += 1;
            }
        }
        found
    }
}

/// What a writer's insertion did.
enum Inserted {
    Updated,
    New,
    InsteadOfExpired,
    InsteadOfCandidate,
    InsteadOfValid,
}

/// What readers see.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    names: Slots,
    client_names: Slots,
    /// [`ClientPrefix`] of the answers: v4 in the high octet.
    client_prefix: AtomicU16,
    generation: AtomicU64,
}

impl Shared {
    fn client_prefix(&self) -> ClientPrefix {
        let [v4, v6] = self.client_prefix.load(Relaxed).to_be_bytes();
        ClientPrefix { v4, v6 }
    }
}

fn key_of_address(address: Address) -> u64 {
    let word = u128::from_be_bytes(address.0);
    // Zero means empty.
    mix((word >> 64) as u64 ^ MIX[0], word as u64 ^ MIX[1]) | 1 << 63
}

fn key_of_client(of_address: u64, client: Address) -> u64 {
    mix(of_address ^ MIX[2], key_of_address(client)) | 1 << 63
}

#[derive(Clone, Copy, Debug, Default)]
struct Owner {
    name: u64,
    service: u32,
    gone_s: u32,
}

/// The writer.
#[derive(Debug)]
pub struct NameTable {
    shared: Arc<Shared>,
    /// Canonical name -> who pointed at it; for answers that a resolver got step by step.
    aliases: AHashMap<u64, [Owner; OWNERS_MAX]>,
    stats: NameStats,
    /// Next bucket to be swept.
    sweep: usize,
    aliases_swept_s: u32,
}

impl NameTable {
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            names: Slots::new(settings.names_max),
            client_names: Slots::new(settings.names_max),
            client_prefix: AtomicU16::new(u16::from_be_bytes([24, 48])),
            generation: AtomicU64::new(0),
            settings,
        };
        let memory_octets = shared.names.octets() + shared.client_names.octets();
        Self {
            shared: Arc::new(shared),
            aliases: AHashMap::new(),
            stats: NameStats { memory_octets, ..NameStats::default() },
            sweep: 0,
            aliases_swept_s: 0,
        }
    }

    /// Readers see the answers as they are applied; [`publish`](Self::publish) gives them a generation.
    pub fn apply(&mut self, batch: &NameBatch) {
        let ClientPrefix { v4, v6 } = batch.client_prefix;
        self.shared.client_prefix.store(u16::from_be_bytes([v4, v6]), Relaxed);
        for answer in batch.answers() {
            self.stats.answers += 1;
            self.stats.newest_s = self.stats.newest_s.max(answer.time_s);
            let mut roots = [answer.service; OWNERS_MAX];
            let mut roots_len = 1;
            match answer.client {
                // The resolver asks for canonical names one by one: whoever pointed here asked for this.
                None => {
                    let mut owners = [Owner::default(); OWNERS_MAX];
                    let found = self.owners(answer.asked, answer.time_s, &mut owners);
                    for (root, owner) in roots.iter_mut().zip(owners.iter().take(found)) {
                        *root = owner.service;
                    }
                    roots_len = found.max(1);
                    let mut owner = Owner { name: answer.asked, service: answer.service, gone_s: 0 };
                    for &(alias, ttl_s) in answer.aliases {
                        owner.gone_s = answer.time_s.saturating_add(ttl_s.max(self.shared.settings.linger_s));
                        self.learn_alias(alias, owner, answer.time_s);
                    }
                }
                Some(client) => {
                    for &(address, ttl_s) in answer.addresses {
                        let key = key_of_client(key_of_address(address), client);
                        self.insert(true, key, answer.service, answer.time_s, ttl_s);
                    }
                }
            }
            for &(address, ttl_s) in answer.addresses {
                let key = key_of_address(address);
                for service in roots.iter().take(roots_len) {
                    self.insert(false, key, *service, answer.time_s, ttl_s);
                }
            }
        }
        for row in batch.rows() {
            self.stats.newest_s = self.stats.newest_s.max(row.last_s);
            self.restore(row);
        }
    }

    /// Names the state of the table, clears a part of what has expired.
    pub fn publish(&mut self) -> u64 {
        let part = self.shared.names.buckets().div_ceil(SWEEP_PARTS);
        for at in self.sweep..self.sweep + part {
            self.sweep_bucket(at);
        }
        self.sweep = (self.sweep + part) & self.shared.names.mask;
        self.shared.generation.fetch_add(1, Release) + 1
    }

    pub fn reader(&self) -> NameReader {
        NameReader { shared: self.shared.clone() }
    }

    pub fn stats(&self) -> NameStats {
        NameStats { aliases: self.aliases.len() as u64, ..self.stats }
    }

    /// The table in batches, for a replica to start from. Those answers that are
    /// applied meanwhile may be in it or not: send them after it.
    pub fn snapshot(&self) -> impl Iterator<Item = NameBatch> + Send + use<> {
        self.reader().snapshot()
    }

    fn slots(&self, of_client: bool) -> &Slots {
        if of_client { &self.shared.client_names } else { &self.shared.names }
    }

    /// Roots of the chains that lead to `name`; their number.
    fn owners(&self, name: u64, time_s: u32, roots: &mut [Owner; OWNERS_MAX]) -> usize {
        let mut found = 0;
        let mut pending = [(0u64, 0usize); OWNERS_MAX * HOPS_MAX];
        let mut pending_len = 1;
        pending[0] = (name, 0);
        let mut next = 0;
        while next < pending_len {
            let (at, hops) = pending[next];
            next += 1;
            let Some(owners) = self.aliases.get(&at) else { continue };
            for owner in owners.iter().filter(|owner| owner.gone_s >= time_s && owner.name != 0) {
                let further = hops + 1 < HOPS_MAX && self.aliases.contains_key(&owner.name);
                let known = pending.iter().take(pending_len).any(|(name, _)| *name == owner.name);
                if further && !known && pending_len < pending.len() {
                    pending[pending_len] = (owner.name, hops + 1);
                    pending_len += 1;
                } else if !further
                    && found < OWNERS_MAX
                    && !roots.iter().take(found).any(|root| root.service == owner.service)
                {
                    roots[found] = *owner;
                    found += 1;
                }
            }
        }
        found
    }

    fn learn_alias(&mut self, alias: u64, owner: Owner, time_s: u32) {
        let due = time_s.saturating_sub(self.aliases_swept_s);
        if due > 7200 || self.aliases.len() >= self.shared.settings.names_max && due > 60 {
            self.aliases.retain(|_, owners| owners.iter().any(|owner| owner.gone_s >= time_s));
            self.aliases_swept_s = time_s;
        }
        if self.aliases.len() >= self.shared.settings.names_max && !self.aliases.contains_key(&alias) {
            self.stats.aliases_refused += 1;
            return;
        }
        let owners = self.aliases.entry(alias).or_default();
        let same = owners.iter().position(|held| held.name == owner.name);
        let oldest = || owners.iter().enumerate().min_by_key(|(_, held)| held.gone_s).map(|(at, _)| at);
        if let Some(slot) = same.or_else(oldest).and_then(|at| owners.get_mut(at)) {
            *slot = owner;
        }
    }

    fn insert(&mut self, of_client: bool, key: u64, service: u32, time_s: u32, ttl_s: u32) {
        let fresh = Candidate { service, first_s: time_s, last_s: time_s, ttl_s, count: 1 };
        let settings = &self.shared.settings;
        let update = |held: Candidate| {
            // Gone meanwhile: a new life.
            if held.gone_s(settings) < time_s {
                return fresh;
            }
            Candidate {
                first_s: held.first_s.min(time_s),
                last_s: held.last_s.max(time_s),
                ttl_s: if time_s >= held.last_s { ttl_s } else { held.ttl_s },
                count: held.count.saturating_add(1),
                service,
            }
        };
        let inserted = self.place(of_client, key, fresh, update);
        self.account(of_client, &inserted);
    }

    fn restore(&mut self, row: &Row) {
        let fresh = Candidate {
            service: row.service,
            first_s: row.first_s,
            last_s: row.last_s,
            ttl_s: row.ttl_s,
            count: row.count,
        };
        let inserted = self.place(row.of_client, row.key | 1 << 63, fresh, |held| {
            let newer = if held.last_s >= fresh.last_s { held } else { fresh };
            Candidate { first_s: held.first_s.min(fresh.first_s), count: held.count.max(fresh.count), ..newer }
        });
        self.account(row.of_client, &inserted);
    }

    fn account(&mut self, of_client: bool, inserted: &Inserted) {
        match inserted {
            Inserted::New => {
                *(if of_client { &mut self.stats.client_names } else { &mut self.stats.names }) += 1;
            }
            Inserted::InsteadOfValid => self.stats.evicted += 1,
            Inserted::InsteadOfCandidate => self.stats.candidates_evicted += 1,
            Inserted::Updated | Inserted::InsteadOfExpired => {}
        }
    }

    fn place(&self, of_client: bool, key: u64, fresh: Candidate, update: impl Fn(Candidate) -> Candidate) -> Inserted {
        let slots = self.slots(of_client);
        let bucket = slots.bucket(slots.of_key(key));
        let mut free = None;
        let mut oldest: Option<(usize, Candidate)> = None;
        let mut oldest_of_key: Option<(usize, Candidate)> = None;
        let mut of_key = 0;
        for way in 0..WAYS {
            let held_key = bucket[way].load(Relaxed);
            if held_key == 0 {
                free = free.or(Some(way));
                continue;
            }
            let Some(held) = Slots::read(bucket, way, held_key) else { continue };
            if held_key == key {
                if held.service == fresh.service {
                    Slots::write(bucket, way, key, &update(held));
                    return Inserted::Updated;
                }
                of_key += 1;
                if oldest_of_key.is_none_or(|(_, other)| held.last_s < other.last_s) {
                    oldest_of_key = Some((way, held));
                }
            }
            if oldest.is_none_or(|(_, other)| held.last_s < other.last_s) {
                oldest = Some((way, held));
            }
        }
        let expired = |held: &Candidate| held.gone_s(&self.shared.settings) < self.stats.newest_s;
        let (way, inserted) = match (free, oldest_of_key, oldest) {
            (_, Some((way, held)), _) if of_key >= CANDIDATES_MAX || expired(&held) => {
                (way, if expired(&held) { Inserted::InsteadOfExpired } else { Inserted::InsteadOfCandidate })
            }
            (Some(way), _, _) => (way, Inserted::New),
            (None, _, Some((way, held))) => {
                (way, if expired(&held) { Inserted::InsteadOfExpired } else { Inserted::InsteadOfValid })
            }
            (None, _, None) => return Inserted::Updated,
        };
        Slots::write(bucket, way, key, &fresh);
        slots.used.store(true, Release);
        inserted
    }

    /// Clears what is gone.
    fn sweep_bucket(&mut self, at: usize) {
        for of_client in [false, true] {
            let mut cleared = 0;
            let bucket = self.slots(of_client).bucket(at);
            for way in 0..WAYS {
                let held = match bucket[way].load(Relaxed) {
                    0 => None,
                    key => Slots::read(bucket, way, key),
                };
                if held.is_some_and(|held| held.gone_s(&self.shared.settings) < self.stats.newest_s) {
                    bucket[way].store(0, Release);
                    cleared += 1;
                }
            }
            let count = if of_client { &mut self.stats.client_names } else { &mut self.stats.names };
            *count = count.saturating_sub(cleared);
        }
    }
}

/// Gives views; cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub struct NameReader {
    shared: Arc<Shared>,
}

impl NameReader {
    pub fn view(&self) -> NameView {
        NameView {
            generation: self.shared.generation.load(Acquire),
            client_prefix: self.shared.client_prefix(),
            shared: self.shared.clone(),
        }
    }

    /// As [`NameTable::snapshot`], on another thread than the writer's.
    pub fn snapshot(&self) -> impl Iterator<Item = NameBatch> + Send + use<> {
        let shared = self.shared.clone();
        let client_prefix = shared.client_prefix();
        let buckets = shared.names.buckets();
        let mut next = 0;
        std::iter::from_fn(move || {
            let mut batch = NameBatch::new(client_prefix);
            while next < 2 * buckets && batch.rows().len() < SNAPSHOT_ROWS {
                let of_client = next >= buckets;
                let slots = if of_client { &shared.client_names } else { &shared.names };
                let bucket = slots.bucket(next & slots.mask);
                for way in 0..WAYS {
                    let key = bucket[way].load(Acquire);
                    let Some(held) = (key != 0).then(|| Slots::read(bucket, way, key)).flatten() else { continue };
                    let Candidate { service, first_s, last_s, ttl_s, count } = held;
                    batch.push_row(Row { of_client, key, service, first_s, last_s, ttl_s, count });
                }
                next += 1;
            }
            (!batch.is_empty()).then_some(batch)
        })
    }
}

/// The table while one batch is joined.
#[derive(Clone, Debug)]
pub struct NameView {
    shared: Arc<Shared>,
    client_prefix: ClientPrefix,
    pub generation: u64,
}

impl NameView {
    /// True until the first name came: looking for one costs cache misses.
    pub fn is_empty(&self) -> bool {
        !self.shared.names.used.load(Acquire) && !self.shared.client_names.used.load(Acquire)
    }

    /// What `address` was called at `time_ms`, by `client` if anybody near it asked, else by all.
    pub fn lookup(&self, address: Address, client: Address, time_ms: i64) -> Option<Named> {
        let of_address = key_of_address(address);
        self.lookup_keys(of_address, self.key_of_client(of_address, client), time_ms)
    }

    /// The same for many: faster, as their cache misses overlap.
    pub fn lookup_each(
        &self,
        questions: impl Iterator<Item = (Address, Address, i64)>,
        mut answer: impl FnMut(Option<Named>),
    ) {
        const AHEAD: usize = 16;
        let mut ahead = [(0u64, 0u64, 0i64); AHEAD];
        let mut held = 0;
        let mut fetched = 0;
        for (address, client, time_ms) in questions {
            let of_address = key_of_address(address);
            let of_client = self.key_of_client(of_address, client);
            fetched ^= self.shared.names.touch(of_address) ^ self.shared.client_names.touch(of_client);
            ahead[held] = (of_address, of_client, time_ms);
            held += 1;
            if held == AHEAD {
                ahead.iter().for_each(|(name, client, time_ms)| answer(self.lookup_keys(*name, *client, *time_ms)));
                held = 0;
            }
        }
        std::hint::black_box(fetched);
        ahead.iter().take(held).for_each(|(name, client, time_ms)| answer(self.lookup_keys(*name, *client, *time_ms)));
    }

    fn key_of_client(&self, of_address: u64, client: Address) -> u64 {
        key_of_client(of_address, self.client_prefix.truncate(client))
    }

    fn lookup_keys(&self, of_address: u64, of_client: u64, time_ms: i64) -> Option<Named> {
        let own = self.shared.client_names.find(of_client);
        let settings = &self.shared.settings;
        judge(own.as_slice(), time_ms, settings, [100, 80], |candidate| (candidate.last_s, candidate.count)).or_else(
            || {
                let all = self.shared.names.find(of_address);
                judge(all.as_slice(), time_ms, settings, [80, 60], |candidate| {
                    (u32::from(candidate.count), candidate.last_s as u8)
                })
            },
        )
    }
}

/// The best of the candidates that hold at a time: first those within their TTL, then those that linger.
fn judge(
    candidates: &[Candidate],
    time_ms: i64,
    settings: &Settings,
    confidence: [u32; 2],
    rank: impl Fn(&Candidate) -> (u32, u8),
) -> Option<Named> {
    // Answers' times are whole seconds, rounded down.
    let known = |candidate: &Candidate| i64::from(candidate.first_s) * 1000 <= time_ms.saturating_add(settings.late_ms);
    let until = |seconds: u32| i64::from(seconds) * 1000 + 999;
    for (stage, confidence) in confidence.into_iter().enumerate() {
        let holds = |candidate: &&Candidate| {
            let end_s = match stage {
                0 => candidate.last_s.saturating_add(candidate.ttl_s.min(settings.keep_max_s)),
                _ => candidate.gone_s(settings),
            };
            known(candidate) && time_ms <= until(end_s) + settings.late_ms
        };
        let valid = candidates.iter().filter(holds);
        let (number, sights) =
            valid.clone().fold((0u32, 0u32), |(number, sum), one| (number + 1, sum + u32::from(one.count.max(1))));
        if let Some(best) = valid.max_by_key(|candidate| rank(candidate)) {
            let share = if number == 1 { confidence } else { confidence * u32::from(best.count.max(1)) / sights };
            return Some(Named { service_id: best.service, confidence: share.max(1) as u8, ambiguous: number > 1 });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::AnswerRef;
    use super::*;

    const START_S: u32 = 1_700_000_000;
    const MS: i64 = 1000;

    fn server(n: u32) -> Address {
        Address::from_v4((0xcb00_7100 + n).to_be_bytes())
    }

    fn client(n: u32) -> Address {
        Address::from_v4((0x0a00_0000 + n * 256 + 9).to_be_bytes())
    }

    fn table(names_max: usize) -> NameTable {
        NameTable::new(Settings { names_max, ..Settings::default() })
    }

    fn learn(table: &mut NameTable, asker: Option<Address>, service: u32, address: Address, time_s: u32, ttl_s: u32) {
        let mut batch = NameBatch::default();
        let addresses = [(address, ttl_s)];
        let asked = 1000 + u64::from(service);
        batch.push(AnswerRef { time_s, client: asker, asked, service, addresses: &addresses, aliases: &[] });
        table.apply(&batch);
        table.publish();
    }

    #[test]
    fn the_clients_own_answer_is_preferred() {
        let mut table = table(1000);
        learn(&mut table, Some(client(1)), 5, server(1), START_S, 60);
        learn(&mut table, Some(client(2)), 6, server(1), START_S, 60);
        let view = table.reader().view();
        let at = i64::from(START_S + 10) * MS;
        let neighbour = Address::from_v4([10, 0, 1, 77]);
        let own = Some(Named { service_id: 5, confidence: 100, ambiguous: false });
        assert_eq!(view.lookup(server(1), client(1), at), own);
        assert_eq!(view.lookup(server(1), neighbour, at), own, "the same /24");
        assert_eq!(view.lookup(server(1), client(2), at).map(|named| named.service_id), Some(6));
        let other = view.lookup(server(1), client(3), at).expect("somebody asked");
        assert!(other.ambiguous && other.confidence == 40);
        assert_eq!(view.lookup(server(2), client(1), at), None);
    }

    #[test]
    fn a_name_holds_from_its_answer_to_its_end() {
        let mut table = table(1000);
        learn(&mut table, Some(client(1)), 5, server(1), START_S, 7200);
        let view = table.reader().view();
        let named = |at_s: i64| view.lookup(server(1), client(1), (i64::from(START_S) + at_s) * MS).is_some();
        assert!(!named(-3), "not yet asked");
        assert!(named(-2), "an answer may be two seconds late");
        assert!(named(7200));
        assert!(!named(7300));
        learn(&mut table, Some(client(1)), 6, server(2), START_S, 0);
        let view = table.reader().view();
        let zero = |at_s: u32| view.lookup(server(2), client(1), i64::from(START_S + at_s) * MS);
        assert_eq!(zero(0).map(|named| named.confidence), Some(100));
        assert_eq!(zero(3000).map(|named| named.confidence), Some(80), "lingers");
        assert_eq!(zero(3700), None);
    }

    #[test]
    fn an_older_flow_keeps_the_name_of_its_time() {
        let mut table = table(1000);
        learn(&mut table, Some(client(1)), 5, server(1), START_S, 300);
        learn(&mut table, Some(client(1)), 6, server(1), START_S + 200, 300);
        let view = table.reader().view();
        let service = |at_s: u32| view.lookup(server(1), client(1), i64::from(START_S + at_s) * MS).expect("named");
        assert_eq!(service(100), Named { service_id: 5, confidence: 100, ambiguous: false });
        assert_eq!(service(250), Named { service_id: 6, confidence: 50, ambiguous: true });
        assert_eq!(service(400), Named { service_id: 6, confidence: 100, ambiguous: false });
    }

    #[test]
    fn canonical_names_lead_back_to_the_name_asked_for() {
        let mut table = table(1000);
        let mut batch = NameBatch::default();
        // www.a -> edge -> node, asked step by step by the resolver.
        let step = |asked, service, aliases| AnswerRef {
            time_s: START_S,
            client: None,
            asked,
            service,
            addresses: &[],
            aliases,
        };
        batch.push(step(1, 5, &[(2, 60)]));
        batch.push(step(2, 90, &[(3, 60)]));
        batch.push(AnswerRef { addresses: &[(server(1), 20)], ..step(3, 91, &[]) });
        table.apply(&batch);
        let at = i64::from(START_S) * MS;
        let named = table.reader().view().lookup(server(1), client(1), at);
        assert_eq!(named, Some(Named { service_id: 5, confidence: 80, ambiguous: false }));

        let mut second = NameBatch::default();
        second.push(step(4, 6, &[(3, 60)]));
        second.push(AnswerRef { addresses: &[(server(1), 20)], ..step(3, 91, &[]) });
        table.apply(&second);
        let both = table.reader().view().lookup(server(1), client(1), at).expect("named");
        assert!(both.ambiguous, "two names lead to the address");
    }

    #[test]
    fn a_loop_of_canonical_names_ends() {
        let mut table = table(1000);
        let mut batch = NameBatch::default();
        let step =
            |asked, aliases| AnswerRef { time_s: START_S, client: None, asked, service: 7, addresses: &[], aliases };
        batch.push(step(1, &[(2, 60)]));
        batch.push(step(2, &[(1, 60)]));
        batch.push(AnswerRef { addresses: &[(server(1), 20)], ..step(1, &[]) });
        table.apply(&batch);
        assert!(table.reader().view().lookup(server(1), client(1), i64::from(START_S) * MS).is_some());
    }

    #[test]
    fn memory_is_bounded_and_what_goes_is_counted() {
        let mut table = table(1000);
        let memory = table.stats().memory_octets;
        for n in 0..50_000 {
            learn(&mut table, Some(client(n % 200)), n, server(n), START_S + n / 1000, 60);
        }
        let stats = table.stats();
        assert_eq!(stats.memory_octets, memory);
        assert_eq!(stats.names + stats.evicted + stats.client_names, 100_000, "nothing goes uncounted: {stats:?}");
        assert!(stats.names >= 1000, "{stats:?}");
        let last = table.reader().view().lookup(server(49_999), client(49_999 % 200), i64::from(START_S + 60) * MS);
        assert_eq!(last.map(|named| named.service_id), Some(49_999));
    }

    #[test]
    fn candidates_of_an_address_are_bounded() {
        let mut table = table(1000);
        for n in 0..20 {
            learn(&mut table, None, n, server(1), START_S + n, 3600);
        }
        assert_eq!(table.stats().candidates_evicted, 12);
        assert_eq!(table.stats().names, 8);
    }

    #[test]
    fn what_is_gone_is_swept() {
        let mut table = table(1000);
        for n in 0..500 {
            learn(&mut table, None, n, server(n), START_S, 60);
        }
        assert_eq!(table.stats().names, 500);
        learn(&mut table, None, 1, server(501), START_S + 10_000, 60);
        for _ in 0..=SWEEP_PARTS {
            table.publish();
        }
        assert_eq!(table.stats().names, 1);
    }

    #[test]
    fn a_replica_starts_from_a_snapshot() {
        let mut table = table(10_000);
        for n in 0..9000 {
            learn(&mut table, Some(client(n % 100)), n % 300, server(n), START_S + n, 7200);
        }
        let mut replica = NameTable::new(Settings { names_max: 40_000, ..Settings::default() });
        table.snapshot().for_each(|batch| replica.apply(&batch));
        assert_eq!(replica.stats().names, table.stats().names);
        let (own, other) = (table.reader().view(), replica.reader().view());
        let at = i64::from(START_S + 9000) * MS;
        let named = (0..9000).filter(|&n| {
            let named = own.lookup(server(n), client(n % 100), at);
            assert_eq!(named, other.lookup(server(n), client(n % 100), at));
            named.is_some()
        });
        assert!(named.count() > 7000);
    }

    #[test]
    fn many_at_once_are_the_same_as_one_by_one() {
        let mut table = table(10_000);
        for n in 0..1000 {
            learn(&mut table, Some(client(n % 10)), n % 300, server(n), START_S, 7200);
        }
        let view = table.reader().view();
        let questions: Vec<_> = (0..1111).map(|n| (server(n), client(n % 11), i64::from(START_S + n) * MS)).collect();
        let mut answers = Vec::new();
        view.lookup_each(questions.iter().copied(), |named| answers.push(named));
        let single: Vec<_> = questions.iter().map(|(server, client, at)| view.lookup(*server, *client, *at)).collect();
        assert_eq!(answers, single);
        assert_eq!(single.iter().flatten().count(), 1000);
    }

    #[test]
    fn readers_never_see_a_foreign_service() {
        // Service and address are tied: a torn read would break the tie.
        let mut table = table(500);
        let reader = table.reader();
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (reader, done) = (reader.clone(), done.clone());
                std::thread::spawn(move || {
                    let (mut seen, mut n) = (0u64, 0);
                    while !done.load(Relaxed) || seen == 0 {
                        let view = reader.view();
                        n = (n + 7919) % 20_000;
                        if let Some(named) = view.lookup(server(n), client(1), i64::from(START_S) * MS) {
                            assert_eq!(named.service_id, n);
                            seen += 1;
                        }
                    }
                    seen
                })
            })
            .collect();
        for round in 0..20 {
            for n in 0..20_000 {
                learn(&mut table, None, n, server(n), START_S, 60 + round);
            }
        }
        done.store(true, Relaxed);
        for thread in threads {
            assert!(thread.join().expect("a reader") > 0);
        }
    }
}
