//! The speaker.
//!
//!   routers (1..n) --TCP: BGP, BMP--> [speaker: a task a session] --RouteBatch--> link (0..n)
//!                                          |                                 GraphBatch --> engine (1)
//!                                      RouteView --> `rib lookup`, enricher in the same process
//!
//! Sessions, table and mailbox share one thread. Nothing on it waits for a receiver of
//! the table: one that is slow gets a snapshot instead ([`crate::feed`]).

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use benocs_model::graph::GraphBatch;
use benocs_model::route::{RouteBatch, RouteReader};
use benocs_runtime::{Context, Outbox, Worker};
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::bmp;
use crate::config::{Config, PeerPlan, Plan, Template};
use crate::core::{Board, Core};
use crate::error::ConfigError;
use crate::file::FileStep;
use crate::saved::{self, Saved};
use crate::session;

const BACKLOG: i32 = 128;
/// RFC 4271 8.2.1.3 leaves it open; a router that does not answer is tried again soon.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const SHUTDOWN_TEXT: &str = "collector is shutting down";

/// What others may ask.
#[derive(Clone, Debug)]
pub enum SpeakerMessage {
    /// Peers of the address, or all, are to send all their routes again (RFC 2918).
    Refresh(Option<IpAddr>),
    /// Of a file that is being read.
    File(FileStep),
}

pub struct Speaker {
    core: Rc<RefCell<Core>>,
    board: Board,
    /// Where the table is saved.
    saved: Option<PathBuf>,
}

impl Speaker {
    /// Reads password files; opens nothing.
    pub fn new(config: Config, outboxes: Vec<Outbox<RouteBatch>>, board: Board) -> anyhow::Result<Self> {
        let plan = config.plan()?;
        let core = Core::new(config, plan, outboxes, board.clone());
        Ok(Self { core: Rc::new(RefCell::new(core)), board, saved: None })
    }

    /// Saves the table in this file as often as `bgp.save_s` says and at the end, and begins with what is there.
    #[must_use]
    pub fn saved_in(mut self, file: PathBuf) -> Self {
        self.saved = Some(file).filter(|_| self.core.borrow().config.save_s > 0);
        self
    }

    /// Link state goes there.
    pub fn with_graph(self, outbox: Outbox<GraphBatch>) -> Self {
        self.core.borrow_mut().set_graph(outbox);
        self
    }

    pub fn table_reader(&self) -> RouteReader {
        self.board.table_reader()
    }
}

impl Worker for Speaker {
    type Message = SpeakerMessage;

    fn start(&mut self, context: &mut Context<Self>) -> anyhow::Result<()> {
        if let Some(path) = self.saved.clone() {
            restore(&self.core, &path);
            context.spawn(save(self.core.clone(), path));
        }
        let plan = self.core.borrow().plan.clone();
        let mut listening = Vec::new();
        for address in &plan.listen {
            let listener = listen(*address, &plan)?;
            listening.push(listener.local_addr()?);
            context.spawn(accept(self.core.clone(), listener));
        }
        self.board.set_listening(listening);
        let stations = self.core.borrow().config.bmp.addresses()?;
        let stations = stations.into_iter().map(bmp::listen).collect::<Result<Vec<_>, _>>()?;
        let addresses = stations.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        self.board.set_bmp_listening(addresses);
        stations.into_iter().for_each(|listener| context.spawn(bmp::accept(self.core.clone(), listener)));
        for (number, peer) in plan.peers.iter().enumerate().filter(|(_, peer)| !peer.passive) {
            context.spawn(connect(self.core.clone(), number, peer.clone()));
        }
        context.spawn(publish(self.core.clone()));
        Ok(())
    }

    fn handle(&mut self, message: SpeakerMessage, _context: &mut Context<Self>) -> anyhow::Result<()> {
        match message {
            SpeakerMessage::Refresh(address) => {
                let asked = self.core.borrow().refresh(address);
                tracing::info!(peers = asked, "asked for routes again");
            }
            SpeakerMessage::File(step) => self.core.borrow_mut().file(step),
        }
        Ok(())
    }

    /// RFC 9003: every peer is told that this is meant.
    fn drain(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        let mut core = self.core.borrow_mut();
        core.publish();
        if let Some(path) = &self.saved {
            // A table that cannot be saved comes with the sessions.
            saved::write(path, &core.view()).map_or_else(|error| tracing::warn!("{error:#}"), |_| ());
        }
        core.controls.values().for_each(|control| control.farewell(SHUTDOWN_TEXT));
        core.publish();
        Ok(())
    }
}

/// A table that cannot be read comes with the sessions.
fn restore(core: &Rc<RefCell<Core>>, path: &Path) {
    match Saved::open(path) {
        Ok(None) => {}
        Ok(Some(mut saved)) => {
            let routes = core.borrow_mut().restore(&mut saved);
            tracing::info!(routes, "routes of the last time are back, stale until the routers have sent theirs");
        }
        Err(error) => tracing::warn!("{error:#}"),
    }
}

