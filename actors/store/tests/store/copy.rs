//! A copy is one of its original's states, whatever dies when, and answers as
//! that does from rollups.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use benocs_model::message::{Copied, Cursors, StoreInput};
use benocs_model::question::{Ask as _, AskError};
use benocs_model::tables::{TableUpdate, Tables};
use benocs_runtime::Outbox;
use benocs_runtime::state::State;
use benocs_store::{FileMeta, Publisher, Step, Store, StoreError, Table};
use tokio::sync::oneshot;

use crate::rows::{self, Row, flow_batch, question, rollup_batch};
use crate::{T0, config, open, random_rows, source, take};

const DAY: i64 = 86_400_000;
const LIMIT: Duration = Duration::from_secs(60);

fn open_copy(directory: &Path) -> Store {
    Store::open_copy(directory, config(), &State::temporary().unwrap(), Arc::new(Tables::default())).unwrap()
}

/// Files of a state, whatever their numbers are, and what its rollups hold.
type Content = (BTreeSet<(Table, i64, u64, u32)>, Cursors);

fn content(store: &Store) -> Content {
    let snapshot = store.snapshot();
    let files = snapshot.files.values().filter(|file| file.meta.table != Table::Flows);
    let files = files.map(|file| (file.meta.table, file.meta.partition, file.meta.rows, file.meta.crc32)).collect();
    (files, snapshot.rollups.clone())
}

fn held(copy: &Store) -> Vec<u64> {
    copy.holds().unwrap().files()
}

fn commit(original: &mut Store, rows: &[Row], seq: u64) {
    take(original, StoreInput::Flows(flow_batch(rows, source(1), seq)));
    take(original, StoreInput::Rollups(rollup_batch(source(1), seq, seq + 1, rows)));
    original.commit().unwrap();
}

fn merge(original: &mut Store) {
    let deadline = Instant::now() + LIMIT;
    while original.compact(T0 + 2 * DAY).unwrap() {
        assert!(Instant::now() < deadline, "merging does not end");
        std::thread::yield_now();
    }
}

/// Everything that the copy lacks of the original as it is.
fn follow(copy: &mut Store, original: &Store) {
    for message in Publisher::new(original.reader()).missing(&held(copy)).1 {
        take(copy, message);
    }
    copy.commit().unwrap();
}

/// Files below the directory.
fn parquet(directory: &Path) -> usize {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let tables = Table::ALL.into_iter().flat_map(|table| entries(&directory.join(table.name())).collect::<Vec<_>>());
    tables.map(|partition| entries(&partition).count()).sum()
}

#[test]
fn a_copy_that_dies_at_any_step_is_one_of_the_originals_states() {
    let directory = tempfile::tempdir().unwrap();
    let mut original = open(directory.path());
    let rows = random_rows(11, 120);
    for table in rows::tables() {
        take(&mut original, StoreInput::Table(table.into()));
    }
    let mut states = vec![Content::default()];
    let mut messages: Vec<StoreInput> = Vec::new();
    let mut held: Vec<u64> = Vec::new();
    for (seq, chunk) in rows.chunks(30).enumerate() {
        commit(&mut original, chunk, seq as u64);
        if seq == 2 {
            merge(&mut original);
        }
        states.push(content(&original));
        for message in Publisher::new(original.reader()).missing(&held).1 {
            if let StoreInput::Copied(Copied::Commit { files, .. }) = &message {
                held = files.clone();
            }
            messages.push(message);
        }
    }
    let last = states.last().unwrap();
    assert!(states[3].0.len() < states[2].0.len(), "a merge removes files of the copy too");
    for step in Step::ALL {
        let mut died = 0;
        for occurrence in 0.. {
            let directory = tempfile::tempdir().unwrap();
            let seen = AtomicUsize::new(0);
            let fault = move |at: Step| match at == step && seen.fetch_add(1, Ordering::SeqCst) == occurrence {
                true => Err(std::io::Error::other("the power went")),
                false => Ok(()),
            };
            let (state, tables) = (State::temporary().unwrap(), Arc::new(Tables::default()));
            let opened = Store::open_copy_with_fault(directory.path(), config(), &state, tables, Arc::new(fault));
            let result = opened.and_then(|mut copy| {
                messages.iter().try_for_each(|message| copy.accept(message.clone()).map(drop))?;
                Ok(())
            });
            let mut copy = open_copy(directory.path());
            assert!(copy.verify().is_empty());
            assert_eq!(parquet(directory.path()), copy.snapshot().files.len(), "{step:?}: nothing else is left");
            if result.is_err() {
                died += 1;
                assert!(states.contains(&content(&copy)), "{step:?} at {occurrence}");
            }
            follow(&mut copy, &original);
            assert_eq!(&content(&copy), last, "{step:?} at {occurrence}");
            drop(copy);
            let copy = open_copy(directory.path());
            assert_eq!(&content(&copy), last);
            assert_eq!(parquet(directory.path()), last.0.len());
            if result.is_ok() {
                break;
            }
        }
        assert!(died >= 3, "{step:?} was reached {died} times");
    }
}

