//! The collector.
//!
//! ```text
//!   exporters --UDP--> [socket threads 1..n] --rows--> [appender] --> [syncer] --fsync--> segment log
//!                           '--copies--> [fan-out] --> other collectors        |
//!   exporters --TCP, TLS--> [session thread] --rows--> [appender]              |
//!   enricher, or the link to it (1)  <--FlowBatch, in order--  [forwarder] <---+
//!   whoever replicates tables (1)    <--TableUpdate::{Exporters, Labels}--  [Collector]
//!   store, or the link to it (1)     --Commit--> [commits] --frees--> segment log
//!   control socket (0..4)  --datagrams of files--> [import threads] --rows--> [appender]
//! ```
//!
//! The worker itself only owns the threads, answers questions, and publishes the
//! exporters; no row passes through its mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use benocs_model::flow::builder::with_identity;
use benocs_model::message::{Commit, FlowBatch, SourceId};
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::State;
use benocs_runtime::{Context, Fatal, Handle, Outbox, Restart, Settings, Worker};
use benocs_sys::{ReceiveOptions, UdpReceiver};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::config::{Config, address};
use crate::decode::{Cause, Decoder, ExporterStatus, Shared};
use crate::error::LogError;
use crate::exporters::{self, Keeper};
use crate::fan_out::{self, FanOutStatus};
use crate::gate::{Denied, Gate, Strangers};
use crate::import::{Desk, Import};
use crate::log::{self, Appender, LogHandle, LogStatus, Next, Reader, Unsynced};
use crate::metrics::{Metrics, Totals};
use crate::session::{Listener, SessionIntake, SessionLimits, SessionStatus, Sessions};
use crate::silence::Silence;
pub use crate::socket::SocketStatus;
use crate::socket::{self, Intake, Limits, Outcome, QueueReceiver, Sealed, lose};
use crate::tls;

/// Bound of the mailbox: questions and commits, both rare.
const MAILBOX: usize = 64;
const TICK: Duration = Duration::from_secs(1);
/// How often an idle thread looks whether it should end.
const IDLE: Duration = Duration::from_millis(100);
/// How soon a sync is tried again while the disk is busy with the last one.
const BUSY: Duration = Duration::from_millis(5);
/// Below the log, in the data directory.
const LOG_DIRECTORY: &str = "log";

/// What the collector is told.
#[derive(Debug)]
pub enum Message {
    /// What storage has committed, where it does not come through [`Wiring::commits`].
    Commit(Commit),
    /// The consumer wants the log from batch `seq` on: it reconnected, or lost what it had. One batch that
    /// was on its way may still come before it.
    Rewind {
        seq: u64,
    },
    Status(oneshot::Sender<Status>),
    /// Begins an import.
    Import(oneshot::Sender<anyhow::Result<Import>>),
}

/// How the collector stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// With the ports that the kernel chose where 0 was asked for.
    pub listening: Vec<SocketAddr>,
    pub totals: Totals,
    pub log: LogStatus,
    /// By UDP socket.
    pub sockets: Vec<SocketStatus>,
    /// Open TCP and TLS connections.
    pub sessions: Vec<SessionStatus>,
    /// Sources that may not send.
    pub denied: Vec<Denied>,
    /// What could not be read, or was too much, of senders that are no exporters, by cause.
    pub refused: BTreeMap<&'static str, u64>,
    /// Where datagrams are sent on to.
    pub fan_out: FanOutStatus,
    pub exporters: Vec<ExporterStatus>,
}

/// What the collector is connected to.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// Data directory of the process; the log is in `log` below it.
    pub data: PathBuf,
    /// Number of this machine among those that own a log, below 4,096.
    pub node: u16,
    pub state: State,
    pub flows: Outbox<FlowBatch>,
    pub tables: Outbox<Arc<TableUpdate>>,
    /// Receiving end of an `Outbox::<Commit>::channel`; read until its last sender is gone, after a drain too.
    pub commits: async_channel::Receiver<Commit>,
}

