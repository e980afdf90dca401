//! One socket, on a thread of its own: datagrams in, sealed batches out.
//!
//!   kernel --256 datagrams a call--> decode --4,096 rows or 50 ms--> queue of the log
//!
//! UDP cannot be held back: where the queue is full, rows are dropped and counted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, TrySendError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use benocs_model::flow::builder::FlowBuilder;
use benocs_sys::{BATCH, UdpReceiver};
use ipnet::IpNet;

use crate::decode::Decoder;
use crate::metrics::Metrics;

/// So that a stop is seen and drops are counted while nothing comes.
const WAIT_MAX: Duration = Duration::from_millis(50);
const DROPS_INTERVAL: Duration = Duration::from_millis(250);
/// A queue in the kernel that is smaller than this cannot bridge a nap.
const NAP_BUFFER_OCTETS: usize = 4 << 20;
/// On a stop, what is queued is read; a sender that is faster than that does not keep us.
const LINGER: Duration = Duration::from_secs(2);
/// `ingest_seq` has 16 bits for the row.
const ROWS_MAX: usize = 32_768;

/// Sealed batches on their way to the log.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: mpsc::SyncSender<RecordBatch>,
    depth: Arc<AtomicUsize>,
}

/// The log's end of it.
#[derive(Debug)]
pub(crate) struct QueueReceiver {
    receiver: mpsc::Receiver<RecordBatch>,
    depth: Arc<AtomicUsize>,
}

pub(crate) fn queue(batches: usize) -> (Queue, QueueReceiver) {
    let (sender, receiver) = mpsc::sync_channel(batches.max(1));
    let depth = Arc::new(AtomicUsize::new(0));
    (Queue { sender, depth: depth.clone() }, QueueReceiver { receiver, depth })
}

impl QueueReceiver {
    pub(crate) fn receive(&self, limit: Duration) -> Result<RecordBatch, mpsc::RecvTimeoutError> {
        let rows = self.receiver.recv_timeout(limit)?;
        self.depth.fetch_sub(1, Ordering::Relaxed);
        Ok(rows)
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }
}

/// When a batch is sealed, who may send.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_rows: usize,
    pub(crate) batch_age: Duration,
    pub(crate) nap: Duration,
    pub(crate) allow: Arc<[IpNet]>,
}

pub(crate) struct Intake {
    pub(crate) receiver: UdpReceiver,
    pub(crate) decoder: Decoder,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Intake {
    /// Until `stop`; then what the kernel has queued is still taken.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut batch = Batch {
            // A datagram may bring more rows than are missing.
            builder: FlowBuilder::with_capacity(self.limits.batch_rows + 64),
            opened: None,
            queue: self.queue,
            metrics: self.metrics.clone(),
            patient: false,
        };
        let naps = !self.limits.nap.is_zero() && self.receiver.buffer_octets()? >= NAP_BUFFER_OCTETS;
        let mut drops = Drops { seen: 0, due: Instant::now() };
        let mut last_chance = None;
        loop {
            if last_chance.is_none() && self.stop.load(Ordering::Acquire) {
                last_chance = Some(Instant::now() + LINGER);
                batch.patient = true;
            }
            let datagrams = self.receiver.receive()?;
            if datagrams > 0 {
                take(&self.receiver, &mut self.decoder, &self.limits, &mut batch);
            }
            let now = Instant::now();
            drops.count(&mut self.receiver, &self.metrics, now)?;
            if batch.opened.is_some_and(|opened| now.duration_since(opened) >= self.limits.batch_age) {
                batch.seal();
            }
            match last_chance {
                Some(limit) if datagrams == 0 || now >= limit => break,
                Some(_) => {}
                None if datagrams == 0 => {
                    let age = batch.opened.map_or(Duration::ZERO, |opened| now.duration_since(opened));
                    // A millisecond more, since the wait is in whole ones.
                    let due = self.limits.batch_age.saturating_sub(age) + Duration::from_millis(1);
                    let limit = if batch.opened.is_some() { due.min(WAIT_MAX) } else { WAIT_MAX };
                    if self.receiver.wait(limit)? && naps {
                        std::thread::sleep(self.limits.nap.min(WAIT_MAX));
                    }
                }
                None if naps && datagrams < BATCH / 4 => std::thread::sleep(self.limits.nap.min(WAIT_MAX)),
                None => {}
            }
        }
        batch.seal();
        drops.due = Instant::now();
        drops.count(&mut self.receiver, &self.metrics, Instant::now())
    }
}

/// The datagrams of one call.
fn take(receiver: &UdpReceiver, decoder: &mut Decoder, limits: &Limits, batch: &mut Batch) {
    let received_ms = unix_ms();
    let (mut datagrams, mut octets, mut denied) = (0, 0, 0);
    for datagram in receiver.datagrams() {
        datagrams += 1;
        octets += datagram.payload.len() as u64;
        if !allowed(&limits.allow, datagram.source) {
            denied += 1;
            continue;
        }
        decoder.datagram(datagram.source, received_ms, datagram.payload, &mut batch.builder);
        if batch.builder.len() >= limits.batch_rows {
            batch.seal();
        }
    }
    if batch.opened.is_none() && !batch.builder.is_empty() {
        batch.opened = Some(Instant::now());
    }
    batch.metrics.datagrams.add(datagrams);
    batch.metrics.octets.add(octets);
    batch.metrics.dropped_denied.add(denied);
}

fn allowed(allow: &[IpNet], source: SocketAddr) -> bool {
    let ip: IpAddr = source.ip();
    allow.is_empty() || allow.iter().any(|network| network.contains(&ip))
}

/// The rows that are not sealed yet.
struct Batch {
    builder: FlowBuilder,
    opened: Option<Instant>,
    queue: Queue,
    metrics: Metrics,
    /// Nothing more is received: the log may be waited for.
    patient: bool,
}

impl Batch {
    fn seal(&mut self) {
        self.opened = None;
        let Some(rows) = self.builder.finish() else { return };
        self.metrics.records.add(rows.num_rows() as u64);
        if rows.num_rows() <= ROWS_MAX {
            self.send(rows);
            return;
        }
        for at in (0..rows.num_rows()).step_by(ROWS_MAX) {
            self.send(rows.slice(at, ROWS_MAX.min(rows.num_rows() - at)));
        }
    }

    fn send(&self, rows: RecordBatch) {
        let lost = rows.num_rows() as u64;
        self.queue.depth.fetch_add(1, Ordering::Relaxed);
        let sent = if self.patient {
            self.queue.sender.send(rows).map_err(|error| TrySendError::Disconnected(error.0))
        } else {
            self.queue.sender.try_send(rows)
        };
        if sent.is_err() {
            self.queue.depth.fetch_sub(1, Ordering::Relaxed);
            self.metrics.dropped_mailbox.add(lost);
        }
    }
}

/// What the kernel dropped on this socket.
struct Drops {
    seen: u64,
    due: Instant,
}

impl Drops {
    fn count(&mut self, receiver: &mut UdpReceiver, metrics: &Metrics, now: Instant) -> io::Result<()> {
        if now < self.due {
            return Ok(());
        }
        self.due = now + DROPS_INTERVAL;
        let drops = receiver.drops()?;
        metrics.dropped_kernel.add(drops - self.seen);
        self.seen = drops;
        Ok(())
    }
}

/// Now, in UTC milliseconds.
pub(crate) fn unix_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}
