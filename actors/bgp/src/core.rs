//! What the sessions share: peers, the table, its receivers. One thread; nothing here waits.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use benocs_model::Address;
use benocs_model::route::{Family, Peer, PeerId, RouteBatch, RouteEvent, RouteReader, RouteTable};
use benocs_runtime::Outbox;
use benocs_wire::bgp::{self, Class, Fault};
use serde::{Deserialize, Serialize};

use crate::config::{Config, PeerPlan, Plan};
use crate::feed::Feed;
use crate::metrics::{Drops, PeerMetrics};
use crate::session::{Control, Order, Remote};

/// What others see of the speaker: made before it, kept when it is rebuilt.
#[derive(Clone, Debug, Default)]
pub struct Board {
    reader: RouteReader,
    peers: Arc<ArcSwap<Vec<PeerStatus>>>,
    listening: Arc<ArcSwap<Vec<SocketAddr>>>,
}

impl Board {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn table_reader(&self) -> RouteReader {
        self.reader.clone()
    }

    /// As of the last publication.
    pub fn peers(&self) -> Arc<Vec<PeerStatus>> {
        self.peers.load_full()
    }

    /// Addresses that sessions are accepted on; empty before the speaker started.
    pub fn listening(&self) -> Arc<Vec<SocketAddr>> {
        self.listening.load_full()
    }

    pub(crate) fn set_listening(&self, addresses: Vec<SocketAddr>) {
        self.listening.store(Arc::new(addresses));
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub name: String,
    pub address: String,
    pub remote_as: u32,
    /// idle, connect, open-sent, open-confirm, established, restarting.
    pub state: String,
    /// Unix ms; when the state began.
    pub since: i64,
    /// Empty before the first OPEN.
    pub router_id: String,
    pub reflector: bool,
    /// Prefixes with a route, by family.
    pub prefixes: HashMap<String, u32>,
    /// UPDATE messages of all sessions.
    pub updates: u64,
    /// Routes of a session that ended are kept, marked.
    pub stale: bool,
    pub last_error: Option<String>,
}

/// RFC 4271 8.2.2, as far as a peer is concerned that has or has no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Connect,
    OpenConfirm,
    Established,
    /// RFC 4724: gone, its routes kept.
    Restarting,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Connect => "connect",
            State::OpenConfirm => "open-confirm",
            State::Established => "established",
            State::Restarting => "restarting",
        }
    }
}

/// The connection that a peer has, past its OPEN.
pub(crate) struct Live {
    session: u64,
    control: Rc<Control>,
    initiated: bool,
    remote: Remote,
}

pub(crate) struct PeerEntry {
    pub(crate) id: PeerId,
    pub(crate) plan: PeerPlan,
    state: State,
    since: i64,
    live: Option<Live>,
    bgp_id: Option<[u8; 4]>,
    /// When stale routes go.
    stale_until: Option<Instant>,
    updates: u64,
    last_error: Option<String>,
    metrics: PeerMetrics,
}

/// Why an OPEN is refused: code, subcode, data of the NOTIFICATION, and in words.
pub(crate) struct Refusal {
    pub(crate) code: u8,
    pub(crate) subcode: u8,
    pub(crate) text: String,
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) plan: Plan,
    pub(crate) peers: Vec<PeerEntry>,
    pub(crate) drops: Drops,
    board: Board,
    table: RouteTable,
    feeds: Vec<Feed>,
    /// Events since the last publication, for the feeds.
    pending: Vec<RouteEvent>,
    sessions: u64,
    /// Every open connection, for the last word.
    pub(crate) controls: HashMap<u64, Rc<Control>>,
}

impl Core {
    pub(crate) fn new(config: Config, plan: Plan, outboxes: Vec<Outbox<RouteBatch>>, board: Board) -> Self {
        let peers = plan.peers.iter().enumerate().map(|(number, plan)| PeerEntry::new(number, plan.clone())).collect();
        let feeds = outboxes.into_iter().map(|outbox| Feed::new(outbox, config.feed_batches_max)).collect();
        Self {
            peers,
            drops: Drops::new(),
            table: RouteTable::with_reader(board.table_reader()),
            board,
            feeds,
            pending: Vec::new(),
            sessions: 0,
            controls: HashMap::new(),
            config,
            plan,
        }
    }