/// Starts the collector on threads of its own.
pub fn spawn(config: Config, wiring: Wiring, fatal: UnboundedSender<Fatal>) -> Handle<Message> {
    let settings = Settings { name: "collector", capacity: MAILBOX, tick: TICK, restart: Restart::Never };
    // Boxed since a receiver must not move while it is awaited, which nobody does here.
    let wiring = Box::new(wiring);
    benocs_runtime::spawn(settings, fatal, move || Ok(Collector::new(config.clone(), wiring.clone())))
}

/// Inert until its worker starts.
pub struct Collector {
    config: Config,
    wiring: Box<Wiring>,
    running: Option<Running>,
}

pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    /// A drain has taken too long: forward nothing more.
    abandoned: Arc<AtomicBool>,
    sockets: Vec<JoinHandle<anyhow::Result<()>>>,
    appender: JoinHandle<anyhow::Result<()>>,
    forwarder: JoinHandle<Result<(), LogError>>,
    /// Closed when the forwarder has nothing left to do.
    forwarded: mpsc::Receiver<()>,
    listening: Vec<SocketAddr>,
    imports: Desk,
    log: LogHandle,
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    silence: Silence,
    statuses: Vec<Arc<Mutex<SocketStatus>>>,
    sessions: Sessions,
    strangers: Arc<Strangers>,
    fan_out: Option<Arc<fan_out::Board>>,
    metrics: Metrics,
}

impl Collector {
    pub fn new(config: Config, wiring: Box<Wiring>) -> Self {
        Self { config, wiring, running: None }
    }
}

impl Worker for Collector {
    type Message = Message;

    fn start(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        self.running = Some(Running::start(&self.config, &self.wiring)?);
        Ok(())
    }

    fn handle(&mut self, message: Message, _context: &mut Context<Self>) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        match message {
            Message::Commit(commit) => running.log.commit(&commit)?,
            Message::Rewind { seq } => running.log.rewind(seq),
            // Whoever asked may have gone meanwhile.
            Message::Status(reply) => drop(reply.send(running.status())),
            Message::Import(reply) => drop(reply.send(running.imports.begin())),
        }
        Ok(())
    }

    fn tick(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        if running.has_ended() {
            return match self.running.take() {
                Some(running) => Err(running.reason()),
                None => Ok(()),
            };
        }
        running.settle()
    }

    fn drain(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => running.drain(&self.wiring, Duration::from_millis(self.config.drain_ms)),
            None => Ok(()),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop.store(true, Ordering::Release);
        }
    }
}

