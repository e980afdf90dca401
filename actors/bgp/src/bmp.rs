//! The BMP station (RFC 7854, 8671, 9069): routers connect, and tell of their tables.
//!
//!   routers (1..n) --TCP: BMP--> [station: a task a connection] --> the speaker's table
//!
//! Each table of a router is a peer of its own: (router, instance, neighbour, view). What names flows and what is
//! only shown is in [`RibView`]. A connection is only read: nothing is sent, and its sending side stays open, since
//! IOS XR takes a half-closed one for the end. A router that is gone without a word is found by TCP's own probes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use benocs_model::Address;
use benocs_model::route::{Peer, PeerId, RibView, RouteEvent};
use benocs_wire::bgp::{self, Agreed};
use benocs_wire::bmp::{self, Message, PeerKind, PeerUp, View, tlv};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::convert;
use crate::core::Core;
use crate::error::ConfigError;
use crate::guests::Way;

const BACKLOG: i32 = 128;
/// Octets read before others get their turn.
const READ_OCTETS: usize = 64 << 10;
/// RFC 7854 3.3: the first message comes at once.
const FIRST_MESSAGE: Duration = Duration::from_secs(60);
/// A router may be silent for hours: after so long its TCP is asked, then this often, so many times.
const PROBE_AFTER: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
const VIEWS: [View; 5] = [View::AdjInPre, View::AdjInPost, View::AdjOutPre, View::AdjOutPost, View::LocRib];
/// RFC 9069 5.2.1: name of the table, among what a Peer Up tells.
const TABLE_NAME: u16 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// TCP addresses that routers send BMP to; empty takes none.
    pub listen: Vec<String>,
    /// Prefixes that BMP is taken from; empty takes it from everywhere.
    pub allow: Vec<IpNet>,
    /// Routers' connections at a time; further ones are refused.
    pub connections_max: usize,
    /// Tables that all routers together may tell of; further ones are counted.
    pub tables_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: Vec::new(), allow: Vec::new(), connections_max: 1_000, tables_max: 10_000 }
    }
}

impl Config {
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let address = |text: &String| {
            text.parse().map_err(|_| ConfigError::Value {
                setting: "bgp.bmp.listen".to_owned(),
                value: text.clone(),
                remedy: "give address:port",
            })
        };
        self.listen.iter().map(address).collect()
    }

    fn allows(&self, remote: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|prefix| prefix.contains(&remote))
    }
}

pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, ConfigError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| ConfigError::ListenBmp { address, source })
}

pub(crate) async fn accept(core: Rc<RefCell<Core>>, listener: TcpListener) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a bmp connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let refused = {
            let core = core.borrow();
            if !core.config.bmp.allows(remote.ip()) {
                core.bmp.stranger.increment(1);
                true
            } else if core.guests.routers_connected() >= core.config.bmp.connections_max {
                core.bmp.connections.increment(1);
                true
            } else {
                false
            }
        };
        if refused {
            tracing::debug!(%remote, "bmp connection refused");
            continue;
        }
        tokio::task::spawn_local(run(core.clone(), stream, remote));
    }
}

async fn run(core: Rc<RefCell<Core>>, stream: TcpStream, remote: SocketAddr) {
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES);
    if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&probes) {
        tracing::warn!(%remote, %error, "a bmp connection is not probed: its router may be gone unnoticed");
    }
    let number = core.borrow_mut().guests.owner();
    let name = remote.ip().to_string();
    core.borrow_mut().guests.router(number, &name, name.clone());
    tracing::info!(router = %name, "bmp connection begins");
    let mut connection = Connection {
        core: core.clone(),
        number,
        address: remote.ip(),
        name,
        instances: HashMap::new(),
        events: Vec::new(),
        updates: HashMap::new(),
    };
    let Err(reason) = connection.read(&stream).await;
    tracing::info!(router = %connection.name, %reason, "bmp connection ended");
    core.borrow_mut().router_lost(number, &reason);
}

/// RFC 7854 4.2: a router's peers are told apart by these.
type Key = (PeerKind, [u8; 8], IpAddr);

