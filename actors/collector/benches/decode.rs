//! Decoding alone, on one thread: datagrams into sealed batches of 4,096 rows.
//!
//! `cargo bench -p benocs-collector --bench decode`; items are flow records.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use benocs_collector::decode::{Config, Decoder, Shared};
use benocs_model::flow::builder::FlowBuilder;
use divan::Bencher;
use divan::counter::ItemsCount;
use packets::{NOW_MS, RECORDS, data, message, template};

#[allow(dead_code)]
mod packets;

const ROWS: usize = 4096;
const DATAGRAMS: usize = 4096;

fn main() {
    divan::main();
}

fn source(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 2055))
}

/// Decodes everything; a batch is sealed whenever it is full.
fn decode(decoder: &mut Decoder, out: &mut FlowBuilder, exporters: usize, datagrams: &[Vec<u8>]) {
    for (at, datagram) in datagrams.iter().enumerate() {
        decoder.datagram(source((at % exporters) as u8), NOW_MS, datagram, out);
        if out.len() >= ROWS {
            black_box(out.finish());
        }
    }
    black_box(out.finish());
}

/// From one exporter, and from 200 whose datagrams alternate.
#[divan::bench(args = [1, 200])]
fn ipfix_19_fields_19_records(bencher: Bencher<'_, '_>, exporters: usize) {
    let shared = Arc::new(Shared::new(Config::default(), Vec::new()));
    let mut decoder = Decoder::new(Config::default(), shared);
    let mut out = FlowBuilder::with_capacity(ROWS + 64);
    for exporter in 0..exporters {
        decoder.datagram(source(exporter as u8), NOW_MS, &message(0, &template()), &mut out);
    }
    let datagrams: Vec<_> = (0..DATAGRAMS).map(|at| message((at / exporters * RECORDS) as u32, &data(at))).collect();
    bencher
        .counter(ItemsCount::new(DATAGRAMS * RECORDS))
        .bench_local(|| decode(&mut decoder, &mut out, exporters, &datagrams));
}

/// A compact flow sample of a TCP packet over Ethernet, five a datagram.
#[divan::bench]
fn sflow_raw_headers(bencher: Bencher<'_, '_>) {
    let word = |value: u32| value.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0];
    frame.extend([0x45, 0, 5, 0xdc, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 187, 0, 80]);
    frame.resize(128, 0);
    let header = [&word(1)[..], &word(1518), &word(4), &word(128), &frame].concat();
    let record = [&word(1)[..], &word(header.len() as u32), &header].concat();
    let head: Vec<u8> = [1, 7, 400, 0, 0, 7, 8, 1].into_iter().flat_map(word).collect();
    let sample = [&word(1)[..], &word((head.len() + record.len()) as u32), &head, &record].concat();
    let datagram = |sequence: u32| {
        let head: Vec<u8> = [5, 1, 0xc633_6401, 0, sequence, 1000, 5].into_iter().flat_map(word).collect();
        [head, sample.repeat(5)].concat()
    };
    let datagrams: Vec<_> = (0..DATAGRAMS as u32).map(datagram).collect();
    let shared = Arc::new(Shared::new(Config::default(), Vec::new()));
    let mut decoder = Decoder::new(Config::default(), shared);
    let mut out = FlowBuilder::with_capacity(ROWS + 64);
    bencher.counter(ItemsCount::new(DATAGRAMS * 5)).bench_local(|| decode(&mut decoder, &mut out, 1, &datagrams));
}
