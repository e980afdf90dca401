//! A file of nfdump.

#![no_main]

#[allow(dead_code)]
#[path = "cases/nfdump.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
