//! What was sent and is not committed yet.
//!
//! A receiver that restarts has lost what it had not committed; it says where to
//! go on, and gets it from here. When the window is full the sender waits for a
//! commit, so everything upstream waits too.

use std::collections::VecDeque;

use benocs_model::message::{Cursors, SourceId, Stream};

use crate::frame::{Kind, Message, Wanted};

#[derive(Debug)]
pub(crate) struct Window {
    kind: Kind,
    entries: VecDeque<(usize, Message)>,
    octets: usize,
    octets_max: usize,
}

impl Window {
    pub(crate) fn new(kind: Kind, octets_max: usize) -> Self {
        Self { kind, entries: VecDeque::new(), octets: 0, octets_max }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.octets < self.octets_max
    }

    pub(crate) fn push(&mut self, message: Message) {
        let octets = message.octets();
        self.octets += octets;
        self.entries.push_back((octets, message));
    }

    /// Forgets what is committed. A table goes with the batch that follows it: that one refers to it.
    pub(crate) fn commit(&mut self, committed: &Wanted) {
        let mut next_goes = false;
        let mut goes: Vec<bool> = Vec::with_capacity(self.entries.len());
        for (_, message) in self.entries.iter().rev() {
            if !matches!(message, Message::Table(_)) {
                next_goes = covers(self.kind, committed, message);
            }
            goes.push(next_goes);
        }
        self.entries.retain(|_| !goes.pop().unwrap_or(false));
        self.octets = self.entries.iter().map(|(octets, _)| octets).sum();
    }

    /// What the receiver lacks, in order.
    pub(crate) fn missing(&self, wanted: &Wanted) -> VecDeque<Message> {
        let lacks = |(_, message): &&(usize, Message)| !covers(self.kind, wanted, message);
        self.entries.iter().filter(lacks).map(|(_, message)| message.clone()).collect()
    }

    /// A batch that the receiver wants and that is not here any more.
    pub(crate) fn gap(&self, wanted: &Wanted) -> Option<(SourceId, u64, u64)> {
        let next = wanted.of(self.stream());
        let flows = self.entries.iter().filter_map(|(_, message)| match message {
            Message::Flow(batch) => Some((batch.source, batch.seq)),
            _ => None,
        });
        let mut oldest = Cursors::new();
        for (source, seq) in flows {
            oldest.entry(source).or_insert(seq);
        }
        oldest.into_iter().find_map(|(source, seq)| {
            let wanted = next.get(&source).copied().unwrap_or(0);
            (wanted < seq).then_some((source, wanted, seq))
        })
    }

    fn stream(&self) -> Stream {
        if self.kind == Kind::Joined { Stream::Rollups } else { Stream::Flows }
    }
}

/// The receiver has it.
fn covers(kind: Kind, wanted: &Wanted, message: &Message) -> bool {
    let next = |cursors: &Cursors, source: &SourceId| cursors.get(source).copied().unwrap_or(0);
    match message {
        Message::Flow(batch) => {
            // The aggregator's rows are done when its rollups are.
            let cursors = if kind == Kind::Joined { &wanted.rollups } else { &wanted.flows };
            batch.seq < next(cursors, &batch.source)
        }
        Message::Rollups(batch) => batch.upto.iter().all(|(source, upto)| *upto <= next(&wanted.rollups, source)),
        Message::Table(_) | Message::Routes(_) | Message::Names(_) | Message::Copied(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
    use benocs_model::message::{FlowBatch, RollupBatch};
    use benocs_model::tables::TableUpdate;

    use super::*;

    const A: SourceId = SourceId(1);

    fn flow(seq: u64) -> Message {
        let column: ArrayRef = Arc::new(UInt64Array::from(vec![seq; 10]));
        let rows = RecordBatch::try_from_iter([("octets", column)]).expect("one column");
        Message::Flow(FlowBatch { source: A, seq, rows })
    }

    fn rollups(from: u64, upto: u64) -> Message {
        let batch = RollupBatch { from: [(A, from)].into(), upto: [(A, upto)].into(), partials: vec![] };
        Message::Rollups(batch)
    }

    fn table() -> Message {
        Message::Table(Arc::new(TableUpdate::Paths(Vec::new())))
    }

    fn wanted(flows: u64, rollups: u64) -> Wanted {
        Wanted { flows: [(A, flows)].into(), rollups: [(A, rollups)].into() }
    }

    fn shape(messages: &VecDeque<Message>) -> String {
        let letter = |message: &Message| match message {
            Message::Flow(batch) => format!("f{}", batch.seq),
            Message::Rollups(batch) => format!("r{}", batch.upto[&A]),
            _ => "t".to_owned(),
        };
        messages.iter().map(letter).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_missing_is_kept_until_it_is_committed() {
        let mut window = Window::new(Kind::Store, 1 << 20);
        for message in [table(), flow(0), flow(1), table(), flow(2), rollups(0, 2), flow(3)] {
            window.push(message);
        }
        assert_eq!(shape(&window.missing(&wanted(3, 0))), "t t r2 f3");
        assert_eq!(shape(&window.missing(&wanted(0, 0))), "t f0 f1 t f2 r2 f3");
        window.commit(&wanted(2, 0));
        assert_eq!(shape(&window.missing(&wanted(0, 0))), "t f2 r2 f3");
        assert_eq!(window.gap(&wanted(2, 0)), None);
        assert_eq!(window.gap(&wanted(1, 0)), Some((A, 1, 2)));
        window.commit(&wanted(4, 2));
        assert_eq!((window.entries.len(), window.octets), (0, 0));
    }

    #[test]
    fn joined_rows_wait_for_their_rollups() {
        let mut window = Window::new(Kind::Joined, 1 << 20);
        window.push(flow(0));
        window.push(flow(1));
        window.commit(&wanted(2, 1));
        assert_eq!(shape(&window.missing(&Wanted::default())), "f1");
        assert_eq!(window.gap(&wanted(9, 0)), Some((A, 0, 1)));
    }

    #[test]
    fn a_full_window_has_room_again_after_a_commit() {
        let mut window = Window::new(Kind::Store, 1);
        assert!(window.has_room());
        window.push(flow(0));
        assert!(!window.has_room());
        window.commit(&wanted(1, 0));
        assert!(window.has_room());
    }
}
