//! The log under torn tails, full disks, restarts and kills.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use benocs_model::flow::Column;
use benocs_model::flow::builder::{FlowBuilder, slot};
use proptest::prelude::*;

use super::*;

/// `count` rows whose `octets` count up from `key`.
fn rows(key: u64, count: usize) -> RecordBatch {
    let mut builder = FlowBuilder::with_capacity(count);
    builder.lane(slot::OCTETS).extend((0..count).map(|row| key + row as u64));
    builder.lane(slot::TIME_RECEIVED).extend((0..count).map(|row| 1_000 + row as i64));
    builder.commit(count);
    builder.finish().unwrap()
}

fn keys(rows: &RecordBatch) -> Vec<u64> {
    let octets = benocs_model::flow::column(rows, Column::Octets).unwrap();
    octets.as_any().downcast_ref::<arrow::array::UInt64Array>().unwrap().values().to_vec()
}

fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        node: 7,
        created_s: 1_700_000_000,
        octets_max: 1 << 30,
        segment_octets: 1 << 20,
        memory_octets: 1 << 20,
    }
}

fn commit(handle: &LogHandle, stream: Stream, cursor: u64) {
    handle.commit(&Commit { stream, cursors: BTreeMap::from([(handle.source(), cursor)]) }).unwrap();
}

/// What the reader has now, as (seq, keys).
fn drain(reader: &mut Reader) -> Vec<(u64, Vec<u64>)> {
    let mut all = Vec::new();
    while let Next::Batch { seq, rows } = reader.next(Duration::ZERO).unwrap() {
        all.push((seq, keys(&rows)));
    }
    all
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let firsts = segment::list(directory).unwrap();
    firsts.into_iter().map(|first_seq| segment::path(directory, first_seq)).collect()
}

#[test]
fn what_is_synced_is_read_once_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, handle) = open(&options(directory.path())).unwrap();
    assert_eq!(appender.append(rows(10, 3)).unwrap(), 0);
    assert_eq!(appender.append(rows(20, 1)).unwrap(), 1);
    assert!(drain(&mut reader).is_empty(), "not acknowledged yet");
    assert_eq!(appender.sync().unwrap().rows, 4);
    assert_eq!(drain(&mut reader), [(0, vec![10, 11, 12]), (1, vec![20])]);
    assert_eq!(appender.append(rows(30, 1)).unwrap(), 2);
    assert_eq!(appender.close().unwrap().rows, 1);
    assert_eq!(drain(&mut reader), [(2, vec![30])]);
    assert!(matches!(reader.next(Duration::ZERO).unwrap(), Next::End));
    assert_eq!(handle.status().acknowledged_seq, 3);
    assert_eq!(handle.source(), SourceId::new(7, 1_700_000_000));
}

#[test]
fn appending_goes_on_while_the_disk_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    // A segment a batch, and memory for one: what waits is read from the files.
    let small = Options { segment_octets: 1, memory_octets: 1, ..options(directory.path()) };
    let (mut appender, mut reader, handle) = open(&small).unwrap();
    assert!(appender.take_unsynced().is_none());
    for key in 0..3 {
        appender.append(rows(key, 1)).unwrap();
    }
    let first = appender.take_unsynced().unwrap();
    for key in 3..5 {
        assert_eq!(appender.append(rows(key, 1)).unwrap(), key);
    }
    assert!(drain(&mut reader).is_empty() && handle.status().acknowledged_seq == 0, "nothing is on the disk yet");
    assert_eq!(first.sync().unwrap().batches, 3);
    assert_eq!(handle.status().acknowledged_seq, 3);
    assert_eq!(drain(&mut reader), [(0, vec![0]), (1, vec![1]), (2, vec![2])]);
    assert_eq!(appender.sync().unwrap().batches, 2);
    assert!(!appender.has_unsynced());
    assert_eq!(drain(&mut reader), [(3, vec![3]), (4, vec![4])]);
    drop((appender, reader, handle));
    let (appender, _reader, _handle) = open(&small).unwrap();
    assert_eq!(appender.next_seq(), 5);
}

