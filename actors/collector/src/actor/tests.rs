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

/// The last day of 2024.
const THEN: i64 = 1_735_600_000_000;

/// An IPFIX message exported `THEN`: template 256 (start and end, octets, packets), or a record of `octets`.
fn ipfix(sequence: u32, octets: Option<u64>) -> Vec<u8> {
    let set = match octets {
        None => {
            let fields: [[u16; 2]; 4] = [[152, 8], [153, 8], [1, 8], [2, 8]];
            let head: [u16; 4] = [2, 8 + 4 * 4, 256, 4];
            head.iter().chain(fields.iter().flatten()).flat_map(|word| word.to_be_bytes()).collect()
        }
        Some(octets) => {
            let words = [(THEN - 60_000) as u64, THEN as u64, octets, 1];
            let set: [u16; 2] = [256, 4 + 32];
            let set = set.iter().flat_map(|word| word.to_be_bytes());
            set.chain(words.iter().flat_map(|word| word.to_be_bytes())).collect::<Vec<u8>>()
        }
    };
    let header = [u32::from(16 + set.len() as u16) | 10 << 16, (THEN / 1000) as u32, sequence, 0];
    header.iter().flat_map(|word| word.to_be_bytes()).chain(set).collect()
}

fn import(running: &mut Running, datagrams: &[(i64, &str, Vec<u8>)]) -> crate::import::Summary {
    let import = running.imports.begin().unwrap();
    let mut chunk = Vec::new();
    for (received_ms, source, payload) in datagrams {
        crate::import::put(&mut chunk, *received_ms, source.parse().unwrap(), payload);
    }
    import.chunks.send_blocking(crate::import::Chunk::Datagrams(chunk)).unwrap();
    import.chunks.send_blocking(crate::import::Chunk::End).unwrap();
    import.summary.blocking_recv().unwrap().unwrap()
}

