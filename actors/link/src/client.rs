//! The sending end: one for each remote machine, a stream for each kind.
//!
//!   actors --Outbox--> [stream] ==TLS==> server of the other machine
//!   log, or the next link's server <--Commit-- [stream]
//!
//! A stream connects, hears what is wanted, goes back to there, and sends; where
//! it breaks it connects again, with a growing pause. While a log's or a window's
//! stream is down its mailbox fills and the actors before it wait; a stream of
//! reference data throws away what comes, as a snapshot will replace it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow_flight::FlightData;
use arrow_flight::flight_service_client::FlightServiceClient;
use benocs_model::message::{Commit, Cursors, FlowBatch, StoreInput, Stream};
use benocs_model::names::{NameBatch, NameReader};
use benocs_model::route::{RouteBatch, RouteReader};
use benocs_model::tables::TableUpdate;
use benocs_runtime::{Fatal, Outbox};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use crate::config::Config;
use crate::frame::{Encoder, Hello, Kind, Message, Reply, Wanted, pack, unpack};
use crate::identity::{Identity, IdentityError};
use crate::metrics::Metrics;
use crate::window::Window;

/// States of a store that wait; their files are in memory.
const COPIED: usize = 2;
/// Pieces on their way into the connection.
const PIECES: usize = 4;
/// How often what could not be delivered is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The whole of a table, and up to which of its deltas it goes (0 where those are not numbered).
pub struct Snapshot {
    pub generation: u64,
    pub messages: Box<dyn Iterator<Item = Message> + Send>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.generation)
    }
}

/// Where a stream begins again.
enum Replay {
    /// A log that can go back; told the cursors from which to send.
    Log(Box<dyn FnMut(&Cursors) + Send>),
    Window,
    Snapshot(Box<dyn FnMut() -> Snapshot + Send>),
    /// A snapshot without the files that the receiver holds.
    Copy(Box<dyn FnMut(&[u64]) -> Snapshot + Send>),
}

/// What a receiver answers to a hello.
enum Welcome {
    Wanted(Wanted),
    Holds(Vec<u64>),
}

/// State of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub connected: bool,
    /// Of the last attempt.
    pub error: Option<String>,
    /// What the receiver asked for when it was reached first.
    pub wanted: Option<Wanted>,
    /// Messages sent, those sent again included.
    pub sent: u64,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Start = Box<dyn FnOnce(Shared) -> Task + Send>;

/// One remote machine; streams are added, then it is started.
pub struct Client {
    config: Config,
    identity: Identity,
    remote: String,
    address: String,
    streams: Vec<Start>,
    statuses: BTreeMap<Kind, watch::Receiver<Status>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} at {}, {:?})", self.remote, self.address, self.statuses.keys())
    }
}

/// What all streams of a client share.
#[derive(Clone)]
struct Shared {
    config: Config,
    remote: String,
    connector: Connector,
    commits: Vec<Outbox<Commit>>,
    fatal: mpsc::UnboundedSender<Fatal>,
    drain: watch::Receiver<bool>,
}

impl Client {
    /// `remote` is the role that its certificate must name; `address` is `host:port`.
    pub fn new(config: Config, identity: Identity, remote: &str, address: &str) -> Self {
        Self {
            config,
            identity,
            remote: remote.to_owned(),
            address: address.to_owned(),
            streams: Vec::new(),
            statuses: BTreeMap::new(),
        }
    }

    /// Batches of a log, to the enricher. `rewind` makes the log send from the cursors again.
    pub fn flows(&mut self, rewind: impl FnMut(&Cursors) + Send + 'static) -> Outbox<FlowBatch> {
        self.stream(Kind::Flows, Replay::Log(Box::new(rewind)))
    }

    /// Joined batches, to the aggregator.
    pub fn joined(&mut self) -> Outbox<FlowBatch> {
        self.stream(Kind::Joined, Replay::Window)
    }

    /// Everything that the store takes.
    pub fn store(&mut self) -> Outbox<StoreInput> {
        self.stream(Kind::Store, Replay::Window)
    }

