//! Exactly once, whatever dies when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use benocs_model::message::{Commit, FlowBatch, RollupBatch, StoreInput, Stream};
use benocs_model::tables::Tables;
use benocs_runtime::state::State;
use benocs_runtime::{Outbox, fatal_channel};
use benocs_store::{Config, Step, Store, Table};

use crate::rows::{Row, flow_batch, question, rollup_batch, tables};
use crate::{T0, config, open, random_rows, source, take, try_open};

fn flows(rows: &[Row], seq: u64) -> StoreInput {
    StoreInput::Flows(flow_batch(rows, source(1), seq))
}

fn rollups(rows: &[Row], from: u64, upto: u64) -> StoreInput {
    StoreInput::Rollups(rollup_batch(source(1), from, upto, rows))
}

/// Flow rows, and flows by the rollups of either width.
fn counts(store: &Store) -> (u64, u64, u64) {
    let snapshot = store.snapshot();
    let rows: u64 = snapshot.of(Table::Flows).map(|file| file.meta.rows).sum();
    let day = 86_400_000;
    let counted = |resolution: i64, filter: &str| {
        let mut asked = question(T0 - day, T0 + day, &["time"]);
        asked.all_sightings = true;
        asked.resolution_ms = resolution;
        asked.filter = filter.to_owned();
        store.reader().ask_blocking(&asked).unwrap()
    };
    let (raw, rolled) = (counted(300_000, "src_port >= 0"), counted(300_000, ""));
    assert_eq!(raw.totals, rolled.totals, "{} and {}", raw.source, rolled.source);
    (rows, raw.totals.flows, rolled.totals.flows)
}

fn fail_at(step: Step, occurrence: usize) -> (benocs_store::Fault, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let fault = move |at: Step| {
        if at == step && count.fetch_add(1, Ordering::SeqCst) == occurrence {
            return Err(std::io::Error::other("the power went"));
        }
        Ok(())
    };
    (Arc::new(fault), seen)
}

/// Sends what the log would send: every batch from the committed cursors on.
fn replay(store: &mut Store, batches: &[&[Row]]) -> Result<(), String> {
    let next = |store: &Store, stream| store.cursors(stream).get(&source(1)).copied().unwrap_or(0);
    let (flow_next, rollup_next) = (next(store, Stream::Flows), next(store, Stream::Rollups));
    for (seq, rows) in batches.iter().enumerate() {
        let seq = seq as u64;
        if seq >= flow_next {
            store.accept(flows(rows, seq)).map_err(|error| error.to_string())?;
        }
        if seq >= rollup_next {
            store.accept(rollups(rows, seq, seq + 1)).map_err(|error| error.to_string())?;
        }
        if seq % 2 == 1 {
            store.commit().map_err(|error| error.to_string())?;
        }
    }
    store.commit().map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn a_commit_that_dies_at_any_step_is_whole_or_absent() {
    let rows = random_rows(1, 240);
    let batches: Vec<&[Row]> = rows.chunks(40).collect();
    for step in Step::ALL {
        let mut died = 0;
        for occurrence in 0.. {
            let directory = tempfile::tempdir().unwrap();
            let (fault, _) = fail_at(step, occurrence);
            let state = State::temporary().unwrap();
            let mut store =
                Store::open_with_fault(directory.path(), config(), &state, Arc::new(Tables::default()), fault).unwrap();
            let result = replay(&mut store, &batches);
            drop(store);
            let mut store = open(directory.path());
            assert!(store.verify().is_empty());
            if let Err(error) = &result {
                died += 1;
                assert!(error.contains("the power went") && !error.contains('\n'), "{error}");
                // Between the crash and the replay: whole commits only, flows and rollups of the same batches.
                let cursor = |stream| store.cursors(stream).get(&source(1)).copied().unwrap_or(0);
                assert_eq!(cursor(Stream::Flows), cursor(Stream::Rollups));
                assert_eq!(counts(&store).0, cursor(Stream::Flows) * 40);
            }
            replay(&mut store, &batches).unwrap();
            assert_eq!(counts(&store), (240, 240, 240), "{step:?} at {occurrence}");
            assert_eq!(store.cursors(Stream::Flows), [(source(1), 6)].into());
            drop(store);
            assert_eq!(counts(&open(directory.path())), (240, 240, 240));
            if result.is_ok() {
                break;
            }
        }
        assert!(died >= 3, "{step:?} was reached {died} times");
    }
}

#[test]
fn duplicates_are_dropped_and_gaps_are_fatal() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(2, 40);
    let mut store = open(directory.path());
    for seq in [0, 0, 1, 0, 1, 2, 2] {
        take(&mut store, flows(&rows, seq));
        take(&mut store, rollups(&rows, seq, seq + 1));
    }
    store.commit().unwrap();
    for seq in [1, 2] {
        take(&mut store, flows(&rows, seq));
        take(&mut store, rollups(&rows, seq, seq + 1));
    }
    assert!(!store.commit().unwrap(), "nothing new came");
    assert_eq!(counts(&store), (120, 120, 120));
    let error = store.accept(flows(&rows, 4)).unwrap_err().to_string();
    assert!(error.contains("expected 3, got 4"), "{error}");
    let error = store.accept(rollups(&rows, 4, 5)).unwrap_err().to_string();
    assert!(error.contains("batch 4") && error.contains("3 is expected"), "{error}");
    let overlapping = store.accept(rollups(&rows, 2, 4)).unwrap_err().to_string();
    assert!(overlapping.contains("3 is expected"), "{overlapping}");
    // Another log has numbers of its own.
    take(&mut store, StoreInput::Flows(flow_batch(&rows, source(2), 0)));
    store.commit().unwrap();
    assert_eq!(counts(&store).0, 160);
}

