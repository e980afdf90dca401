//! Asking memory for what will be needed soon.

#![allow(unsafe_code)]

const LINE_OCTETS: usize = 64;

/// Brings the cache lines of so many octets near; a hint, for any address, also of what is no more.
#[inline]
pub fn prefetch(address: usize, octets: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (address & !(LINE_OCTETS - 1)..address + octets).step_by(LINE_OCTETS) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction faults on no address and changes nothing that a program can see
        // (Intel SDM volume 2, PREFETCHh).
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, octets, LINE_OCTETS);
}