    /// Routes; `reader` is of a table to which the same batches are applied.
    pub fn routes(&mut self, reader: RouteReader) -> Outbox<RouteBatch> {
        let snapshot = move || {
            let view = reader.view();
            Snapshot { generation: view.generation(), messages: Box::new(view.snapshot().map(Message::from)) }
        };
        self.stream(Kind::Routes, Replay::Snapshot(Box::new(snapshot)))
    }

    /// Names; `reader` is of a table to which batches are applied before they are sent here.
    pub fn names(&mut self, reader: NameReader) -> Outbox<NameBatch> {
        let snapshot = move || Snapshot { generation: 0, messages: Box::new(reader.snapshot().map(Message::from)) };
        self.stream(Kind::Names, Replay::Snapshot(Box::new(snapshot)))
    }

    /// Small tables; `whole` gives all that are owned here.
    pub fn tables(&mut self, mut whole: impl FnMut() -> Vec<TableUpdate> + Send + 'static) -> Outbox<Arc<TableUpdate>> {
        let snapshot = move || {
            let messages = whole().into_iter().map(|update| Message::Table(Arc::new(update)));
            Snapshot { generation: 0, messages: Box::new(messages) }
        };
        self.stream(Kind::Tables, Replay::Snapshot(Box::new(snapshot)))
    }

    /// States of a store, to its copy; `missing` gives the present one without the files that the copy holds.
    pub fn copy(&mut self, missing: impl FnMut(&[u64]) -> Snapshot + Send + 'static) -> Outbox<StoreInput> {
        self.stream_of(Kind::Copy, Replay::Copy(Box::new(missing)), COPIED)
    }

    fn stream<M: Into<Message> + Send + 'static>(&mut self, kind: Kind, replay: Replay) -> Outbox<M> {
        self.stream_of(kind, replay, self.config.mailbox_batches)
    }

    fn stream_of<M: Into<Message> + Send + 'static>(
        &mut self,
        kind: Kind,
        replay: Replay,
        capacity: usize,
    ) -> Outbox<M> {
        let (outbox, mailbox) = Outbox::channel(capacity);
        let (status, seen) = watch::channel(Status::default());
        self.statuses.insert(kind, seen);
        self.streams.push(Box::new(move |shared: Shared| {
            let window = Window::new(kind, shared.config.window_octets_max);
            let metrics = Metrics::new(&shared.remote, kind, "sent");
            let pause = Duration::from_millis(shared.config.retry_ms_min);
            let stream = Sender {
                kind,
                replay,
                mailbox,
                status,
                window,
                metrics,
                pause,
                undelivered: BTreeMap::new(),
                dropped_generation: 0,
                shared,
            };
            Box::pin(stream.run())
        }));
        outbox
    }

    /// Connects, on a thread of its own; each of `commits` hears what the other end's storage has committed.
    pub fn start(
        self,
        commits: Vec<Outbox<Commit>>,
        fatal: mpsc::UnboundedSender<Fatal>,
    ) -> anyhow::Result<ClientHandle> {
        let (drain, draining) = watch::channel(false);
        let shared = Shared {
            connector: Connector::new(&self.identity, &self.remote, &self.address)?,
            config: self.config,
            remote: self.remote,
            commits,
            fatal,
            drain: draining,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (done, finished) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let streams = self.streams;
        let thread = std::thread::Builder::new().name("link-client".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for start in streams {
                    tasks.spawn(start(shared.clone()));
                }
                drop(shared);
                let all = async { while tasks.join_next().await.is_some() {} };
                tokio::select! {
                    () = all => {}
                    _ = stopped => {}
                }
            });
            let _ = done.send(());
        })?;
        Ok(ClientHandle {
            statuses: self.statuses,
            drain,
            done: Some(finished),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// A running client.
#[derive(Debug)]
pub struct ClientHandle {
    statuses: BTreeMap<Kind, watch::Receiver<Status>>,
    drain: watch::Sender<bool>,
    done: Option<oneshot::Receiver<()>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ClientHandle {
    pub fn status(&self, kind: Kind) -> Option<Status> {
        self.statuses.get(&kind).map(|status| status.borrow().clone())
    }

    /// The state of a stream as it changes.
    pub fn watch(&self, kind: Kind) -> Option<watch::Receiver<Status>> {
        self.statuses.get(&kind).cloned()
    }

    /// What the receiver of a kind wants; waits until it is reached.
    pub async fn wanted(&self, kind: Kind) -> Option<Wanted> {
        let mut status = self.watch(kind)?;
        let status = status.wait_for(|status| status.wanted.is_some()).await.ok()?;
        status.wanted.clone()
    }

    /// Sends what is in the mailboxes, then ends; false where it took longer than `limit`.
    pub async fn drain(mut self, limit: Duration) -> bool {
        let _ = self.drain.send(true);
        let drained = match self.done.take() {
            Some(done) => tokio::time::timeout(limit, done).await.is_ok(),
            None => true,
        };
        self.end();
        drained
    }

    /// Ends at once; what was not committed is sent again by who keeps it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("link client panicked");
        }
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// TCP, then TLS to a certain role.
#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
    address: Arc<str>,
}

impl Connector {
    fn new(identity: &Identity, remote: &str, address: &str) -> Result<Self, IdentityError> {
        let name = ServerName::try_from(remote.to_owned()).map_err(|_| IdentityError::NoRole)?;
        let tls = TlsConnector::from(Arc::new(identity.client_config()?));
        Ok(Self { tls, name, address: address.into() })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { tls, name, address } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(&*address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(tls.connect(name, stream).await?))
        })
    }
}

