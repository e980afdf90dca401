//! The receiving end: listens, knows who calls, hands on.
//!
//!   client (1..n) ==TLS==> [server, one thread] --Outbox--> actors of this machine
//!                 <== Welcome, Commit ==         <--Commit-- store, or the next link
//!
//! Each stream is read only as fast as its mailbox empties. Where a role connects
//! again the older stream of the same kind ends before the new one is welcomed.

use std::collections::HashMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use benocs_model::message::{Commit, Cursors, FlowBatch, StoreInput};
use benocs_model::names::NameBatch;
use benocs_model::route::RouteBatch;
use benocs_model::tables::TableUpdate;
use benocs_runtime::Outbox;
use futures::Stream;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::frame::{Decoder, FrameError, Hello, Kind, Message, Reply, Wanted, pack, unpack};
use crate::identity::{Identity, role_of};
use crate::metrics::Metrics;

/// Handshakes at a time.
const HANDSHAKES_MAX: usize = 32;
/// Replies that wait for a slow client.
const REPLIES: usize = 8;

/// Whether a role may send a kind: one row of the flow table each.
pub type Allow = Arc<dyn Fn(&str, Kind) -> bool + Send + Sync>;

/// Where received messages go; a kind without a mailbox is refused.
#[derive(Clone, Default, Debug)]
pub struct Sinks {
    pub flows: Option<Outbox<FlowBatch>>,
    pub joined: Option<Outbox<FlowBatch>>,
    pub store: Option<Outbox<StoreInput>>,
    pub routes: Option<Outbox<RouteBatch>>,
    pub names: Option<Outbox<NameBatch>>,
    pub tables: Option<Outbox<Arc<TableUpdate>>>,
    pub copy: Option<CopySink>,
}

/// A store that is a copy, and which files it has.
#[derive(Clone)]
pub struct CopySink {
    pub outbox: Outbox<StoreInput>,
    pub holds: Arc<dyn Fn() -> Vec<u64> + Send + Sync>,
}

impl fmt::Debug for CopySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopySink({:?})", self.outbox)
    }
}

impl Sinks {
    fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Flows => self.flows.is_some(),
            Kind::Joined => self.joined.is_some(),
            Kind::Store => self.store.is_some(),
            Kind::Routes => self.routes.is_some(),
            Kind::Names => self.names.is_some(),
            Kind::Tables => self.tables.is_some(),
            Kind::Copy => self.copy.is_some(),
        }
    }

    async fn send(&self, kind: Kind, message: Message) -> Result<(), Status> {
        async fn to<M>(outbox: Option<&Outbox<M>>, message: M) -> Result<(), Status> {
            let outbox = outbox.ok_or_else(|| Status::unimplemented("nobody takes this here"))?;
            outbox.send(message).await.map_err(|_| Status::unavailable("the receiving machine is going down"))
        }
        match (kind, message) {
            (Kind::Flows, Message::Flow(batch)) => to(self.flows.as_ref(), batch).await,
            (Kind::Joined, Message::Flow(batch)) => to(self.joined.as_ref(), batch).await,
            (Kind::Store, Message::Flow(batch)) => to(self.store.as_ref(), StoreInput::Flows(batch)).await,
            (Kind::Store, Message::Rollups(batch)) => to(self.store.as_ref(), StoreInput::Rollups(batch)).await,
            (Kind::Store, Message::Table(update)) => to(self.store.as_ref(), StoreInput::Table(update)).await,
            (Kind::Routes, Message::Routes(batch)) => to(self.routes.as_ref(), batch).await,
            (Kind::Names, Message::Names(batch)) => to(self.names.as_ref(), batch).await,
            (Kind::Tables, Message::Table(update)) => to(self.tables.as_ref(), update).await,
            (Kind::Copy, Message::Copied(copied)) => {
                to(self.copy.as_ref().map(|copy| &copy.outbox), StoreInput::Copied(copied)).await
            }
            _ => Err(Status::invalid_argument("this message belongs on a stream of another kind")),
        }
    }
}

