//! Batches that wait for late names.
//!
//! A resolver's answer may reach the name table after the flow that it explains;
//! a batch therefore waits until it is old enough, but never longer than that,
//! and never while more than a bounded number wait. Order is kept.

use std::collections::VecDeque;

#[derive(Debug)]
pub struct Hold<T> {
    wait_ms: i64,
    batches_max: usize,
    /// (may go at, batch), in order of arrival.
    queue: VecDeque<(i64, T)>,
}

impl<T> Hold<T> {
    pub fn new(wait_ms: u64, batches_max: usize) -> Self {
        Self { wait_ms: wait_ms.min(i64::MAX as u64) as i64, batches_max, queue: VecDeque::new() }
    }

    /// `received_ms` is when its newest row was received.
    pub fn push(&mut self, received_ms: i64, now_ms: i64, batch: T) {
        // A clock that jumped must not hold a batch for longer than one wait.
        let until = received_ms.min(now_ms).saturating_add(self.wait_ms);
        self.queue.push_back((until, batch));
    }

    /// The next batch that need not wait; `hurry` lets go all.
    pub fn pop(&mut self, now_ms: i64, hurry: bool) -> Option<T> {
        let (until, _) = self.queue.front()?;
        if hurry || *until <= now_ms || self.queue.len() > self.batches_max {
            return self.queue.pop_front().map(|(_, batch)| batch);
        }
        None
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_leave_in_order_when_they_are_old_enough() {
        let mut hold = Hold::new(2_000, 10);
        hold.push(1_000, 1_000, 'a');
        hold.push(1_500, 1_500, 'b');
        assert_eq!(hold.pop(2_999, false), None);
        assert_eq!(hold.pop(3_000, false), Some('a'));
        assert_eq!(hold.pop(3_000, false), None);
        assert_eq!(hold.pop(3_500, false), Some('b'));
        assert!(hold.is_empty());
    }

    #[test]
    fn old_replayed_and_future_batches_do_not_wait_longer() {
        let mut hold = Hold::new(2_000, 10);
        hold.push(1_000, 900_000, 'o');
        assert_eq!(hold.pop(900_000, false), Some('o'));
        hold.push(5_000_000, 900_000, 'f');
        assert_eq!(hold.pop(902_000, false), Some('f'));
    }

    #[test]
    fn a_full_hold_and_a_drain_let_go() {
        let mut hold = Hold::new(2_000, 2);
        for (at, batch) in ['a', 'b', 'c'].into_iter().enumerate() {
            hold.push(at as i64, at as i64, batch);
        }
        assert_eq!(hold.pop(3, false), Some('a'));
        assert_eq!(hold.pop(3, false), None);
        assert_eq!((hold.pop(3, true), hold.pop(3, true), hold.pop(3, true)), (Some('b'), Some('c'), None));
    }
}