impl Running {
    pub(crate) fn start(config: &Config, wiring: &Wiring) -> anyhow::Result<Self> {
        let receivers = bind(config)?;
        let listeners = listen(config)?;
        // Without sockets there is nothing to send on.
        let (tap, fan_out) = if receivers.is_empty() { (None, None) } else { fan_out::open(config)?.unzip() };
        let options = log::Options {
            directory: wiring.data.join(LOG_DIRECTORY),
            node: wiring.node,
            created_s: (socket::unix_ms() / 1000).unsigned_abs(),
            octets_max: config.log_octets_max,
            segment_octets: config.log_segment_octets,
            memory_octets: config.log_memory_octets,
        };
        let (appender, reader, log) = log::open(&options)?;
        anyhow::ensure!(wiring.node <= exporters::NODE_MAX, "node {} is above {}", wiring.node, exporters::NODE_MAX);
        let (keeper, known) = Keeper::load(&wiring.state, wiring.tables.clone())?;
        let keeper = Arc::new(keeper);
        let shared = Arc::new(Shared::with_ids_from(config.decode.clone(), known, exporters::first_id(wiring.node)));
        keeper.keep(&shared)?;
        keeper.restore(&shared, i64::from(config.decode.template_keep_s) * 1000, socket::unix_ms())?;
        let silence = Silence::load(&wiring.state, config.silent_after_s, socket::unix_ms())?;
        let udp = receivers.iter().map(|(_, receiver)| receiver.local_addr());
        let tcp = listeners.iter().map(|listener| listener.listener.local_addr());
        let listening: Vec<SocketAddr> = udp.chain(tcp).collect::<Result<_, _>>().context("sockets")?;

        let metrics = Metrics::new();
        let stop = Arc::new(AtomicBool::new(false));
        let (queue, queued) = socket::queue(config.queue_batches);
        let sync = Duration::from_millis(config.log_sync_ms);
        let writer = Writer {
            appender,
            keeper: keeper.clone(),
            shared: shared.clone(),
            metrics: metrics.clone(),
            receipts: Vec::new(),
        };
        let appender = thread("collector-log".to_owned(), move || writer.run(&queued, sync))?;
        let (forwarding, forwarded) = mpsc::sync_channel(1);
        let abandoned = Arc::new(AtomicBool::new(false));
        let (flows, forward_abandoned) = (wiring.flows.clone(), abandoned.clone());
        let forwarder = thread("collector-fwd".to_owned(), move || {
            let _forwarding = forwarding;
            forward(reader, &flows, &forward_abandoned)
        })?;
        let (commits, commit_log) = (wiring.commits.clone(), log.clone());
        // Ends with the last sender; that may be after this worker.
        thread("collector-ack".to_owned(), move || take_commits(&commits, &commit_log))?;

        let limits = Limits {
            batch_rows: config.batch_rows.max(1),
            batch_age: Duration::from_millis(config.batch_ms),
            nap: Duration::from_millis(config.nap_ms),
        };
        let (mut sockets, mut statuses) = (Vec::new(), Vec::new());
        let strangers = Arc::new(Strangers::default());
        let board = fan_out.as_ref().map(fan_out::FanOut::board);
        if let Some(fan_out) = fan_out {
            sockets.push(thread("collector-fan".to_owned(), move || {
                fan_out.run();
                Ok(())
            })?);
        }
        for (name, receiver) in receivers {
            let address = receiver.local_addr()?;
            let status = Arc::new(Mutex::new(SocketStatus { address, datagrams: 0, dropped_kernel: 0 }));
            statuses.push(status.clone());
            let intake = Intake {
                receiver,
                decoder: Decoder::new(config.decode.clone(), shared.clone()),
                gate: Gate::new(config),
                strangers: strangers.clone(),
                tap: tap.clone(),
                status,
                shared: shared.clone(),
                limits: limits.clone(),
                queue: queue.clone(),
                metrics: metrics.clone(),
                stop: stop.clone(),
            };
            let context = format!("cannot receive ({name})");
            sockets.push(thread(name, move || intake.run().context(context))?);
        }
        // The sockets have theirs: the fan-out ends with the last of them.
        drop(tap);
        let sessions = Sessions::default();
        if !listeners.is_empty() {
            let intake = SessionIntake {
                listeners,
                decoder: Decoder::new(config.decode.clone(), shared.clone()),
                gate: Gate::new(config),
                strangers: strangers.clone(),
                shared: shared.clone(),
                queue: queue.clone(),
                metrics: metrics.clone(),
                sessions: sessions.clone(),
                limits: SessionLimits::new(config),
                stop: stop.clone(),
            };
            sockets.push(thread("collector-tcp".to_owned(), move || intake.run())?);
        }
        let imports = Desk {
            queue,
            shared: shared.clone(),
            decode: config.decode.clone(),
            batch_rows: config.batch_rows.max(1),
            queue_batches: config.queue_batches,
            metrics: metrics.clone(),
            stop: stop.clone(),
            running: Vec::new(),
        };
        let standing = log.status();
        tracing::info!(?listening, source = standing.source, next = standing.acknowledged_seq, "collector listens");
        Ok(Self {
            stop,
            abandoned,
            sockets,
            appender,
            forwarder,
            forwarded,
            listening,
            imports,
            log,
            shared,
            keeper,
            silence,
            statuses,
            sessions,
            strangers,
            fan_out: board,
            metrics,
        })
    }