#[test]
fn a_batch_without_rows_moves_the_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let rows = random_rows(2, 1);
    let batch = flow_batch(&rows, source(1), 0);
    take(&mut store, StoreInput::Flows(FlowBatch { rows: batch.rows.slice(0, 0), ..batch }));
    let nothing = RollupBatch { from: [(source(1), 0)].into(), upto: [(source(1), 1)].into(), partials: Vec::new() };
    take(&mut store, StoreInput::Rollups(nothing));
    assert!(store.commit().unwrap());
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.cursors(Stream::Flows), [(source(1), 1)].into());
    assert_eq!(store.cursors(Stream::Rollups), [(source(1), 1)].into());
}

#[test]
fn merging_changes_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(3, 2_000);
    let mut store = open(directory.path());
    let questions: Vec<_> = [vec!["src_as", "in_if_name"], vec!["src_addr", "dst_port"], vec!["time", "service"]]
        .iter()
        .map(|by| question(T0, T0 + 7_200_000, by))
        .collect();
    for (seq, chunk) in rows.chunks(100).enumerate() {
        take(&mut store, flows(chunk, seq as u64));
        take(&mut store, rollups(chunk, seq as u64, seq as u64 + 1));
        store.commit().unwrap();
    }
    let ask = |store: &Store| -> Vec<_> {
        questions.iter().map(|asked| store.reader().ask_blocking(asked).unwrap()).map(|a| (a.rows, a.totals)).collect()
    };
    let before = ask(&store);
    let files_before = store.snapshot().files.len();
    // A reader that began before the merge still has its files.
    let old = store.snapshot();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while store.compact(T0 + 86_400_000 * 2).unwrap() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert!(store.snapshot().files.len() < files_before / 3);
    assert_eq!(ask(&store), before);
    assert!(store.verify().is_empty());
    assert!(old.files.values().all(|file| file.path.exists()));
    let removed: Vec<_> = old.files.values().map(|file| file.path.clone()).collect();
    drop(old);
    let kept: Vec<_> = store.snapshot().files.values().map(|file| file.path.clone()).collect();
    assert!(removed.iter().all(|path| path.exists() == kept.contains(path)));
    drop(store);
    assert_eq!(ask(&open(directory.path())).len(), before.len());
}

#[test]
fn a_merge_that_dies_loses_nothing() {
    let rows = random_rows(4, 400);
    for step in Step::ALL {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        for (seq, chunk) in rows.chunks(50).enumerate() {
            take(&mut store, flows(chunk, seq as u64));
            take(&mut store, rollups(chunk, seq as u64, seq as u64 + 1));
            store.commit().unwrap();
        }
        drop(store);
        let (fault, seen) = fail_at(step, 0);
        let state = State::temporary().unwrap();
        let mut store =
            Store::open_with_fault(directory.path(), config(), &state, Arc::new(Tables::default()), fault).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let result = loop {
            assert!(std::time::Instant::now() < deadline);
            match store.compact(T0 + 86_400_000 * 2) {
                Ok(true) => std::thread::yield_now(),
                other => break other,
            }
        };
        assert!(result.is_err() && seen.load(Ordering::SeqCst) > 0, "{step:?}");
        drop(store);
        let store = open(directory.path());
        assert_eq!(counts(&store), (400, 400, 400), "{step:?}");
        assert!(store.verify().is_empty());
    }
}

