//! The writing side of the log; one thread owns it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::{Shared, frame, octets_in_memory, segment};
use crate::error::LogError;

/// Appends sealed batches; what it appended is acknowledged by [`Appender::sync`].
#[derive(Debug)]
pub struct Appender {
    shared: Arc<Shared>,
    file: File,
    first_seq: u64,
    /// Where the next frame goes in `file`.
    end: u64,
    next: u64,
    segment_octets: u64,
    /// Reused for every frame.
    buffer: Vec<u8>,
    /// Appended, not yet synced.
    pending: Vec<(u64, RecordBatch)>,
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
        Self { shared, file, first_seq, end, next, segment_octets, buffer: Vec::new(), pending: Vec::new() }
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
        self.pending.push((header.seq, rows));
        Ok(header.seq)
    }

    /// What the next batch will be numbered.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// Puts on the disk what was appended, in one go, and acknowledges it. An error means that the disk may
    /// have lost it: the log must not be used any more.
    pub fn sync(&mut self) -> Result<Acknowledged, LogError> {
        if self.pending.is_empty() {
            return Ok(Acknowledged::default());
        }
        self.file.sync_data().map_err(LogError::file("sync", self.path()))?;
        let mut acknowledged = Acknowledged::default();
        let mut state = self.shared.state.lock();
        for (seq, rows) in self.pending.drain(..) {
            acknowledged.batches += 1;
            acknowledged.rows += rows.num_rows() as u64;
            state.memory_octets += octets_in_memory(&rows);
            state.memory.push_back((seq, rows));
            while state.memory_octets > self.shared.options.memory_octets && state.memory.len() > 1 {
                state.forget_oldest();
            }
        }
        state.durable = self.next;
        drop(state);
        self.shared.changed.notify_all();
        Ok(acknowledged)
    }

    /// Nothing will be appended any more: the reader ends when it has everything.
    pub fn close(mut self) -> Result<Acknowledged, LogError> {
        let acknowledged = self.sync();
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
        acknowledged
    }

    fn begin_segment(&mut self) -> Result<(), LogError> {
        self.file.sync_data().map_err(LogError::file("sync", self.path()))?;
        self.file = segment::create(&self.shared.options.directory, self.shared.source, self.next)?;
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
