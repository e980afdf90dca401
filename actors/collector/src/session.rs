//! IPFIX over TCP and TLS (RFC 7011 10.4, 11), on one thread: messages in, sealed batches out.
//!
//!   exporters (n) --TCP--> [session tasks] --whole messages--> decode --4,096 rows or 50 ms--> queue of the log
//!
//!   | version u16 = 10 | length u16 | ... | one message after the other
//!
//! TCP can be held back: where the log is slow or full, nothing is read, and the
//! exporter waits. Templates are a session's own and end with it (RFC 7011 8.1).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arrow::array::RecordBatch;
use benocs_model::flow::builder::FlowBuilder;
use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::decode::{Cause, Decoder, Session, Shared};
use crate::error::Ended;
use crate::gate::{Gate, Strangers};
use crate::metrics::Metrics;
use crate::socket::{LINGER, Queue, Sealed, lose, pieces, unix_ms};

/// What is read at once.
const READ_OCTETS: usize = 64 << 10;
const HEADER_OCTETS: usize = 16;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Batches that the log has not taken; with more, nothing is read.
const BATCHES: usize = 8;
/// How often a stop is looked for, and how long what is on its way is waited for then.
const LOOK: Duration = Duration::from_millis(50);
/// Between attempts to get a batch into a queue that datagrams have filled.
const RETRY: Duration = Duration::from_millis(2);
/// Lines about sessions a second; more are only counted.
const LINES_MAX: u32 = 20;

/// A listening address.
pub(crate) struct Listener {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

pub(crate) struct SessionIntake {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) decoder: Decoder,
    pub(crate) gate: Gate,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Queue,
    pub(crate) metrics: Metrics,
    pub(crate) sessions: Sessions,
    pub(crate) limits: SessionLimits,
    pub(crate) stop: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    pub(crate) batch_rows: usize,
    pub(crate) batch_age: Duration,
    pub(crate) sessions_max: usize,
    pub(crate) idle_s: u64,
}

impl SessionLimits {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            batch_rows: config.batch_rows.max(1),
            batch_age: Duration::from_millis(config.batch_ms),
            sessions_max: config.ipfix_sessions_max,
            idle_s: config.ipfix_idle_s.max(1),
        }
    }
}

/// An open session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// As its domains name it.
    pub session: u32,
    pub peer: SocketAddr,
    pub tls: bool,
    /// Unix ms.
    pub since_ms: i64,
    pub last_ms: Option<i64>,
    pub messages: u64,
    pub octets: u64,
}

/// Those that are open, for `status`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Mutex<BTreeMap<u32, SessionStatus>>>);

impl Sessions {
    pub(crate) fn status(&self) -> Vec<SessionStatus> {
        self.0.lock().values().cloned().collect()
    }
}

/// What the sessions share: all on one thread.
struct Hub {
    work: tokio::sync::Mutex<Work>,
    shared: Arc<Shared>,
    strangers: Arc<Strangers>,
    queue: Queue,
    room: Arc<Semaphore>,
    metrics: Metrics,
    sessions: Sessions,
    limits: SessionLimits,
    number: Cell<u32>,
    /// After a stop: until when what was received is waited for.
    until: Cell<Option<Instant>>,
    lines: RefCell<Lines>,
}

/// Held while messages are decoded, and while a full batch waits for the log: then nobody reads on.
struct Work {
    decoder: Decoder,
    gate: Gate,
    builder: FlowBuilder,
    opened: Option<Instant>,
}

struct Lines {
    second: Instant,
    count: u32,
    kept_back: u64,
}

