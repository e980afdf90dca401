//! An MRT file.

#![no_main]

#[allow(dead_code)]
#[path = "cases/mrt.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