    /// None of the threads ends by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.sockets.iter().any(JoinHandle::is_finished) || self.appender.is_finished() || self.forwarder.is_finished()
    }

    /// Why one did.
    pub(crate) fn reason(self) -> anyhow::Error {
        self.stop.store(true, Ordering::Release);
        let sockets = self.sockets.into_iter().filter(JoinHandle::is_finished).map(|socket| joined(socket.join()));
        let appender = Some(self.appender).filter(JoinHandle::is_finished).map(|thread| joined(thread.join()));
        let forwarder = Some(self.forwarder).filter(JoinHandle::is_finished).map(|thread| joined(thread.join()));
        let failed = sockets.chain(appender).chain(forwarder).find_map(Result::err);
        failed.unwrap_or_else(|| anyhow::anyhow!("the flow log has nobody to forward to"))
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            listening: self.listening.clone(),
            totals: self.metrics.totals(),
            log: self.log.status(),
            sockets: self.statuses.iter().map(|status| status.lock().clone()).collect(),
            sessions: self.sessions.status(),
            denied: self.strangers.status(),
            refused: self.shared.refused().by_text(),
            fan_out: self.fan_out.as_ref().map(|board| board.status()).unwrap_or_default(),
            exporters: self.exporters(),
        }
    }

    fn exporters(&self) -> Vec<ExporterStatus> {
        let mut exporters = self.shared.status();
        self.silence.tell(&mut exporters);
        exporters
    }

    /// What is due about once a second.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        self.keeper.publish(&self.shared);
        self.keeper.publish_labels(&self.shared, socket::unix_ms());
        self.keeper.keep_domains(&self.shared, socket::unix_ms())?;
        self.log.settle()?;
        let mut exporters = self.shared.status();
        let silent = self.silence.look(&exporters, socket::unix_ms())?;
        self.silence.tell(&mut exporters);
        self.metrics.standing(&self.log.status(), &exporters, silent);
        Ok(())
    }

    pub(crate) fn log_handle(&self) -> LogHandle {
        self.log.clone()
    }

    /// Upstream first: sockets, log, forwarder. What the forwarder does not get rid of stays in the log.
    pub(crate) fn drain(mut self, wiring: &Wiring, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        self.stop.store(true, Ordering::Release);
        let sockets: Vec<_> = self.sockets.drain(..).map(|socket| joined(socket.join())).collect();
        self.imports.close();
        // The last sender of its queue is gone: the appender writes, syncs, closes.
        joined(self.appender.join())?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.forwarded.recv_timeout(left.min(IDLE)) {
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                Err(RecvTimeoutError::Disconnected) => {
                    joined(self.forwarder.join())?;
                    break;
                }
                _ => {
                    self.abandoned.store(true, Ordering::Release);
                    let log = self.log.status();
                    let batches = log.acknowledged_seq - log.forwarded_seq;
                    tracing::warn!(batches, "not everything was taken; it stays in the flow log for the next start");
                    break;
                }
            }
        }
        self.keeper.publish(&self.shared);
        self.keeper.keep_domains(&self.shared, socket::unix_ms())?;
        self.silence.keep(socket::unix_ms())?;
        wiring.state.flush()?;
        self.log.save()?;
        sockets.into_iter().collect::<anyhow::Result<()>>()
    }
}

/// A thread's result; its panic is an error too.
fn joined<E: Into<anyhow::Error>>(result: std::thread::Result<Result<(), E>>) -> anyhow::Result<()> {
    match result {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(anyhow::anyhow!("a thread of the collector panicked")),
    }
}

fn thread<T: Send + 'static>(name: String, body: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name).spawn(body).context("cannot start a thread")
}