impl SessionIntake {
    /// Until `stop`; then what has arrived is still taken.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let (ending, ends) = watch::channel(false);
        let hub = Rc::new(Hub {
            work: tokio::sync::Mutex::new(Work {
                decoder: self.decoder,
                gate: self.gate,
                builder: FlowBuilder::with_capacity(self.limits.batch_rows + 64),
                opened: None,
            }),
            shared: self.shared,
            strangers: self.strangers,
            queue: self.queue,
            room: Arc::new(Semaphore::new(BATCHES)),
            metrics: self.metrics,
            sessions: self.sessions,
            limits: self.limits,
            number: Cell::new(0),
            until: Cell::new(None),
            lines: RefCell::new(Lines { second: Instant::now(), count: 0, kept_back: 0 }),
        });
        let mut accepting = Vec::new();
        for Listener { listener, tls } in self.listeners {
            let listener = tokio::net::TcpListener::from_std(listener).context("cannot listen")?;
            let accept = accept(listener, tls.map(TlsAcceptor::from), hub.clone(), ends.clone());
            accepting.push(tokio::task::spawn_local(accept));
        }
        let pause = self.limits.batch_age.clamp(Duration::from_millis(1), LOOK);
        while !self.stop.load(Ordering::Acquire) {
            tokio::time::sleep(pause).await;
            if let Ok(mut work) = hub.work.try_lock() {
                if work.opened.is_some_and(|opened| opened.elapsed() >= self.limits.batch_age) {
                    hub.seal(&mut work).await;
                }
                work.gate.settle(&hub.shared, &hub.strangers, &hub.metrics, unix_ms());
            }
        }
        hub.until.set(Some(Instant::now() + LINGER));
        let _ = ending.send(true);
        for accept in accepting {
            accept.await.context("a task panicked")?;
        }
        while !hub.sessions.0.lock().is_empty() && !hub.is_late() {
            tokio::time::sleep(RETRY).await;
        }
        let mut work = hub.work.lock().await;
        hub.seal(&mut work).await;
        work.gate.settle(&hub.shared, &hub.strangers, &hub.metrics, unix_ms());
        Ok(())
    }
}

impl Hub {
    fn is_late(&self) -> bool {
        self.until.get().is_some_and(|until| Instant::now() >= until)
    }

    async fn seal(&self, work: &mut Work) {
        work.opened = None;
        let Some(rows) = work.builder.finish() else { return };
        self.metrics.records.add(rows.num_rows() as u64);
        for piece in pieces(&rows) {
            self.send(piece).await;
        }
    }

