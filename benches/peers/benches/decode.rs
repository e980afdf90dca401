//! Decoding of the same datagrams by three decoders, each into what it gives its user.
//!
//! Ours fills sealed columnar batches of 4,096 rows; the peers make a value a field, in vectors a record.
//! Items are flow records; run alone: `cargo bench --manifest-path benches/peers/Cargo.toml`.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use benocs_collector::decode::{Config, Decoder, Shared};
use benocs_model::flow::builder::FlowBuilder;
use divan::Bencher;
use divan::counter::ItemsCount;
use netflow_parser::NetflowParser;
use netgauze_flow_pkt::ipfix::IpfixPacket;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput as _;
use packets::{NOW_MS, RECORDS, data, message, template};

#[allow(dead_code)]
#[path = "../../../actors/collector/benches/packets/mod.rs"]
mod packets;

const ROWS: usize = 4096;
const DATAGRAMS: usize = 1024;

fn main() {
    divan::main();
}

fn datagrams() -> Vec<Vec<u8>> {
    (0..DATAGRAMS).map(|at| message((at * RECORDS) as u32, &data(at))).collect()
}

fn records() -> ItemsCount {
    ItemsCount::new(DATAGRAMS * RECORDS)
}

#[divan::bench]
fn benocs(bencher: Bencher<'_, '_>) {
    let shared = Arc::new(Shared::new(Config::default(), Vec::new()));
    let mut decoder = Decoder::new(Config::default(), shared);
    let mut out = FlowBuilder::with_capacity(ROWS + 64);
    let source = SocketAddr::from(([192, 0, 2, 1], 2055));
    decoder.datagram(source, NOW_MS, &message(0, &template()), &mut out);
    let datagrams = datagrams();
    bencher.counter(records()).bench_local(|| {
        let mut rows = 0;
        for datagram in &datagrams {
            decoder.datagram(source, NOW_MS, datagram, &mut out);
            if out.len() >= ROWS {
                rows += black_box(out.finish()).map_or(0, |batch| batch.num_rows());
            }
        }
        rows += black_box(out.finish()).map_or(0, |batch| batch.num_rows());
        assert_eq!(rows, DATAGRAMS * RECORDS);
    });
}

#[divan::bench]
fn netgauze_flow_pkt(bencher: Bencher<'_, '_>) {
    let mut templates = HashMap::new();
    IpfixPacket::parse(&mut SliceReader::new(&message(0, &template())), &mut templates).expect("the template");
    let datagrams = datagrams();
    bencher.counter(records()).bench_local(|| {
        for datagram in &datagrams {
            black_box(IpfixPacket::parse(&mut SliceReader::new(datagram), &mut templates).expect("a message"));
        }
    });
}

#[divan::bench]
fn netflow_parser(bencher: Bencher<'_, '_>) {
    let mut parser = NetflowParser::default();
    assert!(parser.parse_bytes(&message(0, &template())).error.is_none());
    let datagrams = datagrams();
    bencher.counter(records()).bench_local(|| {
        for datagram in &datagrams {
            assert!(black_box(parser.parse_bytes(datagram)).error.is_none());
        }
    });
}
