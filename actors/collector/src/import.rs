//! Datagrams of files, with times of their own, among what is received.
//!
//!   sender --chunks, 4--> [import-n] --sealed batches, 8 in flight--> log
//!                             ^------------ on the disk, or refused ----'
//!
//! Nothing is dropped: where the log is as full as imports may make it, the import waits for room, and with it
//! the sender. Exporters have the ids that they have on the network; templates, samplers and sequence numbers
//! of a file are known to its import alone.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use benocs_model::flow::builder::FlowBuilder;
use benocs_model::flow::{self, Column};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::decode::{self, Decoder, Shared};
use crate::metrics::Metrics;
use crate::socket::{self, Outcome, Queue, Sealed};

/// Largest chunk.
pub const CHUNK_OCTETS_MAX: usize = 1 << 20;
/// Chunks that wait to be decoded.
const CHUNKS: usize = 4;
/// Imports at once.
const IMPORTS_MAX: usize = 4;
/// Batches that are on their way to the disk: few enough that what is received finds room beside them.
const IN_FLIGHT_MAX: usize = 8;
/// How long a batch that found no room waits before it asks again.
const RETRY: Duration = Duration::from_millis(200);
/// Of a datagram in a chunk, before its payload.
const HEAD_OCTETS: usize = 8 + 16 + 4;

/// What an import is sent.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Whole datagrams, see [`put`].
    Datagrams(Vec<u8>),
    /// That was all.
    End,
}

/// Appends a datagram to a chunk.
///
/// | time received, Unix ms i64 | source address, 16 octets | octets u32 | payload |, in network order
pub fn put(chunk: &mut Vec<u8>, received_ms: i64, source: IpAddr, payload: &[u8]) {
    let source = match source {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    chunk.extend_from_slice(&received_ms.to_be_bytes());
    chunk.extend_from_slice(&source.octets());
    chunk.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    chunk.extend_from_slice(payload);
}

/// The first datagram of a chunk, and what is behind it; `None` where the chunk ends within.
fn take(chunk: &[u8]) -> Option<(i64, IpAddr, &[u8], &[u8])> {
    let (received_ms, rest) = chunk.split_first_chunk()?;
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (octets, rest) = rest.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_be_bytes(*octets) as usize)?;
    Some((i64::from_be_bytes(*received_ms), Ipv6Addr::from(*source).to_canonical(), payload, rest))
}

/// An import that has begun.
#[derive(Debug)]
pub struct Import {
    pub chunks: async_channel::Sender<Chunk>,
    /// Once everything is on the disk.
    pub summary: oneshot::Receiver<anyhow::Result<Summary>>,
}

/// What became of what was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub datagrams: u64,
    /// Decoded into rows.
    pub records: u64,
    /// Rows in the log, on the disk.
    pub stored: u64,
    /// As exported, of all rows.
    pub octets: u64,
    pub packets: u64,
    pub exporters: u64,
    /// What did not become a row, by cause.
    pub errors: BTreeMap<String, u64>,
    /// By sequence numbers, in the exporters' units: it was lost before the file was written.
    pub lost: u64,
    /// Start and end of the flows, and times of receipt, in Unix ms; `None` where there are no rows.
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
    pub received_from_ms: Option<i64>,
    pub received_to_ms: Option<i64>,
}

impl Summary {
    fn add(&mut self, rows: &RecordBatch) {
        let times = |column| {
            let times = flow::column(rows, column).map(|array| array.as_primitive::<Int64Type>().values());
            times.into_iter().flatten().copied()
        };
        let sum = |column| -> u64 {
            let counts = flow::column(rows, column).map(|array| array.as_primitive::<UInt64Type>().values());
            counts.into_iter().flatten().fold(0, |sum, count| sum.saturating_add(*count))
        };
        self.records += rows.num_rows() as u64;
        self.octets = self.octets.saturating_add(sum(Column::Octets));
        self.packets = self.packets.saturating_add(sum(Column::Packets));
        self.first_ms = self.first_ms.into_iter().chain(times(Column::First)).min();
        self.last_ms = self.last_ms.into_iter().chain(times(Column::Last)).max();
        self.received_from_ms = self.received_from_ms.into_iter().chain(times(Column::TimeReceived)).min();
        self.received_to_ms = self.received_to_ms.into_iter().chain(times(Column::TimeReceived)).max();
    }
}

