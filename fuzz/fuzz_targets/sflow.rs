//! One sFlow datagram, whatever its bytes.

#![no_main]

use std::net::SocketAddr;
use std::sync::Arc;

use benocs_collector::decode::{Config, Decoder, Shared};
use benocs_model::flow::builder::FlowBuilder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let shared = Arc::new(Shared::new(Config::default(), Vec::new()));
    let mut decoder = Decoder::new(Config::default(), shared);
    let mut out = FlowBuilder::with_capacity(64);
    let datagram = [&[0, 0, 0, 5], input].concat();
    decoder.datagram(SocketAddr::from(([192, 0, 2, 1], 6343)), 1_700_000_000_000, &datagram, &mut out);
    let rows = out.len();
    assert_eq!(out.finish().map_or(0, |batch| batch.num_rows()), rows);
});