/// Configured, not listening yet.
pub struct Server {
    config: Config,
    identity: Identity,
    allow: Allow,
    sinks: Sinks,
    wanted: Wanted,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("identity", &self.identity).field("sinks", &self.sinks).finish()
    }
}

impl Server {
    /// `wanted` is what storage has committed: flows begin where both of its streams need them.
    pub fn new(config: Config, identity: Identity, allow: Allow, sinks: Sinks, wanted: Wanted) -> Self {
        Self { config, identity, allow, sinks, wanted }
    }

    /// Listens, on a thread of its own.
    pub fn start(self, address: SocketAddr) -> anyhow::Result<ServerHandle> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address} for links"))?;
        listener.set_nonblocking(true)?;
        let local_address = listener.local_addr()?;
        let tls = TlsAcceptor::from(Arc::new(self.identity.server_config()?));
        let (commits, committed) = Outbox::channel(64);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("link-server".to_owned()).spawn(move || {
            let serving = runtime.block_on(serve(self, listener, tls, committed, stopped));
            if let Err(error) = serving {
                tracing::error!(%error, "link server ended");
            }
        })?;
        Ok(ServerHandle { local_address, commits, stop: Some(stop), thread: Some(thread) })
    }
}

/// A listening server.
#[derive(Debug)]
pub struct ServerHandle {
    local_address: SocketAddr,
    commits: Outbox<Commit>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerHandle {
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Commits of the store, or of the next link, go in here; every sender of flows is told.
    pub fn commits(&self) -> Outbox<Commit> {
        self.commits.clone()
    }

    /// Ends all streams. What was handed on stays handed on; what was not comes again.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("link server panicked");
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(
    server: Server,
    listener: TcpListener,
    tls: TlsAcceptor,
    committed: async_channel::Receiver<Commit>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (known, commits) = watch::channel(server.wanted.clone());
    tokio::spawn(async move {
        while let Ok(commit) = committed.recv().await {
            known.send_modify(|known| known.merge(&commit));
        }
    });

    let keepalive = Duration::from_millis(server.config.keepalive_ms);
    let handshake_max = Duration::from_millis(server.config.connect_ms_max);
    let message_octets_max = server.config.message_octets_max;
    let (accepted, incoming) = mpsc::channel(1);
    tokio::spawn(accept(listener, tls, handshake_max, accepted));
    let receiver = Receiver {
        inner: Arc::new(Inner {
            sinks: server.sinks,
            allow: server.allow,
            hello_max: handshake_max,
            commits,
            start: server.wanted,
            received: Kind::ALL.map(|_| Mutex::default()),
        }),
    };
    let service = FlightServiceServer::new(receiver).max_decoding_message_size(message_octets_max);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(Some(4 << 20))
        .initial_connection_window_size(Some(8 << 20))
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive))
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::select! {
        // Streams are cut, not waited for: both ends know how to go on.
        _ = stopped => Ok(()),
        served = serving => Ok(served?),
    }
}

/// Takes connections in; each shakes hands for itself, so that a silent one holds up nobody.
async fn accept(
    listener: tokio::net::TcpListener,
    tls: TlsAcceptor,
    handshake_max: Duration,
    accepted: mpsc::Sender<std::io::Result<TlsStream<TcpStream>>>,
) {
    let permits = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, remote) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a link");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, accepted) = (tls.clone(), accepted.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(handshake_max, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let _ = accepted.send(Ok(stream)).await;
                }
                Ok(Err(error)) => tracing::warn!(%remote, %error, "link refused"),
                Err(_) => tracing::warn!(%remote, "link refused: no handshake in time"),
            }
        });
    }
}

/// What came in on the streams of one kind.
#[derive(Default)]
struct Received {
    cursors: Option<Wanted>,
    /// Stream that may deliver, by role; an older one ends.
    streams: HashMap<String, u64>,
}