/// A peer of the router that is up, and its tables that were heard of.
#[derive(Default)]
struct Instance {
    agreed: [Agreed; VIEWS.len()],
    tables: [Option<PeerId>; VIEWS.len()],
    /// RFC 9069 5.2.1.
    table_name: Option<String>,
}

struct Connection {
    core: Rc<RefCell<Core>>,
    number: u64,
    address: IpAddr,
    /// What the router says it is called, else its address.
    name: String,
    instances: HashMap<Key, Instance>,
    /// What the messages of one reading come to, in order.
    events: Vec<RouteEvent>,
    updates: HashMap<PeerId, u64>,
}

impl Connection {
    async fn read(&mut self, stream: &TcpStream) -> Result<std::convert::Infallible, String> {
        let mut buffer = vec![0; READ_OCTETS];
        let (mut start, mut end) = (0, 0);
        let mut is_first = true;
        loop {
            let ready = match is_first {
                true => timeout(FIRST_MESSAGE, stream.readable()).await.map_err(|_| "no message came".to_owned())?,
                false => stream.readable().await,
            };
            ready.map_err(|error| lost(&error))?;
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
            if end == buffer.len() {
                // One message is longer than that; a message has a bound.
                buffer.resize((buffer.len() * 2).min(bmp::MESSAGE_OCTETS_MAX + READ_OCTETS), 0);
            }
            match stream.try_read(&mut buffer[end..]) {
                Ok(0) => return Err("the router closed the connection".to_owned()),
                Ok(count) => end += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(lost(&error)),
            }
            let outcome = self.messages(&buffer[start..end]);
            let over = self.flush();
            start += outcome?;
            is_first &= start == 0;
            if let Some(peer) = over {
                return Err(format!("{peer} has more routes than bgp.routes_max"));
            }
            // One router's tables do not keep the others waiting.
            tokio::task::yield_now().await;
        }
    }

    /// Takes whole messages; how many octets they were.
    fn messages(&mut self, octets: &[u8]) -> Result<usize, String> {
        let mut rest = octets;
        let mut count = 0;
        let ended = loop {
            match bmp::frame(rest) {
                Ok(Some((raw, after))) => {
                    rest = after;
                    count += 1;
                    match bmp::parse(raw) {
                        Ok(Message::Termination(information)) => {
                            break Some(format!("the router ended it: {}", bmp::termination_text(&information)));
                        }
                        Ok(message) => self.message(&message),
                        // The next one is where this one's length says.
                        Err(error) => {
                            self.core.borrow().bmp.malformed.increment(1);
                            tracing::debug!(router = %self.name, %error, "bmp message with errors");
                        }
                    }
                }
                Ok(None) => break None,
                Err(error) => {
                    self.core.borrow().bmp.malformed.increment(1);
                    break Some(format!("not a message of bmp: {error}"));
                }
            }
        };
        let mut core = self.core.borrow_mut();
        core.bmp.messages.increment(count);
        core.guests.heard(self.number, count);
        ended.map_or(Ok(octets.len() - rest.len()), Err)
    }

    fn message(&mut self, message: &Message<'_>) {
        match message {
            Message::Initiation(information) => {
                let name = information.get(tlv::SYSTEM_NAME).map(bmp::text_of).filter(|name| !name.is_empty());
                if let Some(name) = name {
                    self.core.borrow_mut().guests.router(self.number, &name, self.address.to_string());
                    self.name = name;
                }
            }
            Message::PeerUp(up) => self.peer_up(up),
            Message::PeerDown(down) => {
                let known = self.instances.remove(&key(&down.peer));
                tracing::info!(router = %self.name, peer = %down.peer.address, reason = %down, "a router's peer is down");
                match known {
                    Some(instance) => self.gone(&instance),
                    None => self.core.borrow().bmp.unknown_peer.increment(1),
                }
            }
            Message::RouteMonitoring(peer, update) => self.routes(peer, update),
            Message::RouteMirroring(..) => self.core.borrow().bmp.mirrored.increment(1),
            Message::Statistics(..) | Message::Termination(_) | Message::Unknown(_) => {}
        }
    }

