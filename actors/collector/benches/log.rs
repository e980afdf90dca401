//! How many rows a second the log takes, encoded, written and synced.

use std::net::{IpAddr, Ipv4Addr};

use arrow::array::RecordBatch;
use benocs_collector::log;
use benocs_model::Address;
use benocs_model::flow::builder::{FlowBuilder, Octets16, slot};

const ROWS: usize = 4096;

fn main() {
    divan::main();
}

/// Rows like those of a router: one exporter, IPv4, small counters, many addresses.
fn batch(salt: u32) -> RecordBatch {
    let mut rows = FlowBuilder::with_capacity(ROWS);
    let mut random = 0x9e37_79b9 ^ salt;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random
    };
    let exporter = Octets16::from(Address::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    for row in 0..ROWS as i64 {
        let received = 1_750_000_000_000 + row / 100;
        rows.lane(slot::TIME_RECEIVED).push(received);
        rows.lane(slot::LAST).push(received - i64::from(next() % 60_000));
        rows.lane(slot::FIRST).push(received - 60_000 - i64::from(next() % 60_000));
        rows.lane(slot::TIME_SOURCE).push(1);
        rows.lane(slot::EXPORTER_ID).push(1);
        rows.lane(slot::EXPORTER_ADDR).push(exporter);
        rows.lane(slot::IN_IF).push(next() % 64);
        rows.lane(slot::OUT_IF).push(next() % 64);
        rows.lane(slot::SAMPLING_NUM).push(1);
        rows.lane(slot::SAMPLING_DEN).push(1000);
        rows.lane(slot::OCTETS).push(u64::from(next() % 100_000));
        rows.lane(slot::PACKETS).push(u64::from(next() % 100));
        rows.lane(slot::OCTETS_LAYER).push(3);
        rows.lane(slot::SRC_ADDR).push(Octets16::from_v4(next().to_be_bytes()));
        rows.lane(slot::DST_ADDR).push(Octets16::from_v4(next().to_be_bytes()));
        rows.lane(slot::ETHER_TYPE).push(0x0800);
        rows.lane(slot::PROTO).push(6);
        rows.lane(slot::SRC_PORT).push(443);
        rows.lane(slot::DST_PORT).push(next() as u16);
        rows.lane(slot::TCP_FLAGS).push(next() as u16 & 0x1f);
        rows.lane(slot::TOS).push(0);
        rows.lane(slot::SRC_MASK).push(24);
        rows.lane(slot::DST_MASK).push(20);
        rows.lane(slot::RECORD_SRC_AS).push(next() % 60_000);
        rows.lane(slot::RECORD_DST_AS).push(next() % 60_000);
        rows.lane(slot::RECORD_NEXT_HOP).push(exporter);
        rows.commit(1);
    }
    rows.finish().expect("rows were committed")
}

fn options(directory: &std::path::Path) -> log::Options {
    log::Options {
        directory: directory.to_owned(),
        node: 1,
        created_s: 1,
        octets_max: 64 << 30,
        segment_octets: 64 << 20,
        memory_octets: 1 << 20,
    }
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn append_a_million_rows(bencher: divan::Bencher) {
    let batches: Vec<RecordBatch> = (0..16).map(batch).collect();
    bencher
        .counter(divan::counter::ItemsCount::new(244 * ROWS))
        .with_inputs(|| tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory"))
        .bench_refs(|directory| {
            let (mut appender, _reader, _handle) = log::open(&options(directory.path())).expect("a log");
            for (index, rows) in batches.iter().cycle().take(244).enumerate() {
                appender.append(rows.clone()).expect("room in the log");
                if index % 5 == 4 {
                    appender.sync().expect("a disk");
                }
            }
            appender.sync().expect("a disk")
        });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn replay_a_million_rows(bencher: divan::Bencher) {
    let batches: Vec<RecordBatch> = (0..16).map(batch).collect();
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    let (mut appender, mut reader, handle) = log::open(&options(directory.path())).expect("a log");
    for rows in batches.iter().cycle().take(244) {
        appender.append(rows.clone()).expect("room in the log");
    }
    appender.sync().expect("a disk");
    bencher.counter(divan::counter::ItemsCount::new(244 * ROWS)).bench_local(|| {
        handle.rewind(0);
        let mut rows = 0;
        while let Ok(log::Next::Batch { rows: batch, .. }) = reader.next(std::time::Duration::ZERO) {
            rows += batch.num_rows();
        }
        assert_eq!(rows, 244 * ROWS);
    });
}