struct Inner {
    sinks: Sinks,
    allow: Allow,
    hello_max: Duration,
    commits: watch::Receiver<Wanted>,
    start: Wanted,
    received: [Mutex<Received>; Kind::ALL.len()],
}

impl Inner {
    /// Puts a message into its mailbox if it is the next one; false where it came before.
    async fn deliver(&self, kind: Kind, role: &str, stream: u64, message: Message) -> Result<bool, Status> {
        let mut received = self.received[kind as usize].lock().await;
        if received.streams.get(role) != Some(&stream) {
            return Err(Status::aborted("a newer stream took over"));
        }
        let cursors = received.cursors.get_or_insert_with(|| self.start(kind));
        let done = match &message {
            Message::Flow(batch) => {
                let wanted = cursors.flows.get(&batch.source).copied().unwrap_or(0);
                if batch.seq > wanted {
                    let lost = format!("batch {wanted} is wanted, {} came", batch.seq);
                    return Err(Status::out_of_range(lost));
                }
                batch.seq < wanted
            }
            Message::Rollups(batch) => {
                let next = |source| cursors.rollups.get(source).copied().unwrap_or(0);
                let done = batch.upto.iter().all(|(source, upto)| *upto <= next(source));
                if !done && batch.from.iter().any(|(source, from)| *from != next(source)) {
                    return Err(Status::out_of_range("rollups do not begin where the last ones ended"));
                }
                done
            }
            _ => false,
        };
        if done {
            return Ok(false);
        }
        let (flow, upto) = match &message {
            Message::Flow(batch) => (Some((batch.source, batch.seq + 1)), Cursors::new()),
            Message::Rollups(batch) => (None, batch.upto.clone()),
            _ => (None, Cursors::new()),
        };
        self.sinks.send(kind, message).await?;
        cursors.flows.extend(flow);
        cursors.rollups.extend(upto);
        Ok(true)
    }

    /// Where a kind begins in a process that has received nothing.
    fn start(&self, kind: Kind) -> Wanted {
        let committed = self.commits.borrow().clone();
        match kind {
            Kind::Flows => Wanted { flows: self.start.lowest(), rollups: Cursors::new() },
            Kind::Joined => Wanted { flows: self.start.rollups.clone(), rollups: Cursors::new() },
            Kind::Store => committed,
            Kind::Routes | Kind::Names | Kind::Tables | Kind::Copy => Wanted::default(),
        }
    }
}

struct Receiver {
    inner: Arc<Inner>,
}

type Replies = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

