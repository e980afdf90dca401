//! Receivers of the table elsewhere: snapshot, then deltas; one that is slow is told anew, never waited for.

use std::collections::VecDeque;

use benocs_model::route::{RouteBatch, RouteEvent, RouteTable};
use benocs_runtime::{Full, Outbox};

pub(crate) struct Feed {
    outbox: Outbox<RouteBatch>,
    snapshot: Option<Box<dyn Iterator<Item = RouteBatch>>>,
    /// The next one to go, given back for want of room.
    held: Option<RouteBatch>,
    /// What came while the receiver had no room.
    waiting: VecDeque<RouteBatch>,
    waiting_max: usize,
    /// It lost something.
    behind: bool,
}

impl Feed {
    pub(crate) fn new(outbox: Outbox<RouteBatch>, waiting_max: usize) -> Self {
        // Whatever the receiver has is of an earlier life of this speaker.
        let waiting = VecDeque::from([RouteBatch { generation: 0, events: vec![RouteEvent::Clear] }]);
        Self { outbox, snapshot: None, held: None, waiting, waiting_max, behind: false }
    }

    /// Queues a batch; true where the receiver is behind now and will get a snapshot.
    pub(crate) fn push(&mut self, batch: RouteBatch) -> bool {
        if self.behind {
            return false;
        }
        if self.waiting.len() >= self.waiting_max {
            self.behind = true;
            self.snapshot = None;
            self.held = None;
            self.waiting.clear();
            return true;
        }
        self.waiting.push_back(batch);
        false
    }

    /// Sends what there is room for. `table` is published, with all that was pushed.
    pub(crate) fn flush(&mut self, table: &RouteTable) {
        if self.behind && self.outbox.is_empty() {
            self.behind = false;
            self.snapshot = Some(Box::new(table.snapshot()));
        }
        while let Some(batch) = self.next() {
            if let Err(Full(batch)) = self.outbox.offer(batch) {
                self.held = Some(batch);
                return;
            }
        }
    }

    fn next(&mut self) -> Option<RouteBatch> {
        if let Some(batch) = self.held.take() {
            return Some(batch);
        }
        if let Some(batch) = self.snapshot.as_mut().and_then(Iterator::next) {
            return Some(batch);
        }
        self.snapshot = None;
        self.waiting.pop_front()
    }
}
