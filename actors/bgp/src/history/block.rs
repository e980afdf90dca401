//! A block of changes, as it is on disk.
//!
//! | magic u32 | octets u32 | crc32 u32 | first ms i64 | last ms i64 | sessions u32 | filter octets u32 | filter | body |
//!
//! `octets` are those of filter and body, and the sum is over them. The filter (Bloom's) tells which prefixes are not
//! in the body, so that a search reads few bodies. The body is compressed.

use std::collections::HashMap;
use std::sync::Arc;

use benocs_model::address::Prefix;
use benocs_model::route::{Path, Peer, PeerId};
use serde::{Deserialize, Serialize};

pub(super) const HEADER_OCTETS: usize = 36;
const MAGIC: u32 = 0x6270_6831;
/// A block that says it is longer is none.
pub(super) const BLOCK_OCTETS_MAX: usize = 64 << 20;
const BODY_OCTETS_MAX: usize = 512 << 20;
const FILTER_BITS: usize = 10;
const FILTER_HASHES: u64 = 6;
/// Little for much: the history is written while sessions bring full tables.
const LEVEL: i32 = 1;

/// What happened to a peer as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Session {
    Up,
    Down,
    /// Its routes stay, marked (RFC 4724).
    Stale,
    /// Changes are missing before this.
    Gap,
}

/// Whose change it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Speaker {
    pub(super) id: PeerId,
    pub(super) name: String,
    pub(super) address: std::net::IpAddr,
    pub(super) vrf: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) prefix: Prefix,
    pub(super) ms: i64,
    pub(super) speaker: u32,
    /// RFC 7911; 0 where not agreed.
    pub(super) path_id: u32,
    /// Number of its path and one; 0 where the route went.
    pub(super) path: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Block {
    pub(super) speakers: Vec<Speaker>,
    pub(super) paths: Vec<Arc<Path>>,
    pub(super) changes: Vec<Change>,
    pub(super) sessions: Vec<(i64, Option<u32>, Session)>,
    #[serde(skip)]
    numbers: HashMap<PeerId, u32>,
    #[serde(skip)]
    path_numbers: HashMap<u64, u32>,
}

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) octets: usize,
    pub(super) crc: u32,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) sessions: u32,
    pub(super) filter_octets: usize,
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.changes.len() + self.sessions.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn times(&self) -> impl Iterator<Item = i64> {
        self.changes.iter().map(|change| change.ms).chain(self.sessions.iter().map(|session| session.0))
    }

    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.times().min()
    }

    pub(super) fn last_ms(&self) -> i64 {
        self.times().max().unwrap_or(0)
    }

    fn speaker(&mut self, peer: &Peer) -> u32 {
        let known = self.numbers.get(&peer.id).copied();
        if let Some(number) = known.filter(|number| self.speakers[*number as usize].name == peer.name) {
            return number;
        }
        let number = self.speakers.len() as u32;
        self.speakers.push(Speaker {
            id: peer.id,
            name: peer.name.clone(),
            address: peer.address.ip(),
            vrf: peer.vrf.clone(),
        });
        self.numbers.insert(peer.id, number);
        number
    }

    pub(super) fn session(&mut self, ms: i64, peer: Option<&Peer>, session: Session) {
        let speaker = peer.map(|peer| self.speaker(peer));
        self.sessions.push((ms, speaker, session));
    }

    pub(super) fn changes(&mut self, ms: i64, peer: &Peer, path: Option<&Arc<Path>>, prefixes: &[(u32, Prefix)]) {
        let speaker = self.speaker(peer);
        let path = path.map_or(0, |path| {
            let next = self.paths.len() as u32 + 1;
            let number = *self.path_numbers.entry(path.stable_hash()).or_insert(next);
            if number == next {
                self.paths.push(path.clone());
            }
            number
        });
        let change =
            |(path_id, prefix): &(u32, Prefix)| Change { prefix: *prefix, ms, speaker, path_id: *path_id, path };
        self.changes.extend(prefixes.iter().map(change));
    }

    pub(super) fn encode(&mut self) -> anyhow::Result<Vec<u8>> {
        self.changes.sort_by_key(|change| (change.prefix, change.ms));
        let mut prefixes: Vec<Prefix> = self.changes.iter().map(|change| change.prefix).collect();
        prefixes.dedup();
        let mut filter = vec![0u8; (prefixes.len() * FILTER_BITS).div_ceil(8)];
        for prefix in &prefixes {
            bits(*prefix, filter.len()).for_each(|bit| filter[bit / 8] |= 1 << (bit % 8));
        }
        let body = zstd::bulk::compress(&postcard::to_stdvec(self)?, LEVEL)?;
        let (first, last) = (self.times().min().unwrap_or(0), self.last_ms());
        let mut out = Vec::with_capacity(HEADER_OCTETS + filter.len() + body.len());
        out.extend(MAGIC.to_be_bytes());
        out.extend(((filter.len() + body.len()) as u32).to_be_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&filter);
        crc.update(&body);
        out.extend(crc.finalize().to_be_bytes());
        out.extend(first.to_be_bytes());
        out.extend(last.to_be_bytes());
        out.extend((self.sessions.len() as u32).to_be_bytes());
        out.extend((filter.len() as u32).to_be_bytes());
        out.extend(filter);
        out.extend(body);
        Ok(out)
    }
}

impl Header {
    /// `None` where no block begins.
    pub(super) fn read(octets: &[u8; HEADER_OCTETS]) -> Option<Self> {
        let u32_at = |at: usize| octets[at..at + 4].try_into().map_or(0, u32::from_be_bytes);
        let i64_at = |at: usize| octets[at..at + 8].try_into().map_or(0, i64::from_be_bytes);
        let header = Self {
            octets: u32_at(4) as usize,
            crc: u32_at(8),
            first_ms: i64_at(12),
            last_ms: i64_at(20),
            sessions: u32_at(28),
            filter_octets: u32_at(32) as usize,
        };
        let sound = u32_at(0) == MAGIC && header.octets <= BLOCK_OCTETS_MAX && header.filter_octets <= header.octets;
        sound.then_some(header)
    }
}

/// The body of a block, `None` where it is not whole.
pub(super) fn decode(header: &Header, filter: &[u8], body: &[u8]) -> Option<Block> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(filter);
    crc.update(body);
    if crc.finalize() != header.crc {
        return None;
    }
    postcard::from_bytes(&zstd::bulk::decompress(body, BODY_OCTETS_MAX).ok()?).ok()
}

/// False where the prefix is not in the block.
pub(super) fn may_have(filter: &[u8], prefix: Prefix) -> bool {
    !filter.is_empty() && bits(prefix, filter.len()).all(|bit| filter[bit / 8] >> (bit % 8) & 1 == 1)
}

/// Frozen: files have it.
fn bits(prefix: Prefix, octets: usize) -> impl Iterator<Item = usize> {
    let value = u128::from_be_bytes(prefix.address.0);
    let mix = |word: u64| {
        let product = u128::from(word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        (product as u64) ^ ((product >> 64) as u64)
    };
    let hash = mix(mix((value >> 64) as u64) ^ mix(value as u64 ^ u64::from(prefix.len) << 56));
    let step = mix(hash) | 1;
    let count = octets.max(1) as u64 * 8;
    (0..FILTER_HASHES).map(move |number| (hash.wrapping_add(number.wrapping_mul(step)) % count) as usize)
}
