//! What happened to a prefix, out of the files and the block that is not written yet.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::net::IpAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::route::HistoryQuestion;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::HOUR_MS;
use super::block::{self, Block, Change, HEADER_OCTETS, Header, Session, Speaker};
use crate::lookup::{communities_text, origin_text};

/// An answer has no more; what is older than that is left out.
const LIMIT_MAX: usize = 10_000;
/// Blocks end up in the hour of their last change, which may be the next one.
const BLOCK_MS_MAX: i64 = 600_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    pub prefix: String,
    pub from_ms: i64,
    pub to_ms: i64,
    /// Oldest first.
    pub events: Vec<Happened>,
    /// There were more, which are older.
    pub is_cut: bool,
    /// When the history begins.
    pub oldest_ms: Option<i64>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// Unix ms.
    pub ms: i64,
    /// announce, withdraw; of a session: up, down, stale; gap: what was before is missing.
    pub event: String,
    /// Empty for an event of a whole session.
    pub prefix: String,
    /// Name of the session.
    pub peer: String,
    pub peer_address: String,
    pub vrf: String,
    /// RFC 7911; 0 where not agreed.
    pub path_id: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<HappenedPath>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HappenedPath {
    pub as_path: String,
    pub next_hop: String,
    pub communities: String,
    pub origin: String,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
}

/// Reads the history; clones read the same.
#[derive(Clone, Debug)]
pub struct HistoryReader {
    folder: PathBuf,
    open: Arc<Mutex<Block>>,
}

pub(super) fn file_name(hour: i64) -> String {
    format!("{hour}.routes")
}

/// (hour since 1970, path) of every file.
pub(super) fn files(folder: &FilePath) -> anyhow::Result<Vec<(i64, PathBuf)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let hour = |path: &FilePath| path.file_name()?.to_str()?.strip_suffix(".routes")?.parse().ok();
    Ok(entries.flatten().filter_map(|entry| Some((hour(&entry.path())?, entry.path()))).collect())
}

/// What is looked for.
struct Wanted {
    prefixes: Vec<Prefix>,
    from_ms: i64,
    to_ms: i64,
    router: Option<String>,
}

impl Wanted {
    fn new(question: &HistoryQuestion) -> anyhow::Result<Self> {
        let text = question.prefix.trim();
        let wrong = || anyhow::anyhow!("{text:?} is neither a prefix nor an address, as in 192.0.2.0/24");
        let prefixes = match text.split_once('/') {
            Some((address, len)) => {
                let address: IpAddr = address.parse().map_err(|_| wrong())?;
                let len = len.parse().ok().filter(|len| *len <= max_len(address)).ok_or_else(wrong)?;
                vec![Prefix::new(Address::from(address), len)]
            }
            None => {
                let address: IpAddr = text.parse().map_err(|_| wrong())?;
                (0..=max_len(address)).map(|len| Prefix::new(Address::from(address), len)).collect()
            }
        };
        let HistoryQuestion { from_ms, to_ms, router, .. } = question;
        Ok(Self { prefixes, from_ms: *from_ms, to_ms: *to_ms, router: router.clone() })
    }

    fn is_of(&self, speaker: Option<&Speaker>) -> bool {
        let Some(router) = &self.router else { return true };
        speaker.is_none_or(|speaker| speaker.name == *router || speaker.address.to_string() == *router)
    }

