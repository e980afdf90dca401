//! One socket, on a thread of its own: datagrams in, sealed batches out.
//!
//!   kernel --256 datagrams a call--> decode --4,096 rows or 50 ms--> queue of the log
//!
//! UDP cannot be held back: where the queue is full, rows are dropped and counted. What can be held back waits
//! for room, and is told what became of its batch.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, TrySendError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{RecordBatch, UInt32Array};
use benocs_model::flow::builder::FlowBuilder;
use benocs_model::flow::{Column, column};
use benocs_sys::{BATCH, UdpReceiver};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::decode::{Cause, Decoder, Shared};
use crate::fan_out::Tap;
use crate::gate::{Gate, Strangers};
use crate::metrics::{Metrics, Total};

/// So that a stop is seen and drops are counted while nothing comes.
const WAIT_MAX: Duration = Duration::from_millis(50);
const DROPS_INTERVAL: Duration = Duration::from_millis(250);
/// A queue in the kernel that is smaller than this cannot bridge a nap.
const NAP_BUFFER_OCTETS: usize = 4 << 20;
/// On a stop, what is queued is read; a sender that is faster than that does not keep us.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// `ingest_seq` has 16 bits for the row.
const ROWS_MAX: usize = 32_768;

/// A batch on its way to the log.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) rows: RecordBatch,
    /// Of a source that waits until this is dropped, and so of one that the log need not lose.
    pub(crate) hold: Option<OwnedSemaphorePermit>,
    /// Of a source that is told what became of it, and sends it again; its channel has room.
    pub(crate) receipt: Option<mpsc::SyncSender<Outcome>>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// So many rows are on the disk.
    Stored(u64),
    /// There is no room now.
    Refused(RecordBatch),
}

/// Sealed batches on their way to the log.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: mpsc::SyncSender<Sealed>,
    depth: Arc<AtomicUsize>,
}

/// The log's end of it.
#[derive(Debug)]
pub(crate) struct QueueReceiver {
    receiver: mpsc::Receiver<Sealed>,
    depth: Arc<AtomicUsize>,
}

pub(crate) fn queue(batches: usize) -> (Queue, QueueReceiver) {
    let (sender, receiver) = mpsc::sync_channel(batches.max(1));
    let depth = Arc::new(AtomicUsize::new(0));
    (Queue { sender, depth: depth.clone() }, QueueReceiver { receiver, depth })
}

impl Queue {
    pub(crate) fn offer(&self, sealed: Sealed) -> Result<(), TrySendError<Sealed>> {
        self.depth.fetch_add(1, Ordering::Relaxed);
        self.sender.try_send(sealed).inspect_err(|_| {
            self.depth.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Waits for room; false where the log is closed.
    pub(crate) fn send_blocking(&self, sealed: Sealed) -> bool {
        self.depth.fetch_add(1, Ordering::Relaxed);
        let sent = self.sender.send(sealed).is_ok();
        if !sent {
            self.depth.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }
}

impl QueueReceiver {
    pub(crate) fn receive(&self, limit: Duration) -> Result<Sealed, mpsc::RecvTimeoutError> {
        let sealed = self.receiver.recv_timeout(limit)?;
        self.depth.fetch_sub(1, Ordering::Relaxed);
        Ok(sealed)
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }
}

/// When a batch is sealed.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_rows: usize,
    pub(crate) batch_age: Duration,
    pub(crate) nap: Duration,
}

/// A socket as `status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct SocketStatus {
    pub address: SocketAddr,
    pub datagrams: u64,
    /// Datagrams that the kernel dropped since the socket was bound.
    pub dropped_kernel: u64,
}

pub(crate) struct Intake {
    pub(crate) receiver: UdpReceiver,
    pub(crate) decoder: Decoder,
    pub(crate) gate: Gate,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) tap: Option<Tap>,
    pub(crate) status: Arc<Mutex<SocketStatus>>,
    pub(crate) shared: Arc<Shared>,
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
            shared: self.shared.clone(),
            metrics: self.metrics.clone(),
            received: 0,
            patient: false,
        };
        let naps = !self.limits.nap.is_zero() && self.receiver.buffer_octets()? >= NAP_BUFFER_OCTETS;
        let mut drops = Drops { seen: 0, due: Instant::now(), status: self.status };
        let mut last_chance = None;
        loop {
            if last_chance.is_none() && self.stop.load(Ordering::Acquire) {
                last_chance = Some(Instant::now() + LINGER);
                batch.patient = true;
            }
            let datagrams = self.receiver.receive()?;
            if datagrams > 0 {
                take(&self.receiver, &mut self.decoder, &mut self.gate, self.tap.as_mut(), &self.limits, &mut batch);
            }
            let now = Instant::now();
            if now >= drops.due {
                drops.count(&mut self.receiver, batch.received, &self.metrics, now)?;
                self.gate.settle(&self.shared, &self.strangers, &self.metrics, unix_ms());
            }
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
        self.gate.settle(&self.shared, &self.strangers, &self.metrics, unix_ms());
        drops.count(&mut self.receiver, batch.received, &self.metrics, Instant::now())
    }
}