    fn peer_up(&mut self, up: &PeerUp<'_>) {
        let key = key(&up.peer);
        // RFC 7854 4.10: a session anew, whatever was before.
        if let Some(instance) = self.instances.remove(&key) {
            self.gone(&instance);
        }
        if !self.has_room() {
            self.core.borrow().bmp.tables.increment(1);
            return;
        }
        let instance = Instance {
            agreed: VIEWS.map(|view| up.agreed(view, false)),
            tables: [None; VIEWS.len()],
            table_name: up.information.get(TABLE_NAME).map(bmp::text_of).filter(|name| !name.is_empty()),
        };
        self.instances.insert(key, instance);
        if up.peer.kind == PeerKind::LOC_RIB {
            self.table(&up.peer);
        }
    }

    fn has_room(&self) -> bool {
        self.instances.len() < self.core.borrow().config.bmp.tables_max
    }

    fn gone(&mut self, instance: &Instance) {
        for id in instance.tables.iter().flatten() {
            self.core.borrow_mut().guest_down(*id, &mut self.events);
        }
    }

    /// The table that a message is about: its number, and how its UPDATEs are read.
    fn table(&mut self, peer: &bmp::Peer) -> Option<(PeerId, Agreed)> {
        let view = peer.view();
        let number = VIEWS.iter().position(|other| *other == view)?;
        // GoBGP does not say that its own table is up; RFC 9069 5.2 would have it make up what that says.
        if peer.kind == PeerKind::LOC_RIB && self.has_room() {
            self.instances.entry(key(peer)).or_default();
        }
        let Some(instance) = self.instances.get_mut(&key(peer)) else {
            self.core.borrow().bmp.unknown_peer.increment(1);
            return None;
        };
        let agreed = Agreed { four_octet_as: !peer.has_two_octet_as(), ..instance.agreed[number].clone() };
        if let Some(id) = instance.tables[number] {
            return Some((id, agreed));
        }
        let mut core = self.core.borrow_mut();
        if core.guests.count(Way::Bmp) >= core.config.bmp.tables_max {
            core.bmp.tables.increment(1);
            return None;
        }
        let named = named(&self.name, self.address, peer, instance.table_name.as_deref());
        let id = core.guest_up(Way::Bmp, self.number, named, &mut self.events);
        instance.tables[number] = Some(id);
        Some((id, agreed))
    }

    fn routes(&mut self, peer: &bmp::Peer, update: &[u8]) {
        let Some((id, agreed)) = self.table(peer) else { return };
        *self.updates.entry(id).or_default() += 1;
        let message = bgp::frame(update, &agreed).and_then(|framed| match framed {
            Some((raw, _)) => bgp::parse(raw, &agreed).map(Some),
            None => Ok(None),
        });
        match message {
            Ok(Some(bgp::Message::Update(update))) => {
                self.core.borrow().faults(&update.faults);
                convert::events(id, [0; 4], &update, &mut self.events);
            }
            Ok(_) => self.core.borrow().bmp.update.increment(1),
            Err(error) => {
                self.core.borrow().bmp.update.increment(1);
                tracing::debug!(router = %self.name, peer = %peer.address, %error, "an update over bmp is not readable");
            }
        }
    }

    /// What the messages came to is in the table from now on; the name of a peer that has too many routes.
    fn flush(&mut self) -> Option<String> {
        let updates: Vec<(PeerId, u64)> = self.updates.drain().collect();
        self.core.borrow_mut().guest_events(&updates, std::mem::take(&mut self.events))
    }
}

fn lost(error: &io::Error) -> String {
    format!("connection lost: {error}")
}

fn key(peer: &bmp::Peer) -> Key {
    (peer.kind, peer.distinguisher, peer.address)
}

