//! The segment log: what was received and is not yet known to be stored.
//!
//!   batches --> [Appender] --> [Unsynced] --fsync--> segments --> [Reader] --> downstream, in order
//!                                                       ^ freed by [LogHandle::commit]
//!
//! - A batch is *acknowledged* once it is on the disk; only then may it be read.
//! - Batch numbers are without gaps from 0, over restarts too: a tail that a kill
//!   tore was neither acknowledged nor read, so its numbers are given again.
//! - A segment goes when every batch in it is committed on *both* streams.
//! - A full log refuses what is new; it never throws away what it has.

mod append;
mod frame;
mod pack;
mod read;
mod segment;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use benocs_model::message::{Commit, SourceId, Stream};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;

pub use append::{Appender, Unsynced};
pub use read::{Next, Reader};

use crate::error::LogError;

const SOURCE_FILE: &str = "source";
const CURSORS_FILE: &str = "cursors";
const LOCK_FILE: &str = "lock";
/// A full log must be able to free segments that are no longer written.
const SEGMENTS_MIN: u64 = 8;
const CURSORS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Options {
    pub directory: PathBuf,
    /// Of this machine; part of the source id of a log that does not exist yet.
    pub node: u16,
    /// Unix second of creation, likewise.
    pub created_s: u64,
    pub octets_max: u64,
    pub segment_octets: u64,
    /// Acknowledged batches kept in memory for a reader that is caught up, in octets.
    pub memory_octets: usize,
}

/// Opens the log, creates it where there is none; cuts a torn tail off.
pub fn open(options: &Options) -> Result<(Appender, Reader, LogHandle), LogError> {
    let directory = options.directory.as_path();
    std::fs::create_dir_all(directory).map_err(LogError::file("create", directory))?;
    let lock = lock(options)?;
    let source = source(options)?;
    let mut segments = BTreeMap::new();
    let mut firsts = segment::list(directory)?;
    let mut active = None;
    while let Some(first_seq) = firsts.pop() {
        let path = segment::path(directory, first_seq);
        match segment::open(&path, first_seq)? {
            Some((_, other)) if other != source => return Err(LogError::Foreign { path }),
            Some((file, _)) => {
                let (end, next) = segment::scan(&file, first_seq).map_err(LogError::file("read", &path))?;
                let octets = file.metadata().map_err(LogError::file("read", &path))?.len();
                if octets > end {
                    tracing::info!(octets = octets - end, seq = next, "cut the torn tail of the flow log");
                    file.set_len(end).map_err(LogError::file("truncate", &path))?;
                }
                // What survived a kill was perhaps never synced; it is about to be acknowledged.
                file.sync_all().map_err(LogError::file("sync", &path))?;
                segments.insert(first_seq, end);
                active = Some((file, first_seq, end, next));
                break;
            }
            // The kill came while the segment was created; nothing is in it.
            None => std::fs::remove_file(&path).map_err(LogError::file("remove", &path))?,
        }
    }
    for first_seq in firsts {
        let path = segment::path(directory, first_seq);
        segments.insert(first_seq, path.metadata().map_err(LogError::file("read", &path))?.len());
    }
    let (file, first_seq, end, next) = match active {
        Some(active) => active,
        None => {
            segments.insert(0, segment::HEADER_OCTETS);
            (segment::create(directory, source, 0)?, 0, segment::HEADER_OCTETS, 0)
        }
    };
    let oldest = *segments.keys().next().unwrap_or(&first_seq);
    let [flows, rollups] = read_cursors(options, source)?.map(|cursor| cursor.min(next));
    let state = State {
        octets: segments.values().sum(),
        segments,
        durable: next,
        wanted: flows.min(rollups).max(oldest),
        flows,
        rollups,
        cursors_saved: Instant::now(),
        cursors_changed: false,
        memory: VecDeque::new(),
        memory_octets: 0,
        closed: false,
    };
    let shared = Arc::new(Shared {
        options: options.clone(),
        source,
        state: Mutex::new(state),
        changed: Condvar::new(),
        _lock: lock,
    });
    let segment_octets = options.segment_octets.min(options.octets_max / SEGMENTS_MIN).max(segment::HEADER_OCTETS + 1);
    let appender = Appender::new(shared.clone(), file, first_seq, end, next, segment_octets);
    let handle = LogHandle { shared: shared.clone() };
    handle.free();
    Ok((appender, Reader::new(shared), handle))
}

