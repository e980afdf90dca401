//! Whatever arrives is decoded, kept or counted, and stops nothing.

use benocs_model::flow::Column;

use super::{Bench, Datagram, NOW, cases, datagrams, router, samples};
use crate::decode::Config;

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn corpus() -> Option<Vec<Vec<Datagram>>> {
    let samples = samples()?;
    let of_case =
        |(_, files): (String, Vec<_>)| files.iter().flat_map(|file: &std::path::PathBuf| datagrams(file)).collect();
    Some(cases(&samples).into_iter().map(of_case).collect())
}

#[test]
fn every_prefix_of_every_sample_is_decoded_or_counted() {
    let Some(corpus) = corpus() else { return };
    let mut prefixes = 0u64;
    for case in corpus {
        let mut bench = Bench::new();
        // The first datagrams of long captures; their later ones are alike.
        for (source, received_ms, payload) in case.iter().take(40) {
            for len in 0..payload.len() {
                let before = bench.accounted();
                bench.feed_at(*source, *received_ms, &payload[..len]);
                assert!(bench.accounted() > before, "{len} octets of {payload:02x?}");
                prefixes += 1;
            }
            bench.feed_at(*source, *received_ms, payload);
            let rows = bench.rows();
            let spans = rows.times(Column::First).into_iter().zip(rows.times(Column::Last));
            assert!(spans.into_iter().all(|(first, last)| first <= last));
        }
    }
    assert!(prefixes > 100_000, "{prefixes}");
}

#[test]
fn a_million_mutated_datagrams_stop_nothing() {
    let Some(corpus) = corpus() else { return };
    let corpus: Vec<_> = corpus.into_iter().flatten().filter(|(_, _, payload)| !payload.is_empty()).collect();
    let config = Config { exporters_max: 64, pending_octets_total_max: 1 << 20, ..Config::default() };
    let mut bench = Bench::with(config.clone());
    let mut random = Random(42);
    let (mut before, mut rows) = (0, 0);
    for turn in 0..1_000_000u64 {
        let (_, received_ms, payload) = &corpus[random.below(corpus.len())];
        let mut mutated = payload.clone();
        for _ in 0..random.below(8) {
            let at = random.below(mutated.len());
            match random.below(6) {
                0 => mutated[at] = random.next() as u8,
                1 => mutated[at] ^= 1 << random.below(8),
                2 => mutated.truncate(at.max(1)),
                3 => mutated[at] = [0, 1, 4, 127, 128, 255][random.below(6)],
                4 => {
                    let other = &corpus[random.below(corpus.len())].2;
                    mutated.truncate(at.max(1));
                    mutated.extend_from_slice(&other[random.below(other.len())..]);
                    mutated.truncate(65_507);
                }
                _ => {
                    let to = random.below(mutated.len());
                    let octet = mutated[at];
                    mutated[to] = octet;
                }
            }
        }
        bench.feed_at(router(random.below(8) as u8), *received_ms, &mutated);
        // Looking at every state costs more than decoding does.
        if turn % 64 == 0 {
            let batch = bench.rows();
            rows += batch.len();
            let spans = batch.times(Column::First).into_iter().zip(batch.times(Column::Last));
            assert!(spans.into_iter().all(|(first, last)| first <= last));
            let now = bench.accounted();
            assert!(now >= before + 64 || turn == 0, "turn {turn}: {before} {now}");
            before = now;
        }
    }
    assert!(rows > 1_000_000, "{rows}");
    let status = bench.shared.status();
    assert!(status.len() <= config.exporters_max);
    assert!(status.iter().map(|exporter| exporter.pending_octets).sum::<usize>() <= 1 << 20);
    for exporter in status {
        assert!(exporter.templates <= config.templates_max && exporter.pending_octets <= config.pending_octets_max);
    }
}

#[test]
fn more_exporters_than_allowed_are_counted() {
    let mut bench = Bench::with(Config { exporters_max: 2, ..Config::default() });
    for last in 1..=5 {
        bench.feed_at(router(last), NOW, &super::message::netflow5(0, 0, 0, &[[1; 48]]));
    }
    assert_eq!((bench.rows().len(), bench.shared.exporters().len()), (2, 2));
    assert_eq!(bench.shared.refused().get(crate::decode::Cause::ExporterLimit), 3);
}
