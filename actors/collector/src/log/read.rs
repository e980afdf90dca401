//! The reading side of the log; one thread owns it.
//!
//! Batches come from memory where the reader is caught up, else from the files.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use benocs_model::flow::{Column, full_schema};
use benocs_model::message::SourceId;

use super::{Shared, frame, segment};
use crate::error::LogError;

/// What the reader has.
#[derive(Debug)]
pub enum Next {
    /// Without the identity columns.
    Batch { seq: u64, rows: RecordBatch },
    /// Nothing new within the limit.
    Idle,
    /// Everything was read, and nothing will come.
    End,
}

#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    position: Option<Position>,
}

/// An open segment, and where batch `seq` begins in it.
#[derive(Debug)]
struct Position {
    file: File,
    first_seq: u64,
    seq: u64,
    offset: u64,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, position: None }
    }

    pub fn source(&self) -> SourceId {
        self.shared.source
    }

    /// The next acknowledged batch, in order; waits for it at most `limit`. A frame that the disk has
    /// spoiled gives a batch without rows, so that numbers stay without gaps, and is logged.
    pub fn next(&mut self, limit: Duration) -> Result<Next, LogError> {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.state.lock();
        let seq = loop {
            let wanted = state.wanted;
            if wanted < state.durable {
                let oldest = state.memory.front().map(|(seq, _)| *seq);
                if let Some(oldest) = oldest.filter(|oldest| *oldest <= wanted) {
                    for _ in oldest..wanted {
                        state.forget_oldest();
                    }
                    if let Some((seq, rows)) = state.memory.front().cloned() {
                        state.forget_oldest();
                        state.wanted = seq + 1;
                        self.position = None;
                        return Ok(Next::Batch { seq, rows });
                    }
                }
                break wanted;
            }
            if state.closed {
                return Ok(Next::End);
            }
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return Ok(Next::Idle);
            }
        };
        drop(state);
        let rows = self.read(seq)?;
        let mut state = self.shared.state.lock();
        // A rewind meanwhile wins.
        if state.wanted == seq {
            state.wanted = seq + 1;
        }
        Ok(Next::Batch { seq, rows })
    }

    fn read(&mut self, seq: u64) -> Result<RecordBatch, LogError> {
        let (first_seq, end) = {
            let state = self.shared.state.lock();
            let first_seq = state.segments.range(..=seq).next_back().map_or(0, |(first_seq, _)| *first_seq);
            let end = state.segments.range(seq + 1..).next().map_or(state.durable, |(next, _)| *next);
            (first_seq, end)
        };
        let path = segment::path(&self.shared.options.directory, first_seq);
        let failed = |error: io::Error| LogError::file("read", &path)(error);
        let mut position = match self.position.take() {
            Some(position) if position.first_seq == first_seq && position.seq <= seq => position,
            _ => match segment::open(&path, first_seq)? {
                Some((file, _)) => Position { file, first_seq, seq: first_seq, offset: segment::HEADER_OCTETS },
                None => return Ok(spoiled(seq, "its segment has no header")),
            },
        };
        while position.seq < seq {
            match segment::header_at(&position.file, position.offset, position.seq).map_err(failed)? {
                Some(header) => position.offset += header.frame_octets(),
                None => return Ok(spoiled(seq, "a frame before it is spoiled")),
            }
            position.seq += 1;
        }
        let Some(header) = segment::header_at(&position.file, position.offset, seq).map_err(failed)? else {
            return Ok(spoiled(seq, "its header is spoiled"));
        };
        let payload = segment::payload_at(&position.file, position.offset, &header).map_err(failed)?;
        position.offset += header.frame_octets();
        position.seq += 1;
        if position.seq < end {
            self.position = Some(position);
        }
        Ok(match payload.map(|payload| frame::decode(&header, &payload)) {
            Some(Ok(rows)) => rows,
            Some(Err(error)) => spoiled(seq, &error.to_string()),
            None => spoiled(seq, "its checksum is wrong"),
        })
    }
}

/// The batch is lost, and said to be.
fn spoiled(seq: u64, reason: &str) -> RecordBatch {
    tracing::error!(seq, reason, "a batch of the flow log is spoiled: is the disk failing?");
    let facts: Vec<usize> = Column::ALL
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.nullable() && !matches!(column, Column::IngestSource | Column::IngestSeq))
        .map(|(index, _)| index)
        .collect();
    let schema = full_schema();
    RecordBatch::new_empty(schema.project(&facts).map(Arc::new).unwrap_or(schema))
}
