//! Peers whose routes come by other ways than a session of our own: what routers monitor (BMP), and files.
//!
//! They are peers of the one table, numbered above the sessions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use benocs_model::route::{Family, Peer, PeerId, PeerRoutes, RouteEvent};

use crate::core::{Core, PeerStatus};
use crate::metrics::PeerMetrics;

/// Sessions are numbered below.
const FIRST: PeerId = 1 << 18;
/// Routers whose connection ended, and that are still named in the status.
const LOST_MAX: usize = 1024;

/// By which way a guest's routes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Bmp,
    File,
}

impl Way {
    fn text(self) -> &'static str {
        match self {
            Way::Bmp => "bmp",
            Way::File => "file",
        }
    }
}

struct Guest {
    peer: Arc<Peer>,
    way: Way,
    /// The connection or the file.
    owner: u64,
    since: i64,
    updates: u64,
    metrics: PeerMetrics,
}

/// A router that monitors.
pub(crate) struct Router {
    pub(crate) name: String,
    pub(crate) address: String,
    since: i64,
    messages: u64,
    connected: bool,
    last_error: Option<String>,
}

#[derive(Default)]
pub(crate) struct Guests {
    list: BTreeMap<PeerId, Guest>,
    /// Numbers to be used again.
    free: Vec<PeerId>,
    owners: u64,
    /// By connection.
    routers: BTreeMap<u64, Router>,
}

impl Guests {
    /// A number for a connection or a file.
    pub(crate) fn owner(&mut self) -> u64 {
        self.owners += 1;
        self.owners
    }

    pub(crate) fn count(&self, way: Way) -> usize {
        self.list.values().filter(|guest| guest.way == way).count()
    }

    pub(crate) fn routers_connected(&self) -> usize {
        self.routers.values().filter(|router| router.connected).count()
    }

    /// A connection began, or its router said its name.
    pub(crate) fn router(&mut self, connection: u64, name: &str, address: String) {
        let router =
            Router { name: name.to_owned(), address, since: now_ms(), messages: 0, connected: true, last_error: None };
        // Whoever was lost is back.
        self.routers.retain(|_, other| other.connected || other.name != router.name || other.address != router.address);
        match self.routers.get_mut(&connection) {
            Some(known) => known.name = router.name,
            None => drop(self.routers.insert(connection, router)),
        }
    }

    pub(crate) fn heard(&mut self, connection: u64, messages: u64) {
        if let Some(router) = self.routers.get_mut(&connection) {
            router.messages += messages;
        }
    }

    fn lost(&mut self, connection: u64, reason: &str) {
        if let Some(router) = self.routers.get_mut(&connection) {
            router.connected = false;
            router.since = now_ms();
            router.last_error = Some(reason.to_owned());
        }
        let lost: Vec<u64> =
            self.routers.iter().filter(|(_, router)| !router.connected).map(|(number, _)| *number).collect();
        for number in lost.iter().take(lost.len().saturating_sub(LOST_MAX)) {
            self.routers.remove(number);
        }
    }

    /// Beside the sessions.
    pub(crate) fn status(&self, routes: &HashMap<PeerId, PeerRoutes<'_>>) -> Vec<PeerStatus> {
        let router = |router: &Router| PeerStatus {
            name: router.name.clone(),
            address: router.address.clone(),
            source: "bmp-router".to_owned(),
            state: if router.connected { "established" } else { "idle" }.to_owned(),
            since: router.since,
            updates: router.messages,
            last_error: router.last_error.clone(),
            ..PeerStatus::default()
        };
        let guest = |(id, guest): (&PeerId, &Guest)| {
            let (v4, v6, stale) = routes.get(id).map_or((0, 0, false), |routes| (routes.v4, routes.v6, routes.stale));
            guest.metrics.routes_v4.set(f64::from(v4));
            guest.metrics.routes_v6.set(f64::from(v6));
            let prefixes = [(Family::V4Unicast, v4), (Family::V6Unicast, v6)];
            PeerStatus {
                name: guest.peer.name.clone(),
                address: guest.peer.address.to_string(),
                source: guest.way.text().to_owned(),
                remote_as: guest.peer.remote_as,
                state: "established".to_owned(),
                since: guest.since,
                router_id: std::net::Ipv4Addr::from(guest.peer.bgp_id).to_string(),
                prefixes: prefixes.map(|(family, count)| (family.text().to_owned(), count)).into(),
                updates: guest.updates,
                stale,
                ..PeerStatus::default()
            }
        };
        self.routers.values().map(router).chain(self.list.iter().map(guest)).collect()
    }
}

impl Core {
    /// Takes a peer in and gives it its number. Its routes are given to [`Core::guest_events`].
    pub(crate) fn guest_up(&mut self, way: Way, owner: u64, peer: Peer, events: &mut Vec<RouteEvent>) -> PeerId {
        let guests = &mut self.guests;
        let next = guests.list.last_key_value().map_or(FIRST, |(last, _)| last + 1);
        let id = guests.free.pop().unwrap_or(next);
        let peer = Arc::new(Peer { id, local_as: self.config.local_as, ..peer });
        events.push(RouteEvent::PeerUp(peer.clone()));
        let metrics = PeerMetrics::new(&peer.name);
        metrics.established.set(1.0);
        guests.list.insert(id, Guest { peer, way, owner, since: now_ms(), updates: 0, metrics });
        id
    }

    pub(crate) fn guest_down(&mut self, id: PeerId, events: &mut Vec<RouteEvent>) {
        let Some(guest) = self.guests.list.remove(&id) else { return };
        guest.metrics.gone();
        events.push(RouteEvent::PeerDown(id));
        self.guests.free.push(id);
    }

    /// All of a connection or of a file.
    pub(crate) fn guests_down(&mut self, owner: u64) {
        let all = self.guests.list.iter().filter(|(_, guest)| guest.owner == owner);
        let gone: Vec<PeerId> = all.map(|(id, _)| *id).collect();
        let mut events = Vec::new();
        gone.into_iter().for_each(|id| self.guest_down(id, &mut events));
        self.apply(events);
    }

    /// A router's connection ended.
    pub(crate) fn router_lost(&mut self, connection: u64, reason: &str) {
        self.guests_down(connection);
        self.guests.lost(connection, reason);
    }

    /// The name of a peer that has more routes than it may.
    pub(crate) fn guest_events(&mut self, updates: &[(PeerId, u64)], events: Vec<RouteEvent>) -> Option<String> {
        self.apply(events);
        for (id, updates) in updates {
            let Some(guest) = self.guests.list.get_mut(id) else { continue };
            guest.updates += updates;
            guest.metrics.updates.increment(*updates);
            let (v4, v6) = self.routes_of(*id).unwrap_or_default();
            if v4.saturating_add(v6) > self.config.routes_max {
                return Some(self.guests.list[id].peer.name.clone());
            }
        }
        None
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
