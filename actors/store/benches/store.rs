//! What the store costs: CPU seconds a million rows taken, octets a row, and how
//! long questions take.
//!
//!   cargo bench -p benocs-store -- [rows, default 5000000]

#[path = "../tests/store/rows.rs"]
#[allow(dead_code)]
mod rows;

use std::sync::Arc;
use std::time::Instant;

use benocs_model::address::Address;
use benocs_model::message::{SourceId, StoreInput};
use benocs_model::question::Question;
use benocs_model::tables::Tables;
use benocs_runtime::state::State;
use benocs_store::{Config, Store, Table};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::rows::{Row, flow_batch, question, rollup_batch};

/// 2026-11-22T22:00:00Z.
const T0: i64 = 1_795_384_800_000;
const BATCH: usize = 4_096;

/// Heavy-tailed index below `n`.
fn tail(random: &mut StdRng, n: u32) -> u32 {
    let u: f64 = random.random();
    ((f64::from(n)).powf(u) - 1.0) as u32
}

fn traffic(random: &mut StdRng, count: usize, from: i64, length: i64) -> Vec<Row> {
    (0..count)
        .map(|i| {
            let received = from + length * i as i64 / count as i64;
            let last = received - random.random_range(1_000..15_000);
            let (exporter, in_if) = (1 + tail(random, 20), tail(random, 24));
            let src_as = 64_000 + tail(random, 8_000);
            let service = tail(random, 400);
            let net = tail(random, 60_000);
            let packets = 1 + u64::from(tail(random, 5_000));
            let size = [52u64, 120, 576, 1_420, 1_500][random.random_range(0..5)];
            Row {
                received,
                first: last - random.random_range(0..60_000),
                last,
                exporter,
                in_if: Some(in_if),
                out_if: Some(100 + tail(random, 24)),
                in_if_id: Some(exporter * 100 + in_if),
                num: 1,
                den: 1_000,
                octets: packets * size,
                packets,
                src: Address::from_v4([5, (net >> 8) as u8, net as u8, random.random()]),
                dst: Address::from_v4([100, 64 + tail(random, 16) as u8, random.random(), random.random()]),
                src_port: if random.random_bool(0.8) { 443 } else { random.random() },
                dst_port: random.random_range(1_024..=u16::MAX),
                proto: if random.random_bool(0.6) { 6 } else { 17 },
                src_as: Some(src_as),
                dst_as: Some(65_000),
                handover_as: Some(64_000 + tail(random, 60)),
                src_len: Some(20),
                path: Some(u64::from(src_as)),
                service: (service > 0).then_some(service),
                router: Some(exporter),
                verdict: Some(u8::from(random.random_bool(0.4))),
                tenant: None,
                quality: 0,
            }
        })
        .collect()
}

/// CPU seconds of this process, user and system.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let count: usize = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(5_000_000);
    let directory = tempfile::tempdir().unwrap();
    let state = State::temporary().unwrap();
    let config = Config { flush_ms: u64::MAX, ..Config::default() };
    let mut store = Store::open(directory.path(), config, &state, Arc::new(Tables::default())).unwrap();
    let source = SourceId::new(1, 1_700_000_000);
    let mut random = StdRng::seed_from_u64(1);
    let (mut taken_s, mut rollup_s) = (0.0, 0.0);
    let mut seq = 0;
    let chunk = 262_144;
    let chunks = count.div_ceil(chunk);
    for i in 0..chunks {
        let length = 3_600_000 / chunks as i64;
        let rows = traffic(&mut random, chunk.min(count - i * chunk), T0 + i as i64 * length, length);
        let from = seq;
        let batches: Vec<StoreInput> = rows
            .chunks(BATCH)
            .map(|part| {
                seq += 1;
                StoreInput::Flows(flow_batch(part, source, seq - 1))
            })
            .collect();
        let rollup = StoreInput::Rollups(rollup_batch(source, from, seq, &rows));
        let before = cpu_s();
        for batch in batches {
            store.accept(batch).unwrap();
        }
        store.commit().unwrap();
        let between = cpu_s();
        store.accept(rollup).unwrap();
        store.commit().unwrap();
        taken_s += between - before;
        rollup_s += cpu_s() - between;
    }
    let millions = count as f64 / 1e6;
    let octets = |store: &Store| -> f64 {
        store.snapshot().of(Table::Flows).map(|file| file.meta.octets).sum::<u64>() as f64 / count as f64
    };
    println!("rows                 {count}");
    println!("taken                {:.3} CPU s a million", taken_s / millions);
    println!("rollups, not summed  {:.3} CPU s a million", rollup_s / millions);
    println!("octets a row         {:.1} as committed", octets(&store));
    report(&store, "as committed");
    let (began, cpu) = (Instant::now(), cpu_s());
    while store.compact(T0 + 86_400_000 * 2).unwrap() {
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    println!(
        "merging              {:.3} CPU s a million, {:.1} s",
        (cpu_s() - cpu) / millions,
        began.elapsed().as_secs_f64()
    );
    println!("octets a row         {:.1} merged", octets(&store));
    report(&store, "merged");
}

fn report(store: &Store, state: &str) {
    let hour = |by: &[&str], filter: &str| {
        let mut asked = question(T0, T0 + 3_600_000, by);
        (asked.limit, asked.filter) = (10, filter.to_owned());
        asked
    };
    let raw = "src_port >= 0";
    let questions: Vec<(&str, Question)> = vec![
        ("rollup: top source AS", hour(&["src_as"], "")),
        ("rollup: series of handover AS", hour(&["time", "handover_as"], "")),
        ("rollup: six dimensions", hour(&["exporter_name", "handover_as", "src_as", "in_if", "out_if", "service"], "")),
        ("raw: totals", hour(&[], raw)),
        ("raw: top source AS", hour(&["src_as"], raw)),
        ("raw: series by service", hour(&["time", "service"], raw)),
        ("raw: top source addresses", hour(&["src_addr"], "")),
        ("raw: one address", hour(&["dst_port"], "src_addr = 5.0.7.9")),
        ("raw: one prefix", hour(&["dst_port"], "src_addr << 5.0.7.0/24")),
        ("raw: one exporter", hour(&["src_addr"], "exporter = 192.0.2.7")),
    ];
    println!("questions, {state}, {} files:", store.snapshot().files.len());
    for (name, asked) in questions {
        let mut times: Vec<f64> = Vec::new();
        let mut last = None;
        for _ in 0..7 {
            let answer = store.reader().ask_blocking(&asked).unwrap();
            times.push(answer.elapsed_ms);
            last = Some(answer);
        }
        times.sort_by(f64::total_cmp);
        if let Some(answer) = last {
            println!("  {name:32} {:8.1} ms  {:>9} rows read, {}", times[3], answer.rows_read, answer.source);
        }
    }
}