    /// Peers that a connection may be of: all of that address, or a new one of a range.
    pub(crate) fn candidates(&mut self, remote: IpAddr, local: IpAddr) -> Vec<usize> {
        let matches = |entry: &PeerEntry| {
            entry.plan.address == remote && entry.plan.local_address.is_none_or(|address| address == local)
        };
        let known: Vec<usize> =
            self.peers.iter().enumerate().filter(|(_, entry)| matches(entry)).map(|(number, _)| number).collect();
        if !known.is_empty() {
            return known;
        }
        let from_ranges = self.peers.len() - self.plan.peers.len();
        let range = self.plan.ranges.iter().find(|range| range.prefix.contains(&remote));
        let Some(range) = range.filter(|_| from_ranges < self.config.range_peers_max) else { return Vec::new() };
        let plan = PeerPlan {
            name: remote.to_string(),
            address: remote,
            remote_as: range.remote_as,
            local_address: None,
            port: 179,
            password: Vec::new(),
            passive: true,
            reflector: false,
        };
        self.peers.push(PeerEntry::new(self.peers.len(), plan));
        vec![self.peers.len() - 1]
    }

    pub(crate) fn register(&mut self, control: Rc<Control>) -> u64 {
        self.sessions += 1;
        self.controls.insert(self.sessions, control);
        self.sessions
    }

    pub(crate) fn is_live(&self, peer: usize) -> bool {
        self.peers[peer].live.is_some()
    }

    pub(crate) fn connecting(&mut self, peer: usize) {
        if self.peers[peer].state == State::Idle {
            self.peers[peer].set_state(State::Connect);
        }
    }

    pub(crate) fn not_connected(&mut self, peer: usize, error: String) {
        let entry = &mut self.peers[peer];
        if entry.state == State::Connect {
            entry.set_state(State::Idle);
        }
        if entry.live.is_none() {
            entry.last_error = Some(error);
        }
    }

    /// Whose the connection is, once its OPEN is there (RFC 4271 6.2, 6.8).
    pub(crate) fn admit(
        &mut self,
        candidates: &[usize],
        session: u64,
        control: &Rc<Control>,
        initiated: bool,
        remote: &Remote,
    ) -> Result<usize, Refusal> {
        let fits = |number: &&usize| {
            let wanted = self.peers[**number].plan.remote_as;
            wanted == 0 || wanted == remote.remote_as
        };
        let mut fitting = candidates.iter().filter(fits).copied().collect::<Vec<_>>();
        // Of several sessions between the same addresses the one that is not there yet.
        fitting.sort_by_key(|number| self.peers[*number].live.is_some());
        let Some(number) = fitting.first().copied() else {
            let expected = candidates.first().map_or(0, |number| self.peers[*number].plan.remote_as);
            let text = format!("peer says AS {}, configured is AS {expected}", remote.remote_as);
            for candidate in candidates {
                self.peers[*candidate].last_error = Some(text.clone());
            }
            return Err(Refusal { code: 2, subcode: 2, text });
        };
        // RFC 6286 2.2: within an AS identifiers differ.
        if remote.remote_as == self.config.local_as && remote.bgp_id == self.plan.router_id {
            let text = "peer has this speaker's bgp identifier: change bgp.router_id".to_owned();
            self.peers[number].last_error = Some(text.clone());
            return Err(Refusal { code: 2, subcode: 3, text });
        }
        self.resolve_collision(number, initiated, remote)?;
        let entry = &mut self.peers[number];
        entry.live = Some(Live { session, control: control.clone(), initiated, remote: remote.clone() });
        entry.bgp_id = Some(remote.bgp_id);
        if entry.state != State::Restarting {
            entry.set_state(State::OpenConfirm);
        }
        Ok(number)
    }

