//! One datagram of a protocol, whatever its bytes, through a decoder that is new.
//!
//! What it announces about data to come (templates, samplers) it may use itself;
//! datagrams after each other are in `sequence`.

use std::net::SocketAddr;
use std::sync::Arc;

use benocs_collector::decode::{Config, Decoder, Shared};
use benocs_model::flow::builder::FlowBuilder;

const NOW_MS: i64 = 1_700_000_000_000;

pub fn netflow5(input: &[u8]) {
    // Versions 1 and 7 are its relatives.
    let (kind, body) = input.split_first().unwrap_or((&0, &[]));
    datagram(&[0, [5, 1, 7, 5][usize::from(kind & 3)]], body);
}

pub fn netflow9(input: &[u8]) {
    datagram(&[0, 9], input);
}

pub fn ipfix(input: &[u8]) {
    datagram(&[0, 10], input);
}

pub fn sflow(input: &[u8]) {
    datagram(&[0, 0, 0, 5], input);
}

fn datagram(version: &[u8], body: &[u8]) {
    let shared = Arc::new(Shared::new(Config::default(), Vec::new()));
    let mut decoder = Decoder::new(Config::default(), shared.clone());
    let mut out = FlowBuilder::with_capacity(64);
    let datagram = [version, body].concat();
    decoder.datagram(SocketAddr::from(([192, 0, 2, 1], 2055)), NOW_MS, &datagram, &mut out);
    let rows = out.len();
    assert_eq!(out.finish().map_or(0, |batch| batch.num_rows()), rows);
    let exporters = shared.status();
    let counted: u64 = exporters.iter().map(|exporter| exporter.errors.values().sum::<u64>()).sum();
    let taken: u64 = exporters.iter().map(|exporter| exporter.records + exporter.pending_kept).sum();
    let other: u64 = exporters
        .iter()
        .map(|exporter| exporter.templates_received + exporter.options_records + exporter.counter_samples)
        .sum();
    assert!(counted + taken + other + shared.refused().total() > 0, "a datagram left no trace");
}