    fn take(&self, block: &Block, found: &mut Vec<Happened>) {
        let within = |ms: i64| self.from_ms <= ms && ms <= self.to_ms;
        let wanted = |change: &&Change| within(change.ms) && self.prefixes.contains(&change.prefix);
        for change in block.changes.iter().filter(wanted) {
            let Some(speaker) = block.speakers.get(change.speaker as usize) else { continue };
            if !self.is_of(Some(speaker)) {
                continue;
            }
            let path = change.path.checked_sub(1).and_then(|number| block.paths.get(number as usize));
            found.push(Happened {
                ms: change.ms,
                event: if change.path == 0 { "withdraw" } else { "announce" }.to_owned(),
                prefix: change.prefix.to_string(),
                path_id: change.path_id,
                path: path.map(|path| HappenedPath {
                    as_path: path.as_path_text(),
                    next_hop: path.next_hop.to_string(),
                    communities: communities_text(path),
                    origin: origin_text(path.origin).to_owned(),
                    med: path.med,
                    local_pref: path.local_pref,
                }),
                ..of(Some(speaker))
            });
        }
        for (ms, number, session) in block.sessions.iter().filter(|session| within(session.0)) {
            let speaker = number.and_then(|number| block.speakers.get(number as usize));
            if !self.is_of(speaker) {
                continue;
            }
            let event = match session {
                Session::Up => "up",
                Session::Down => "down",
                Session::Stale => "stale",
                Session::Gap => "gap",
            };
            found.push(Happened { ms: *ms, event: event.to_owned(), ..of(speaker) });
        }
    }
}

fn max_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn of(speaker: Option<&Speaker>) -> Happened {
    Happened {
        ms: 0,
        event: String::new(),
        prefix: String::new(),
        peer: speaker.map_or_else(String::new, |speaker| speaker.name.clone()),
        peer_address: speaker.map_or_else(String::new, |speaker| speaker.address.to_string()),
        vrf: speaker.map_or_else(String::new, |speaker| speaker.vrf.clone()),
        path_id: 0,
        path: None,
    }
}

impl HistoryReader {
    pub(super) fn new(folder: PathBuf, open: Arc<Mutex<Block>>) -> Self {
        Self { folder, open }
    }

    /// Reads files: not for a thread that must not wait.
    pub fn search(&self, question: &HistoryQuestion) -> anyhow::Result<HistoryAnswer> {
        let wanted = Wanted::new(question)?;
        let mut files = files(&self.folder)?;
        files.sort_unstable();
        let mut found = Vec::new();
        // Held, so that a block is not written between the two looks.
        let open = self.open.lock();
        let oldest_ms = files.first().map(|(hour, _)| hour * HOUR_MS).or_else(|| open.oldest_ms());
        for (hour, path) in &files {
            let (begin, end) = (hour * HOUR_MS - BLOCK_MS_MAX, (hour + 1) * HOUR_MS);
            if end >= wanted.from_ms && begin <= wanted.to_ms {
                search_file(path, &wanted, &mut found).with_context(|| format!("cannot read {}", path.display()))?;
            }
        }
        wanted.take(&open, &mut found);
        drop(open);
        found.sort_by_key(|happened| happened.ms);
        let limit = question.limit.clamp(1, LIMIT_MAX);
        let is_cut = found.len() > limit;
        found.drain(..found.len().saturating_sub(limit));
        let HistoryQuestion { prefix, from_ms, to_ms, .. } = question.clone();
        Ok(HistoryAnswer { prefix, from_ms, to_ms, events: found, is_cut, oldest_ms })
    }
}

/// What follows a block that is not whole is looked at no more: the process ended while it wrote.
fn search_file(path: &FilePath, wanted: &Wanted, found: &mut Vec<Happened>) -> std::io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut head = [0; HEADER_OCTETS];
    let mut octets = Vec::new();
    while file.read_exact(&mut head).is_ok() {
        let Some(header) = Header::read(&head) else { return Ok(()) };
        if header.last_ms < wanted.from_ms || header.first_ms > wanted.to_ms {
            file.seek_relative(header.octets as i64)?;
            continue;
        }
        octets.resize(header.filter_octets, 0);
        if file.read_exact(&mut octets).is_err() {
            return Ok(());
        }
        let rest = header.octets - header.filter_octets;
        let may_have = |prefix: &Prefix| block::may_have(&octets, *prefix);
        if header.sessions == 0 && !wanted.prefixes.iter().any(may_have) {
            file.seek_relative(rest as i64)?;
            continue;
        }
        octets.resize(header.octets, 0);
        if file.read_exact(&mut octets[header.filter_octets..]).is_err() {
            return Ok(());
        }
        let (filter, body) = octets.split_at(header.filter_octets);
        match block::decode(&header, filter, body) {
            Some(block) => wanted.take(&block, found),
            None => return Ok(()),
        }
    }
    Ok(())
}
