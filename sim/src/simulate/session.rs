//! The iBGP session of one router: it opens, tells its best paths, and keeps alive.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ipnet::{Ipv4Net, Ipv6Net};
use socket2::{Domain, Protocol, Socket, Type};

use super::Model;
use super::network::RouterId;
use crate::Stop;
use crate::encode::bgp::{self, Attributes};

const HOLD_TIME_S: u16 = 90;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(25);
const RETRY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the rest knows of a session.
#[derive(Debug, Default)]
pub struct State {
    /// Everything is told.
    pub complete: AtomicBool,
    /// The session is to be down.
    pub held_down: AtomicBool,
    /// Prefixes told on the current session, and sessions so far.
    pub routes: AtomicU64,
    pub sessions: AtomicU64,
}

/// Runs until stopped; a session that fails is opened again.
pub fn run(model: &Model, router: RouterId, to: SocketAddr, state: &Arc<State>, stop: &Stop) {
    while !stop.is_stopped() {
        if !state.held_down.load(Ordering::Relaxed)
            && let Err(error) = session(model, router, to, state, stop)
        {
            tracing::debug!(router = model.network.routers[router].name, error = format!("{error:#}"), "session ended");
        }
        state.complete.store(false, Ordering::Relaxed);
        stop.wait_until(Instant::now() + RETRY);
    }
}

/// Octets that came and are not yet a message.
struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    /// The next message, if one is there within the stream's time-out.
    fn next(&mut self) -> anyhow::Result<Option<(u8, Vec<u8>)>> {
        let mut some = [0; 4096];
        loop {
            if self.buffer.len() >= bgp::HEADER_OCTETS {
                let length = usize::from(u16::from_be_bytes([self.buffer[16], self.buffer[17]]));
                if length < bgp::HEADER_OCTETS {
                    bail!("a message of {length} octets");
                }
                if self.buffer.len() >= length {
                    let rest = self.buffer.split_off(length);
                    let message = std::mem::replace(&mut self.buffer, rest);
                    return Ok(Some((message[18], message[bgp::HEADER_OCTETS..].to_vec())));
                }
            }
            match self.stream.read(&mut some) {
                Ok(0) => bail!("closed by the peer"),
                Ok(read) => self.buffer.extend_from_slice(&some[..read]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn expect(&mut self, wanted: u8, stop: &Stop) -> anyhow::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline && !stop.is_stopped() {
            match self.next()? {
                Some((kind, _)) if kind == wanted => return Ok(()),
                Some((bgp::NOTIFICATION, body)) => bail!("refused with notification {body:?}"),
                Some((kind, _)) => bail!("message {kind} where {wanted} was due"),
                None => {}
            }
        }
        bail!("no answer")
    }
}

fn session(model: &Model, router: RouterId, to: SocketAddr, state: &State, stop: &Stop) -> anyhow::Result<()> {
    let own = &model.network.routers[router];
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if to.is_ipv4() && to.ip().is_loopback() {
        socket.bind(&SocketAddr::new(IpAddr::V4(own.address), 0).into())?;
    }
    socket.connect_timeout(&to.into(), TIMEOUT).with_context(|| format!("cannot connect to {to}"))?;
    let mut stream: TcpStream = socket.into();
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = Reader { stream: stream.try_clone()?, buffer: Vec::new() };
    stream.write_all(&bgp::open(model.network.own_as, HOLD_TIME_S, own.loopback))?;
    reader.expect(bgp::OPEN, stop)?;
    stream.write_all(&bgp::keepalive())?;
    reader.expect(bgp::KEEPALIVE, stop)?;
    state.sessions.fetch_add(1, Ordering::Relaxed);
    tell(model, router, &mut stream, state)?;
    state.complete.store(true, Ordering::Relaxed);

    let mut keepalive_due = Instant::now() + KEEPALIVE_EVERY;
    while !stop.is_stopped() && !state.held_down.load(Ordering::Relaxed) {
        if Instant::now() >= keepalive_due {
            stream.write_all(&bgp::keepalive())?;
            keepalive_due = Instant::now() + KEEPALIVE_EVERY;
        }
        match reader.next()? {
            Some((bgp::NOTIFICATION, body)) => bail!("closed with notification {body:?}"),
            Some((bgp::ROUTE_REFRESH, _)) => tell(model, router, &mut stream, state)?,
            Some(_) | None => {}
        }
    }
    stream.write_all(&bgp::cease())?;
    Ok(())
}

/// All updates of the router, and the ends of both families.
fn tell(model: &Model, router: RouterId, stream: &mut TcpStream, state: &State) -> anyhow::Result<()> {
    let mut routes = 0u64;
    for (attributes, v4, v6) in updates(model, router) {
        routes += (v4.len() + v6.len()) as u64;
        for message in bgp::announce_v4(&attributes, &v4).into_iter().chain(bgp::announce_v6(&attributes, &v6)) {
            stream.write_all(&message)?;
        }
    }
    stream.write_all(&bgp::end_of_rib(false))?;
    stream.write_all(&bgp::end_of_rib(true))?;
    state.routes.store(routes, Ordering::Relaxed);
    Ok(())
}

/// What the router tells, prefixes with equal attributes together.
pub fn updates(model: &Model, router: RouterId) -> Vec<(Attributes, Vec<Ipv4Net>, Vec<Ipv6Net>)> {
    let mut index: HashMap<Attributes, usize> = HashMap::new();
    let mut all: Vec<(Attributes, Vec<Ipv4Net>, Vec<Ipv6Net>)> = Vec::new();
    for (id, group) in model.network.groups.iter().enumerate() {
        let attributes = model.rib.announced(&model.network, router, id);
        let at = *index.entry(attributes.clone()).or_insert_with(|| {
            all.push((attributes, Vec::new(), Vec::new()));
            all.len() - 1
        });
        all[at].1.extend_from_slice(&group.v4);
        all[at].2.extend_from_slice(&group.v6);
    }
    all
}