    /// Waits until the log has room; after a stop not for ever.
    async fn send(&self, rows: RecordBatch) {
        let hold = loop {
            tokio::select! {
                permit = self.room.clone().acquire_owned() => break permit.ok(),
                () = tokio::time::sleep(LOOK) => if self.is_late() {
                    return lose(&rows, Cause::Mailbox, &self.shared, &self.metrics.dropped_mailbox);
                },
            }
        };
        let mut sealed = Sealed { rows, hold, receipt: None };
        loop {
            match self.queue.offer(sealed) {
                Ok(()) => return,
                Err(TrySendError::Full(back)) if !self.is_late() => {
                    sealed = back;
                    tokio::time::sleep(RETRY).await;
                }
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
                    return lose(&back.rows, Cause::Mailbox, &self.shared, &self.metrics.dropped_mailbox);
                }
            }
        }
    }

    /// A number and an entry; `None` where there are too many.
    fn open(&self, peer: SocketAddr, tls: bool) -> Option<u32> {
        let mut open = self.sessions.0.lock();
        if open.len() >= self.limits.sessions_max {
            return None;
        }
        let mut number = self.number.get();
        loop {
            number = number.wrapping_add(1).max(1);
            if !open.contains_key(&number) {
                break;
            }
        }
        self.number.set(number);
        let since_ms = unix_ms();
        let status = SessionStatus { session: number, peer, tls, since_ms, last_ms: None, messages: 0, octets: 0 };
        open.insert(number, status);
        self.metrics.sessions.set(open.len() as f64);
        Some(number)
    }

    async fn close(&self, number: u32, peer: SocketAddr, ended: &Ended) {
        self.work.lock().await.decoder.end_session(peer, Session(number));
        let status = {
            let mut open = self.sessions.0.lock();
            let status = open.remove(&number);
            self.metrics.sessions.set(open.len() as f64);
            status
        };
        if let Ended::Cut(_) = ended {
            self.shared.lose_datagrams(peer.ip(), Cause::Truncated, 1);
        }
        if ended.is_fault() {
            self.metrics.dropped_framing.add(1);
        }
        if !self.may_say() {
            return;
        }
        let messages = status.map_or(0, |status| status.messages);
        if ended.is_fault() {
            tracing::warn!(%peer, messages, reason = %ended, "IPFIX session ended");
        } else {
            tracing::info!(%peer, messages, reason = %ended, "IPFIX session ended");
        }
    }

    fn may_say(&self) -> bool {
        let mut lines = self.lines.borrow_mut();
        if lines.second.elapsed() >= Duration::from_secs(1) {
            if lines.kept_back > 0 {
                tracing::warn!(lines = lines.kept_back, "more IPFIX sessions began, ended or were refused");
            }
            *lines = Lines { second: Instant::now(), count: 0, kept_back: 0 };
        }
        lines.count += 1;
        let may = lines.count <= LINES_MAX;
        lines.kept_back += u64::from(!may);
        may
    }

    /// Decodes the whole messages of a buffer; for how long the exporter has to wait then.
    async fn consume(&self, buffer: &mut BytesMut, number: u32, peer: SocketAddr) -> Result<Taken, Ended> {
        let mut taken = Taken { messages: 0, delay: Duration::ZERO };
        if whole(buffer)?.is_none() {
            return Ok(taken);
        }
        let mut octets = 0;
        let mut guard = self.work.lock().await;
        let received_ms = unix_ms();
        guard.gate.open();
        let result = loop {
            let length = match whole(buffer) {
                Ok(Some(length)) => length,
                Ok(None) => break Ok(()),
                Err(ended) => break Err(ended),
            };
            let work = &mut *guard;
            let message = &buffer[..length];
            work.decoder.session_message(peer, Session(number), received_ms, message, &mut work.builder);
            buffer.advance(length);
            taken.messages += 1;
            octets += length as u64;
            taken.delay = work.gate.delay(peer.ip());
            if work.builder.len() >= self.limits.batch_rows {
                self.seal(&mut guard).await;
            }
        };
        if guard.opened.is_none() && !guard.builder.is_empty() {
            guard.opened = Some(Instant::now());
        }
        drop(guard);
        self.metrics.session_messages.add(taken.messages);
        self.metrics.session_octets.add(octets);
        if let Some(status) = self.sessions.0.lock().get_mut(&number) {
            status.messages += taken.messages;
            status.octets += octets;
            status.last_ms = Some(received_ms);
        }
        result.map(|()| taken)
    }
}

struct Taken {
    messages: u64,
    delay: Duration,
}

/// Octets of the message at the beginning, where it is all there.
fn whole(buffer: &[u8]) -> Result<Option<usize>, Ended> {
    let Some(&[version_1, version_2, length_1, length_2]) = buffer.first_chunk::<4>() else { return Ok(None) };
    let (version, length) = (u16::from_be_bytes([version_1, version_2]), u16::from_be_bytes([length_1, length_2]));
    // RFC 7011 3.1
    if version != 10 {
        return Err(Ended::Version(version));
    }
    if usize::from(length) < HEADER_OCTETS {
        return Err(Ended::Length(length));
    }
    Ok((buffer.len() >= usize::from(length)).then_some(usize::from(length)))
}