#[test]
fn a_copy_that_dies_in_its_first_state_begins_again() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut original = open(here.path());
    for (seq, chunk) in random_rows(17, 400).chunks(20).enumerate() {
        commit(&mut original, chunk, seq as u64);
    }
    let mut messages: Vec<StoreInput> = Publisher::new(original.reader()).missing(&[]).1.collect();
    messages.pop();
    let mut copy = open_copy(there.path());
    messages.into_iter().for_each(|message| take(&mut copy, message));
    assert!(parquet(there.path()) > 64, "more than a lost manifest is suspected for");
    drop(copy);
    let mut copy = open_copy(there.path());
    assert_eq!((parquet(there.path()), held(&copy)), (0, Vec::new()));
    follow(&mut copy, &original);
    assert_eq!(content(&copy), content(&original));
}

#[test]
fn a_copy_answers_from_rollups_as_its_original_does() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut original = open(here.path());
    for table in rows::tables() {
        take(&mut original, StoreInput::Table(table.into()));
    }
    for (seq, chunk) in random_rows(12, 600).chunks(100).enumerate() {
        commit(&mut original, chunk, seq as u64);
    }
    let mut copy = open_copy(there.path());
    let empty = copy.reader().ask_blocking(&question(T0, T0 + DAY, &["src_as"])).unwrap();
    assert!(empty.rows.is_empty() && empty.notes.iter().any(|note| note.contains("storage00")), "{:?}", empty.notes);
    follow(&mut copy, &original);
    drop(copy);
    // Names are there after a restart too.
    let copy = open_copy(there.path());
    assert_eq!(copy.snapshot().of(Table::Flows).count(), 0);
    for by in [
        vec!["src_as", "dst_as"],
        vec!["exporter", "exporter_name", "in_if_name", "in_if_boundary"],
        vec!["service", "src_as_name", "ingress_router"],
        vec!["time", "handover_as"],
    ] {
        for filter in ["", "src_as = AS15169 OR dst_as IN (64500, null)", "in_if_boundary = external"] {
            let mut asked = question(T0 - 3_600_000, T0 + 7_200_000, &by);
            asked.resolution_ms = 300_000;
            asked.filter = filter.to_owned();
            let (here, there) =
                (original.reader().ask_blocking(&asked).unwrap(), copy.reader().ask_blocking(&asked).unwrap());
            assert_eq!((here.rows, here.totals), (there.rows, there.totals), "{by:?} {filter}");
            assert!(there.source.starts_with("rollup_"), "{}", there.source);
        }
    }
    assert_eq!(copy.reader().tables().as_names.load()[&15169].as_ref(), "Google LLC");
}

#[tokio::test]
async fn a_copy_says_what_it_cannot_answer() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut original = open(here.path());
    commit(&mut original, &random_rows(13, 200), 0);
    let mut copy = open_copy(there.path());
    follow(&mut copy, &original);
    let reader = copy.reader();
    let said = |error: AskError| match error {
        AskError::Wrong { message, at: None } => message,
        other => panic!("{other:?}"),
    };

    let mut asked = question(T0, T0 + 3_600_000, &["src_addr"]);
    let message = said(reader.ask_blocking(&asked).unwrap_err());
    assert!(message.contains("`src_addr`") && message.contains("not on the front end"), "{message}");
    asked = question(T0, T0 + 3_600_000, &["src_as"]);
    asked.filter = "dst_port = 443".to_owned();
    let message = said(reader.ask_blocking(&asked).unwrap_err());
    assert!(message.contains("`dst_port`") && !message.contains('\n'), "{message}");

    // Part of a window is none: the original answers this from flow rows.
    let mut odd = question(T0 + 1_234, T0 + 599_999, &["time", "proto"]);
    odd.resolution_ms = 7_000;
    assert_eq!(original.reader().ask_blocking(&odd).unwrap().source, "flows");
    let answer = reader.ask_blocking(&odd).unwrap();
    assert_eq!((answer.source.as_str(), answer.resolution_ms), ("rollup_1m", 60_000));
    assert_eq!((answer.from_ms, answer.to_ms), (T0, T0 + 600_000));
    let about =
        |word: &str| answer.notes.iter().filter(|note| note.contains(word) && note.contains("front end")).count();
    assert_eq!((about("the range"), about("the resolution")), (1, 1), "{:?}", answer.notes);
    let whole = original.reader().ask_blocking(&question(T0, T0 + 600_000, &["proto"])).unwrap();
    assert_eq!(whole.totals, answer.totals);

    let named: Vec<String> = reader.dimensions().into_iter().map(|dimension| dimension.name).collect();
    assert!(named.contains(&"time".to_owned()) && named.contains(&"src_as".to_owned()));
    assert!(!named.contains(&"src_addr".to_owned()), "what it cannot answer is not offered");
    assert_eq!(reader.complete("src_port", "4", 10).await.unwrap(), Vec::<String>::new());
    assert_eq!(reader.complete("src_as", "15", 10).await.unwrap(), ["AS15169"]);

    let message = said(reader.sql("SELECT count(*) FROM flows").await.unwrap_err());
    assert!(message.contains("`flows` is not on the front end"), "{message}");
    let sum = "SELECT CAST(sum(octets) AS BIGINT) AS n FROM rollup_1m";
    assert_eq!(reader.sql(sum).await.unwrap(), original.reader().sql(sum).await.unwrap());
}