/// The peer of the table that a router's table is.
fn named(router: &str, address: IpAddr, peer: &bmp::Peer, table_name: Option<&str>) -> Peer {
    let view = match peer.view() {
        View::LocRib => RibView::LocRib,
        View::AdjInPre => RibView::AdjInPre,
        View::AdjInPost => RibView::AdjInPost,
        View::AdjOutPre => RibView::AdjOutPre,
        View::AdjOutPost => RibView::AdjOutPost,
    };
    let vrf = match peer.distinguisher {
        [0, 0, 0, 0, 0, 0, 0, 0] => String::new(),
        distinguisher => table_name.map_or_else(|| rd_text(distinguisher), str::to_owned),
    };
    let is_loc_rib = view == RibView::LocRib;
    let parts = [
        router.to_owned(),
        vrf.clone(),
        if is_loc_rib { String::new() } else { format!("{} {}", peer.address, view.text()) },
    ];
    let name = parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ");
    Peer {
        name,
        address: if is_loc_rib { address.into() } else { peer.address.into() },
        bgp_id: peer.bgp_id,
        remote_as: peer.remote_as,
        vrf,
        view,
        router: (!is_loc_rib).then(|| Address::from(address)),
        ..Peer::default()
    }
}

/// RFC 4364 4.2.
fn rd_text(distinguisher: [u8; 8]) -> String {
    let [_, kind, a, b, c, d, e, f] = distinguisher;
    let long = u32::from_be_bytes([a, b, c, d]);
    match kind {
        0 => format!("{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])),
        1 => format!("{}:{}", Ipv4Addr::from(long), u16::from_be_bytes([e, f])),
        _ => format!("{long}:{}", u16::from_be_bytes([e, f])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_are_taken_from_allowed_prefixes() {
        let config = |allow: &[&str]| Config {
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            ..Config::default()
        };
        let is = |config: &Config, address: &str| config.allows(address.parse().unwrap());
        assert!(is(&config(&[]), "192.0.2.1") && is(&config(&[]), "2001:db8::1"));
        let some = config(&["192.0.2.0/24", "2001:db8::/32"]);
        assert!(is(&some, "192.0.2.9") && is(&some, "2001:db8::9"));
        assert!(!is(&some, "198.51.100.1") && !is(&some, "2001:db9::1"));
        let wrong = Config { listen: vec!["11019".to_owned()], ..Config::default() };
        assert_eq!(
            wrong.addresses().unwrap_err().to_string(),
            "bgp.bmp.listen = \"11019\" is not usable: give address:port"
        );
    }

    #[test]
    fn a_table_is_named_by_router_instance_neighbour_and_view() {
        let peer = |kind, flags, distinguisher: u64| bmp::Peer {
            kind: PeerKind(kind),
            flags,
            distinguisher: distinguisher.to_be_bytes(),
            address: "192.0.2.7".parse().unwrap(),
            remote_as: 64_501,
            bgp_id: [10, 0, 0, 7],
            time_s: 0,
            microseconds: 0,
        };
        let of = |peer: &bmp::Peer, table: Option<&str>| named("r1", "192.0.2.1".parse().unwrap(), peer, table);
        let table = of(&peer(3, 0, 0), Some("global"));
        assert_eq!((&*table.name, &*table.vrf, table.view), ("r1", "", RibView::LocRib));
        assert_eq!((table.address.to_string(), table.router), ("192.0.2.1".to_owned(), None));
        let table = of(&peer(3, 0, 64_500 << 32 | 7), Some("blue"));
        assert_eq!((&*table.name, &*table.vrf), ("r1 blue", "blue"));
        let table = of(&peer(1, 0x40, 64_500 << 32 | 7), None);
        assert_eq!((&*table.name, &*table.vrf), ("r1 64500:7 192.0.2.7 adj-rib-in-post", "64500:7"));
        assert_eq!(
            (table.address.to_string(), table.router),
            ("192.0.2.7".to_owned(), Some(Address::from_v4([192, 0, 2, 1])))
        );
        assert_eq!(of(&peer(0, 0x10, 0), None).name, "r1 192.0.2.7 adj-rib-out-pre");
        assert_eq!(rd_text([0, 1, 192, 0, 2, 1, 0, 9]), "192.0.2.1:9");
        assert_eq!(rd_text([0, 2, 0, 1, 0, 0, 0, 9]), "65536:9");
    }
}
