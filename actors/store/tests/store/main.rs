//! The store from outside: commits that die at every step, replays, merges,
//! retention, and every kind of question against a plain computation.

mod commit;
mod copy;
mod question;
mod rows;

use std::path::Path;
use std::sync::Arc;

use benocs_model::address::Address;
use benocs_model::message::{SourceId, StoreInput};
use benocs_model::tables::Tables;
use benocs_runtime::state::State;
use benocs_store::{Config, Store};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::rows::Row;

/// 2026-11-22T22:00:00Z.
pub const T0: i64 = 1_795_384_800_000;

pub fn source(node: u16) -> SourceId {
    SourceId::new(node, 1_700_000_000)
}

pub fn config() -> Config {
    Config { flush_ms: 0, compact_files_min: 3, question_threads: 2, ..Config::default() }
}

pub fn open(directory: &Path) -> Store {
    try_open(directory, config()).unwrap()
}

pub fn try_open(directory: &Path, config: Config) -> anyhow::Result<Store> {
    let state = State::temporary()?;
    Store::open(directory, config, &state, Arc::new(Tables::default()))
}

pub fn take(store: &mut Store, input: StoreInput) {
    store.accept(input).unwrap();
}

/// Rows of many kinds: late, long, sampled, duplicates, absent values, both families.
pub fn random_rows(seed: u64, count: usize) -> Vec<Row> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let received = T0 + random.random_range(0..7_200_000);
        let late = if random.random_bool(0.1) { random.random_range(0..3_600_000) } else { 0 };
        let last = received - late - random.random_range(0..5_000);
        let length = match random.random_range(0..10) {
            0..3 => 0,
            3..8 => random.random_range(0..60_000),
            _ => random.random_range(0..1_800_000),
        };
        let v6 = random.random_bool(0.3);
        let mut address = |net: u8| {
            let host: u8 = random.random_range(0..6);
            match v6 {
                true => Address([0x20, 1, 0xd, 0xb8, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]),
                false => Address::from_v4([198, 51, net, host]),
            }
        };
        let (src, dst) = (address(1), address(100));
        let asns = [0, 15169, 64496, 64500, 64501];
        let maybe = |random: &mut StdRng, values: &[u32]| {
            random.random_bool(0.85).then(|| values[random.random_range(0..values.len())])
        };
        rows.push(Row {
            received,
            first: last - length,
            last,
            exporter: random.random_range(1..4),
            in_if: maybe(&mut random, &[0, 1, 2, 3]),
            out_if: maybe(&mut random, &[4, 5]),
            in_if_id: if random.random_bool(0.5) { maybe(&mut random, &[11, 13, 22, 99, 77]) } else { None },
            num: 1,
            den: [1, 1, 100, 1000, 1024][random.random_range(0..5)],
            octets: random.random_range(0..2_000_000),
            packets: random.random_range(0..2_000),
            src,
            dst,
            src_port: [80, 443, 5353][random.random_range(0..3)],
            dst_port: random.random_range(1024..1030),
            proto: [6, 17, 1][random.random_range(0..3)],
            src_as: maybe(&mut random, &asns),
            dst_as: maybe(&mut random, &asns),
            handover_as: maybe(&mut random, &asns),
            src_len: maybe(&mut random, &[16, 24, 29]).map(|len| len as u8),
            path: maybe(&mut random, &[1, 2, 3]).map(u64::from),
            service: maybe(&mut random, &[1, 2, 3]),
            router: maybe(&mut random, &[1, 2, 7]),
            verdict: [Some(0), Some(0), Some(0), Some(1), Some(2), None][random.random_range(0..6)],
            tenant: maybe(&mut random, &[1, 2]),
            quality: if random.random_bool(0.1) { 1 << random.random_range(0..20) } else { 0 },
        });
    }
    rows
}