/// Where imports are begun.
pub(crate) struct Desk {
    pub(crate) queue: Queue,
    pub(crate) shared: Arc<Shared>,
    pub(crate) decode: decode::Config,
    pub(crate) batch_rows: usize,
    pub(crate) queue_batches: usize,
    pub(crate) metrics: Metrics,
    /// The collector is ending.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) running: Vec<(JoinHandle<()>, async_channel::WeakSender<Chunk>)>,
}

impl Desk {
    pub(crate) fn begin(&mut self) -> anyhow::Result<Import> {
        self.running.retain(|(thread, _)| !thread.is_finished());
        if self.running.len() >= IMPORTS_MAX {
            bail!("{IMPORTS_MAX} imports are running: wait for one to end");
        }
        let (sender, chunks) = async_channel::bounded(CHUNKS);
        let (reply, summary) = oneshot::channel();
        let shared = Arc::new(Shared::apart(self.decode.clone(), self.shared.clone()));
        let work = Work {
            decoder: Decoder::new(self.decode.clone(), shared.clone()),
            shared,
            rows: FlowBuilder::with_capacity(self.batch_rows + 64),
            batch_rows: self.batch_rows,
            // Beside them, most of the queue stays free for what cannot wait.
            in_flight_max: IN_FLIGHT_MAX.min(self.queue_batches / 4).max(1),
            in_flight: VecDeque::new(),
            queue: self.queue.clone(),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
            summary: Summary::default(),
        };
        let body = move || {
            // Whoever asked may have gone meanwhile.
            let _ = reply.send(work.run(&chunks));
        };
        let name = format!("import-{}", self.running.len());
        let thread = std::thread::Builder::new().name(name).spawn(body).context("cannot start a thread")?;
        self.running.push((thread, sender.downgrade()));
        Ok(Import { chunks: sender, summary })
    }

    /// Ends the imports that run; what they have decoded is stored.
    pub(crate) fn close(self) {
        for (thread, chunks) in self.running {
            if let Some(chunks) = chunks.upgrade() {
                chunks.close();
            }
            if thread.join().is_err() {
                tracing::error!("an import panicked");
            }
        }
    }
}

/// The thread of one import.
struct Work {
    shared: Arc<Shared>,
    decoder: Decoder,
    rows: FlowBuilder,
    batch_rows: usize,
    in_flight_max: usize,
    in_flight: VecDeque<mpsc::Receiver<Outcome>>,
    queue: Queue,
    metrics: Metrics,
    stop: Arc<AtomicBool>,
    summary: Summary,
}

impl Work {
    fn run(mut self, chunks: &async_channel::Receiver<Chunk>) -> anyhow::Result<Summary> {
        let ended = self.read(chunks);
        // What was decoded is stored, whatever came after it.
        let stored = self.seal().and_then(|()| self.settle());
        chunks.close();
        let rows = self.summary.stored;
        stored.and(ended).with_context(|| format!("{rows} rows are stored, not the rest"))?;
        let mut summary = self.summary;
        for exporter in self.shared.status() {
            summary.exporters += u64::from(exporter.datagrams > 0);
            summary.lost += exporter.sequence.lost;
            for (cause, count) in exporter.errors {
                *summary.errors.entry(cause.to_owned()).or_default() += count;
            }
            if exporter.pending > 0 {
                *summary.errors.entry(decode::Cause::PendingExpired.text().to_owned()).or_default() +=
                    exporter.pending as u64;
            }
        }
        for (cause, count) in self.shared.refused().iter() {
            *summary.errors.entry(cause.text().to_owned()).or_default() += count;
        }
        Ok(summary)
    }

