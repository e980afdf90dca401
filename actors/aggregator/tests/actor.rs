//! The actor as the composition root runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::UInt64Type;
use benocs_aggregator::{Aggregator, Config};
use benocs_model::message::{FlowBatch, RollupBatch, SourceId, StoreInput};
use benocs_runtime::{Outbox, Restart, Settings, fatal_channel, spawn};

const SOURCE: SourceId = SourceId(0x0001_0000_0000_0007);

fn batch(seq: u64, rows: usize) -> FlowBatch {
    let columns: [(&str, ArrayRef); 7] = [
        ("first", Arc::new(Int64Array::from(vec![1_000; rows]))),
        ("last", Arc::new(Int64Array::from(vec![2_000; rows]))),
        ("sampling_num", Arc::new(UInt32Array::from(vec![1; rows]))),
        ("sampling_den", Arc::new(UInt32Array::from(vec![1; rows]))),
        ("octets", Arc::new(UInt64Array::from(vec![100; rows]))),
        ("packets", Arc::new(UInt64Array::from(vec![1; rows]))),
        ("quality", Arc::new(UInt64Array::from(vec![0; rows]))),
    ];
    FlowBatch { source: SOURCE, seq, rows: RecordBatch::try_from_iter(columns).expect("columns of one length") }
}

fn settings() -> Settings {
    Settings { name: "aggregator", capacity: 8, tick: Duration::from_millis(10), restart: Restart::Never }
}

fn flows(rollups: &RollupBatch, width_ms: i64) -> u64 {
    let (_, rows) = rollups.partials.iter().find(|(width, _)| *width == width_ms).expect("a declared width");
    rows["flows"].as_primitive::<UInt64Type>().values().iter().sum()
}

async fn next(receiver: &async_channel::Receiver<StoreInput>) -> RollupBatch {
    let received = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await.expect("in time");
    match received.expect("the aggregator lives") {
        StoreInput::Rollups(rollups) => rollups,
        other => panic!("rollups wanted, not {other:?}"),
    }
}

fn run(test: impl Future<Output = ()>) {
    benocs_runtime::block_on(test);
}

#[test]
fn stretches_join_and_repetitions_do_not_count() {
    run(async {
        let (store, receiver) = Outbox::channel(8);
        let (fatal, mut ended) = fatal_channel();
        let config = Config { flush_ms: 30, ..Config::default() };
        let handle =
            spawn(settings(), fatal, move || Ok(Aggregator::new(config.clone(), [(SOURCE, 5)].into(), store.clone())));
        for seq in [3, 4, 5, 6] {
            handle.outbox.send(batch(seq, 10)).await.expect("open");
        }
        let mut upto = 5;
        let mut total = 0;
        let deadline = Instant::now() + Duration::from_secs(10);
        while upto < 7 {
            assert!(Instant::now() < deadline);
            let rollups = next(&receiver).await;
            assert_eq!(rollups.from[&SOURCE], upto);
            upto = rollups.upto[&SOURCE];
            assert_eq!(flows(&rollups, 60_000), flows(&rollups, 300_000));
            total += flows(&rollups, 60_000);
        }
        assert_eq!(total, 20);

        handle.outbox.send(batch(7, 3)).await.expect("open");
        assert!(handle.drain(Duration::from_secs(10)).await, "drains");
        let last = next(&receiver).await;
        assert_eq!((last.from[&SOURCE], last.upto[&SOURCE], flows(&last, 60_000)), (7, 8, 3));
        assert!(ended.try_recv().is_err());
    });
}

#[test]
fn a_gap_ends_the_process() {
    run(async {
        let (store, _receiver) = Outbox::channel(8);
        let (fatal, mut ended) = fatal_channel();
        let handle = spawn(settings(), fatal, move || {
            Ok(Aggregator::new(Config::default(), [(SOURCE, 5)].into(), store.clone()))
        });
        handle.outbox.send(batch(6, 1)).await.expect("open");
        let fatal = tokio::time::timeout(Duration::from_secs(10), ended.recv()).await.expect("in time");
        let fatal = fatal.expect("a reason");
        assert!(fatal.reason.contains("batch 6") && fatal.reason.contains("5 was wanted"), "{}", fatal.reason);
    });
}