/// Why a session is over.
enum Ended {
    /// Everything is sent.
    Drained,
    Lost(String),
    /// Trying again cannot help.
    Fatal(String),
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            Code::OutOfRange => Ended::Fatal(status.message().to_owned()),
            _ => Ended::Lost(describe(&status)),
        }
    }
}

/// The message with what caused it: transport errors hide the reason.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn drained(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}

/// One kind's stream.
struct Sender<M> {
    kind: Kind,
    replay: Replay,
    mailbox: async_channel::Receiver<M>,
    status: watch::Sender<Status>,
    window: Window,
    metrics: Metrics,
    pause: Duration,
    /// Newest commits that a full mailbox did not take, by (receiver, stream).
    undelivered: BTreeMap<(usize, Stream), Commit>,
    /// Newest delta that was thrown away while there was no connection.
    dropped_generation: u64,
    shared: Shared,
}

/// A connection that was welcomed.
struct Session {
    replies: Streaming<FlightData>,
    pieces: mpsc::Sender<FlightData>,
    encoder: Encoder,
    /// Encoded, not sent.
    queue: VecDeque<FlightData>,
    /// To be sent before anything from the mailbox.
    backlog: Box<dyn Iterator<Item = Message> + Send>,
    backlog_done: bool,
    /// Next batch that the log has to give, by source.
    expected: Cursors,
    /// Deltas up to here are in the snapshot.
    generation: u64,
}