/// Every socket, with the name of its thread.
fn bind(config: &Config) -> anyhow::Result<Vec<(String, UdpReceiver)>> {
    let threads = config.threads_per_socket.max(1);
    let options = ReceiveOptions {
        buffer_octets: config.receive_buffer_octets,
        shared_port: threads > 1,
        dual_stack: config.dual_stack,
    };
    let wanted = config.listen.iter().map(|listen| ("collector.listen", listen));
    let wanted = wanted.chain(config.sflow.listen.iter().map(|listen| ("sflow.listen", listen)));
    let mut receivers = Vec::new();
    for (setting, listen) in wanted {
        let mut address = address(setting, listen)?;
        for _ in 0..threads {
            let receiver = UdpReceiver::bind(address, options)
                .with_context(|| format!("cannot listen on {listen} ({setting}): is the port taken?"))?;
            // A port that the kernel chose is for all of them.
            address = receiver.local_addr()?;
            let granted = receiver.buffer_octets()?;
            if granted < config.receive_buffer_octets {
                tracing::warn!(%address, granted, "the kernel grants a smaller queue: raise net.core.rmem_max");
            }
            receivers.push((format!("collector-{}", receivers.len()), receiver));
        }
    }
    Ok(receivers)
}

/// Every listener of IPFIX sessions.
fn listen(config: &Config) -> anyhow::Result<Vec<Listener>> {
    let tls = if config.ipfix_tls_listen.is_empty() { None } else { Some(tls::server_config(config)?) };
    let plain = config.ipfix_tcp_listen.iter().map(|listen| ("collector.ipfix_tcp_listen", listen, None));
    let secure = config.ipfix_tls_listen.iter().map(|listen| ("collector.ipfix_tls_listen", listen, tls.clone()));
    plain
        .chain(secure)
        .map(|(setting, listen, tls)| {
            let listener = benocs_sys::listen_tcp(address(setting, listen)?, config.dual_stack)
                .with_context(|| format!("cannot listen on {listen} ({setting}): is the port taken?"))?;
            Ok(Listener { listener, tls })
        })
        .collect()
}

/// How often what the full log refused is offered again, where its source waits.
const AGAIN: Duration = Duration::from_millis(50);

/// Who waits for how many rows to be on the disk.
type Receipts = Vec<(mpsc::SyncSender<Outcome>, u64)>;

fn confirm(receipts: Receipts) {
    for (receipt, rows) in receipts {
        // Whoever waits for it may have gone meanwhile.
        let _ = receipt.try_send(Outcome::Stored(rows));
    }
}

/// The thread that owns the writing side of the log.
struct Writer {
    appender: Appender,
    keeper: Arc<Keeper>,
    shared: Arc<Shared>,
    metrics: Metrics,
    /// Of batches that were appended and are not synced.
    receipts: Receipts,
}

