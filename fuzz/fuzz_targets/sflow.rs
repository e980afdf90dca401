//! An sFlow datagram.

#![no_main]

#[allow(dead_code)]
#[path = "cases/flow.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::sflow(input));
