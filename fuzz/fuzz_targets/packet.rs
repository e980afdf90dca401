//! A head of a packet.

#![no_main]

#[allow(dead_code)]
#[path = "cases/packet.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