impl Writer {
    /// Until whoever sends is gone: append, and sync at most every `interval`.
    fn run(mut self, queue: &QueueReceiver, interval: Duration) -> anyhow::Result<()> {
        let syncer = self.syncer()?;
        let mut due = None;
        // Bounded by the permits that they hold.
        let mut held: VecDeque<Sealed> = VecDeque::new();
        loop {
            let now = Instant::now();
            while let Some(sealed) = held.pop_front() {
                if let Some(back) = self.append(sealed)? {
                    held.push_front(back);
                    break;
                }
                due = due.or(Some(now + interval));
            }
            if due.is_some_and(|due| now >= due) {
                self.metrics.queue.set(queue.depth() as f64);
                due = None;
                if self.appender.has_unsynced() && !syncer.is_idle() {
                    // While the disk is busy with what came before, more gathers.
                    due = Some(now + BUSY);
                } else if let Some(unsynced) = self.appender.take_unsynced()
                    && syncer.work.send((unsynced, std::mem::take(&mut self.receipts))).is_err()
                {
                    break;
                }
            }
            let limit = due.map_or(IDLE, |due: Instant| due.saturating_duration_since(now));
            let limit = if held.is_empty() { limit } else { limit.min(AGAIN) };
            match queue.receive(limit) {
                Ok(sealed) if sealed.receipt.is_some() => {
                    if self.take(sealed)? {
                        due = due.or(Some(now + interval));
                    }
                }
                Ok(sealed) => match self.append(sealed)? {
                    None => due = due.or(Some(now + interval)),
                    Some(back) => held.push_back(back),
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for sealed in held {
            self.lose(&sealed);
        }
        syncer.finish()?;
        self.keeper.keep(&self.shared)?;
        self.metrics.acknowledged.add(self.appender.close()?.rows);
        confirm(self.receipts);
        self.metrics.queue.set(0.0);
        Ok(())
    }

    /// Appends a batch that may be refused; false where there was no room for it.
    fn take(&mut self, Sealed { rows, receipt, .. }: Sealed) -> anyhow::Result<bool> {
        let count = rows.num_rows() as u64;
        let Some(receipt) = receipt else { return Ok(false) };
        // What can wait leaves half of the log to what cannot.
        let appended =
            if self.appender.is_half_full() { Err(LogError::Full) } else { self.appender.append(rows.clone()) };
        match appended {
            Ok(_) => {
                self.receipts.push((receipt, count));
                Ok(true)
            }
            Err(LogError::Full) => {
                // Whoever waits for it may have gone meanwhile.
                let _ = receipt.try_send(Outcome::Refused(rows));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Starts the thread that waits for the disk; what it synced is acknowledged.
    fn syncer(&self) -> anyhow::Result<Syncer> {
        let (work, works) = mpsc::sync_channel::<(Unsynced, Receipts)>(1);
        let idle = Arc::new(AtomicBool::new(true));
        let busy = idle.clone();
        let (keeper, shared, metrics) = (self.keeper.clone(), self.shared.clone(), self.metrics.clone());
        let thread = thread("collector-sync".to_owned(), move || {
            while let Ok((unsynced, receipts)) = works.recv() {
                // Before its rows are acknowledged, an exporter is known for ever.
                keeper.keep(&shared)?;
                metrics.acknowledged.add(unsynced.sync()?.rows);
                confirm(receipts);
                busy.store(true, Ordering::Release);
            }
            Ok(())
        })?;
        Ok(Syncer { work, idle, thread })
    }
}

/// Waits for the disk, so that the thread that appends does not.
struct Syncer {
    /// Room for one: it is filled only while the thread is idle.
    work: mpsc::SyncSender<(Unsynced, Receipts)>,
    idle: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Syncer {
    /// True once after each piece of work; also where the thread has failed, so that this is seen.
    fn is_idle(&self) -> bool {
        self.thread.is_finished() || self.idle.swap(false, Ordering::AcqRel)
    }

    fn finish(self) -> anyhow::Result<()> {
        drop(self.work);
        joined(self.thread.join())
    }
}

impl Writer {
    /// Gives back what the full log refused and its source can wait with; what cannot wait is lost.
    fn append(&mut self, sealed: Sealed) -> anyhow::Result<Option<Sealed>> {
        match self.appender.append(sealed.rows.clone()) {
            Ok(_) => Ok(None),
            Err(LogError::Full) if sealed.hold.is_some() => Ok(Some(sealed)),
            Err(LogError::Full) => {
                self.lose(&sealed);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn lose(&self, sealed: &Sealed) {
        lose(&sealed.rows, Cause::LogFull, &self.shared, &self.metrics.dropped_log_full);
    }
}

/// Until the log is closed and everything in it is forwarded, or nobody is there to take it.
fn forward(mut reader: Reader, flows: &Outbox<FlowBatch>, abandoned: &AtomicBool) -> Result<(), LogError> {
    let source: SourceId = reader.source();
    loop {
        if abandoned.load(Ordering::Acquire) {
            return Ok(());
        }
        match reader.next(IDLE)? {
            Next::Batch { seq, rows } => {
                let batch = FlowBatch { source, seq, rows: with_identity(rows, source, seq) };
                if flows.send_blocking(batch).is_err() {
                    return Ok(());
                }
            }
            Next::Idle => {}
            Next::End => return Ok(()),
        }
    }
}

fn take_commits(commits: &async_channel::Receiver<Commit>, log: &LogHandle) {
    while let Ok(commit) = commits.recv_blocking() {
        if let Err(error) = log.commit(&commit) {
            tracing::error!(%error, "cannot note what was committed; it will be replayed");
        }
    }
    if let Err(error) = log.save() {
        tracing::error!(%error, "cannot note what was committed; it will be replayed");
    }
}

#[cfg(test)]
mod tests;
