//! Time: what the record says, made absolute, and believed only where it can be.
//!
//! Everything is signed UTC milliseconds. Times relative to the exporter's start
//! wrap at 32 bits (49.7 days) and are taken as the moment nearest to the export.

use benocs_model::flow::quality;

/// 2000-01-01.
pub const YEAR_2000_MS: i64 = 946_684_800_000;
const DAY_MS: i64 = 86_400_000;
/// Seconds from the NTP epoch (1900) to the Unix epoch.
const NTP_UNIX_S: i64 = 2_208_988_800;

/// How an absolute time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Millis,
    /// Seconds since 1900 and a fraction of 32 bits (RFC 7011 6.1.9, 6.1.10).
    Ntp,
}

impl Unit {
    #[inline]
    pub fn to_ms(self, raw: u64) -> i64 {
        match self {
            Unit::Seconds => (raw as i64).saturating_mul(1000),
            Unit::Millis => raw as i64,
            Unit::Ntp => ((raw >> 32) as i64 - NTP_UNIX_S) * 1000 + (((raw & 0xffff_ffff) * 1000) >> 32) as i64,
        }
    }
}

/// A switch-time of version 5 or 9: header time and the signed distance between
/// two 32-bit clocks that may have wrapped in between.
#[inline]
pub fn since_boot(export_ms: i64, uptime_ms: u32, switched_ms: u32) -> i64 {
    export_ms + i64::from(switched_ms.wrapping_sub(uptime_ms) as i32)
}

/// A time relative to systemInitTimeMilliseconds (160): the 32-bit clock has
/// wrapped as often as brings it nearest to the export.
#[inline]
pub fn since_init(export_ms: i64, init_ms: i64, switched_ms: u32) -> i64 {
    let age = export_ms.wrapping_sub(init_ms) as u32;
    export_ms + i64::from(switched_ms.wrapping_sub(age) as i32)
}

/// What a span may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    received_ms: i64,
    low: i64,
    high: i64,
    longest_ms: i64,
}

/// A span as questions use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Believed {
    pub first: i64,
    pub last: i64,
    /// Quality bits; 0 where the record was believed as it is.
    pub quality: u64,
}

impl Bounds {
    pub fn new(received_ms: i64, longest_ms: i64) -> Self {
        let low = received_ms.saturating_sub(DAY_MS).max(YEAR_2000_MS);
        Self { received_ms, low, high: received_ms.saturating_add(DAY_MS), longest_ms }
    }

    #[inline]
    pub fn plausible(&self, first: i64, last: i64) -> bool {
        (self.low <= first) & (first <= last) & (last <= self.high) & (last.wrapping_sub(first) <= self.longest_ms)
    }

    /// An end that cannot be makes the whole span unbelievable; a start that
    /// cannot be is moved.
    pub fn believe(&self, first: i64, last: i64) -> Believed {
        if last < self.low || last > self.high {
            return Believed { first: self.received_ms, last: self.received_ms, quality: quality::TIME_IMPLAUSIBLE };
        }
        if first < YEAR_2000_MS {
            return Believed { first: last, last, quality: quality::TIME_IMPLAUSIBLE };
        }
        if first > last {
            return Believed { first: last, last, quality: quality::SPAN_CLAMPED };
        }
        if last - first > self.longest_ms {
            return Believed { first: last - self.longest_ms, last, quality: quality::SPAN_CLAMPED };
        }
        Believed { first, last, quality: if first < self.low { quality::TIME_IMPLAUSIBLE } else { 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn v9_time_is_signed_and_wraps_after_49_days() {
        assert_eq!(since_boot(NOW, 10_000, 4_000), NOW - 6_000);
        // Ended after the header was written.
        assert_eq!(since_boot(NOW, 10_000, 10_500), NOW + 500);
        // The exporter's clock wrapped between the flow and the header.
        assert_eq!(since_boot(NOW, 1_000, u32::MAX - 999), NOW - 2_000);
        assert_eq!(since_boot(NOW, u32::MAX, 2), NOW + 3);
    }

    #[test]
    fn init_time_of_an_exporter_that_runs_for_years() {
        let init = NOW - 400 * DAY_MS;
        let clock = |t: i64| (t - init) as u32;
        assert_eq!(since_init(NOW, init, clock(NOW - 90_000)), NOW - 90_000);
        assert_eq!(since_init(NOW, NOW - 5_000, 1_000), NOW - 4_000);
    }

    #[test]
    fn ntp_fractions_become_milliseconds() {
        let raw = (1_700_000_000u64 + NTP_UNIX_S as u64) << 32 | 0x8000_0000;
        assert_eq!(Unit::Ntp.to_ms(raw), NOW + 500);
        assert_eq!((Unit::Seconds.to_ms(1_700_000_000), Unit::Millis.to_ms(NOW as u64)), (NOW, NOW));
    }

    #[test]
    fn absurd_times_are_replaced_and_flagged() {
        let bounds = Bounds::new(NOW, 3_600_000);
        assert!(bounds.plausible(NOW - 60_000, NOW));
        for last in [0, 900_000_000_000, NOW + DAY_MS + 1, NOW - DAY_MS - 1, i64::MAX, i64::MIN] {
            assert!(!bounds.plausible(last, last));
            let believed = bounds.believe(last, last);
            assert_eq!((believed.first, believed.last, believed.quality), (NOW, NOW, quality::TIME_IMPLAUSIBLE));
        }
        let clamped = Believed { first: NOW - 3_600_000, last: NOW, quality: quality::SPAN_CLAMPED };
        assert_eq!(bounds.believe(NOW - 3_600_001, NOW), clamped);
        assert_eq!(bounds.believe(NOW + 1, NOW), Believed { first: NOW, last: NOW, quality: quality::SPAN_CLAMPED });
        assert_eq!(bounds.believe(5, NOW).quality, quality::TIME_IMPLAUSIBLE);
    }
}