    fn read(&mut self, chunks: &async_channel::Receiver<Chunk>) -> anyhow::Result<()> {
        loop {
            match chunks.recv_blocking() {
                Ok(Chunk::Datagrams(octets)) => self.decode(&octets)?,
                Ok(Chunk::End) => return Ok(()),
                Err(_) if self.stop.load(Ordering::Acquire) => bail!("benocs is stopping"),
                Err(_) => bail!("whoever sent the files went away"),
            }
        }
    }

    fn decode(&mut self, mut chunk: &[u8]) -> anyhow::Result<()> {
        let now_ms = socket::unix_ms();
        while !chunk.is_empty() {
            let Some((received_ms, source, payload, rest)) = take(chunk) else {
                bail!("a chunk of {} octets ends within a datagram's {HEAD_OCTETS} octets and payload", chunk.len());
            };
            // Nothing was received in the future.
            let received_ms = received_ms.clamp(0, now_ms);
            self.summary.datagrams += 1;
            self.decoder.datagram(SocketAddr::new(source, 0), received_ms, payload, &mut self.rows);
            if self.rows.len() >= self.batch_rows {
                self.seal()?;
            }
            chunk = rest;
        }
        Ok(())
    }

    fn seal(&mut self) -> anyhow::Result<()> {
        let Some(rows) = self.rows.finish() else { return Ok(()) };
        self.summary.add(&rows);
        self.metrics.records.add(rows.num_rows() as u64);
        for rows in socket::pieces(&rows) {
            while self.in_flight.len() >= self.in_flight_max {
                self.oldest()?;
            }
            self.send(rows)?;
        }
        Ok(())
    }

    fn send(&mut self, rows: RecordBatch) -> anyhow::Result<()> {
        let (receipt, outcome) = mpsc::sync_channel(1);
        if !self.queue.send_blocking(Sealed { rows, hold: None, receipt: Some(receipt) }) {
            bail!("the flow log is closed");
        }
        self.in_flight.push_back(outcome);
        Ok(())
    }

    /// Waits until the oldest batch in flight is on the disk, or is to be sent again.
    fn oldest(&mut self) -> anyhow::Result<()> {
        let Some(outcome) = self.in_flight.pop_front() else { return Ok(()) };
        match outcome.recv().context("the flow log cannot be written")? {
            Outcome::Stored(rows) => self.summary.stored += rows,
            Outcome::Refused(_) if self.stop.load(Ordering::Acquire) => {
                bail!("benocs is stopping while its flow log has no room for imports");
            }
            Outcome::Refused(rows) => {
                std::thread::sleep(RETRY);
                self.send(rows)?;
            }
        }
        Ok(())
    }

    /// Until nothing is in flight.
    fn settle(&mut self) -> anyhow::Result<()> {
        while !self.in_flight.is_empty() {
            self.oldest()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_gives_what_was_put_into_it_and_takes_any_octets() {
        let mut chunk = Vec::new();
        let datagrams = [
            (1_700_000_000_123, "192.0.2.1".parse().unwrap(), b"one".as_slice()),
            (-5, "2001:db8::1".parse().unwrap(), b""),
            (i64::MAX, "::ffff:192.0.2.2".parse().unwrap(), b"three"),
        ];
        for (received_ms, source, payload) in datagrams {
            put(&mut chunk, received_ms, source, payload);
        }
        let mut rest = chunk.as_slice();
        for (received_ms, source, payload) in datagrams {
            let taken = take(rest).unwrap();
            assert_eq!((taken.0, taken.1, taken.2), (received_ms, source.to_canonical(), payload));
            rest = taken.3;
        }
        assert!(rest.is_empty());
        for end in 0..HEAD_OCTETS + 3 {
            assert_eq!(take(&chunk[..end]), None);
        }
        assert_eq!(take(&[0xff; 64]), None);
    }
}
