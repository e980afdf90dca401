//! Link state in an update.

#![no_main]

#[allow(dead_code)]
#[path = "cases/link_state.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
