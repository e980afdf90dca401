//! A datagram of NetFlow version 5, 1 or 7.

#![no_main]

#[allow(dead_code)]
#[path = "cases/flow.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::netflow5(input));
