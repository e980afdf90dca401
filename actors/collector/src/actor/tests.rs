//! The collector between a socket and a mailbox, over loopback.

mod transport;

use std::collections::BTreeSet;
use std::net::IpAddr;

use arrow::array::{Array as _, RecordBatch, UInt64Array};
use benocs_model::Address;
use benocs_model::flow::{Column, column};
use benocs_model::message::{Stream, ingest_seq};
use benocs_sys::UdpSender;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// A NetFlow v5 datagram: `count` records whose octets count up from `key`, after `sequence` earlier ones.
fn netflow5(sequence: u32, key: u32, count: u16) -> Vec<u8> {
    let now_s = (socket::unix_ms() / 1000) as u32;
    let mut octets = Vec::new();
    octets.extend_from_slice(&5u16.to_be_bytes());
    octets.extend_from_slice(&count.to_be_bytes());
    for word in [3_600_000, now_s, 0, sequence, 0] {
        octets.extend_from_slice(&word.to_be_bytes());
    }
    for record in 0..u32::from(count) {
        octets.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 2]);
        for word in [1, key + record, 3_599_000, 3_600_000] {
            octets.extend_from_slice(&word.to_be_bytes());
        }
        octets.extend_from_slice(&[1, 187, 200, 1, 0, 16, 6, 0, 0, 0, 0, 0, 24, 24, 0, 0]);
    }
    octets
}

fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".to_owned()],
        sflow: crate::SflowConfig { listen: Vec::new() },
        receive_buffer_octets: 8 << 20,
        ..Config::default()
    }
}

struct Stage {
    wiring: Wiring,
    flows: async_channel::Receiver<FlowBatch>,
    tables: async_channel::Receiver<Arc<TableUpdate>>,
    commits: Outbox<Commit>,
    _directory: Option<tempfile::TempDir>,
}

/// A collector's surroundings; `capacity` is that of the next actor's mailbox.
fn stage(capacity: usize) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let mut stage = stage_in(directory.path(), capacity);
    stage._directory = Some(directory);
    stage
}

fn stage_in(directory: &std::path::Path, capacity: usize) -> Stage {
    let (flows_outbox, flows) = Outbox::channel(capacity);
    let (tables_outbox, tables) = Outbox::channel(16);
    let (commits, commits_receiver) = Outbox::channel(16);
    let wiring = Wiring {
        data: directory.to_owned(),
        node: 3,
        state: State::open(&directory.join("state")).unwrap(),
        flows: flows_outbox,
        tables: tables_outbox,
        commits: commits_receiver,
    };
    Stage { wiring, flows, tables, commits, _directory: None }
}

fn keys(rows: &RecordBatch) -> Vec<u64> {
    column(rows, Column::Octets).unwrap().as_any().downcast_ref::<UInt64Array>().unwrap().values().to_vec()
}

/// Receives until `count` rows are there.
fn receive(flows: &async_channel::Receiver<FlowBatch>, count: usize) -> Vec<FlowBatch> {
    let deadline = Instant::now() + LIMIT;
    let (mut batches, mut rows) = (Vec::new(), 0);
    while rows < count {
        match flows.try_recv() {
            Ok(batch) => {
                rows += batch.rows.num_rows();
                batches.push(batch);
            }
            Err(_) => {
                assert!(Instant::now() < deadline, "{rows} of {count} rows");
                std::thread::yield_now();
            }
        }
    }
    batches
}

#[track_caller]
fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_sent_comes_out_once_with_its_identity() {
    let stage = stage(1024);
    let running = Running::start(&config(), &stage.wiring).unwrap();
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let packets: Vec<Vec<u8>> = (0..400).map(|packet| netflow5(packet * 25, packet * 25, 25)).collect();
    for some in packets.chunks(100) {
        sender.send(some, running.listening[0]).unwrap();
    }
    let batches = receive(&stage.flows, 10_000);
    let mut got = BTreeSet::new();
    for (index, batch) in batches.iter().enumerate() {
        assert_eq!(batch.seq, index as u64);
        assert_eq!(batch.source, running.log.source());
        let seqs = column(&batch.rows, Column::IngestSeq).unwrap();
        let seqs = seqs.as_any().downcast_ref::<UInt64Array>().unwrap();
        assert_eq!(seqs.value(0), ingest_seq(batch.seq));
        assert_eq!(seqs.value(seqs.len() - 1), ingest_seq(batch.seq) + seqs.len() as u64 - 1);
        got.extend(keys(&batch.rows));
    }
    assert_eq!(got, (0..10_000).collect());
    let status = running.status();
    assert_eq!((status.totals.datagrams, status.totals.records, status.totals.acknowledged), (400, 10_000, 10_000));
    assert_eq!(status.log.forwarded_seq, batches.len() as u64);
    assert_eq!(status.exporters.len(), 1);

    // The first is the table without any exporter.
    stage.tables.try_recv().unwrap();
    let update = stage.tables.try_recv().unwrap();
    let TableUpdate::Exporters(exporters) = update.as_ref() else { panic!("{update:?}") };
    assert_eq!(exporters.rows[0].address, Address::from(IpAddr::from([127, 0, 0, 1])));
    assert_eq!(exporters.rows[0].id >> 20, 3, "ids name the node that gave them");
    assert!(stage.tables.is_empty(), "nothing else is new");
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn a_drain_takes_what_the_kernel_has_queued() {
    let stage = stage(1024);
    let running = Running::start(&config(), &stage.wiring).unwrap();
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let packets: Vec<Vec<u8>> = (0..1000).map(|packet| netflow5(packet * 30, packet * 30, 30)).collect();
    sender.send(&packets, running.listening[0]).unwrap();
    running.drain(&stage.wiring, LIMIT).unwrap();
    let got: BTreeSet<u64> = receive(&stage.flows, 30_000).iter().flat_map(|batch| keys(&batch.rows)).collect();
    assert_eq!(got, (0..30_000).collect());
    assert!(stage.flows.is_empty());
}

#[test]
fn what_nobody_takes_stays_in_the_log_for_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { batch_rows: 10, queue_batches: 1024, ..config() };
    {
        let stage = stage_in(directory.path(), 1);
        let running = Running::start(&config, &stage.wiring).unwrap();
        let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let packets: Vec<Vec<u8>> = (0..100).map(|packet| netflow5(packet * 10, packet * 10, 10)).collect();
        sender.send(&packets, running.listening[0]).unwrap();
        let log = running.log.clone();
        running.drain(&stage.wiring, Duration::from_millis(50)).unwrap();
        assert_eq!(log.status().acknowledged_seq, 100);
        // The consumer goes away, and with it the thread that waits for it.
    }
    until(|| log::open(&options_of(directory.path())).is_ok());
    let stage = stage_in(directory.path(), 1024);
    let running = Running::start(&config, &stage.wiring).unwrap();
    let batches = receive(&stage.flows, 1000);
    let got: Vec<u64> = batches.iter().flat_map(|batch| keys(&batch.rows)).collect();
    assert_eq!(got, (0..1000).collect::<Vec<_>>());

    // Once storage has both, it is not replayed again, even where that becomes known after the drain.
    let (source, log) = (running.log.source(), running.log.clone());
    running.drain(&stage.wiring, LIMIT).unwrap();
    for stream in [Stream::Flows, Stream::Rollups] {
        let commit = Commit { stream, cursors: BTreeMap::from([(source, 100)]) };
        stage.commits.send_blocking(commit).unwrap();
    }
    until(|| log.status().committed_rollups_seq == 100 && log.status().committed_flows_seq == 100);
    drop((stage, log));
    until(|| log::open(&options_of(directory.path())).is_ok());
    let (_appender, _reader, log) = log::open(&options_of(directory.path())).unwrap();
    assert_eq!(log.status().forwarded_seq, 100);
}

