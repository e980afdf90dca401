//! Octets over time.
//!
//! A flow of O octets over [first, last] is spread as if they flowed evenly:
//! the part that falls before a moment t is floor(O * (t - first) / D) with
//! D = last - first + 1 ms, so parts of neighbouring buckets always add up to
//! O, to the octet. Questions and rollups use this one function.

/// A bucket's length and phase: buckets start at multiples of `width_ms` since 1970.
pub fn bucket_start(t_ms: i64, width_ms: i64) -> i64 {
    t_ms.div_euclid(width_ms) * width_ms
}

/// The part of `total` that falls into [from, to), in milliseconds.
#[inline]
pub fn part(total: u64, first: i64, last: i64, from: i64, to: i64) -> u64 {
    let start = from.clamp(first, last + 1);
    let end = to.clamp(first, last + 1);
    if start >= end {
        return 0;
    }
    let duration = (last - first + 1) as u128;
    let upto = |t: i64| (u128::from(total) * (t - first) as u128 / duration) as u64;
    upto(end) - upto(start)
}

/// Calls `each(bucket_start, octets, packets, is_last)` for every bucket that
/// the span touches; `is_last` marks the bucket of `last`, where the record
/// itself is counted.
#[inline]
pub fn spread(
    first: i64,
    last: i64,
    octets: u64,
    packets: u64,
    width_ms: i64,
    mut each: impl FnMut(i64, u64, u64, bool),
) {
    let mut bucket = bucket_start(first, width_ms);
    let end = bucket_start(last, width_ms);
    if bucket == end {
        each(bucket, octets, packets, true);
        return;
    }
    while bucket <= end {
        let to = bucket + width_ms;
        each(bucket, part(octets, first, last, bucket, to), part(packets, first, last, bucket, to), bucket == end);
        bucket = to;
    }
}

/// Counters as the network carried them: raw times `den / num`.
#[inline]
pub fn scale(raw: u64, num: u32, den: u32) -> u64 {
    if num == den {
        return raw;
    }
    (u128::from(raw) * u128::from(den) / u128::from(num.max(1))).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_octet() {
        for (first, last, total) in
            [(0, 0, 7), (59_999, 60_000, 3), (-120_001, 300_003, 1_000_003), (5, 3_600_000, u64::MAX)]
        {
            let mut octets = 0u64;
            let mut records = 0;
            spread(first, last, total, 0, 60_000, |_, part, _, is_last| {
                octets += part;
                records += u32::from(is_last);
            });
            assert_eq!((octets, records), (total, 1));
        }
    }

    #[test]
    fn narrow_buckets_sum_to_wide_ones() {
        let (first, last, total) = (12_345, 1_234_567, 987_654_321);
        let wide = part(total, first, last, 300_000, 600_000);
        let narrow: u64 = (5..10).map(|i| part(total, first, last, i * 60_000, (i + 1) * 60_000)).sum();
        assert_eq!(wide, narrow);
    }
}