#[test]
fn a_restart_replays_from_the_lower_cursor_and_goes_on_counting() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (mut appender, _reader, handle) = open(&options(directory.path())).unwrap();
        for key in 0..6 {
            appender.append(rows(key, 1)).unwrap();
        }
        appender.sync().unwrap();
        commit(&handle, Stream::Flows, 5);
        commit(&handle, Stream::Rollups, 3);
        handle.save().unwrap();
        assert!(matches!(open(&options(directory.path())), Err(LogError::Busy { .. })));
    }
    let later = Options { created_s: 1_800_000_000, ..options(directory.path()) };
    let (mut appender, mut reader, handle) = open(&later).unwrap();
    assert_eq!(handle.source(), SourceId::new(7, 1_700_000_000), "the log keeps its id");
    assert_eq!(drain(&mut reader), [(3, vec![3]), (4, vec![4]), (5, vec![5])]);
    assert_eq!(appender.append(rows(6, 1)).unwrap(), 6);
}

/// A kill may leave any part of the last frame; the frames before it stay, its number is given again.
#[test]
fn a_tail_torn_at_any_octet_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let whole = {
        let (mut appender, _reader, _handle) = open(&options(directory.path())).unwrap();
        appender.append(rows(1, 2)).unwrap();
        appender.sync().unwrap();
        let whole = files(directory.path())[0].metadata().unwrap().len();
        appender.append(rows(2, 2)).unwrap();
        appender.sync().unwrap();
        whole
    };
    let path = files(directory.path()).remove(0);
    let octets = std::fs::read(&path).unwrap();
    for end in whole..octets.len() as u64 {
        for garbage in [false, true] {
            let mut torn = octets[..end as usize].to_vec();
            if garbage {
                // The file grew, but the disk did not get its content.
                torn.resize(octets.len(), 0);
            }
            if torn == octets {
                continue;
            }
            std::fs::write(&path, &torn).unwrap();
            let (mut appender, mut reader, handle) = open(&options(directory.path())).unwrap();
            assert_eq!(handle.status().acknowledged_seq, 1, "torn at {end}");
            assert_eq!(path.metadata().unwrap().len(), whole, "torn at {end}");
            if end % 16 != 0 {
                assert_eq!(drain(&mut reader), [(0, vec![1, 2])], "torn at {end}");
                continue;
            }
            assert_eq!(appender.append(rows(3, 1)).unwrap(), 1);
            appender.sync().unwrap();
            assert_eq!(drain(&mut reader), [(0, vec![1, 2]), (1, vec![3])], "torn at {end}");
        }
    }
}

#[test]
fn a_segment_torn_while_it_was_created_is_created_again() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (mut appender, _reader, _handle) = open(&options(directory.path())).unwrap();
        appender.append(rows(1, 1)).unwrap();
        appender.sync().unwrap();
    }
    for torn in [0, 5, 31] {
        let header = std::fs::read(segment::path(directory.path(), 0)).unwrap();
        std::fs::write(segment::path(directory.path(), 1), &header[..torn]).unwrap();
        let (_appender, mut reader, handle) = open(&options(directory.path())).unwrap();
        assert_eq!(handle.status().acknowledged_seq, 1);
        assert_eq!(drain(&mut reader), [(0, vec![1])]);
    }
}

