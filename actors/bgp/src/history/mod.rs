//! What happened to each prefix, kept on disk for a configured time.
//!
//!   speaker --RouteBatch--> [history] --a block of changes--> history/HOUR
//!                               |                                  |
//!                          open block ------------------------> search
//!
//! It receives what every receiver of the table does, so that sessions do not wait for it: where it is slow it
//! gets a snapshot instead, and the gap is in the history. Up to [`BLOCK_AGE`] are lost with the process.

mod block;
mod search;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use benocs_model::route::{Peer, PeerId, RouteBatch, RouteEvent};
use benocs_runtime::{Context, Worker};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use block::{Block, Session};
pub use search::{Happened, HistoryAnswer, HistoryReader};

/// Changes in a block, and how long one stays open.
const BLOCK_CHANGES: usize = 16_384;
const BLOCK_AGE: Duration = Duration::from_secs(10);
const HOUR_MS: i64 = 3_600_000;
/// Between looks at what is too old or too much.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// `[bgp.history]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Hours that changes of routes are kept; 0 keeps none.
    pub keep_h: u32,
    /// Octets of disk for them; the oldest hour goes first.
    pub octets_max: u64,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { keep_h: 72, octets_max: 4 << 30 }
    }
}

/// Writes the history.
pub struct History {
    config: HistoryConfig,
    folder: PathBuf,
    file: Option<(i64, File)>,
    open: Arc<Mutex<Block>>,
    opened: Option<Instant>,
    peers: HashMap<PeerId, Arc<Peer>>,
    /// Batches of this generation repeat what was known.
    snapshot: Option<u64>,
    /// The first snapshot is a beginning, not a gap.
    began: bool,
    expired: Option<Instant>,
}

impl History {
    /// `folder` is made where it is not there. The reader sees what was written, and what is not yet.
    pub fn open(config: HistoryConfig, folder: &FilePath) -> anyhow::Result<(Self, HistoryReader)> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let open = Arc::new(Mutex::new(Block::default()));
        let reader = HistoryReader::new(folder.to_owned(), open.clone());
        let history = Self {
            config,
            folder: folder.to_owned(),
            file: None,
            open,
            opened: None,
            peers: HashMap::new(),
            snapshot: None,
            began: false,
            expired: None,
        };
        Ok((history, reader))
    }

    fn take(&mut self, batch: &RouteBatch, now_ms: i64) {
        let is_snapshot = self.snapshot == Some(batch.generation);
        let mut open = self.open.lock();
        for event in &batch.events {
            match event {
                RouteEvent::Clear => {
                    self.snapshot = Some(batch.generation);
                    if std::mem::replace(&mut self.began, true) {
                        open.session(now_ms, None, Session::Gap);
                    }
                }
                RouteEvent::PeerUp(peer) => {
                    let known = self.peers.insert(peer.id, peer.clone());
                    if !is_snapshot || known.is_none() {
                        open.session(now_ms, Some(peer), Session::Up);
                    }
                }
                _ if is_snapshot => {}
                RouteEvent::PeerDown(id) => {
                    if let Some(peer) = self.peers.remove(id) {
                        open.session(now_ms, Some(&peer), Session::Down);
                    }
                }
                RouteEvent::PeerStale(id) => {
                    if let Some(peer) = self.peers.get(id) {
                        open.session(now_ms, Some(peer), Session::Stale);
                    }
                }
                RouteEvent::Announce { peer, path, prefixes } => {
                    if let Some(peer) = self.peers.get(peer) {
                        open.changes(now_ms, peer, Some(path), prefixes);
                    }
                }
                RouteEvent::Withdraw { peer, prefixes } => {
                    if let Some(peer) = self.peers.get(peer) {
                        open.changes(now_ms, peer, None, prefixes);
                    }
                }
                _ => {}
            }
        }
        if self.opened.is_none() && !open.is_empty() {
            self.opened = Some(Instant::now());
        }
    }

    /// Writes the open block and begins another.
    fn write(&mut self) -> anyhow::Result<()> {
        self.opened = None;
        let mut open = self.open.lock();
        if open.is_empty() {
            return Ok(());
        }
        let octets = open.encode()?;
        let hour = open.last_ms().div_euclid(HOUR_MS);
        if self.file.as_ref().is_none_or(|(of, _)| *of != hour) {
            let path = self.folder.join(search::file_name(hour));
            let file = OpenOptions::new().create(true).append(true).open(&path);
            self.file = Some((hour, file.with_context(|| format!("cannot open {}", path.display()))?));
        }
        if let Some((_, file)) = &mut self.file {
            file.write_all(&octets).context("cannot write the history of routes")?;
        }
        // Readers find each change once: in the file, or here.
        *open = Block::default();
        Ok(())
    }

    fn expire(&mut self, now_ms: i64) -> anyhow::Result<()> {
        self.expired = Some(Instant::now());
        let mut files = search::files(&self.folder)?;
        files.sort_unstable_by_key(|(hour, _)| std::cmp::Reverse(*hour));
        let oldest = (now_ms - i64::from(self.config.keep_h) * HOUR_MS).div_euclid(HOUR_MS);
        let mut sum = 0;
        for (hour, path) in files {
            sum += fs::metadata(&path).map_or(0, |file| file.len());
            let is_open = self.file.as_ref().is_some_and(|(open, _)| *open == hour);
            if !is_open && (hour < oldest || sum > self.config.octets_max) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Worker for History {
    type Message = RouteBatch;

    fn handle(&mut self, batch: RouteBatch, _context: &mut Context<Self>) -> anyhow::Result<()> {
        self.take(&batch, now_ms());
        if self.open.lock().len() >= BLOCK_CHANGES {
            self.write()?;
        }
        Ok(())
    }

    fn tick(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        if self.opened.is_some_and(|opened| opened.elapsed() >= BLOCK_AGE) {
            self.write()?;
        }
        if self.expired.is_none_or(|last| last.elapsed() >= EXPIRE_EVERY) {
            self.expire(now_ms())?;
        }
        Ok(())
    }

    fn drain(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        self.write()
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests;
