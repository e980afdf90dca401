//! Sequence numbers: gap, reorder and restart told apart.
//!
//! Version 5 counts flows, version 9 and sFlow count datagrams, IPFIX counts
//! the data records of a domain (RFC 7011 3.1); some IPFIX exporters count
//! datagrams all the same, which is noticed.

use serde::Serialize;

/// Numbers further ahead than this are a restart, not a gap.
const GAP_MAX: u32 = 1 << 26;
/// So many units behind may be a datagram that came late, where the unit is a datagram.
const LATE_DATAGRAMS: u32 = 512;
const LATE_RECORDS: u32 = LATE_DATAGRAMS * 32;
/// Consecutive numbers in a row that show that the exporter began anew.
const RESTART_RUN: u32 = 3;
/// Consecutive datagrams that show what the exporter counts.
const UNIT_RUN: u32 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SequenceStatus {
    pub gaps: u64,
    /// In the exporter's unit: flows, records or datagrams.
    pub lost: u64,
    pub reordered: u64,
    pub restarts: u64,
}

impl SequenceStatus {
    pub fn add(&mut self, more: &Self) {
        self.gaps += more.gaps;
        self.lost += more.lost;
        self.reordered += more.reordered;
        self.restarts += more.restarts;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    InOrder,
    Gap(u32),
    Late,
    Restart,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Datagrams,
    Records,
}

#[derive(Clone, Debug)]
pub struct Sequence {
    unit: Unit,
    next: Option<u32>,
    /// What a late datagram's successor would carry, and how many have.
    late_next: u32,
    late_run: u32,
    last: u32,
    last_count: Option<u32>,
    datagram_run: u32,
    uptime_ms: u32,
    pub status: SequenceStatus,
}

impl Sequence {
    pub fn new(unit: Unit) -> Self {
        Self {
            unit,
            next: None,
            late_next: 0,
            late_run: 0,
            last: 0,
            last_count: None,
            datagram_run: 0,
            uptime_ms: 0,
            status: SequenceStatus::default(),
        }
    }

    /// Looks at a datagram's number before its records are counted. `uptime_ms`
    /// where the header has it: one that falls is a restart.
    pub fn arrive(&mut self, number: u32, uptime_ms: Option<u32>) -> Step {
        let rebooted = uptime_ms.is_some_and(|uptime| {
            let fell = (self.uptime_ms.wrapping_sub(uptime) as i32) > 60_000;
            self.uptime_ms = uptime;
            fell
        });
        let Some(next) = self.next else {
            return Step::InOrder;
        };
        let ahead = number.wrapping_sub(next);
        if ahead == 0 {
            return Step::InOrder;
        }
        if rebooted {
            self.status.restarts += 1;
            return Step::Restart;
        }
        let window = match self.unit {
            Unit::Datagrams => LATE_DATAGRAMS,
            Unit::Records => LATE_RECORDS,
        };
        if ahead.wrapping_neg() <= window {
            self.late_run = if self.late_run > 0 && number == self.late_next { self.late_run + 1 } else { 1 };
            if self.late_run >= RESTART_RUN {
                self.status.restarts += 1;
                self.status.reordered = self.status.reordered.saturating_sub(u64::from(RESTART_RUN - 1));
                return Step::Restart;
            }
            self.status.reordered += 1;
            return Step::Late;
        }
        if ahead > GAP_MAX {
            self.status.restarts += 1;
            return Step::Restart;
        }
        if self.counts_datagrams(number) {
            return Step::InOrder;
        }
        self.status.gaps += 1;
        self.status.lost += u64::from(ahead);
        Step::Gap(ahead)
    }

    /// Notes how far the datagram of `number` went on; `None` where not all of
    /// its records could be counted.
    pub fn advance(&mut self, number: u32, step: Step, count: Option<u32>) {
        let by = match (self.unit, count) {
            (Unit::Datagrams, _) => Some(1),
            (Unit::Records, count) => count,
        };
        if self.notice_unit(number, by) {
            self.late_run = 0;
            self.next = Some(number.wrapping_add(1));
        } else if step == Step::Late {
            self.late_next = number.wrapping_add(by.unwrap_or(1));
            // What was counted as lost was only late.
            self.status.lost = self.status.lost.saturating_sub(u64::from(by.unwrap_or(1)));
        } else {
            self.late_run = 0;
            self.next = by.map(|by| number.wrapping_add(by));
        }
    }