#[test]
fn a_foreign_file_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(&options(directory.path())).unwrap());
    let path = segment::path(directory.path(), 0);
    std::fs::write(&path, [b'x'; 100]).unwrap();
    assert!(matches!(open(&options(directory.path())), Err(LogError::Foreign { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), [b'x'; 100]);
}

#[test]
fn a_full_log_refuses_the_new_and_keeps_the_old() {
    let directory = tempfile::tempdir().unwrap();
    let small = Options { octets_max: 200 << 10, memory_octets: 1, ..options(directory.path()) };
    let (mut appender, mut reader, handle) = open(&small).unwrap();
    let mut taken = 0;
    while appender.append(rows(taken, 100)).is_ok() {
        taken += 1;
    }
    appender.sync().unwrap();
    assert!(taken > 8, "{taken}");
    assert!(handle.status().octets <= 200 << 10);
    assert!(matches!(appender.append(rows(0, 100)), Err(LogError::Full)));
    let got: Vec<u64> = drain(&mut reader)
        .iter()
        .map(|(seq, keys)| {
            assert_eq!(keys[0], *seq);
            *seq
        })
        .collect();
    assert_eq!(got, (0..taken).collect::<Vec<_>>());
    // Both streams must have committed before there is room again.
    commit(&handle, Stream::Flows, taken);
    assert!(matches!(appender.append(rows(0, 100)), Err(LogError::Full)));
    commit(&handle, Stream::Rollups, taken);
    assert_eq!(appender.append(rows(taken, 100)).unwrap(), taken, "numbers go on without a gap");
    appender.sync().unwrap();
    assert_eq!(drain(&mut reader).len(), 1);
}

#[test]
fn segments_go_when_both_streams_have_committed_them() {
    let directory = tempfile::tempdir().unwrap();
    let small = Options { segment_octets: 1, ..options(directory.path()) };
    let (mut appender, mut reader, handle) = open(&small).unwrap();
    for key in 0..10 {
        appender.append(rows(key, 1)).unwrap();
        appender.sync().unwrap();
    }
    assert_eq!(files(directory.path()).len(), 10);
    assert_eq!(drain(&mut reader).len(), 10);
    commit(&handle, Stream::Rollups, 100);
    assert_eq!(files(directory.path()).len(), 10);
    commit(&handle, Stream::Flows, 4);
    assert_eq!(segment::list(directory.path()).unwrap(), (4..10).collect::<Vec<_>>());
    commit(&handle, Stream::Flows, 2);
    assert_eq!(handle.status().committed_flows_seq, 4, "a commit never goes back");
    commit(&handle, Stream::Flows, 10);
    assert_eq!(segment::list(directory.path()).unwrap(), [9], "the one that is written stays");
    let on_disk: u64 = files(directory.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(handle.status().octets, on_disk);
    assert_eq!(appender.append(rows(10, 1)).unwrap(), 10);
}

/// After a kill the cursors are old: storage then says that it has what is being replayed.
#[test]
fn what_the_reader_still_wants_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let small = Options { segment_octets: 1, memory_octets: 1, ..options(directory.path()) };
    let (mut appender, mut reader, handle) = open(&small).unwrap();
    for key in 0..10 {
        appender.append(rows(key, 1)).unwrap();
    }
    appender.sync().unwrap();
    for stream in [Stream::Flows, Stream::Rollups] {
        commit(&handle, stream, 10);
    }
    let expected: Vec<(u64, Vec<u64>)> = (0..10).map(|key| (key, vec![key])).collect();
    assert_eq!(drain(&mut reader), expected);
    handle.settle().unwrap();
    assert_eq!(segment::list(directory.path()).unwrap(), [9]);
}

#[test]
fn a_reader_that_is_behind_or_sent_back_reads_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let small = Options { segment_octets: 3_000, memory_octets: 1, ..options(directory.path()) };
    let (mut appender, mut reader, handle) = open(&small).unwrap();
    for key in 0..50 {
        appender.append(rows(key, 1)).unwrap();
    }
    appender.sync().unwrap();
    assert!(files(directory.path()).len() > 3);
    let expected: Vec<(u64, Vec<u64>)> = (0..50).map(|key| (key, vec![key])).collect();
    assert_eq!(drain(&mut reader), expected);
    handle.rewind(17);
    assert_eq!(drain(&mut reader), expected[17..]);
    handle.rewind(1_000);
    assert_eq!(drain(&mut reader), []);
    commit(&handle, Stream::Rollups, 30);
    commit(&handle, Stream::Flows, 30);
    handle.rewind(0);
    let oldest = segment::list(directory.path()).unwrap()[0];
    assert!(oldest > 0 && oldest <= 30);
    assert_eq!(drain(&mut reader), expected[oldest as usize..], "as far back as there is");
}

