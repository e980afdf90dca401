//! A router's BMP session.

#![no_main]

#[allow(dead_code)]
#[path = "cases/bmp.rs"]
mod case;

libfuzzer_sys::fuzz_target!(|input: &[u8]| case::run(input));
