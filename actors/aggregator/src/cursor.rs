//! Which batches of the logs are new.
//!
//! Batches of a source are numbered without gaps and travel in order; after a
//! restart anywhere they come again from the last commit. What is below the
//! cursor is a repetition; what is above it means that something was lost.

use std::collections::BTreeMap;

use benocs_model::message::{Cursors, SourceId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one: take it.
    New,
    /// Already summed.
    Duplicate,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch {found} of log {:#x} came where {wanted} was wanted: batches were lost on the way here", source_id.0)]
pub struct Gap {
    pub source_id: SourceId,
    pub wanted: u64,
    pub found: u64,
}

/// Position in each source's log, and where the current stretch began.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    next: Cursors,
    from: Cursors,
}

impl Progress {
    /// `committed` is what the store has.
    pub fn new(committed: Cursors) -> Self {
        Self { next: committed, from: BTreeMap::new() }
    }

    /// Moves past a batch that is the next of its source.
    pub fn arrive(&mut self, source: SourceId, seq: u64) -> Result<Arrival, Gap> {
        let next = self.next.entry(source).or_insert(0);
        if seq < *next {
            return Ok(Arrival::Duplicate);
        }
        if seq > *next {
            return Err(Gap { source_id: source, wanted: *next, found: seq });
        }
        self.from.entry(source).or_insert(seq);
        *next = seq + 1;
        Ok(Arrival::New)
    }

    /// Nothing arrived since the last stretch.
    pub fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// Ends the stretch: (from, upto) of the sources that moved.
    pub fn take(&mut self) -> (Cursors, Cursors) {
        let from = std::mem::take(&mut self.from);
        let upto = from.keys().filter_map(|source| Some((*source, *self.next.get(source)?))).collect();
        (from, upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SourceId = SourceId(1);
    const B: SourceId = SourceId(2);

    #[test]
    fn repetitions_are_skipped_and_gaps_are_errors() {
        let mut progress = Progress::new([(A, 7)].into());
        assert_eq!(progress.arrive(A, 6), Ok(Arrival::Duplicate));
        assert!(progress.is_empty());
        assert_eq!(progress.arrive(A, 7), Ok(Arrival::New));
        assert_eq!(progress.arrive(A, 7), Ok(Arrival::Duplicate));
        assert_eq!(progress.arrive(A, 9), Err(Gap { source_id: A, wanted: 8, found: 9 }));
        assert_eq!(progress.arrive(B, 0), Ok(Arrival::New));
        assert_eq!(progress.arrive(B, 2), Err(Gap { source_id: B, wanted: 1, found: 2 }));
        assert_eq!(progress.arrive(A, 8), Ok(Arrival::New));
    }

    #[test]
    fn stretches_join_without_overlap() {
        let mut progress = Progress::new([(A, 3)].into());
        for seq in 3..5 {
            assert_eq!(progress.arrive(A, seq), Ok(Arrival::New));
        }
        assert_eq!(progress.take(), ([(A, 3)].into(), [(A, 5)].into()));
        assert!(progress.is_empty());
        assert_eq!(progress.arrive(B, 0), Ok(Arrival::New));
        assert_eq!(progress.take(), ([(B, 0)].into(), [(B, 1)].into()));
        assert_eq!(progress.arrive(A, 5), Ok(Arrival::New));
        assert_eq!(progress.take(), ([(A, 5)].into(), [(A, 6)].into()));
    }
}