#[test]
fn a_spoiled_frame_is_an_empty_batch_not_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let second = {
        let (mut appender, _reader, _handle) = open(&options(directory.path())).unwrap();
        appender.append(rows(0, 1)).unwrap();
        let second = files(directory.path())[0].metadata().unwrap().len();
        for key in 1..4 {
            appender.append(rows(key, 1)).unwrap();
        }
        appender.sync().unwrap();
        second
    };
    let path = files(directory.path()).remove(0);
    let mut octets = std::fs::read(&path).unwrap();
    octets[second as usize + frame::HEADER_OCTETS + 50] ^= 1;
    std::fs::write(&path, octets).unwrap();
    let (_appender, mut reader, _handle) = open(&options(directory.path())).unwrap();
    assert_eq!(drain(&mut reader), [(0, vec![0]), (1, vec![]), (2, vec![2]), (3, vec![3])]);
}

#[test]
fn a_lost_cursor_file_replays_everything() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (mut appender, _reader, handle) = open(&options(directory.path())).unwrap();
        appender.append(rows(0, 1)).unwrap();
        appender.sync().unwrap();
        commit(&handle, Stream::Flows, 1);
        commit(&handle, Stream::Rollups, 1);
        handle.save().unwrap();
    }
    assert!(drain(&mut open(&options(directory.path())).unwrap().1).is_empty());
    std::fs::write(directory.path().join(CURSORS_FILE), b"torn").unwrap();
    assert_eq!(drain(&mut open(&options(directory.path())).unwrap().1), [(0, vec![0])]);
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    Read,
    Rewind(u64),
    Commit(Stream, u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1usize..40).prop_map(Step::Append),
        3 => Just(Step::Sync),
        3 => Just(Step::Read),
        1 => (0u64..60).prop_map(Step::Rewind),
        1 => (any::<bool>(), 0u64..60).prop_map(|(flows, cursor)| {
            Step::Commit(if flows { Stream::Flows } else { Stream::Rollups }, cursor)
        }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order: numbers without gaps, every acknowledged batch that is not
    /// committed can be read, and what is read is what was written.
    #[test]
    fn the_log_is_a_queue(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let small = Options { segment_octets: 4_000, memory_octets: 300_000, ..options(directory.path()) };
        let mut log = Some(open(&small).unwrap());
        let (mut next, mut durable, mut committed) = (0u64, 0u64, [0u64; 2]);
        let mut counts = Vec::new();
        for step in steps {
            let (appender, reader, handle) = log.as_mut().unwrap();
            match step {
                Step::Append(count) => {
                    prop_assert_eq!(appender.append(rows(next * 1_000, count)).unwrap(), next);
                    counts.truncate(next as usize);
                    counts.push(count);
                    next += 1;
                }
                Step::Sync => {
                    prop_assert_eq!(appender.sync().unwrap().batches, next - durable);
                    durable = next;
                }
                Step::Read => {
                    let got = drain(reader);
                    for (index, (seq, keys)) in got.iter().enumerate() {
                        prop_assert_eq!(*seq, got[0].0 + index as u64);
                        let expected: Vec<u64> = (0..counts[*seq as usize] as u64).map(|row| seq * 1_000 + row).collect();
                        prop_assert_eq!(keys, &expected);
                    }
                    prop_assert!(got.is_empty() || got[got.len() - 1].0 + 1 == durable);
                }
                Step::Rewind(seq) => {
                    handle.rewind(seq);
                    let wanted = handle.status().forwarded_seq;
                    let lowest = committed[0].min(committed[1]);
                    prop_assert!(wanted <= seq.max(lowest).min(durable).max(lowest));
                }
                Step::Commit(stream, cursor) => {
                    commit(handle, stream, cursor);
                    let known = &mut committed[usize::from(stream == Stream::Rollups)];
                    *known = (*known).max(cursor.min(durable));
                }
                Step::Reopen => {
                    handle.save().unwrap();
                    drop(log.take());
                    let reopened = open(&small).unwrap();
                    // Nothing was torn: what was written without a sync is there too.
                    prop_assert_eq!(reopened.2.status().acknowledged_seq, next);
                    prop_assert!(reopened.2.status().forwarded_seq <= committed[0].min(committed[1]).max(reopened.2.status().forwarded_seq.min(next)));
                    durable = next;
                    log = Some(reopened);
                }
            }
        }
        let (appender, reader, handle) = log.as_mut().unwrap();
        appender.sync().unwrap();
        handle.rewind(0);
        let got = drain(reader);
        let first = got.first().map_or(next, |(seq, _)| *seq);
        prop_assert!(first <= committed[0].min(committed[1]));
        prop_assert_eq!(first + got.len() as u64, next);
    }

    /// No octets make the reader of a segment panic or read beyond them.
    #[test]
    fn any_octets_are_a_tail(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let directory = tempfile::tempdir().unwrap();
        {
            let (mut appender, _reader, _handle) = open(&options(directory.path())).unwrap();
            appender.append(rows(5, 1)).unwrap();
            appender.sync().unwrap();
        }
        let path = files(directory.path()).remove(0);
        let mut octets = std::fs::read(&path).unwrap();
        octets.extend_from_slice(&tail);
        std::fs::write(&path, octets).unwrap();
        let (_appender, mut reader, _handle) = open(&options(directory.path())).unwrap();
        prop_assert_eq!(drain(&mut reader), [(0, vec![5])]);
    }
}