fn broken(error: FrameError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Hands on what comes, until the stream ends.
async fn receive(
    inner: Arc<Inner>,
    kind: Kind,
    role: String,
    stream: u64,
    mut incoming: Streaming<FlightData>,
    metrics: Metrics,
) -> Result<(), Status> {
    let mut decoder = Decoder::default();
    while let Some(data) = incoming.message().await? {
        let Some(message) = decoder.decode(&data).map_err(broken)? else { continue };
        if !kind.carries(&message) {
            return Err(Status::permission_denied(format!("{role} may not send this among {}", kind.text())));
        }
        match inner.deliver(kind, &role, stream, message).await? {
            true => metrics.messages.increment(1),
            false => metrics.repeated.increment(1),
        }
    }
    Ok(())
}

/// Tells what is committed, at once and whenever it changes.
async fn tell(mut commits: watch::Receiver<Wanted>, replies: mpsc::Sender<Result<FlightData, Status>>) {
    let mut told = Wanted::default();
    loop {
        let committed = commits.borrow_and_update().clone();
        let news = committed.commits().into_iter().filter(|commit| commit.cursors != *told.of(commit.stream));
        let news: Vec<Commit> = news.collect();
        told = committed;
        for commit in news {
            let Ok(data) = pack(&Reply::Commit(commit)) else { return };
            if replies.send(Ok(data)).await.is_err() {
                return;
            }
        }
        if commits.changed().await.is_err() {
            return;
        }
    }
}

#[tonic::async_trait]
impl FlightService for Receiver {
    type HandshakeStream = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;
    type ListFlightsStream = Pin<Box<dyn Stream<Item = Result<FlightInfo, Status>> + Send>>;
    type DoGetStream = Replies;
    type DoPutStream = Pin<Box<dyn Stream<Item = Result<PutResult, Status>> + Send>>;
    type DoExchangeStream = Replies;
    type DoActionStream = Pin<Box<dyn Stream<Item = Result<arrow_flight::Result, Status>> + Send>>;
    type ListActionsStream = Pin<Box<dyn Stream<Item = Result<ActionType, Status>> + Send>>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let certificates = request
            .extensions()
            .get::<TlsConnectInfo<TcpConnectInfo>>()
            .and_then(TlsConnectInfo::peer_certs)
            .ok_or_else(|| Status::unauthenticated("no certificate was shown"))?;
        let role = role_of(&certificates).ok_or_else(|| Status::unauthenticated("the certificate names no role"))?;
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(self.inner.hello_max, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let hello: Hello = unpack(&first.ok_or_else(|| Status::invalid_argument("no hello"))?).map_err(broken)?;
        let version = hello.agree().map_err(Status::failed_precondition)?;
        let kind = hello.kind;
        if !(self.inner.allow)(&role, kind) {
            tracing::warn!(%role, kind = kind.text(), "link refused: no row of the flow table allows it");
            return Err(Status::permission_denied(format!("{role} may not send {} here", kind.text())));
        }
        if !self.inner.sinks.has(kind) {
            return Err(Status::unimplemented(format!("nobody takes {} here", kind.text())));
        }

        let (stream, wanted) = {
            let mut received = self.inner.received[kind as usize].lock().await;
            let stream = received.streams.entry(role.clone()).or_insert(0);
            *stream += 1;
            let stream = *stream;
            let wanted = received.cursors.get_or_insert_with(|| self.inner.start(kind)).clone();
            (stream, wanted)
        };
        // The aggregator's sender keeps rows until their rollups are done: it is asked by those.
        let wanted = match kind {
            Kind::Joined => Wanted { rollups: wanted.flows.clone(), ..wanted },
            _ => wanted,
        };
        let (replies, outgoing) = mpsc::channel(REPLIES);
        let welcome = match &self.inner.sinks.copy {
            Some(copy) if kind == Kind::Copy => Reply::Holds { version, files: (copy.holds)() },
            _ => Reply::Welcome { version, wanted },
        };
        let welcome = pack(&welcome).map_err(broken)?;
        replies.send(Ok(welcome)).await.map_err(|_| Status::cancelled("the client is gone"))?;
        let metrics = Metrics::new(&role, kind, "received");
        let (inner, commits) = (self.inner.clone(), self.inner.commits.clone());
        tokio::spawn(async move {
            metrics.connected.set(1.0);
            let connected = metrics.connected.clone();
            tracing::info!(%role, kind = kind.text(), "link is up");
            let ended = tokio::select! {
                ended = receive(inner, kind, role.clone(), stream, incoming, metrics) => ended,
                () = tell(commits, replies.clone()) => Ok(()),
                () = replies.closed() => Ok(()),
            };
            connected.set(0.0);
            tracing::info!(%role, kind = kind.text(), reason = ?ended.as_ref().err(), "link is down");
            if let Err(status) = ended {
                let _ = replies.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(unused())
    }

    async fn list_flights(&self, _request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(unused())
    }

    async fn get_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        Err(unused())
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(unused())
    }

    async fn get_schema(&self, _request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(unused())
    }

    async fn do_get(&self, _request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        Err(unused())
    }

    async fn do_put(&self, _request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        Err(unused())
    }

    async fn do_action(&self, _request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(unused())
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(unused())
    }
}

fn unused() -> Status {
    Status::unimplemented("links exchange, nothing else")
}
