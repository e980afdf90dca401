//! Ten exporters and ten thousand, each with twenty templates in its own order: rate and memory.
//!
//! `cargo bench -p benocs-collector --bench exporters`. Datagrams come in random order over all exporters and
//! templates; octets are what the process grew by while it learned the templates.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use benocs_collector::decode::{Config, Decoder, Shared};
use benocs_model::flow::builder::FlowBuilder;
use packets::{FIELDS, NOW_MS, RECORDS, data_of, message, set};

#[allow(dead_code)]
mod packets;

const ROWS: usize = 4096;
const TEMPLATES: usize = 20;
const DATAGRAMS: usize = 200_000;
const RUNS: usize = 5;
const CALL: usize = 256;

/// Octets of memory that the process has now.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

/// The fields, turned by `number`, so that templates differ; by `own` too where exporters are not alike.
fn fields(number: usize, own: usize) -> Vec<(u16, u16)> {
    let mut fields = FIELDS.to_vec();
    fields.rotate_left(number % FIELDS.len());
    // A vendor's field of its own that nobody maps, of another length.
    fields.push((30_000 + (own % 2000) as u16, 1 + (number / FIELDS.len()) as u16));
    fields
}

fn source(exporter: usize) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + exporter as u32), 2055))
}

fn measure(exporters: usize, alike: bool) {
    let before = resident();
    let shared = Arc::new(Shared::new(Config::default(), Vec::new()));
    let mut decoder = Decoder::new(Config::default(), shared);
    let mut out = FlowBuilder::with_capacity(ROWS + 64);
    for exporter in 0..exporters {
        for number in 0..TEMPLATES {
            let own = if alike { 0 } else { exporter };
            let mut body = vec![1, number as u8, 0, FIELDS.len() as u8 + 1];
            for (element, length) in fields(number, own) {
                body.extend(element.to_be_bytes());
                body.extend(length.to_be_bytes());
            }
            decoder.datagram(source(exporter), NOW_MS, &message(0, &set(2, &body)), &mut out);
        }
    }
    let grown = resident().saturating_sub(before);
    let templates: Vec<Vec<u8>> =
        (0..TEMPLATES).map(|number| message(0, &data_of(&fields(number, 0), 256 + number as u16, number))).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut order = Vec::with_capacity(DATAGRAMS);
    for _ in 0..DATAGRAMS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.push(((random >> 33) as usize % exporters, (random >> 17) as usize % TEMPLATES));
    }
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let begun = Instant::now();
        // As a socket's thread does with the datagrams of one call.
        for call in order.chunks(CALL) {
            decoder.expect(call.iter().map(|(exporter, template)| (source(*exporter), &*templates[*template])));
            for (exporter, template) in call {
                decoder.datagram(source(*exporter), NOW_MS, &templates[*template], &mut out);
                if out.len() >= ROWS {
                    black_box(out.finish());
                }
            }
        }
        black_box(out.finish());
        best = best.min(begun.elapsed().as_secs_f64());
    }
    let rate = (DATAGRAMS * RECORDS) as f64 / best / 1e6;
    let kind = if alike { "alike" } else { "each its own" };
    println!("{exporters:>6} exporters, templates {kind:<12} {rate:6.1} M records/s, {:6.1} MB", grown as f64 / 1e6);
}

fn main() {
    // Also run as a test by `cargo test --benches`: the smallest case is enough there.
    let largest = if std::env::args().any(|argument| argument == "--test") { 10 } else { 10_000 };
    measure(10, true);
    measure(largest, true);
    measure(largest, false);
}
