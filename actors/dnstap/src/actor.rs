//! The receiver's worker.
//!
//!   resolvers (n) --Frame Streams, TCP--> [dnstap] --NameBatch--> name tables (1..n): of this process, links
//!                                             |----Services-----> hub (1)
//!                                             '--> state (service ids)
//!
//! Connections are tasks on the worker's thread and share its intake.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use benocs_model::names::{NameBatch, ServiceRules};
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::State;
use benocs_runtime::{Context, Fatal, Handle, Outbox, Restart, Settings, Worker};
use benocs_wire::dnstap::MESSAGE_TYPES;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::config::Config;
use crate::connection;
use crate::error::{ConfigError, Ended};
use crate::intake::{Intake, now_ms};
use crate::metrics::{CAUSES, Cause};
use crate::namer::Namer;

const MAILBOX: usize = 16;
/// Of resolvers that are gone, so many are remembered.
const RESOLVERS_MAX: usize = 1024;
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What the receiver can be told.
#[derive(Debug)]
pub enum Message {
    /// New rules, from the files as they are now.
    Rules(Box<ServiceRules>),
}

/// What the receiver sends to.
#[derive(Clone, Debug)]
pub struct Parts {
    pub state: State,
    pub names: Vec<Outbox<NameBatch>>,
    pub tables: Outbox<Arc<TableUpdate>>,
    pub fatal: UnboundedSender<Fatal>,
}

/// A running receiver.
#[derive(Debug)]
pub struct Dnstap {
    pub handle: Handle<Message>,
    /// As bound: a port of 0 is replaced.
    pub addresses: Vec<SocketAddr>,
    pub status: StatusReader,
}

/// One resolver's connection, or its last one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResolverStatus {
    /// dnstap's identity and version, as they say.
    pub name: String,
    pub version: String,
    pub address: String,
    pub connected: bool,
    /// Unix ms.
    pub since_ms: i64,
    pub last_ms: Option<i64>,
    pub frames: u64,
    pub answers: u64,
    /// Why the last connection ended, where not as it should.
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub listen: Vec<SocketAddr>,
    pub resolvers: Vec<ResolverStatus>,
    /// Frames by message type.
    pub frames: BTreeMap<&'static str, u64>,
    pub answers: u64,
    pub services: usize,
    /// Times of messages that were replaced by ours.
    pub clocks_replaced: u64,
    pub dropped: BTreeMap<&'static str, u64>,
}

/// The status, at most a second old.
#[derive(Clone, Debug, Default)]
pub struct StatusReader(Arc<ArcSwap<Status>>);

impl StatusReader {
    pub fn get(&self) -> Arc<Status> {
        self.0.load_full()
    }
}

/// Binds and starts. Errors are the configuration's, or ports that are taken.
pub fn spawn(config: Config, parts: Parts) -> anyhow::Result<Dnstap> {
    let rules = config.service_rules()?;
    config.client_prefix()?;
    let mut listeners = Vec::new();
    for address in config.addresses()? {
        let bound = TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| ConfigError::Bind { address, source })?;
        listeners.push(bound);
    }
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let status = StatusReader::default();
    let settings = Settings {
        name: "dnstap",
        capacity: MAILBOX,
        tick: Duration::from_millis(config.flush_ms.max(1)),
        restart: Restart::AtMost(5),
    };
    let (fatal, reader, listen) = (parts.fatal.clone(), status.clone(), addresses.clone());
    let handle = benocs_runtime::spawn(settings, fatal, move || {
        let listeners = listeners.iter().map(TcpListener::try_clone).collect::<Result<Vec<_>, _>>()?;
        Receiver::new(&config, rules.clone(), listeners, listen.clone(), &parts, reader.clone())
    });
    Ok(Dnstap { handle, addresses, status })
}

/// What connections share: all on one thread, none borrows it over an await.
pub(crate) struct Shared {
    intake: RefCell<Intake>,
    resolvers: RefCell<Vec<ResolverStatus>>,
    names: Vec<Outbox<NameBatch>>,
    batch_answers: usize,
    pub frame_octets_max: usize,
    connections_max: usize,
    /// The tick's batch is on its way: one at a time.
    flushing: Cell<bool>,
}

impl Shared {
    pub fn frame(&self, key: usize, payload: &[u8]) {
        let mut resolvers = self.resolvers.borrow_mut();
        if let Some(resolver) = resolvers.get_mut(key) {
            self.intake.borrow_mut().frame(payload, resolver);
        }
    }

    pub async fn send_full_batch(&self) {
        if self.intake.borrow().batch.len() >= self.batch_answers {
            self.send_batch().await;
        }
    }

    async fn send_batch(&self) {
        let batch = self.intake.borrow_mut().take_batch();
        if batch.is_empty() {
            return;
        }
        for outbox in &self.names {
            // One that is gone was drained: the process ends.
            let _ = outbox.send(batch.clone()).await;
        }
    }

    /// A place for a connection; `None` where there are too many.
    fn open(&self, peer: SocketAddr) -> Option<usize> {
        let mut resolvers = self.resolvers.borrow_mut();
        if resolvers.iter().filter(|resolver| resolver.connected).count() >= self.connections_max {
            return None;
        }
        let address = peer.ip().to_string();
        let fresh = ResolverStatus { address, connected: true, since_ms: now_ms(), ..ResolverStatus::default() };
        // A resolver that comes back goes on where it was; else one that is long gone makes room.
        let same = resolvers.iter().position(|old| !old.connected && old.address == fresh.address);
        let gone = || {
            let full = resolvers.len() >= RESOLVERS_MAX;
            full.then(|| resolvers.iter().position(|old| !old.connected)).flatten()
        };
        match same.or_else(gone) {
            Some(at) => {
                let old = &mut resolvers[at];
                let counts =
                    if old.address == fresh.address { (old.frames, old.answers, old.last_ms) } else { (0, 0, None) };
                *old = fresh;
                (old.frames, old.answers, old.last_ms) = counts;
                Some(at)
            }
            None => {
                resolvers.push(fresh);
                Some(resolvers.len() - 1)
            }
        }
    }

