//! Sequences of datagrams of several exporters through one decoder: templates,
//! samplers, names and waiting data carry over from one to the next.
//!
//! Input: | length u16 | exporter and version u8 | datagram |, repeated.

use std::net::SocketAddr;
use std::sync::Arc;

use benocs_collector::decode::{Config, Decoder, Shared};
use benocs_model::flow::builder::FlowBuilder;

const NOW_MS: i64 = 1_700_000_000_000;
const PENDING_OCTETS: usize = 4096;
const TEMPLATES: usize = 32;

pub fn run(input: &[u8]) {
    let config = Config { pending_octets_max: PENDING_OCTETS, templates_max: TEMPLATES, ..Config::default() };
    let shared = Arc::new(Shared::new(config.clone(), Vec::new()));
    let mut decoder = Decoder::new(config, shared.clone());
    let mut out = FlowBuilder::with_capacity(256);
    let mut rest = input;
    let mut now_ms = NOW_MS;
    while let [high, low, kind, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (body, after) = tail.split_at(length);
        let version: &[u8] = match kind & 7 {
            0 => &[0, 5],
            1 | 2 => &[0, 9],
            3 => &[0, 0, 0, 5],
            _ => &[0, 10],
        };
        let source = SocketAddr::from(([192, 0, 2, kind >> 6], 2055));
        decoder.datagram(source, now_ms, &[version, body].concat(), &mut out);
        // Far enough, now and then, that what waits is given up.
        now_ms += if kind & 0x20 != 0 { 1_000_000 } else { 10 };
        rest = after;
    }
    let rows = out.len();
    assert_eq!(out.finish().map_or(0, |batch| batch.num_rows()), rows);
    for exporter in shared.status() {
        assert!(exporter.pending_octets <= PENDING_OCTETS && exporter.templates <= TEMPLATES);
    }
}