    fn resolve_collision(&mut self, number: usize, initiated: bool, remote: &Remote) -> Result<(), Refusal> {
        let own_id = u32::from_be_bytes(self.plan.router_id);
        let entry = &mut self.peers[number];
        let Some(live) = &entry.live else { return Ok(()) };
        let keeps_new = if entry.state == State::Established {
            // RFC 4724 4.2: a peer that can restart has done so.
            live.remote.restart_time_s.is_some()
        } else {
            // RFC 4271 6.8: of two, the one opened by the higher identifier stays.
            live.initiated != initiated && initiated == (own_id > u32::from_be_bytes(remote.bgp_id))
        };
        if !keeps_new {
            let text = "connection collision".to_owned();
            return Err(Refusal { code: bgp_code::CEASE, subcode: 7, text });
        }
        live.control.order(Order::Close { code: bgp_code::CEASE, subcode: 7, data: Vec::new() });
        let restarts = entry.state == State::Established;
        if restarts {
            self.lost(number, true);
        } else {
            entry.live = None;
        }
        Ok(())
    }

    pub(crate) fn established(&mut self, number: usize, session: u64) {
        let local_as = self.config.local_as;
        let entry = &mut self.peers[number];
        let Some(live) = entry.live.as_ref().filter(|live| live.session == session) else { return };
        let peer = Peer {
            id: entry.id,
            name: entry.plan.name.clone(),
            address: Address::from(entry.plan.address),
            bgp_id: live.remote.bgp_id,
            remote_as: live.remote.remote_as,
            local_as,
            reflector: entry.plan.reflector,
            ..Peer::default()
        };
        let mut events = vec![RouteEvent::PeerUp(Arc::new(peer))];
        if entry.stale_until.take().is_some() {
            // RFC 4724 4.2: what the peer did not keep in its restart goes at once.
            let kept = |family: &bgp::Family| live.remote.kept_families.contains(family);
            let gone = FAMILIES.iter().filter(|(_, family)| !kept(family));
            events.extend(gone.map(|(code, _)| RouteEvent::EndOfRib { peer: entry.id, family: *code as u8 }));
        }
        entry.set_state(State::Established);
        entry.last_error = None;
        entry.metrics.established.set(1.0);
        tracing::info!(peer = %entry.plan.name, remote_as = live_as(entry), "bgp session established");
        self.apply(events);
    }

    /// The connection is closed; `graceful`: the peer may come back and its routes stay (RFC 4724).
    pub(crate) fn closed(&mut self, session: u64, peer: Option<usize>, reason: &str, graceful: bool) {
        self.controls.remove(&session);
        let Some(number) = peer else { return };
        let entry = &mut self.peers[number];
        if entry.live.as_ref().is_none_or(|live| live.session != session) {
            return;
        }
        entry.last_error = Some(reason.to_owned());
        tracing::info!(peer = %entry.plan.name, reason, "bgp session ended");
        self.lost(number, graceful);
    }

    fn lost(&mut self, number: usize, graceful: bool) {
        let entry = &mut self.peers[number];
        let Some(live) = entry.live.take() else { return };
        let was_established = entry.state == State::Established;
        entry.metrics.established.set(0.0);
        if !was_established {
            // A restarting peer's attempt failed: its time runs on.
            if entry.state != State::Restarting {
                entry.set_state(State::Idle);
            }
            return;
        }
        let id = entry.id;
        let restart = live.remote.restart_time_s.filter(|_| graceful);
        let Some(seconds) = restart else {
            entry.stale_until = None;
            entry.set_state(State::Idle);
            self.apply(vec![RouteEvent::PeerDown(id)]);
            return;
        };
        entry.stale_until = Some(Instant::now() + Duration::from_secs(u64::from(seconds)));
        entry.set_state(State::Restarting);
        let mut events = vec![RouteEvent::PeerStale(id)];
        let gone = FAMILIES.iter().filter(|(_, family)| !live.remote.restart_families.contains(family));
        events.extend(gone.map(|(code, _)| RouteEvent::EndOfRib { peer: id, family: *code as u8 }));
        self.apply(events);
    }

    /// True where the peer announced more than it may.
    pub(crate) fn routes(&mut self, number: usize, updates: u64, events: Vec<RouteEvent>) -> bool {
        let entry = &mut self.peers[number];
        entry.updates += updates;
        entry.metrics.updates.increment(updates);
        let id = entry.id;
        if events.is_empty() {
            return false;
        }
        self.apply(events);
        self.table.routes_of(id).is_some_and(|(v4, v6)| v4.saturating_add(v6) > self.config.routes_max)
    }