async fn accept(
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    hub: Rc<Hub>,
    mut ends: watch::Receiver<bool>,
) {
    let session_ends = ends.clone();
    let mut stopping = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = ends.changed(), if !stopping => {
                // Those that have connected may have sent something.
                stopping = true;
                continue;
            }
            () = tokio::time::sleep(LOOK), if stopping => return,
        };
        if stopping && hub.is_late() {
            return;
        }
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            Err(error) => {
                // Out of file descriptors, most likely: others close theirs meanwhile.
                if hub.may_say() {
                    tracing::warn!(%error, "cannot accept an IPFIX session");
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let known = hub.work.lock().await.gate.admits_session(peer.ip());
        if !known {
            continue;
        }
        let Some(number) = hub.open(peer, tls.is_some()) else {
            hub.metrics.dropped_sessions.add(1);
            if hub.may_say() {
                tracing::warn!(%peer, max = hub.limits.sessions_max, "IPFIX session refused: too many are open");
            }
            continue;
        };
        if hub.may_say() {
            tracing::info!(%peer, session = number, tls = tls.is_some(), "IPFIX session");
        }
        tokio::task::spawn_local(serve(stream, tls.clone(), number, peer, hub.clone(), session_ends.clone()));
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    number: u32,
    peer: SocketAddr,
    hub: Rc<Hub>,
    ends: watch::Receiver<bool>,
) {
    let mut stream = stream;
    let ended = match tls {
        None => converse(&mut stream, number, peer, &hub, ends).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(mut stream)) => {
                let ended = converse(&mut stream, number, peer, &hub, ends).await;
                // RFC 8446 6.1: the end is said; to one that does not listen only once.
                let _ = tokio::time::timeout(LOOK, stream.shutdown()).await;
                ended
            }
            Ok(Err(error)) => Ended::Handshake(error),
            Err(_) => Ended::HandshakeTime(HANDSHAKE.as_secs()),
        },
    };
    hub.close(number, peer, &ended).await;
}

/// Reads until the exporter closes, does something wrong, is idle, or the collector stops.
async fn converse(
    stream: &mut (impl AsyncRead + Unpin),
    number: u32,
    peer: SocketAddr,
    hub: &Hub,
    mut ends: watch::Receiver<bool>,
) -> Ended {
    let mut buffer = BytesMut::with_capacity(2 * READ_OCTETS);
    let idle = Duration::from_secs(hub.limits.idle_s);
    let mut last_message = tokio::time::Instant::now();
    loop {
        buffer.reserve(READ_OCTETS);
        let stopping = *ends.borrow();
        // After a stop only what has arrived already is waited for.
        let limit = if stopping { tokio::time::Instant::now() + LOOK } else { last_message + idle };
        let read = tokio::select! {
            read = tokio::time::timeout_at(limit, stream.read_buf(&mut buffer)) => read,
            _ = ends.changed(), if !stopping => continue,
        };
        match read {
            Ok(Ok(0)) if buffer.is_empty() => return Ended::Closed,
            Ok(Ok(0)) => return Ended::Cut(buffer.len()),
            Ok(Ok(_)) if stopping && hub.is_late() => return Ended::Draining,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Ended::Io(error),
            Err(_) if stopping => return Ended::Draining,
            Err(_) => return Ended::Idle(hub.limits.idle_s),
        }
        match hub.consume(&mut buffer, number, peer).await {
            Ok(taken) => {
                if taken.messages > 0 {
                    last_message = tokio::time::Instant::now();
                }
                if !taken.delay.is_zero() {
                    tokio::select! {
                        () = tokio::time::sleep(taken.delay) => {}
                        _ = ends.changed() => {}
                    }
                    last_message = tokio::time::Instant::now();
                }
            }
            Err(ended) => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out_by_their_length() {
        let message = |length: u16| [&[0, 10][..], &length.to_be_bytes(), &[0; 12]].concat();
        assert!(matches!(whole(&[0, 10, 0]), Ok(None)));
        assert!(matches!(whole(&message(16)), Ok(Some(16))));
        assert!(matches!(whole(&message(17)), Ok(None)));
        assert!(matches!(whole(&[message(16), message(16)].concat()), Ok(Some(16))));
        assert!(matches!(whole(&message(15)), Err(Ended::Length(15))));
        assert!(matches!(whole(b"GET / HTTP/1.1"), Err(Ended::Version(0x4745))));
    }
}