#[test]
fn retention_is_by_table() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(5, 300);
    let keep = Config { retention_flows_s: 3_600, retention_rollup_1m_s: 86_400, retention_rollup_5m_s: 0, ..config() };
    let mut store = try_open(directory.path(), keep).unwrap();
    take(&mut store, flows(&rows, 0));
    take(&mut store, rollups(&rows, 0, 1));
    store.commit().unwrap();
    let of = |store: &Store| Table::ALL.map(|table| store.snapshot().of(table).count());
    assert!(of(&store)[0] >= 2, "two hours were received");
    assert_eq!(store.retain(T0).unwrap(), 0);
    // The first hour is older than an hour, the second is not.
    store.retain(T0 + 7_200_000 + 1_800_000).unwrap();
    assert_eq!(of(&store)[0], 1);
    store.retain(T0 + 7_200_000 + 3_600_001).unwrap();
    assert_eq!(of(&store)[0], 0);
    assert!(of(&store)[1] > 0);
    store.retain(T0 + 200_000_000).unwrap();
    assert_eq!(of(&store)[1], 0);
    assert!(of(&store)[2] > 0, "kept for ever");
    drop(store);
    let store = open(directory.path());
    assert_eq!(of(&store)[0], 0);
    assert_eq!(store.cursors(Stream::Flows), [(source(1), 1)].into(), "what was deleted is not wanted again");
}

#[test]
fn the_oldest_go_when_the_disk_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(6, 600);
    let mut store = open(directory.path());
    for (seq, chunk) in rows.chunks(100).enumerate() {
        take(&mut store, flows(chunk, seq as u64));
        store.commit().unwrap();
    }
    let octets: u64 = store.snapshot().of(Table::Flows).map(|file| file.meta.octets).sum();
    drop(store);
    let small = Config { flows_octets_max: octets / 2, retention_flows_s: 0, ..config() };
    let mut store = try_open(directory.path(), small).unwrap();
    let newest = |store: &Store| store.snapshot().of(Table::Flows).map(|file| file.meta.received.max).max();
    let before = newest(&store);
    assert!(store.retain(T0).unwrap() > 0);
    let left: u64 = store.snapshot().of(Table::Flows).map(|file| file.meta.octets).sum();
    assert!(left <= octets / 2 && left > 0);
    assert_eq!(newest(&store), before);
}

#[test]
fn the_index_is_rebuilt_from_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let state_directory = tempfile::tempdir().unwrap();
    let rows = random_rows(7, 100);
    let open = |state: &State| Store::open(directory.path(), config(), state, Arc::new(Tables::default())).unwrap();
    let state = State::open(state_directory.path()).unwrap();
    let mut store = open(&state);
    for seq in 0..3 {
        take(&mut store, flows(&rows, seq));
        store.commit().unwrap();
    }
    let files = store.snapshot().files.len();
    drop(store);
    let tree = state.tree("store.files").unwrap();
    assert_eq!(tree.len(), files, "the index has every file");
    tree.clear().unwrap();
    tree.put(b"nonsense", &5u8).unwrap();
    state.tree("store.cursors").unwrap().put(b"flows", &1u8).unwrap();
    let store = open(&state);
    assert_eq!(store.snapshot().files.len(), files);
    assert_eq!(tree.len(), files);
    assert_eq!(store.cursors(Stream::Flows), [(source(1), 3)].into());
}

#[test]
fn damage_is_found_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(8, 200);
    let mut store = open(directory.path());
    take(&mut store, flows(&rows, 0));
    store.commit().unwrap();
    let (file, bad_rows) = {
        let snapshot = store.snapshot();
        let file = snapshot.of(Table::Flows).next().unwrap();
        (file.path.clone(), file.meta.rows)
    };
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 0x10;
    std::fs::write(&file, &bad).unwrap();
    let faults = store.verify();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].path == file && faults[0].reason.contains("checksum"), "{faults:?}");
    drop(store);
    std::fs::write(&file, &good[..good.len() - 1]).unwrap();
    let error = format!("{:#}", try_open(directory.path(), config()).err().unwrap());
    assert!(error.contains("octets where the manifest says") && !error.contains('\n'), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = format!("{:#}", try_open(directory.path(), config()).err().unwrap());
    assert!(error.contains("named by the manifest"), "{error}");
    std::fs::write(&file, &good).unwrap();
    assert_eq!(counts(&open(directory.path())).0, 200);
    // Given up on request, with the cursor where it was.
    std::fs::write(&file, &bad).unwrap();
    let forgiving = Config { drop_damaged_files: true, ..config() };
    let store = try_open(directory.path(), forgiving).unwrap();
    assert_eq!(store.snapshot().of(Table::Flows).map(|file| file.meta.rows).sum::<u64>() + bad_rows, 200);
    assert_eq!(store.cursors(Stream::Flows), [(source(1), 1)].into());
    drop(store);
    assert!(open(directory.path()).verify().is_empty());
}