    pub fn close(&self, key: usize, ended: &Ended, cause: Option<Cause>) {
        let mut resolvers = self.resolvers.borrow_mut();
        let Some(resolver) = resolvers.get_mut(key) else { return };
        resolver.connected = false;
        if let Some(cause) = cause {
            self.intake.borrow_mut().drop(cause);
            resolver.problem = ended.to_string();
            tracing::warn!(resolver = %resolver.address, reason = %ended, "dnstap connection closed");
        } else {
            tracing::info!(resolver = %resolver.address, reason = %ended, "dnstap connection ended");
        }
    }
}

struct Receiver {
    shared: Rc<Shared>,
    listeners: Vec<TcpListener>,
    listen: Vec<SocketAddr>,
    tables: Outbox<Arc<TableUpdate>>,
    /// Connections end when it does.
    stop: watch::Sender<bool>,
    status: StatusReader,
    status_at: Option<Instant>,
    /// Services are published whole: the more there are, the less often.
    published_at: Option<Instant>,
    generation: u64,
}

impl Receiver {
    fn new(
        config: &Config,
        rules: ServiceRules,
        listeners: Vec<TcpListener>,
        listen: Vec<SocketAddr>,
        parts: &Parts,
        status: StatusReader,
    ) -> anyhow::Result<Self> {
        let namer = Namer::new(rules, config.services_max, parts.state.tree("services")?)?;
        let shared = Shared {
            intake: RefCell::new(Intake::new(config, config.client_prefix()?, namer)),
            resolvers: RefCell::default(),
            names: parts.names.clone(),
            batch_answers: config.batch_answers.max(1),
            frame_octets_max: config.frame_octets_max,
            connections_max: config.connections_max,
            flushing: Cell::new(false),
        };
        let tables = parts.tables.clone();
        let stop = watch::channel(false).0;
        let shared = Rc::new(shared);
        Ok(Self { shared, listeners, listen, tables, stop, status, status_at: None, published_at: None, generation: 0 })
    }

    fn publish_services(&mut self, force: bool) {
        let mut intake = self.shared.intake.borrow_mut();
        let pause = Duration::from_millis(200 + intake.namer.len() as u64 / 50);
        if !intake.namer.changed || !force && self.published_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        // Replicas keep what is newer: after a restart too.
        let generation = (now_ms() as u64).max(self.generation + 1);
        let table = Arc::new(intake.namer.table(generation));
        // A busy hub gets it at the next tick.
        if self.tables.offer(Arc::new(TableUpdate::Services(table))).is_ok() {
            intake.namer.changed = false;
            self.generation = generation;
            self.published_at = Some(Instant::now());
        }
    }

    fn publish_status(&mut self) {
        if self.status_at.is_some_and(|at| at.elapsed() < STATUS_EVERY) {
            return;
        }
        self.status_at = Some(Instant::now());
        let intake = self.shared.intake.borrow();
        let totals = &intake.totals;
        self.status.0.store(Arc::new(Status {
            listen: self.listen.clone(),
            resolvers: self.shared.resolvers.borrow().clone(),
            frames: MESSAGE_TYPES.iter().copied().zip(totals.frames).filter(|(_, frames)| *frames > 0).collect(),
            answers: totals.answers,
            services: intake.namer.len(),
            clocks_replaced: totals.clocks,
            dropped: CAUSES.iter().map(|(_, cause)| *cause).zip(totals.dropped).filter(|(_, n)| *n > 0).collect(),
        }));
    }
}

async fn accept(listener: TcpListener, shared: Rc<Shared>, stop: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "dnstap cannot listen"),
    };
    let mut ends = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ends.changed() => return,
        };
        let (stream, peer): (TcpStream, SocketAddr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others close theirs meanwhile.
                tracing::warn!(%error, "dnstap cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match shared.open(peer) {
            Some(key) => {
                tracing::info!(resolver = %peer, "dnstap connection");
                tokio::task::spawn_local(connection::serve(stream, key, shared.clone(), stop.clone()));
            }
            None => shared.intake.borrow_mut().drop(Cause::Refused),
        }
    }
}

impl Worker for Receiver {
    type Message = Message;

    fn start(&mut self, context: &mut Context<Self>) -> anyhow::Result<()> {
        for listener in self.listeners.drain(..) {
            context.spawn(accept(listener, self.shared.clone(), self.stop.subscribe()));
        }
        self.publish_services(true);
        self.publish_status();
        Ok(())
    }

    fn handle(&mut self, message: Message, _: &mut Context<Self>) -> anyhow::Result<()> {
        match message {
            Message::Rules(rules) => self.shared.intake.borrow_mut().set_rules(*rules),
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) -> anyhow::Result<()> {
        if let Some(error) = self.shared.intake.borrow_mut().failed.take() {
            return Err(error);
        }
        self.publish_services(false);
        self.publish_status();
        let shared = self.shared.clone();
        if !shared.intake.borrow().batch.is_empty() && !shared.flushing.replace(true) {
            context.spawn(async move {
                shared.send_batch().await;
                shared.flushing.set(false);
            });
        }
        Ok(())
    }

    fn drain(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        let batch = self.shared.intake.borrow_mut().take_batch();
        if !batch.is_empty() {
            for outbox in &self.shared.names {
                let _ = outbox.send_blocking(batch.clone());
            }
        }
        self.publish_services(true);
        Ok(())
    }
}
