//! Sequences of NetFlow and IPFIX datagrams through one decoder: templates,
//! options and waiting data carry over from one to the next.
//!
//! Input: | length u16 | exporter and version u8 | datagram |, repeated.

#![no_main]

use std::net::SocketAddr;
use std::sync::Arc;

use benocs_collector::decode::{Config, Decoder, Shared};
use benocs_model::flow::builder::FlowBuilder;
use libfuzzer_sys::fuzz_target;

const NOW_MS: i64 = 1_700_000_000_000;

fuzz_target!(|input: &[u8]| {
    let config = Config { pending_octets_max: 4096, templates_max: 32, ..Config::default() };
    let shared = Arc::new(Shared::new(config.clone(), Vec::new()));
    let mut decoder = Decoder::new(config, shared.clone());
    let mut out = FlowBuilder::with_capacity(256);
    let mut rest = input;
    while let [high, low, kind, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (body, after) = tail.split_at(length);
        let version = [5, 9, 10, 10][usize::from(kind & 3)];
        let datagram = [&[0, version], body].concat();
        let source = SocketAddr::from(([192, 0, 2, kind >> 6], 2055));
        decoder.datagram(source, NOW_MS, &datagram, &mut out);
        rest = after;
    }
    let rows = out.len();
    assert_eq!(out.finish().map_or(0, |batch| batch.num_rows()), rows);
    for exporter in shared.status() {
        assert!(exporter.pending_octets <= 4096 && exporter.templates <= 32);
    }
});