#[test]
fn a_lost_manifest_is_no_reason_to_delete_everything() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(8, 80);
    let mut store = open(directory.path());
    for (seq, row) in rows.chunks(1).enumerate() {
        take(&mut store, flows(row, seq as u64));
        store.commit().unwrap();
    }
    let files: Vec<_> = store.snapshot().files.values().map(|file| file.path.clone()).collect();
    drop(store);
    let manifest = directory.path().join("manifest");
    let kept = std::fs::read(&manifest).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    let error = format!("{:#}", try_open(directory.path(), config()).err().unwrap());
    assert!(error.contains("is missing although there are 80 data files"), "{error}");
    assert!(files.iter().all(|file| file.exists()));
    std::fs::write(&manifest, kept).unwrap();
    assert_eq!(open(directory.path()).snapshot().files.len(), 80);
}

#[test]
fn tables_are_published_again_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    for _ in 0..2 {
        for table in tables() {
            take(&mut store, StoreInput::Table(table.into()));
        }
    }
    assert!(!store.commit().unwrap(), "no cursor moved");
    let written = std::fs::metadata(directory.path().join("tables")).unwrap().len();
    drop(store);
    let published = Arc::new(Tables::default());
    let state = State::temporary().unwrap();
    let mut store = Store::open(directory.path(), config(), &state, published.clone()).unwrap();
    assert_eq!(published.exporters.load().rows.len(), 3);
    assert_eq!(published.interfaces.load().rows.len(), 19);
    assert_eq!(published.services.load().rows.len(), 2);
    assert_eq!(published.network.load().routers.len(), 2);
    // An owner that counts its generations from one again is heard.
    let fresh = benocs_model::network::Services { generation: 1, rows: Vec::new() };
    let update = benocs_model::tables::TableUpdate::Services(Arc::new(fresh));
    take(&mut store, StoreInput::Table(update.into()));
    store.commit().unwrap();
    assert!(published.services.load().rows.is_empty());
    assert!(
        std::fs::metadata(directory.path().join("tables")).unwrap().len() < written * 2,
        "said twice, written once"
    );
}

#[test]
fn the_worker_commits_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(9, 100);
    benocs_runtime::block_on(async {
        let (fatal, mut failed) = fatal_channel();
        let (outbox, commits) = Outbox::<Commit>::channel(2);
        let store = try_open(directory.path(), Config { flush_ms: 20, ..config() }).unwrap();
        let reader = store.reader();
        let handle = benocs_store::spawn(store, 8, vec![outbox], fatal);
        for seq in 0..5 {
            handle.outbox.send(flows(&rows, seq)).await.unwrap();
            handle.outbox.send(rollups(&rows, seq, seq + 1)).await.unwrap();
        }
        // Commits come at the start and after every flush; a mailbox of two is often full.
        let limit = std::time::Duration::from_secs(30);
        let told = tokio::time::timeout(limit, async {
            let mut last = std::collections::BTreeMap::new();
            while last.get(&Stream::Flows) != Some(&5) || last.get(&Stream::Rollups) != Some(&5) {
                let commit = commits.recv().await.unwrap();
                let next = commit.cursors.get(&source(1)).copied().unwrap_or(0);
                assert!(next >= last.insert(commit.stream, next).unwrap_or(0), "commits are cumulative");
            }
        });
        assert!(told.await.is_ok(), "not every commit was said");
        handle.outbox.send(flows(&rows, 5)).await.unwrap();
        assert!(handle.drain(limit).await);
        assert_eq!(reader.snapshot().flows, [(source(1), 6)].into());
        assert!(failed.try_recv().is_err());
    });
    assert_eq!(counts(&open(directory.path())).0, 600);
}
