//! The writing side of the log; one thread owns it.
//!
//! Writing and waiting for the disk are apart: a disk that is busy for a second
//! holds up acknowledgement, not what is received meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::{Shared, frame, octets_in_memory, segment};
use crate::error::LogError;

/// Appends sealed batches; what it appended is acknowledged by [`Appender::sync`], or by [`Unsynced::sync`] on
/// another thread.
#[derive(Debug)]
pub struct Appender {
    shared: Arc<Shared>,
    file: Arc<File>,
    first_seq: u64,
    /// Where the next frame goes in `file`.
    end: u64,
    next: u64,
    segment_octets: u64,
    /// Reused for every frame.
    buffer: Vec<u8>,
    unsynced: Unsynced,
}

/// What is appended and not yet known to be on the disk.
#[derive(Debug)]
pub struct Unsynced {
    shared: Arc<Shared>,
    /// Segments that it is in, with their first seqs.
    files: Vec<(u64, Arc<File>)>,
    /// A segment among them is new: its name has to be on the disk too.
    created: bool,
    /// Batches below are on the disk once these are.
    end: u64,
    acknowledged: Acknowledged,
    /// The newest of them, for the reader, as far as memory allows.
    newest: VecDeque<(u64, RecordBatch)>,
    octets: usize,
}

/// What a sync acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    pub batches: u64,
    pub rows: u64,
}

impl Appender {
    pub(super) fn new(
        shared: Arc<Shared>,
        file: File,
        first_seq: u64,
        end: u64,
        next: u64,
        segment_octets: u64,
    ) -> Self {
        let unsynced = Unsynced::new(shared.clone(), next);
        let file = Arc::new(file);
        Self { shared, file, first_seq, end, next, segment_octets, buffer: Vec::new(), unsynced }
    }

    /// Writes the batch behind the others and gives its seq. [`LogError::Full`] refuses it; the log is as before.
    pub fn append(&mut self, rows: RecordBatch) -> Result<u64, LogError> {
        if self.end >= self.segment_octets && self.next > self.first_seq {
            self.begin_segment()?;
        }
        let header = frame::encode(self.next, &rows, &mut self.buffer)?;
        let octets = header.frame_octets();
        {
            let mut state = self.shared.state.lock();
            if state.octets + octets > self.shared.options.octets_max {
                return Err(LogError::Full);
            }
            state.octets += octets;
            *state.segments.entry(self.first_seq).or_default() += octets;
        }
        if let Err(error) = self.file.write_all_at(&self.buffer, self.end) {
            return Err(self.take_back(octets, error));
        }
        self.end += octets;
        self.next += 1;
        self.unsynced.add(self.first_seq, &self.file, header.seq, rows);
        Ok(header.seq)
    }

    /// More than half of what the log may hold is in it.
    pub fn is_half_full(&self) -> bool {
        self.shared.state.lock().octets > self.shared.options.octets_max / 2
    }

    /// What the next batch will be numbered.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// Puts on the disk what was appended, in one go, and acknowledges it. An error means that the disk may
    /// have lost it: the log must not be used any more.
    pub fn sync(&mut self) -> Result<Acknowledged, LogError> {
        self.take_unsynced().map_or(Ok(Acknowledged::default()), Unsynced::sync)
    }

    pub fn has_unsynced(&self) -> bool {
        !self.unsynced.files.is_empty()
    }

    /// What was appended since the last time, to be synced before what comes after it; appending may go on meanwhile.
    pub fn take_unsynced(&mut self) -> Option<Unsynced> {
        let next = Unsynced::new(self.shared.clone(), self.next);
        self.has_unsynced().then(|| std::mem::replace(&mut self.unsynced, next))
    }

    /// Nothing will be appended any more: the reader ends when it has everything.
    pub fn close(mut self) -> Result<Acknowledged, LogError> {
        let acknowledged = self.sync();
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
        acknowledged
    }

    fn begin_segment(&mut self) -> Result<(), LogError> {
        let file = segment::create_unsynced(&self.shared.options.directory, self.shared.source, self.next)?;
        self.file = Arc::new(file);
        self.unsynced.created = true;
        self.first_seq = self.next;
        self.end = segment::HEADER_OCTETS;
        let mut state = self.shared.state.lock();
        state.octets += segment::HEADER_OCTETS;
        state.segments.insert(self.first_seq, segment::HEADER_OCTETS);
        Ok(())
    }

    /// Undoes a write that failed, so that the next one finds a whole tail.
    fn take_back(&mut self, octets: u64, error: io::Error) -> LogError {
        let mut state = self.shared.state.lock();
        state.octets -= octets;
        *state.segments.entry(self.first_seq).or_default() -= octets;
        drop(state);
        if let Err(error) = self.file.set_len(self.end) {
            return LogError::file("truncate", self.path())(error);
        }
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full,
            _ => LogError::file("write", self.path())(error),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        segment::path(&self.shared.options.directory, self.first_seq)
    }
}

impl Unsynced {
    fn new(shared: Arc<Shared>, end: u64) -> Self {
        let acknowledged = Acknowledged::default();
        Self { shared, files: Vec::new(), created: false, end, acknowledged, newest: VecDeque::new(), octets: 0 }
    }

    fn add(&mut self, first_seq: u64, file: &Arc<File>, seq: u64, rows: RecordBatch) {
        if self.files.last().is_none_or(|(last, _)| *last != first_seq) {
            self.files.push((first_seq, file.clone()));
        }
        self.end = seq + 1;
        self.acknowledged.batches += 1;
        self.acknowledged.rows += rows.num_rows() as u64;
        self.octets += octets_in_memory(&rows);
        self.newest.push_back((seq, rows));
        // The reader finds the others in the file.
        while self.octets > self.shared.options.memory_octets && self.newest.len() > 1 {
            self.octets -= self.newest.pop_front().map_or(0, |(_, rows)| octets_in_memory(&rows));
        }
    }

    /// Waits for the disk, then acknowledges. An error means that the disk may have lost it: the log must not be
    /// used any more.
    pub fn sync(self) -> Result<Acknowledged, LogError> {
        let directory = &self.shared.options.directory;
        for (first_seq, file) in &self.files {
            file.sync_data().map_err(|error| LogError::file("sync", segment::path(directory, *first_seq))(error))?;
        }
        if self.created {
            segment::sync_directory(directory)?;
        }
        let mut state = self.shared.state.lock();
        if self.newest.len() as u64 != self.acknowledged.batches {
            // What is in memory has no gaps.
            state.memory.clear();
            state.memory_octets = 0;
        }
        for (seq, rows) in self.newest {
            state.memory_octets += octets_in_memory(&rows);
            state.memory.push_back((seq, rows));
        }
        while state.memory_octets > self.shared.options.memory_octets && state.memory.len() > 1 {
            state.forget_oldest();
        }
        state.durable = self.end;
        drop(state);
        self.shared.changed.notify_all();
        Ok(self.acknowledged)
    }
}