    pub(crate) fn faults(&self, faults: &[Fault]) {
        for fault in faults {
            match fault.class {
                Class::TreatAsWithdraw => self.drops.treated_as_withdraw.increment(1),
                Class::AttributeDiscard => self.drops.attribute_discard.increment(1),
            }
        }
    }

    fn apply(&mut self, events: Vec<RouteEvent>) {
        let batch = RouteBatch { generation: 0, events };
        self.table.apply(&batch);
        if !self.feeds.is_empty() {
            self.pending.extend(batch.events);
        }
    }

    /// What arrived is seen from now on, here and by the feeds; what is stale for too long goes.
    pub(crate) fn publish(&mut self) {
        let now = Instant::now();
        let due = |entry: &&mut PeerEntry| entry.stale_until.is_some_and(|until| until <= now);
        let mut gone = Vec::new();
        for entry in self.peers.iter_mut().filter(due) {
            entry.stale_until = None;
            if entry.live.is_none() {
                entry.set_state(State::Idle);
            }
            gone.push(RouteEvent::PeerDown(entry.id));
        }
        if !gone.is_empty() {
            self.apply(gone);
        }
        self.table.publish();
        if !self.pending.is_empty() {
            let batch = RouteBatch { generation: self.table.generation(), events: std::mem::take(&mut self.pending) };
            for feed in &mut self.feeds {
                if feed.push(batch.clone()) {
                    self.drops.feed_behind.increment(1);
                }
            }
        }
        for feed in &mut self.feeds {
            feed.flush(&self.table);
        }
        self.publish_status();
    }

    fn publish_status(&self) {
        let view = self.board.reader.view();
        let routes: HashMap<PeerId, (u32, u32, bool)> =
            view.peers().map(|routes| (routes.peer.id, (routes.v4, routes.v6, routes.stale))).collect();
        let status = |entry: &PeerEntry| {
            let (v4, v6, stale) = routes.get(&entry.id).copied().unwrap_or_default();
            entry.metrics.routes_v4.set(f64::from(v4));
            entry.metrics.routes_v6.set(f64::from(v6));
            let prefixes = [(Family::V4Unicast, v4), (Family::V6Unicast, v6)];
            PeerStatus {
                name: entry.plan.name.clone(),
                address: entry.plan.address.to_string(),
                remote_as: live_as(entry),
                state: entry.state.text().to_owned(),
                since: entry.since,
                router_id: entry.bgp_id.map_or_else(String::new, |id| std::net::Ipv4Addr::from(id).to_string()),
                reflector: entry.plan.reflector,
                prefixes: prefixes.map(|(family, count)| (family.text().to_owned(), count)).into(),
                updates: entry.updates,
                stale,
                last_error: entry.last_error.clone(),
            }
        };
        self.board.peers.store(Arc::new(self.peers.iter().map(status).collect()));
    }

    /// Asks peers of an address for all their routes again; `None` asks everyone. How many were asked.
    pub(crate) fn refresh(&self, address: Option<IpAddr>) -> usize {
        let asked = self.peers.iter().filter(|entry| address.is_none_or(|address| entry.plan.address == address));
        let live = asked.filter(|entry| entry.state == State::Established).filter_map(|entry| entry.live.as_ref());
        live.inspect(|live| live.control.order(Order::Refresh)).count()
    }
}

const FAMILIES: [(Family, bgp::Family); 2] =
    [(Family::V4Unicast, bgp::Family::V4_UNICAST), (Family::V6Unicast, bgp::Family::V6_UNICAST)];

/// RFC 4271 4.5.
pub(crate) mod bgp_code {
    pub(crate) const HOLD_TIMER: u8 = 4;
    pub(crate) const STATE_MACHINE: u8 = 5;
    pub(crate) const CEASE: u8 = 6;
}

fn live_as(entry: &PeerEntry) -> u32 {
    entry.live.as_ref().map_or(entry.plan.remote_as, |live| live.remote.remote_as)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl PeerEntry {
    fn new(number: usize, plan: PeerPlan) -> Self {
        let metrics = PeerMetrics::new(&plan.name);
        metrics.established.set(0.0);
        Self {
            id: number as PeerId,
            plan,
            state: State::Idle,
            since: now_ms(),
            live: None,
            bgp_id: None,
            stale_until: None,
            updates: 0,
            last_error: None,
            metrics,
        }
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.since = now_ms();
        }
    }
}