impl<M: Into<Message> + Send + 'static> Sender<M> {
    async fn run(mut self) {
        loop {
            let ended = self.session().await;
            self.metrics.connected.set(0.0);
            let (error, fatal) = match ended {
                Ended::Drained => return,
                Ended::Lost(error) => (error, false),
                Ended::Fatal(error) => (error, true),
            };
            self.status.send_modify(|status| {
                status.connected = false;
                status.error = Some(error.clone());
            });
            if fatal {
                let reason = format!("{} for {}: {error}", self.kind.text(), self.shared.remote);
                let _ = self.shared.fatal.send(Fatal { actor: "link", reason });
                return;
            }
            tracing::warn!(remote = %self.shared.remote, kind = self.kind.text(), %error, "link is down");
            // Draining does not wait for a machine that is away: what it lacks is kept upstream.
            if *self.shared.drain.borrow() {
                return;
            }
            self.wait().await;
            self.pause = (self.pause * 2).min(Duration::from_millis(self.shared.config.retry_ms_max));
        }
    }

    /// The pause before the next attempt.
    async fn wait(&mut self) {
        let until = tokio::time::sleep(self.pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return,
                () = drained(&mut self.shared.drain) => return,
                message = self.mailbox.recv(), if matches!(self.replay, Replay::Snapshot(_) | Replay::Copy(_)) => match message {
                    Ok(message) => self.drop_delta(message.into()),
                    Err(_) => {
                        until.as_mut().await;
                        return;
                    }
                },
            }
        }
    }

    fn drop_delta(&mut self, message: Message) {
        let generation = match message {
            Message::Routes(batch) => batch.generation,
            Message::Copied(copied) => copied.generation(),
            _ => return,
        };
        self.dropped_generation = self.dropped_generation.max(generation);
    }

    async fn session(&mut self) -> Ended {
        let limit = Duration::from_millis(self.shared.config.connect_ms_max);
        let mut session = match tokio::time::timeout(limit, self.connect()).await {
            Ok(Ok(session)) => session,
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Lost("no answer in time".to_owned()),
        };
        self.pause = Duration::from_millis(self.shared.config.retry_ms_min);
        self.metrics.connected.set(1.0);
        tracing::info!(remote = %self.shared.remote, kind = self.kind.text(), "link is up");
        match self.send_all(&mut session).await {
            Ok(()) => Ended::Drained,
            Err(ended) => ended,
        }
    }

    async fn connect(&mut self) -> Result<Session, Ended> {
        let config = &self.shared.config;
        let lost = |error: tonic::transport::Error| Ended::Lost(describe(&error));
        let keepalive = Duration::from_millis(config.keepalive_ms);
        let endpoint = Endpoint::from_static("http://link")
            .initial_stream_window_size(1 << 20)
            .http2_keep_alive_interval(keepalive)
            .keep_alive_timeout(keepalive)
            .keep_alive_while_idle(true);
        let channel: Channel = endpoint.connect_with_connector(self.shared.connector.clone()).await.map_err(lost)?;
        let mut client = FlightServiceClient::new(channel).max_decoding_message_size(config.message_octets_max);
        let (pieces, outgoing) = mpsc::channel(PIECES);
        let hello = pack(&Hello::new(self.kind)).map_err(|error| Ended::Fatal(error.to_string()))?;
        pieces.send(hello).await.map_err(|_| Ended::Lost("closed".to_owned()))?;
        let mut replies = client.do_exchange(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = replies.message().await?.ok_or_else(|| Ended::Lost("closed without a welcome".to_owned()))?;
        let reply: Reply = unpack(&first).map_err(|error| Ended::Lost(error.to_string()))?;
        let welcome = match reply {
            Reply::Welcome { wanted, .. } => Welcome::Wanted(wanted),
            Reply::Holds { files, .. } => Welcome::Holds(files),
            Reply::Commit(_) => return Err(Ended::Lost("commit before a welcome".to_owned())),
        };
        self.begin(welcome, replies, pieces).await
    }

    /// Goes back to where the receiver wants to go on.
    async fn begin(
        &mut self,
        welcome: Welcome,
        replies: Streaming<FlightData>,
        pieces: mpsc::Sender<FlightData>,
    ) -> Result<Session, Ended> {
        let (wanted, holds) = match welcome {
            Welcome::Wanted(wanted) => (wanted, Vec::new()),
            Welcome::Holds(files) => (Wanted::default(), files),
        };
        let mut session = Session {
            replies,
            pieces,
            encoder: Encoder::default(),
            queue: VecDeque::new(),
            backlog: Box::new(std::iter::empty()),
            backlog_done: true,
            expected: Cursors::new(),
            generation: 0,
        };
        match &mut self.replay {
            Replay::Log(rewind) => {
                rewind(&wanted.flows);
                session.expected = wanted.flows.clone();
            }
            Replay::Window => {
                if let Some((source, wanted, oldest)) = self.window.gap(&wanted) {
                    let source = source.0;
                    return Err(Ended::Fatal(format!(
                        "batch {wanted} of log {source:#x} is wanted, but {oldest} is the oldest that is kept"
                    )));
                }
                session.backlog = Box::new(self.window.missing(&wanted).into_iter());
                session.backlog_done = false;
            }
            Replay::Snapshot(take) => {
                let mut snapshot = take();
                // What was thrown away must be in it: readers see a batch a little after it was applied.
                while snapshot.generation < self.dropped_generation {
                    tokio::time::sleep(RETRY).await;
                    snapshot = take();
                }
                session.generation = snapshot.generation;
                session.backlog = snapshot.messages;
                session.backlog_done = false;
            }
            Replay::Copy(missing) => {
                let snapshot = missing(&holds);
                session.generation = snapshot.generation;
                session.backlog = snapshot.messages;
                session.backlog_done = false;
            }
        }
        self.status.send_modify(|status| {
            status.connected = true;
            status.error = None;
            status.wanted.get_or_insert(wanted);
        });
        Ok(session)
    }

    async fn send_all(&mut self, session: &mut Session) -> Result<(), Ended> {
        let mut retry = tokio::time::interval(RETRY);
        loop {
            self.encode_backlog(session)?;
            let idle = session.queue.is_empty() && session.backlog_done;
            if idle && *self.shared.drain.borrow() && self.mailbox.is_empty() {
                return self.finish(session).await;
            }
            tokio::select! {
                reply = session.replies.message() => match reply? {
                    Some(data) => self.reply(&data)?,
                    None => return Err(Ended::Lost("closed by the receiver".to_owned())),
                },
                permit = session.pieces.clone().reserve_owned(), if !session.queue.is_empty() => {
                    let permit = permit.map_err(|_| Ended::Lost("closed".to_owned()))?;
                    if let Some(piece) = session.queue.pop_front() {
                        permit.send(piece);
                    }
                }
                message = self.mailbox.recv(), if idle && self.window.has_room() => match message {
                    Ok(message) => self.take(session, message.into())?,
                    // All senders are gone.
                    Err(_) => return self.finish(session).await,
                },
                _ = retry.tick() => self.offer_commits(),
            }
        }
    }

    fn encode_backlog(&mut self, session: &mut Session) -> Result<(), Ended> {
        if session.queue.is_empty() && !session.backlog_done {
            match session.backlog.next() {
                Some(message) => {
                    self.metrics.repeated.increment(u64::from(matches!(self.replay, Replay::Window)));
                    self.encode(session, &message)?;
                }
                None => session.backlog_done = true,
            }
        }
        Ok(())
    }

    /// A message from the mailbox, if the receiver does not have it.
    fn take(&mut self, session: &mut Session, message: Message) -> Result<(), Ended> {
        match (&mut self.replay, &message) {
            (Replay::Log(_), Message::Flow(batch)) => {
                let expected = session.expected.entry(batch.source).or_insert(0);
                // Queued before the log went back: it comes again in its turn.
                if batch.seq != *expected {
                    return Ok(());
                }
                *expected += 1;
            }
            (Replay::Snapshot(_), Message::Routes(batch)) if batch.generation <= session.generation => return Ok(()),
            (Replay::Copy(_), Message::Copied(copied)) if copied.generation() <= session.generation => return Ok(()),
            (Replay::Window, _) => self.window.push(message.clone()),
            _ => {}
        }
        self.encode(session, &message)
    }

    fn encode(&mut self, session: &mut Session, message: &Message) -> Result<(), Ended> {
        session.encoder.encode(message, &mut session.queue).map_err(|error| Ended::Fatal(error.to_string()))?;
        self.metrics.messages.increment(1);
        self.status.send_if_modified(|status| {
            status.sent += 1;
            false
        });
        Ok(())
    }

    /// Says that nothing more comes, and hears that all was taken.
    async fn finish(&mut self, session: &mut Session) -> Result<(), Ended> {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut session.pieces, closed));
        while let Some(data) = session.replies.message().await? {
            self.reply(&data)?;
        }
        self.offer_commits();
        Ok(())
    }

    fn reply(&mut self, data: &FlightData) -> Result<(), Ended> {
        let reply: Reply = unpack(data).map_err(|error| Ended::Lost(error.to_string()))?;
        let Reply::Commit(commit) = reply else {
            return Err(Ended::Lost("welcomed twice".to_owned()));
        };
        if matches!(self.replay, Replay::Window) {
            let mut committed = Wanted::default();
            committed.merge(&commit);
            self.window.commit(&committed);
        }
        for receiver in 0..self.shared.commits.len() {
            self.undelivered.insert((receiver, commit.stream), commit.clone());
        }
        self.offer_commits();
        Ok(())
    }

    /// Commits are cumulative: only the newest has to arrive.
    fn offer_commits(&mut self) {
        let commits = &self.shared.commits;
        self.undelivered.retain(|(receiver, _), commit| commits[*receiver].offer(commit.clone()).is_err());
    }
}