fn options_of(directory: &std::path::Path) -> log::Options {
    log::Options {
        directory: directory.join(LOG_DIRECTORY),
        node: 3,
        created_s: 1,
        octets_max: 1 << 30,
        segment_octets: 1 << 20,
        memory_octets: 1 << 20,
    }
}

#[test]
fn several_threads_share_a_port_and_strangers_are_refused() {
    let stage = stage(1024);
    let config = Config { threads_per_socket: 2, allow: vec!["127.0.0.0/30".parse().unwrap()], ..config() };
    let running = Running::start(&config, &stage.wiring).unwrap();
    assert_eq!(running.listening.len(), 2);
    assert_eq!(running.listening[0], running.listening[1]);
    for sender in 1..=20u32 {
        let local = format!("127.0.0.{}:0", if sender <= 10 { 1 } else { 9 }).parse().unwrap();
        UdpSender::bind(local).unwrap().send(&[netflow5(0, sender, 1)], running.listening[0]).unwrap();
    }
    let batches = receive(&stage.flows, 10);
    let got: BTreeSet<u64> = batches.iter().flat_map(|batch| keys(&batch.rows)).collect();
    assert_eq!(got, (1..=10).collect());
    until(|| running.status().totals.dropped_denied == 10);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn a_full_log_is_counted_and_frees_itself_by_commits() {
    let stage = stage(4096);
    let config = Config { batch_rows: 30, queue_batches: 1024, log_octets_max: 64 << 10, ..config() };
    let running = Running::start(&config, &stage.wiring).unwrap();
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let packets: Vec<Vec<u8>> = (0..200).map(|packet| netflow5(packet * 30, 0, 30)).collect();
    sender.send(&packets, running.listening[0]).unwrap();
    until(|| {
        let totals = running.status().totals;
        totals.records == 6_000 && totals.acknowledged + totals.dropped_log_full + totals.dropped_mailbox == 6_000
    });
    let totals = running.status().totals;
    assert!(totals.dropped_log_full > 0 && totals.acknowledged > 0, "{totals:?}");
    let errors = &running.status().exporters[0].errors;
    assert_eq!(errors.get("log_full"), Some(&totals.dropped_log_full));
    assert_eq!(errors.get("mailbox").copied().unwrap_or(0), totals.dropped_mailbox);
    let next = running.log.status().acknowledged_seq;
    for stream in [Stream::Flows, Stream::Rollups] {
        let cursors = BTreeMap::from([(running.log.source(), next)]);
        stage.commits.send_blocking(Commit { stream, cursors }).unwrap();
    }
    until(|| {
        running.settle().unwrap();
        running.log.status().segments == 1
    });
    sender.send(&[netflow5(6_000, 7, 1)], running.listening[0]).unwrap();
    until(|| running.status().totals.acknowledged == totals.acknowledged + 1);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn a_taken_port_is_said_in_one_line() {
    let stage = stage(1);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config { listen: vec![address.to_string()], ..config() };
    let error = Running::start(&config, &stage.wiring).err().unwrap();
    assert_eq!(error.to_string(), format!("cannot listen on {address} (collector.listen): is the port taken?"));
}

#[test]
fn a_consumer_that_is_gone_ends_the_collector() {
    let stage = stage(1);
    let running = Running::start(&config(), &stage.wiring).unwrap();
    stage.flows.close();
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    sender.send(&[netflow5(0, 1, 1)], running.listening[0]).unwrap();
    until(|| running.has_ended());
    assert_eq!(running.reason().to_string(), "the flow log has nobody to forward to");
}
