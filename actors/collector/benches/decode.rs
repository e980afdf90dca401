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

const NOW_MS: i64 = 1_700_000_000_000;
const ROWS: usize = 4096;
const RECORDS: usize = 19;
const DATAGRAMS: usize = 4096;

/// Nineteen fields as a provider's router exports them (element, octets).
const FIELDS: [(u16, u16); 19] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (152, 8),
    (153, 8),
    (7, 2),
    (11, 2),
    (4, 1),
    (6, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
];

fn main() {
    divan::main();
}

fn message(sequence: u32, sets: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 10];
    message.extend((sets.len() as u16 + 16).to_be_bytes());
    message.extend(((NOW_MS / 1000) as u32).to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend([0, 0, 0, 1]);
    message.extend(sets);
    message
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

fn template() -> Vec<u8> {
    let mut body = vec![1, 0, 0, FIELDS.len() as u8];
    for (element, length) in FIELDS {
        body.extend(element.to_be_bytes());
        body.extend(length.to_be_bytes());
    }
    set(2, &body)
}

fn data(datagram: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for record in 0..RECORDS {
        let number = (datagram * RECORDS + record) as u64;
        for (element, length) in FIELDS {
            let value = match element {
                152 => NOW_MS as u64 - 60_000 + number % 1000,
                153 => NOW_MS as u64 - number % 1000,
                4 => 6,
                61 => 0,
                _ => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            body.extend(&value.to_be_bytes()[8 - usize::from(length)..]);
        }
    }
    set(256, &body)
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