#[test]
fn an_import_is_in_its_own_time_and_leaves_live_exporters_alone() {
    let stage = stage(1024);
    let mut running = Running::start(&config(), &stage.wiring).unwrap();
    // The exporter is live: its template is of another kind, its sequence number far ahead.
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let live: [u16; 6] = [2, 12, 256, 1, 1, 4];
    let header = [28 | 10 << 16, (socket::unix_ms() / 1000) as u32, 5_000_000, 0];
    let live = header.iter().flat_map(|word: &u32| word.to_be_bytes()).chain(live.iter().flat_map(|w| w.to_be_bytes()));
    sender.send(&[live.collect::<Vec<u8>>()], running.listening[0]).unwrap();
    until(|| running.status().totals.datagrams == 1);
    let before = running.status().exporters[0].clone();
    assert_eq!((before.templates, before.records), (1, 0));

    // Data ahead of its template, a gap of 7 records, another exporter, one that is no flow export.
    let datagrams = [
        (THEN + 1_000, "127.0.0.1", ipfix(0, Some(10))),
        (THEN + 2_000, "127.0.0.1", ipfix(1, None)),
        (THEN + 3_000, "127.0.0.1", ipfix(8, Some(200))),
        (THEN + 4_000, "192.0.2.7", ipfix(0, None)),
        (THEN + 5_000, "192.0.2.7", ipfix(0, Some(3_000))),
        (THEN + 6_000, "192.0.2.8", b"neither".to_vec()),
    ];
    let summary = import(&mut running, &datagrams);
    assert_eq!((summary.datagrams, summary.records, summary.stored), (6, 3, 3));
    assert_eq!((summary.octets, summary.packets, summary.exporters, summary.lost), (3_210, 3, 2, 7));
    assert_eq!(summary.errors, BTreeMap::from([("unknown_protocol".to_owned(), 1)]));
    assert_eq!((summary.first_ms, summary.last_ms), (Some(THEN - 60_000), Some(THEN)));
    assert_eq!((summary.received_from_ms, summary.received_to_ms), (Some(THEN + 1_000), Some(THEN + 5_000)));
    // Said once it is on the disk.
    assert_eq!(running.status().totals.acknowledged, 3);

    let batches = receive(&stage.flows, 3);
    let rows = &batches[0].rows;
    assert_eq!(keys(rows), [10, 200, 3_000]);
    let quality = column(rows, Column::Quality).unwrap().as_any().downcast_ref::<UInt64Array>().unwrap();
    let implausible = benocs_model::flow::quality::TIME_IMPLAUSIBLE;
    assert!(quality.values().iter().all(|bits| bits & implausible == 0), "{quality:?}");
    let ids = column(rows, Column::ExporterId).unwrap().as_any().downcast_ref::<arrow::array::UInt32Array>().unwrap();
    let status = running.status();
    let id = |address: &str| status.exporters.iter().find(|one| one.address.to_string() == address).unwrap().id;
    assert_eq!(ids.values(), &[before.id, before.id, id("192.0.2.7")]);
    let after = status.exporters.iter().find(|one| one.id == before.id).unwrap();
    assert_eq!((after.datagrams, after.templates, after.records), (1, 1, 0));
    assert_eq!((after.sequence.lost, after.sequence.reordered, after.pending), (0, 0, 0));
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn an_import_waits_for_room_and_leaves_half_of_the_log_to_others() {
    let stage = stage(4096);
    let config = Config { batch_rows: 30, log_octets_max: 128 << 10, log_segment_octets: 8 << 10, ..config() };
    let mut running = Running::start(&config, &stage.wiring).unwrap();
    let import = running.imports.begin().unwrap();
    const DATAGRAMS: u32 = 400;
    let mut chunk = Vec::new();
    for number in 0..DATAGRAMS {
        let datagram = netflow5(number * 30, number * 30, 30);
        crate::import::put(&mut chunk, socket::unix_ms(), "192.0.2.1".parse().unwrap(), &datagram);
    }
    import.chunks.send_blocking(crate::import::Chunk::Datagrams(chunk)).unwrap();
    import.chunks.send_blocking(crate::import::Chunk::End).unwrap();
    until(|| running.log.status().octets > 64 << 10);
    // Room for what cannot wait.
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    sender.send(&[netflow5(0, 1 << 20, 1)], running.listening[0]).unwrap();
    until(|| !stage.flows.is_empty() && running.status().totals.datagrams == 1);
    let mut summary = import.summary;
    let mut committed = 0;
    until(|| {
        let next = running.log.status().acknowledged_seq;
        if next > committed {
            committed = next;
            for stream in [Stream::Flows, Stream::Rollups] {
                let cursors = BTreeMap::from([(running.log.source(), next)]);
                stage.commits.send_blocking(Commit { stream, cursors }).unwrap();
            }
        }
        running.settle().unwrap();
        summary.try_recv().is_ok_and(|summary| summary.unwrap().stored == u64::from(DATAGRAMS) * 30)
    });
    let totals = running.status().totals;
    assert_eq!((totals.dropped_log_full, totals.dropped_mailbox), (0, 0));
    let rows = DATAGRAMS as usize * 30 + 1;
    let got: BTreeSet<u64> = receive(&stage.flows, rows).iter().flat_map(|batch| keys(&batch.rows)).collect();
    assert_eq!(got.len(), rows, "every row once");
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn a_sender_that_goes_away_and_a_stop_end_an_import_with_what_it_has() {
    let stage = stage(1024);
    let mut running = Running::start(&config(), &stage.wiring).unwrap();
    let datagram = |chunk: &mut Vec<u8>, key: u32| {
        crate::import::put(chunk, socket::unix_ms(), "192.0.2.1".parse().unwrap(), &netflow5(key, key, 1));
    };
    let mut begin = |key| {
        let import = running.imports.begin().unwrap();
        let mut chunk = Vec::new();
        datagram(&mut chunk, key);
        import.chunks.send_blocking(crate::import::Chunk::Datagrams(chunk)).unwrap();
        import
    };
    let gone = begin(1);
    drop(gone.chunks);
    let gone = gone.summary.blocking_recv().unwrap().unwrap_err();
    let stopped = begin(2);
    running.drain(&stage.wiring, LIMIT).unwrap();
    let reasons = [gone, stopped.summary.blocking_recv().unwrap().unwrap_err()];
    let reasons: Vec<String> = reasons.iter().map(|reason| format!("{reason:#}")).collect();
    assert_eq!(reasons[0], "1 rows are stored, not the rest: whoever sent the files went away");
    assert_eq!(reasons[1], "1 rows are stored, not the rest: benocs is stopping");
    let got: Vec<u64> = receive(&stage.flows, 2).iter().flat_map(|batch| keys(&batch.rows)).collect();
    assert_eq!(got, [1, 2]);
}