/// The datagrams of one call.
fn take(
    receiver: &UdpReceiver,
    decoder: &mut Decoder,
    gate: &mut Gate,
    mut tap: Option<&mut Tap>,
    limits: &Limits,
    batch: &mut Batch,
) {
    let received_ms = unix_ms();
    gate.open();
    let (mut datagrams, mut octets) = (0, 0);
    decoder.expect(receiver.datagrams().map(|datagram| (datagram.source, datagram.payload)));
    for datagram in receiver.datagrams() {
        datagrams += 1;
        octets += datagram.payload.len() as u64;
        if !gate.admits(datagram.source.ip()) {
            continue;
        }
        if let Some(tap) = &mut tap {
            tap.add(datagram.source, datagram.payload);
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
    batch.received += datagrams;
    if let Some(tap) = tap {
        tap.flush();
    }
}

/// The rows that are not sealed yet.
struct Batch {
    builder: FlowBuilder,
    opened: Option<Instant>,
    queue: Queue,
    shared: Arc<Shared>,
    metrics: Metrics,
    /// Datagrams.
    received: u64,
    /// Nothing more is received: the log may be waited for.
    patient: bool,
}

impl Batch {
    fn seal(&mut self) {
        self.opened = None;
        let Some(rows) = self.builder.finish() else { return };
        self.metrics.records.add(rows.num_rows() as u64);
        for piece in pieces(&rows) {
            self.send(piece);
        }
    }

    fn send(&self, rows: RecordBatch) {
        let sealed = Sealed { rows, hold: None, receipt: None };
        let sent = if self.patient {
            self.queue.depth.fetch_add(1, Ordering::Relaxed);
            self.queue.sender.send(sealed).map_err(|error| {
                self.queue.depth.fetch_sub(1, Ordering::Relaxed);
                TrySendError::Disconnected(error.0)
            })
        } else {
            self.queue.offer(sealed)
        };
        if let Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) = sent {
            lose(&back.rows, Cause::Mailbox, &self.shared, &self.metrics.dropped_mailbox);
        }
    }
}

/// Batches with no more rows than their numbers allow.
pub(crate) fn pieces(rows: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let count = rows.num_rows();
    (0..count).step_by(ROWS_MAX).map(move |at| rows.slice(at, ROWS_MAX.min(count - at)))
}

/// Counts rows that are lost, also for the exporters that they are of.
pub(crate) fn lose(rows: &RecordBatch, cause: Cause, shared: &Shared, total: &Total) {
    total.add(rows.num_rows() as u64);
    let ids = column(rows, Column::ExporterId).and_then(|ids| ids.as_any().downcast_ref::<UInt32Array>());
    if let Some(ids) = ids {
        shared.lose_rows(ids.values(), cause);
    }
}

/// What the kernel dropped on this socket.
struct Drops {
    seen: u64,
    due: Instant,
    status: Arc<Mutex<SocketStatus>>,
}

impl Drops {
    fn count(&mut self, receiver: &mut UdpReceiver, datagrams: u64, metrics: &Metrics, now: Instant) -> io::Result<()> {
        self.due = now + DROPS_INTERVAL;
        let drops = receiver.drops()?;
        metrics.dropped_kernel.add(drops - self.seen);
        self.seen = drops;
        let mut status = self.status.lock();
        (status.datagrams, status.dropped_kernel) = (datagrams, drops);
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