/// What appender, reader and commits share; taken once a batch.
#[derive(Debug)]
struct Shared {
    options: Options,
    source: SourceId,
    state: Mutex<State>,
    changed: Condvar,
    /// Held as long as the log is open; the kernel drops it with the process.
    _lock: File,
}

#[derive(Debug)]
struct State {
    /// Octets of each segment by its first seq; the last is the one that is written.
    segments: BTreeMap<u64, u64>,
    octets: u64,
    /// Batches below are on the disk.
    durable: u64,
    /// What the reader takes next.
    wanted: u64,
    /// Everything below is committed.
    flows: u64,
    rollups: u64,
    cursors_saved: Instant,
    cursors_changed: bool,
    /// The newest batches on the disk, without gaps up to `durable`.
    memory: VecDeque<(u64, RecordBatch)>,
    memory_octets: usize,
    closed: bool,
}

impl State {
    fn committed(&self) -> u64 {
        self.flows.min(self.rollups)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, rows)) = self.memory.pop_front() {
            self.memory_octets -= octets_in_memory(&rows);
        }
    }
}

fn octets_in_memory(rows: &RecordBatch) -> usize {
    rows.get_array_memory_size()
}

/// How the log stands.
#[derive(Clone, Debug, Serialize)]
pub struct LogStatus {
    pub source: u64,
    /// Batches below are on the disk.
    pub acknowledged_seq: u64,
    /// Batches below were handed downstream.
    pub forwarded_seq: u64,
    pub committed_flows_seq: u64,
    pub committed_rollups_seq: u64,
    pub octets: u64,
    pub octets_max: u64,
    pub segments: usize,
}

/// The side of whoever learns what was committed.
#[derive(Clone, Debug)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

impl LogHandle {
    pub fn source(&self) -> SourceId {
        self.shared.source
    }

    /// Takes note of what storage has committed; frees segments that nobody needs any more.
    pub fn commit(&self, commit: &Commit) -> Result<(), LogError> {
        let Some(&cursor) = commit.cursors.get(&self.shared.source) else { return Ok(()) };
        let due = {
            let mut state = self.shared.state.lock();
            let cursor = cursor.min(state.durable);
            let known = match commit.stream {
                Stream::Flows => &mut state.flows,
                Stream::Rollups => &mut state.rollups,
            };
            if cursor <= *known {
                return Ok(());
            }
            *known = cursor;
            state.cursors_changed = true;
            state.closed || state.cursors_saved.elapsed() >= CURSORS_INTERVAL
        };
        self.free();
        if due { self.save() } else { Ok(()) }
    }

    /// What is due about once a second: frees what the reader has passed, writes the cursors down.
    pub fn settle(&self) -> Result<(), LogError> {
        self.free();
        self.save()
    }

    /// Writes the cursors down where they changed; a lost write costs a replay, nothing else.
    pub fn save(&self) -> Result<(), LogError> {
        let (flows, rollups) = {
            let mut state = self.shared.state.lock();
            if !std::mem::take(&mut state.cursors_changed) {
                return Ok(());
            }
            state.cursors_saved = Instant::now();
            (state.flows, state.rollups)
        };
        let octets = checked(&[self.shared.source.0, flows, rollups]);
        replace(&self.shared.options, CURSORS_FILE, &octets, false)
    }

    /// The reader goes on with batch `seq`, or the nearest that there is: the other end of a link asks so.
    /// One batch that was taken before may still come ahead of it.
    pub fn rewind(&self, seq: u64) {
        let mut state = self.shared.state.lock();
        let oldest = state.segments.keys().next().copied().unwrap_or(0);
        state.wanted = seq.clamp(oldest, state.durable);
        self.shared.changed.notify_all();
    }