#[test]
fn what_is_no_part_of_a_state_is_refused() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut original = open(here.path());
    let rows = random_rows(14, 60);
    commit(&mut original, &rows, 0);
    let mut copy = open_copy(there.path());
    let messages: Vec<StoreInput> = Publisher::new(original.reader()).missing(&[]).1.collect();
    let refused = |store: &mut Store, input: StoreInput, word: &str| match store.accept(input) {
        Err(StoreError::Copy { reason }) => assert!(reason.contains(word) && !reason.contains('\n'), "{reason}"),
        other => panic!("{word}: {other:?}"),
    };
    let file = |message: &StoreInput| match message {
        StoreInput::Copied(Copied::File { generation, meta, octets }) => {
            Some((*generation, postcard::from_bytes::<FileMeta>(meta).unwrap(), octets.clone()))
        }
        _ => None,
    };
    let (generation, meta, octets) = messages.iter().find_map(file).unwrap();
    let described = |meta: &FileMeta, octets: &[u8]| {
        let meta = postcard::to_stdvec(meta).unwrap();
        StoreInput::Copied(Copied::File { generation, meta, octets: octets.to_vec().into() })
    };

    refused(&mut copy, described(&FileMeta { table: Table::Flows, ..meta.clone() }, &octets), "flow rows");
    let mut spoiled = octets.to_vec();
    spoiled[octets.len() / 2] ^= 1;
    refused(&mut copy, described(&meta, &spoiled), "another checksum");
    refused(&mut copy, described(&meta, &octets[1..]), "another checksum");
    refused(&mut copy, described(&FileMeta { id: 7, ..meta.clone() }, &octets), "number");
    let cut = StoreInput::Copied(Copied::File { generation, meta: vec![1], octets: octets.clone() });
    refused(&mut copy, cut, "version");
    refused(&mut copy, StoreInput::Flows(flow_batch(&rows, source(1), 0)), "no part");
    refused(&mut copy, StoreInput::Rollups(rollup_batch(source(1), 0, 1, &rows)), "no part");
    refused(&mut copy, StoreInput::Table(Arc::new(TableUpdate::Paths(Vec::new()))), "no part");
    assert_eq!((held(&copy), parquet(there.path())), (Vec::new(), 0), "nothing of it is kept");

    // A state of which a file did not come is not shown; the next whole one is.
    let mut others = messages.clone();
    let at = others.iter().position(|message| file(message).is_some()).unwrap();
    let late = others.remove(at);
    let state = others.pop().unwrap();
    others.into_iter().for_each(|message| take(&mut copy, message));
    refused(&mut copy, state.clone(), "1 of");
    assert_eq!(content(&copy), Content::default());
    take(&mut copy, late);
    take(&mut copy, state);
    assert_eq!(content(&copy), content(&original));

    refused(&mut original, described(&meta, &octets), "no copy");
    drop(original);
    let before = parquet(here.path());
    let error = Store::open_copy(here.path(), config(), &State::temporary().unwrap(), Arc::default()).err().unwrap();
    assert!(error.to_string().contains("data directory of its own"), "{error}");
    assert_eq!(parquet(here.path()), before, "the store that it is stays");
}

#[test]
fn tables_follow_the_original_though_their_generations_begin_anew() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut copy = open_copy(there.path());
    let name = |store: &Store| store.reader().tables().exporters.load().rows.first().and_then(|row| row.name.clone());
    for (generation, wanted) in [(9, "old"), (1, "new")] {
        let _ = std::fs::remove_dir_all(here.path());
        let mut original = open(here.path());
        let row = benocs_model::network::Exporter {
            id: 1,
            address: rows::exporter_address(1),
            name: Some(wanted.to_owned()),
        };
        let table = benocs_model::network::Exporters { generation, rows: vec![row] };
        take(&mut original, StoreInput::Table(Arc::new(TableUpdate::Exporters(Arc::new(table)))));
        original.commit().unwrap();
        follow(&mut copy, &original);
        assert_eq!(name(&copy).as_deref(), Some(wanted));
        // Nor does a copy lose it where the original was restarted, and its owner has not spoken yet.
        drop(original);
        follow(&mut copy, &open(here.path()));
        assert_eq!(name(&copy).as_deref(), Some(wanted));
    }
    drop(copy);
    assert_eq!(name(&open_copy(there.path())).as_deref(), Some("new"));
}