async fn save(core: Rc<RefCell<Core>>, path: PathBuf) {
    let pause = Duration::from_secs(core.borrow().config.save_s.max(1));
    loop {
        sleep(pause).await;
        let (view, path) = (core.borrow().view(), path.clone());
        match tokio::task::spawn_blocking(move || saved::write(&path, &view)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!("{error:#}"),
            Err(error) => tracing::warn!(%error, "the routes are not saved"),
        }
    }
}

fn listen(address: SocketAddr, plan: &Plan) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    let socket = open().map_err(|source| ConfigError::Listen { address, source })?;
    let same = |prefix: IpNet| prefix.addr().is_ipv6() == address.is_ipv6();
    for range in plan.ranges.iter().filter(|range| same(range.prefix)) {
        sign(&socket, range.prefix, &range.template)?;
    }
    for peer in plan.peers.iter().filter(|peer| same(peer.address.into())) {
        sign(&socket, peer.address.into(), &peer.template)?;
    }
    let templates = plan.peers.iter().map(|peer| &peer.template).chain(plan.ranges.iter().map(|range| &range.template));
    if templates.into_iter().any(|template| template.ttl_security > 0) {
        // The first answer of a connection has the listening socket's TTL.
        let set = if address.is_ipv4() { socket.set_ttl_v4(255) } else { socket.set_unicast_hops_v6(255) };
        set.map_err(|source| ConfigError::Listen { address, source })?;
    }
    Ok(TcpListener::from_std(socket.into())?)
}

/// RFC 2385 or RFC 5925, as the template says.
fn sign(socket: &impl AsFd, prefix: IpNet, template: &Template) -> Result<(), ConfigError> {
    let peer = || prefix.to_string();
    let is_host = prefix.prefix_len() == prefix.max_prefix_len();
    if let Some(key) = &template.ao_key {
        if !benocs_sys::has_tcp_ao() {
            return Err(ConfigError::NoAo { peer: peer() });
        }
        return benocs_sys::set_tcp_ao(socket, prefix.addr(), prefix.prefix_len(), key)
            .map_err(|source| ConfigError::SignAo { peer: peer(), source });
    }
    if template.password.is_empty() {
        return Ok(());
    }
    let signed = match is_host {
        true => benocs_sys::set_tcp_md5(socket, prefix.addr(), &template.password),
        false => benocs_sys::set_tcp_md5_prefix(socket, prefix.addr(), prefix.prefix_len(), &template.password),
    };
    signed.map_err(|source| ConfigError::Sign { peer: peer(), source })
}

/// RFC 5082.
fn limit_hops(socket: &impl AsFd, peer: &PeerPlan) -> Result<(), ConfigError> {
    match peer.template.ttl_security {
        0 => Ok(()),
        hops => benocs_sys::set_ttl_security(socket, hops)
            .map_err(|source| ConfigError::Ttl { peer: peer.address.to_string(), source }),
    }
}

async fn accept(core: Rc<RefCell<Core>>, listener: TcpListener) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // No file descriptors left, or a connection that is gone already: others may end meanwhile.
                tracing::warn!(%error, "cannot accept a bgp connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let candidates = core.borrow_mut().candidates(remote.ip(), local.ip());
        if candidates.is_empty() {
            core.borrow().drops.stranger.increment(1);
            tracing::debug!(%remote, "bgp connection of nobody who is configured");
            continue;
        }
        let held = candidates.iter().all(|number| core.borrow().is_held(*number));
        let limited = match held {
            true => {
                core.borrow().drops.idle_hold.increment(1);
                session::reject(&stream);
                continue;
            }
            false => limit_hops(&stream, &core.borrow().peers[candidates[0]].plan),
        };
        if let Err(error) = limited {
            tracing::warn!(%remote, %error, "bgp connection refused");
            continue;
        }
        tokio::task::spawn_local(session::run(core.clone(), stream, candidates, false));
    }
}

async fn connect(core: Rc<RefCell<Core>>, number: usize, peer: PeerPlan) {
    let pause = Duration::from_secs(core.borrow().config.connect_retry_s.max(1));
    loop {
        let free = {
            let core = core.borrow();
            !core.is_live(number) && !core.is_held(number)
        };
        if free {
            core.borrow_mut().connecting(number);
            match timeout(CONNECT_LIMIT, dial(&peer)).await {
                Ok(Ok(stream)) => session::run(core.clone(), stream, vec![number], true).await,
                Ok(Err(error)) => core.borrow_mut().not_connected(number, format!("cannot connect: {error:#}")),
                Err(_) => core.borrow_mut().not_connected(number, "cannot connect: no answer".to_owned()),
            }
        }
        sleep(pause).await;
    }
}

async fn dial(peer: &PeerPlan) -> anyhow::Result<TcpStream> {
    let socket = if peer.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let any: IpAddr = if peer.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    socket.bind(SocketAddr::new(peer.template.local_address.unwrap_or(any), 0))?;
    sign(&socket, peer.address.into(), &peer.template)?;
    limit_hops(&socket, peer)?;
    Ok(socket.connect(SocketAddr::new(peer.address, peer.port)).await?)
}

async fn publish(core: Rc<RefCell<Core>>) {
    let mut due = interval(Duration::from_millis(core.borrow().config.publish_ms.max(1)));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        core.borrow_mut().publish();
    }
}
