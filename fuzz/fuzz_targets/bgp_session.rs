//! A peer's whole session, and the one after it.

#![no_main]

#[allow(dead_code)]
#[path = "cases/bgp_session.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