/// A copy whose link is cut again and again while its original commits and merges: every state that it is told is whole.
#[tokio::test]
async fn a_publisher_tells_whole_states_whoever_connects_when() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut original = open(here.path());
    let rows = random_rows(15, 40);
    commit(&mut original, &rows, 0);
    let publisher = Publisher::new(original.reader());
    let (more, wanted) = std::sync::mpsc::channel::<()>();
    let committing = std::thread::spawn(move || {
        for seq in 1.. {
            if wanted.recv().is_err() {
                break;
            }
            commit(&mut original, &rows, seq);
            if seq % 4 == 0 {
                merge(&mut original);
            }
        }
        original
    });
    let (outbox, mailbox) = Outbox::channel(2);
    let (end, ended) = oneshot::channel::<()>();
    let publishing = tokio::spawn(publisher.clone().run(outbox, async {
        let _ = ended.await;
    }));
    let mut copy = open_copy(there.path());
    let next = || async { tokio::time::timeout(LIMIT, mailbox.recv()).await.expect("something is told") };
    let generation_of = |message: &StoreInput| match message {
        StoreInput::Copied(copied) => copied.generation(),
        other => panic!("{other:?}"),
    };
    let (mut states, mut dropped) = (0, 0);
    for connection in 0..4_usize {
        let (generation, missing) = publisher.missing(&held(&copy));
        assert!(generation >= dropped, "what was thrown away is in the snapshot");
        for message in missing {
            more.send(()).unwrap();
            take(&mut copy, message);
        }
        states += 1;
        // Cut within a state, at another place each time, or right after one.
        let (mut taken, mut whole) = (0, 0);
        while if connection % 2 == 0 { taken < 2 + connection } else { whole < connection } {
            more.send(()).unwrap();
            let message = next().await.expect("it runs");
            if generation_of(&message) > generation {
                whole += usize::from(matches!(message, StoreInput::Copied(Copied::Commit { .. })));
                take(&mut copy, message);
                taken += 1;
            }
        }
        states += whole;
        while let Ok(message) = mailbox.try_recv() {
            dropped = dropped.max(generation_of(&message));
        }
        if connection == 1 {
            drop(copy);
            copy = open_copy(there.path());
        }
    }
    drop(more);
    let original = committing.join().unwrap();
    let (generation, missing) = publisher.missing(&held(&copy));
    missing.for_each(|message| take(&mut copy, message));
    drop(end);
    while let Ok(message) = next().await {
        if generation_of(&message) > generation {
            take(&mut copy, message);
        }
    }
    publishing.await.unwrap();
    assert!(states >= 8, "{states} states were told");
    assert_eq!(content(&copy), content(&original));
    assert!(copy.verify().is_empty());
}

/// A file that is spoiled on the original's disk: the copy stays at the state before, until the file is whole again.
#[tokio::test]
async fn a_file_that_cannot_be_read_holds_the_state_back() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut original = open(here.path());
    let rows = random_rows(16, 40);
    commit(&mut original, &rows, 0);
    let mut copy = open_copy(there.path());
    follow(&mut copy, &original);
    let before = content(&copy);
    let old: BTreeSet<u64> = original.snapshot().files.keys().copied().collect();
    commit(&mut original, &rows, 1);
    let snapshot = original.snapshot();
    let new = |file: &&Arc<benocs_store::DataFile>| !old.contains(&file.meta.id) && file.meta.table != Table::Flows;
    let path = snapshot.files.values().find(new).unwrap().path.clone();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[1..]).unwrap();

    let publisher = Publisher::new(original.reader());
    let (generation, missing) = publisher.missing(&held(&copy));
    missing.for_each(|message| take(&mut copy, message));
    assert_eq!(content(&copy), before);
    let (outbox, mailbox) = Outbox::channel(2);
    let publishing = tokio::spawn(publisher.run(outbox, std::future::pending()));
    std::fs::write(&path, &whole).unwrap();
    while content(&copy) == before {
        let message = tokio::time::timeout(LIMIT, mailbox.recv()).await.expect("it is tried again").unwrap();
        let StoreInput::Copied(copied) = &message else { panic!("{message:?}") };
        assert!(copied.generation() > generation);
        take(&mut copy, message);
    }
    assert_eq!(content(&copy), content(&original));
    publishing.abort();
}
