//! CPU time of the sums: batches of 4,096 rows, each key met about eight times
//! in a flush of a million rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, PrimitiveArray, RecordBatch, UInt32Array};
use arrow::datatypes::{ArrowPrimitiveType, UInt8Type, UInt16Type, UInt64Type};
use benocs_aggregator::windows::Windows;
use benocs_model::rollup;

const ROWS: usize = 4096;
const BATCHES: usize = 245;

fn main() {
    divan::main();
}

/// A sequence that is the same in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn batches(distinct: u64) -> Vec<RecordBatch> {
    let mut state = 0x2545_f491_4f6c_dd1d;
    (0..BATCHES)
        .map(|_| {
            let picks: Vec<u64> = (0..ROWS).map(|_| next(&mut state) % distinct).collect();
            let starts: Vec<i64> = (0..ROWS).map(|_| (next(&mut state) % 60_000) as i64).collect();
            let lasts = starts.iter().map(|start| start + (next(&mut state) % 15_000) as i64).collect::<Vec<_>>();
            fn small<T: ArrowPrimitiveType>(picks: &[u64], modulo: u64, make: fn(u64) -> T::Native) -> ArrayRef {
                Arc::new(PrimitiveArray::<T>::from_iter_values(picks.iter().map(|pick| make(pick % modulo))))
            }
            let wide = |modulo: u64| -> ArrayRef {
                Arc::new(UInt32Array::from_iter_values(picks.iter().map(|pick| (pick % modulo) as u32)))
            };
            let mut columns: Vec<(&str, ArrayRef)> = vec![
                ("first", Arc::new(Int64Array::from(starts))),
                ("last", Arc::new(Int64Array::from(lasts))),
                ("octets", small::<UInt64Type>(&picks, 1500, |value| value)),
                ("packets", small::<UInt64Type>(&picks, 10, |value| value)),
                ("sampling_num", Arc::new(UInt32Array::from(vec![1; ROWS]))),
                ("sampling_den", Arc::new(UInt32Array::from(vec![1000; ROWS]))),
                ("quality", small::<UInt64Type>(&picks, 2, |value| value)),
            ];
            for key in rollup::KEYS {
                columns.push(match *key {
                    "etype" => ("etype", small::<UInt16Type>(&picks, 2, |value| value as u16)),
                    "proto" | "observation" | "count_verdict" | "count_reason" => {
                        (*key, small::<UInt8Type>(&picks, 2, |value| value as u8))
                    }
                    "customer" | "tenant_set" | "src_network" | "dst_network" => continue,
                    "dst_as" | "src_as" => (*key, wide(distinct)),
                    _ => (*key, wide(40)),
                });
            }
            RecordBatch::try_from_iter(columns).expect("columns of one length")
        })
        .collect()
}

/// A million rows summed and turned into partials.
#[divan::bench(args = [1_000, 120_000], sample_count = 10)]
fn million_rows(bencher: divan::Bencher, distinct: u64) {
    let batches = batches(distinct);
    bencher.counter(divan::counter::ItemsCount::new(ROWS * BATCHES)).bench_local(|| {
        let mut windows = Windows::new();
        for batch in &batches {
            windows.add(batch).expect("a good batch");
        }
        windows.take().expect("partials")
    });
}
