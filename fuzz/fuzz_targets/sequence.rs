//! Datagrams of several exporters, after each other.

#![no_main]

#[allow(dead_code)]
#[path = "cases/sequence.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
