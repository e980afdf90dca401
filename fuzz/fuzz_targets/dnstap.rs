//! A resolver's stream.

#![no_main]

#[allow(dead_code)]
#[path = "cases/dnstap.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