    /// An exporter whose IPFIX numbers go up by one a datagram, whatever it carries; true when that is seen.
    fn notice_unit(&mut self, number: u32, by: Option<u32>) -> bool {
        // Only after a datagram that held more than one record, or none, do the two units differ.
        self.datagram_run = match self.last_count {
            Some(1) => self.datagram_run,
            Some(_) if self.unit == Unit::Records && number == self.last.wrapping_add(1) => self.datagram_run + 1,
            _ => 0,
        };
        (self.last, self.last_count) = (number, by);
        if self.datagram_run < UNIT_RUN {
            return false;
        }
        self.unit = Unit::Datagrams;
        self.datagram_run = 0;
        self.status = SequenceStatus::default();
        true
    }

    fn counts_datagrams(&self, number: u32) -> bool {
        let several = self.last_count.is_some_and(|count| count != 1);
        self.unit == Unit::Records && self.datagram_run > 0 && several && number == self.last.wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sequence: &mut Sequence, numbers: impl IntoIterator<Item = (u32, u32)>) -> Vec<Step> {
        let step = |(number, count)| {
            let step = sequence.arrive(number, None);
            sequence.advance(number, step, Some(count));
            step
        };
        numbers.into_iter().map(step).collect()
    }

    #[test]
    fn datagrams_of_one_record_do_not_look_like_another_unit() {
        let mut sequence = Sequence::new(Unit::Records);
        let counts = [1u32, 5].repeat(40);
        let mut number = 100;
        let numbers: Vec<(u32, u32)> = counts
            .iter()
            .map(|count| {
                let at = (number, *count);
                number += count;
                at
            })
            .collect();
        assert!(run(&mut sequence, numbers).iter().all(|step| *step == Step::InOrder));
        assert_eq!(sequence.status, SequenceStatus::default());
        assert_eq!(run(&mut sequence, [(number + 7, 1)]), [Step::Gap(7)], "still counts records");
    }

    #[test]
    fn a_gap_counts_what_is_missing() {
        let mut sequence = Sequence::new(Unit::Records);
        let steps = run(&mut sequence, [(100, 10), (110, 10), (150, 5), (155, 5)]);
        assert_eq!(steps, [Step::InOrder, Step::InOrder, Step::Gap(30), Step::InOrder]);
        assert_eq!(sequence.status, SequenceStatus { gaps: 1, lost: 30, reordered: 0, restarts: 0 });
    }

    #[test]
    fn what_comes_late_is_not_lost() {
        let mut sequence = Sequence::new(Unit::Datagrams);
        let steps = run(&mut sequence, [(5, 1), (7, 1), (6, 1), (8, 1)]);
        assert_eq!(steps, [Step::InOrder, Step::Gap(1), Step::Late, Step::InOrder]);
        assert_eq!(sequence.status, SequenceStatus { gaps: 1, lost: 0, reordered: 1, restarts: 0 });
    }

    #[test]
    fn a_restart_is_no_loss() {
        let mut sequence = Sequence::new(Unit::Records);
        let steps = run(&mut sequence, [(4_000_000, 30), (0, 30), (30, 30)]);
        assert_eq!(steps[1..], [Step::Restart, Step::InOrder]);
        // Soon after the first start the numbers are close: told by three in a row.
        let mut near = Sequence::new(Unit::Datagrams);
        let steps = run(&mut near, [(100, 1), (0, 1), (1, 1), (2, 1), (3, 1)]);
        assert_eq!(steps[3..], [Step::Restart, Step::InOrder]);
        assert_eq!((near.status.restarts, near.status.reordered, near.status.lost), (1, 0, 0));
        // And at once by an uptime that fell.
        let mut uptime = Sequence::new(Unit::Datagrams);
        uptime.arrive(100, Some(500_000));
        uptime.advance(100, Step::InOrder, None);
        assert_eq!(uptime.arrive(0, Some(1_000)), Step::Restart);
    }

    #[test]
    fn numbers_wrap() {
        let mut sequence = Sequence::new(Unit::Records);
        let steps = run(&mut sequence, [(u32::MAX - 4, 10), (5, 1), (6, 1)]);
        assert!(steps.iter().all(|step| *step == Step::InOrder));
    }

    #[test]
    fn unknown_counts_are_no_gap() {
        let mut sequence = Sequence::new(Unit::Records);
        sequence.arrive(10, None);
        sequence.advance(10, Step::InOrder, None);
        assert_eq!(sequence.arrive(500, None), Step::InOrder);
    }

    #[test]
    fn ipfix_that_counts_datagrams_is_noticed() {
        let mut sequence = Sequence::new(Unit::Records);
        run(&mut sequence, (0..20).map(|number| (number, 19)));
        let before = sequence.status;
        run(&mut sequence, (20..40).map(|number| (number, 19)));
        assert_eq!(sequence.status, before);
        assert_eq!(run(&mut sequence, [(45, 19)]), [Step::Gap(5)]);
    }
}