    pub fn status(&self) -> LogStatus {
        let state = self.shared.state.lock();
        LogStatus {
            source: self.shared.source.0,
            acknowledged_seq: state.durable,
            forwarded_seq: state.wanted,
            committed_flows_seq: state.flows,
            committed_rollups_seq: state.rollups,
            octets: state.octets,
            octets_max: self.shared.options.octets_max,
            segments: state.segments.len(),
        }
    }

    /// Removes the segments of which every batch is committed. What the reader still wants stays: after a
    /// restart storage may know more than the cursors that were written down, and numbers have no gaps.
    fn free(&self) {
        let mut gone = Vec::new();
        {
            let mut state = self.shared.state.lock();
            let done = state.committed().min(state.wanted);
            while let Some(end) = state.segments.keys().nth(1).copied()
                && end <= done
                && let Some((first_seq, octets)) = state.segments.pop_first()
            {
                state.octets -= octets;
                gone.push(first_seq);
            }
        }
        for first_seq in gone {
            let path = segment::path(&self.shared.options.directory, first_seq);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a committed segment of the flow log");
            }
        }
    }
}

/// One process at a time.
fn lock(options: &Options) -> Result<File, LogError> {
    let path = options.directory.join(LOCK_FILE);
    let file = File::create(&path).map_err(LogError::file("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(LogError::Busy { path: options.directory.clone() }),
        Err(std::fs::TryLockError::Error(error)) => Err(LogError::file("lock", &path)(error)),
    }
}

/// The log's id: written once, before anything else.
fn source(options: &Options) -> Result<SourceId, LogError> {
    let path = options.directory.join(SOURCE_FILE);
    if let Some([source]) = read_checked(&path)? {
        let source = SourceId(source);
        if source.node() != options.node {
            tracing::warn!(log = source.node(), configured = options.node, "the flow log keeps the node it began with");
        }
        return Ok(source);
    }
    if !segment::list(&options.directory)?.is_empty() {
        return Err(LogError::Foreign { path });
    }
    let source = SourceId::new(options.node, options.created_s);
    replace(options, SOURCE_FILE, &checked(&[source.0]), true)?;
    Ok(source)
}

fn read_cursors(options: &Options, source: SourceId) -> Result<[u64; 2], LogError> {
    Ok(match read_checked(&options.directory.join(CURSORS_FILE))? {
        Some([of, flows, rollups]) if of == source.0 => [flows, rollups],
        // Replaying what was stored already is harmless.
        _ => [0, 0],
    })
}

fn checked(words: &[u64]) -> Vec<u8> {
    let mut octets: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    octets.extend_from_slice(&crc32fast::hash(&octets).to_le_bytes());
    octets
}

fn read_checked<const N: usize>(path: &std::path::Path) -> Result<Option<[u64; N]>, LogError> {
    let octets = match std::fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::file("read", path)(error)),
    };
    let Some((words, crc)) = octets.split_at_checked(N * 8) else { return Ok(None) };
    if crc != crc32fast::hash(words).to_le_bytes() {
        return Ok(None);
    }
    Ok(Some(std::array::from_fn(|word| u64::from_le_bytes(std::array::from_fn(|octet| words[word * 8 + octet])))))
}

/// Replaces a small file whole, so that a reader sees the old or the new one.
fn replace(options: &Options, name: &str, octets: &[u8], sync: bool) -> Result<(), LogError> {
    let path = options.directory.join(name);
    let fresh = options.directory.join(format!("{name}.new"));
    let write = || {
        std::fs::write(&fresh, octets)?;
        if sync {
            File::open(&fresh)?.sync_all()?;
        }
        std::fs::rename(&fresh, &path)
    };
    write().map_err(LogError::file("write", &path))?;
    if sync { segment::sync_directory(&options.directory) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
