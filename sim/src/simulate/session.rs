//! The iBGP session of one router: it opens, tells its best paths (some tell the
//! graph too), and keeps alive. Only families that the other end speaks.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ipnet::{Ipv4Net, Ipv6Net};
use socket2::{Domain, Protocol, Socket, Type};

use super::network::RouterId;
use super::{Model, igp};
use crate::Stop;
use crate::encode::bgp::{self, Attributes, Family, LINK_STATE, V4_UNICAST, V6_UNICAST};

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
    /// Nodes, links and prefixes of the graph told on the current session.
    pub link_states: AtomicU64,
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

    fn expect(&mut self, wanted: u8, stop: &Stop) -> anyhow::Result<Vec<u8>> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline && !stop.is_stopped() {
            match self.next()? {
                Some((kind, body)) if kind == wanted => return Ok(body),
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
    let mut families = vec![V4_UNICAST, V6_UNICAST];
    if router < igp::SPEAKERS {
        families.push(LINK_STATE);
    }
    stream.write_all(&bgp::open(model.network.own_as, HOLD_TIME_S, own.loopback, &families))?;
    // RFC 4760 8: what both ends offer.
    let theirs = bgp::families(&reader.expect(bgp::OPEN, stop)?);
    families.retain(|family| theirs.contains(family));
    stream.write_all(&bgp::keepalive())?;
    reader.expect(bgp::KEEPALIVE, stop)?;
    state.sessions.fetch_add(1, Ordering::Relaxed);
    tell(model, router, &families, &mut stream, state)?;
    state.complete.store(true, Ordering::Relaxed);

    let mut keepalive_due = Instant::now() + KEEPALIVE_EVERY;
    while !stop.is_stopped() && !state.held_down.load(Ordering::Relaxed) {
        if Instant::now() >= keepalive_due {
            stream.write_all(&bgp::keepalive())?;
            keepalive_due = Instant::now() + KEEPALIVE_EVERY;
        }
        match reader.next()? {
            Some((bgp::NOTIFICATION, body)) => bail!("closed with notification {body:?}"),
            Some((bgp::ROUTE_REFRESH, _)) => tell(model, router, &families, &mut stream, state)?,
            Some(_) | None => {}
        }
    }
    stream.write_all(&bgp::cease())?;
    Ok(())
}

/// All updates of the router in these families, and the ends of them.
fn tell(
    model: &Model,
    router: RouterId,
    families: &[Family],
    stream: &mut TcpStream,
    state: &State,
) -> anyhow::Result<()> {
    let speaks = |family: Family| families.contains(&family);
    let mut routes = 0u64;
    for (attributes, v4, v6) in updates(model, router) {
        let v4: &[Ipv4Net] = if speaks(V4_UNICAST) { &v4 } else { &[] };
        let v6: &[Ipv6Net] = if speaks(V6_UNICAST) { &v6 } else { &[] };
        routes += (v4.len() + v6.len()) as u64;
        for message in bgp::announce_v4(&attributes, v4).into_iter().chain(bgp::announce_v6(&attributes, v6)) {
            stream.write_all(&message)?;
        }
    }
    let mut link_states = 0u64;
    if speaks(LINK_STATE) {
        let messages = igp::Graph::of(&model.network, model.igp_nodes).announcements(router);
        link_states = messages.len() as u64;
        stream.write_all(&messages.concat())?;
    }
    for family in families {
        stream.write_all(&bgp::end_of_rib(*family))?;
    }
    state.routes.store(routes, Ordering::Relaxed);
    state.link_states.store(link_states, Ordering::Relaxed);
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