const CHILD_DIRECTORY: &str = "BENOCS_TEST_LOG_DIRECTORY";

/// Not a test of its own: what the killed process of the next one runs. It appends until it is killed, and
/// says on standard output what was acknowledged.
#[test]
fn appends_until_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    use std::io::Write as _;
    let (mut appender, _reader, _handle) = open(&options(Path::new(&directory))).unwrap();
    let mut out = std::io::stdout().lock();
    loop {
        let mut last = 0;
        for _ in 0..3 {
            // The key is the seq, which the parent can check.
            let seq = appender.next_seq();
            last = appender.append(rows(seq, 50)).unwrap();
            assert_eq!(last, seq);
        }
        appender.sync().unwrap();
        writeln!(out, "acknowledged {last}").unwrap();
        out.flush().unwrap();
    }
}

/// A process that is killed at any moment loses nothing that it acknowledged, and repeats no number.
#[test]
fn a_kill_loses_nothing_acknowledged() {
    use std::io::{BufRead as _, BufReader};
    if std::env::var_os(CHILD_DIRECTORY).is_some() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::tests::appends_until_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            // The harness may print its own words before ours on the first line.
            let Some((_, seq)) = line.split_once("acknowledged ") else { continue };
            acknowledged = seq.parse().unwrap();
            seen += 1;
            if seen == 3 + round * 2 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= 3, "the child acknowledged nothing");
        let (_appender, mut reader, handle) = open(&options(directory.path())).unwrap();
        handle.rewind(0);
        let got = drain(&mut reader);
        assert!(got.len() as u64 > acknowledged, "{} batches after {acknowledged} was acknowledged", got.len());
        for (index, (seq, keys)) in got.iter().enumerate() {
            assert_eq!(*seq, index as u64);
            assert_eq!(keys.len(), 50);
            assert_eq!(keys[0], *seq);
        }
    }
}
