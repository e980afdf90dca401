//! What the sessions share: peers, the table, its receivers. One thread; nothing here waits.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use benocs_model::Address;
use benocs_model::graph::{GraphBatch, GraphEvent};
use benocs_model::route::{
    Family, PEERS_MAX, Peer, PeerId, PeerRoutes, RouteBatch, RouteEvent, RouteReader, RouteTable, RouteView,
};
use benocs_runtime::{Full, Outbox};
use benocs_wire::bgp::{self, Class, Fault};
use serde::{Deserialize, Serialize};

use crate::config::{Config, FAMILIES, PeerPlan, Plan};
use crate::convert::{Converter, Lost};
use crate::feed::Feed;
use crate::file::Files;
use crate::guests::{Guests, Way};
use crate::metrics::{BmpMetrics, Drops, PeerMetrics};
use crate::rules::RuleStatus;
use crate::session::{Control, Order, Remote};
use crate::vrf::Imports;

/// RFC 4724 4.1 and RFC 7313 4 leave it open: what is stale goes, where End-of-RIB does not come.
const SWEEP_LIMIT: Duration = Duration::from_secs(600);
/// A session that lasted this long ends a row of errors.
const SOUND: Duration = Duration::from_secs(60);
/// Objects of link state of one peer that wait for the network graph.
const GRAPH_OBJECTS_MAX: usize = 10_000;
/// RFC 9494 6: routes that are not to be kept longer.
const NO_LLGR: u32 = 0xffff_0007;

/// What others see of the speaker: made before it, kept when it is rebuilt.
#[derive(Clone, Debug, Default)]
pub struct Board {
    reader: RouteReader,
    peers: Arc<ArcSwap<Vec<PeerStatus>>>,
    rules: Arc<ArcSwap<Vec<RuleStatus>>>,
    listening: Arc<ArcSwap<Vec<SocketAddr>>>,
    bmp_listening: Arc<ArcSwap<Vec<SocketAddr>>>,
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

    /// FlowSpec rules of all peers, as of the last publication.
    pub fn rules(&self) -> Arc<Vec<RuleStatus>> {
        self.rules.load_full()
    }

    /// Addresses that sessions are accepted on; empty before the speaker started.
    pub fn listening(&self) -> Arc<Vec<SocketAddr>> {
        self.listening.load_full()
    }

    /// Addresses that routers send BMP to.
    pub fn bmp_listening(&self) -> Arc<Vec<SocketAddr>> {
        self.bmp_listening.load_full()
    }

    pub(crate) fn set_bmp_listening(&self, addresses: Vec<SocketAddr>) {
        self.bmp_listening.store(Arc::new(addresses));
    }

    pub(crate) fn set_listening(&self, addresses: Vec<SocketAddr>) {
        self.listening.store(Arc::new(addresses));
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub name: String,
    pub address: String,
    /// Where its routes come from: bgp, a session; bmp, a table of a router that monitors; bmp-router, such a router
    /// itself; file.
    pub source: String,
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
    /// FlowSpec rules.
    pub rules: usize,
    /// Routes that it was told.
    pub announced: usize,
    /// Why the last session ended, or the last attempt failed.
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
    /// Its routes are those that were saved: whatever it kept itself, they stay until it has sent its own.
    restored: bool,
    /// What is to be done with stale routes, and when.
    due: Vec<(Instant, Due)>,
    /// Sessions in a row that ended in an error, and until when there is to be none.
    failures: u32,
    idle_until: Option<Instant>,
    established_at: Option<Instant>,
    pub(crate) converter: Converter,
    updates: u64,
    announced: usize,
    last_error: Option<String>,
    metrics: PeerMetrics,
}

/// What ends with time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    /// The router did not come back (RFC 4724 4.2): families with a time of their own stay (RFC 9494 4.3).
    RestartOver(Vec<(bgp::Family, Duration)>),
    /// A family's long time is over.
    LongOver(bgp::Family),
    /// End-of-RIB should have come.
    Sweep(bgp::Family),
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
    pub(crate) bmp: BmpMetrics,
    pub(crate) guests: Guests,
    pub(crate) files: Files,
    board: Board,
    table: RouteTable,
    feeds: Vec<Feed>,
    imports: Arc<Imports>,
    /// Events since the last publication, for the feeds.
    pending: Vec<RouteEvent>,
    sessions: u64,
    /// Where link state goes, and whether it was told that this speaker began anew.
    graph: Option<Outbox<GraphBatch>>,
    graph_cleared: bool,
    /// Peers whose sessions wait for room in it: what comes of them meanwhile comes after.
    pub(crate) graph_sending: HashSet<usize>,
    /// Every open connection, for the last word.
    pub(crate) controls: HashMap<u64, Rc<Control>>,
}

impl Core {
    pub(crate) fn new(config: Config, plan: Plan, outboxes: Vec<Outbox<RouteBatch>>, board: Board) -> Self {
        let imports = Arc::new(Imports::new(&plan.vrfs));
        let peers = plan
            .peers
            .iter()
            .enumerate()
            .map(|(number, plan)| PeerEntry::new(number, plan.clone(), imports.clone(), config.flow_rules_max))
            .collect();
        let feeds = outboxes.into_iter().map(|outbox| Feed::new(outbox, config.feed_batches_max)).collect();
        Self {
            peers,
            drops: Drops::new(),
            bmp: BmpMetrics::new(),
            guests: Guests::default(),
            files: Files::default(),
            table: RouteTable::with_reader(board.table_reader()),
            board,
            feeds,
            imports,
            pending: Vec::new(),
            sessions: 0,
            graph: None,
            graph_cleared: false,
            graph_sending: HashSet::new(),
            controls: HashMap::new(),
            config,
            plan,
        }
    }

    /// What an earlier start saved, of peers that are configured; stale until they have sent it again. How many routes.
    pub(crate) fn restore(&mut self, saved: &mut dyn Iterator<Item = anyhow::Result<RouteBatch>>) -> u64 {
        let mut numbers: HashMap<PeerId, usize> = HashMap::new();
        let mut routes = 0;
        for batch in saved {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::warn!("{error:#}: what is missing comes with the sessions");
                    break;
                }
            };
            let mut events = Vec::new();
            for event in batch.events {
                match event {
                    RouteEvent::PeerUp(peer) if peer.vrf.is_empty() && !peer.labelled => {
                        let address = peer.address.ip();
                        let known = self.peers.iter().position(|entry| {
                            entry.plan.address == address && entry.plan.name == peer.name && !entry.restored
                        });
                        let Some(number) = known else { continue };
                        numbers.insert(peer.id, number);
                        let entry = &mut self.peers[number];
                        (entry.restored, entry.bgp_id) = (true, Some(peer.bgp_id));
                        events.push(RouteEvent::PeerUp(Arc::new(Peer { id: entry.id, ..(*peer).clone() })));
                    }
                    RouteEvent::Announce { peer, path, prefixes } => {
                        if let Some(number) = numbers.get(&peer) {
                            routes += prefixes.len() as u64;
                            events.push(RouteEvent::Announce { peer: self.peers[*number].id, path, prefixes });
                        }
                    }
                    _ => {}
                }
            }
            self.apply(events);
        }
        let until = Instant::now() + Duration::from_secs(u64::from(self.config.stale_max_s)).min(SWEEP_LIMIT);
        let mut events = Vec::new();
        for number in numbers.into_values() {
            let entry = &mut self.peers[number];
            entry.set_state(State::Restarting);
            entry.due.push((until, Due::RestartOver(Vec::new())));
            entry.converter.stale(&mut events);
        }
        self.apply(events);
        self.table.publish();
        routes
    }

    /// What is published.
    pub(crate) fn view(&self) -> RouteView {
        self.board.reader.view()
    }

    /// Peers that a connection may be of: all of that address, or a new one of a range.
    pub(crate) fn candidates(&mut self, remote: IpAddr, local: IpAddr) -> Vec<usize> {
        let matches = |entry: &PeerEntry| {
            entry.plan.address == remote && entry.plan.template.local_address.is_none_or(|address| address == local)
        };
        let known: Vec<usize> =
            self.peers.iter().enumerate().filter(|(_, entry)| matches(entry)).map(|(number, _)| number).collect();
        if !known.is_empty() {
            return known;
        }
        let from_ranges = self.peers.len() - self.plan.peers.len();
        // The longest comes first.
        let fits = |range: &&crate::config::RangePlan| {
            range.prefix.contains(&remote) && range.template.local_address.is_none_or(|address| address == local)
        };
        let range = self.plan.ranges.iter().find(fits);
        let Some(range) = range.filter(|_| from_ranges < self.config.range_peers_max) else { return Vec::new() };
        let number = self.peers.len();
        if number >= PEERS_MAX as usize {
            return Vec::new();
        }
        let plan = range.peer(remote);
        self.peers.push(PeerEntry::new(number, plan, self.imports.clone(), self.config.flow_rules_max));
        vec![number]
    }

    /// RFC 4271 8.1.1: whether there is to be no session now, for an error of the one before.
    pub(crate) fn is_held(&self, peer: usize) -> bool {
        self.peers[peer].idle_until.is_some_and(|until| until > Instant::now())
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
            let wanted = self.peers[**number].plan.template.remote_as;
            wanted == 0 || wanted == remote.remote_as
        };
        let mut fitting = candidates.iter().filter(fits).copied().collect::<Vec<_>>();
        // Of several sessions between the same addresses the one that is not there yet.
        fitting.sort_by_key(|number| self.peers[*number].live.is_some());
        let Some(number) = fitting.first().copied() else {
            let expected = candidates.first().map_or(0, |number| self.peers[*number].plan.template.remote_as);
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
        if let Err(text) = self.check_role(number, remote) {
            self.peers[number].last_error = Some(text.clone());
            return Err(Refusal { code: 2, subcode: 11, text });
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

    /// RFC 9234 4.2: the roles of two neighbours go together.
    fn check_role(&self, number: usize, remote: &Remote) -> Result<(), String> {
        let template = &self.peers[number].plan.template;
        let Some(own) = template.role.filter(|_| !self.config.is_inside(remote.remote_as)) else { return Ok(()) };
        let Some(other) = remote.role else {
            return match template.role_strict {
                true => Err("peer says no role, and role_strict wants one".to_owned()),
                false => Ok(()),
            };
        };
        if matches!((own, other), (0, 3) | (3, 0) | (1, 2) | (2, 1) | (4, 4)) {
            return Ok(());
        }
        Err(format!("peer's role {other} does not go with role {own} here (RFC 9234)"))
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
        let now = Instant::now();
        let Some(live) = entry.live.as_ref().filter(|live| live.session == session) else { return };
        let peer = Peer {
            id: entry.id,
            name: entry.plan.name.clone(),
            address: Address::from(entry.plan.address),
            bgp_id: live.remote.bgp_id,
            remote_as: live.remote.remote_as,
            local_as,
            reflector: entry.plan.template.reflector,
            ..Peer::default()
        };
        let external = !self.config.is_inside(peer.remote_as);
        let role = entry.plan.template.role.filter(|_| external);
        let mut events = Vec::new();
        entry.converter.peer_up(peer, live.remote.agreed_families(&entry.plan.template.families), role, &mut events);
        let restored = std::mem::take(&mut entry.restored);
        if !std::mem::take(&mut entry.due).is_empty() {
            // RFC 4724 4.2, RFC 9494 4.2: what the peer did not keep in its restart goes at once.
            for (_, family) in FAMILIES {
                if restored || live.remote.kept_families.contains(&family) {
                    entry.due.push((now + SWEEP_LIMIT, Due::Sweep(family)));
                } else {
                    entry.converter.sweep(family, &mut events);
                }
            }
        }
        entry.established_at = Some(now);
        entry.set_state(State::Established);
        entry.metrics.established.set(1.0);
        tracing::info!(peer = %entry.plan.name, remote_as = live_as(entry), "bgp session established");
        self.apply(events);
    }

    /// The connection is closed; `graceful`: the peer may come back and its routes stay (RFC 4724). `fault`: it
    /// ended in an error, and the next one is to wait.
    pub(crate) fn closed(&mut self, session: u64, peer: Option<usize>, reason: &str, graceful: bool, fault: bool) {
        self.controls.remove(&session);
        let Some(number) = peer else { return };
        let idle_max = Duration::from_secs(self.config.idle_hold_max_s.max(1));
        let entry = &mut self.peers[number];
        if entry.live.as_ref().is_none_or(|live| live.session != session) {
            return;
        }
        let now = Instant::now();
        if entry.established_at.take().is_some_and(|since| now - since >= SOUND) {
            entry.failures = 0;
        }
        if fault {
            let hold = Duration::from_secs(1 << entry.failures.min(16)).min(idle_max);
            entry.failures += 1;
            entry.idle_until = Some(now + hold);
        }
        entry.last_error = Some(reason.to_owned());
        tracing::info!(peer = %entry.plan.name, reason, "bgp session ended");
        self.lost(number, graceful);
    }

    /// A connection of the peer was refused at its OPEN.
    pub(crate) fn refused(&mut self, candidates: &[usize]) {
        let idle_max = Duration::from_secs(self.config.idle_hold_max_s.max(1));
        for number in candidates {
            let entry = &mut self.peers[*number];
            if entry.live.is_none() {
                entry.idle_until =
                    Some(Instant::now() + Duration::from_secs(1 << entry.failures.min(16)).min(idle_max));
                entry.failures += 1;
            }
        }
    }

    fn lost(&mut self, number: usize, graceful: bool) {
        let stale_max = Duration::from_secs(u64::from(self.config.stale_max_s));
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
        entry.due.clear();
        entry.announced = 0;
        let mut events = Vec::new();
        let restart = live.remote.restart_time_s.filter(|_| graceful && !stale_max.is_zero());
        let Some(seconds) = restart else {
            entry.set_state(State::Idle);
            entry.converter.peer_down(&mut events);
            self.apply(events);
            return;
        };
        entry.set_state(State::Restarting);
        entry.converter.stale(&mut events);
        let long: Vec<(bgp::Family, Duration)> =
            live.remote.long_lived.iter().map(|(family, stale)| (*family, (*stale).min(stale_max))).collect();
        for (_, family) in FAMILIES {
            let is_long = long.iter().any(|(other, _)| *other == family);
            if !live.remote.restart_families.contains(&family) && !is_long {
                entry.converter.sweep(family, &mut events);
            }
        }
        let wait = Duration::from_secs(u64::from(seconds)).min(stale_max);
        entry.due.push((Instant::now() + wait, Due::RestartOver(long)));
        self.apply(events);
    }

    /// What time has come for.
    fn expire(&mut self) {
        let now = Instant::now();
        for number in 0..self.peers.len() {
            while let Some(at) = self.peers[number].due.iter().position(|(until, _)| *until <= now) {
                let (_, due) = self.peers[number].due.swap_remove(at);
                self.expire_one(number, due, now);
            }
        }
    }

    fn expire_one(&mut self, number: usize, due: Due, now: Instant) {
        let mut events = Vec::new();
        match due {
            Due::RestartOver(long) if !long.is_empty() => {
                // RFC 9494 4.3: the long time begins; what says that it is not to be kept goes.
                self.table.publish();
                let view = self.board.reader.view();
                let entry = &mut self.peers[number];
                for id in entry.converter.ids() {
                    let leaves = view.routes_of(id).filter(|(_, _, path, _)| path.communities.contains(&NO_LLGR));
                    let prefixes: Vec<_> = leaves.map(|(path_id, prefix, _, _)| (path_id, prefix)).collect();
                    if !prefixes.is_empty() {
                        events.push(RouteEvent::Withdraw { peer: id, prefixes });
                    }
                }
                for (_, family) in FAMILIES {
                    match long.iter().find(|(other, _)| *other == family) {
                        Some((_, stale)) => entry.due.push((now + *stale, Due::LongOver(family))),
                        None => entry.converter.sweep(family, &mut events),
                    }
                }
                tracing::info!(peer = %entry.plan.name, "bgp peer did not come back: its routes stay for their long time");
            }
            Due::LongOver(family) => {
                let entry = &mut self.peers[number];
                entry.converter.sweep(family, &mut events);
                if entry.due.is_empty() {
                    entry.give_up(&mut events);
                }
            }
            Due::RestartOver(_) => self.peers[number].give_up(&mut events),
            Due::Sweep(family) => self.peers[number].converter.sweep(family, &mut events),
        }
        self.apply(events);
    }

    /// True where the peer announced more than it may.
    pub(crate) fn routes(&mut self, number: usize, updates: u64, events: Vec<RouteEvent>) -> bool {
        let entry = &mut self.peers[number];
        entry.updates += updates;
        entry.metrics.updates.increment(updates);
        let lost = std::mem::take(&mut entry.converter.lost);
        if lost != Lost::default() {
            self.drops.lost(&lost);
        }
        if events.is_empty() {
            return false;
        }
        self.apply(events);
        let entry = &self.peers[number];
        let routes = entry.converter.ids().filter_map(|id| self.table.routes_of(id));
        routes.map(|(v4, v6)| u64::from(v4) + u64::from(v6)).sum::<u64>() > u64::from(entry.plan.template.routes_max)
    }

    /// RFC 7313 4: a refresh begins; one that has begun goes on.
    pub(crate) fn refresh_begins(&mut self, number: usize, family: bgp::Family, events: &mut Vec<RouteEvent>) {
        let entry = &mut self.peers[number];
        if !entry.due.iter().any(|(_, due)| *due == Due::Sweep(family)) {
            entry.due.push((Instant::now() + SWEEP_LIMIT, Due::Sweep(family)));
            entry.converter.stale_family(family, events);
        }
    }

    pub(crate) fn refresh_ends(&mut self, number: usize, family: bgp::Family, events: &mut Vec<RouteEvent>) {
        let entry = &mut self.peers[number];
        entry.due.retain(|(_, due)| *due != Due::Sweep(family));
        entry.converter.sweep(family, events);
    }

    pub(crate) fn announced(&mut self, number: usize, count: usize) {
        self.peers[number].announced = count;
    }

    pub(crate) fn faults(&self, faults: &[Fault]) {
        for fault in faults {
            match fault.class {
                Class::TreatAsWithdraw => self.drops.treated_as_withdraw.increment(1),
                Class::AttributeDiscard => self.drops.attribute_discard.increment(1),
                Class::FamilyDisable(_) => self.drops.family_disable.increment(1),
                Class::NlriDiscard => self.drops.nlri_discard.increment(1),
            }
        }
    }

    /// Prefixes with a route of a peer, IPv4 and IPv6.
    pub(crate) fn routes_of(&self, peer: PeerId) -> Option<(u32, u32)> {
        self.table.routes_of(peer)
    }

    pub(crate) fn apply(&mut self, events: Vec<RouteEvent>) {
        if events.is_empty() {
            return;
        }
        let batch = RouteBatch { generation: 0, events };
        self.table.apply(&batch);
        if !self.feeds.is_empty() {
            self.pending.extend(batch.events);
        }
    }

    /// What arrived is seen from now on, here and by the feeds; what is stale for too long goes.
    pub(crate) fn publish(&mut self) {
        self.expire();
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
        self.flush_graph();
        self.publish_status();
    }

    pub(crate) fn set_graph(&mut self, outbox: Outbox<GraphBatch>) {
        self.graph = Some(outbox);
    }

    /// Sends what link state says, while there is room.
    pub(crate) fn flush_graph(&mut self) {
        let Some(outbox) = &self.graph else {
            self.peers.iter_mut().for_each(|entry| drop(entry.converter.take_graph()));
            return;
        };
        if !self.graph_cleared {
            if outbox.offer(GraphBatch { events: vec![GraphEvent::Clear] }).is_err() {
                return;
            }
            self.graph_cleared = true;
        }
        for (number, entry) in self.peers.iter_mut().enumerate() {
            if self.graph_sending.contains(&number) {
                continue;
            }
            let events = entry.converter.take_graph();
            if events.is_empty() {
                continue;
            }
            if let Err(Full(batch)) = outbox.offer(GraphBatch { events })
                && !outbox.is_closed()
            {
                entry.converter.return_graph(batch.events);
                return;
            }
        }
    }

    /// More of link state than may wait: its session is to wait until the outbox has taken it.
    pub(crate) fn graph_overdue(&mut self, number: usize) -> Option<(Outbox<GraphBatch>, GraphBatch)> {
        self.flush_graph();
        let converter = &mut self.peers[number].converter;
        let outbox = self.graph.as_ref().filter(|_| converter.graph_waiting() > GRAPH_OBJECTS_MAX)?;
        self.graph_sending.insert(number);
        Some((outbox.clone(), GraphBatch { events: converter.take_graph() }))
    }

    fn publish_status(&mut self) {
        let view = self.board.reader.view();
        let routes: HashMap<PeerId, PeerRoutes<'_>> = view.peers().map(|routes| (routes.peer.id, routes)).collect();
        // Each is asked: asking takes the mark away.
        let changed = self.peers.iter_mut().filter_map(|entry| entry.converter.take_rules_changed().then_some(()));
        let rules_changed = changed.count() > 0;
        if rules_changed {
            let rules = self.peers.iter().flat_map(|entry| entry.converter.rules().status(&entry.plan.name));
            self.board.rules.store(Arc::new(rules.collect()));
        }
        let status = |entry: &PeerEntry| {
            let mut prefixes: HashMap<String, u32> = HashMap::new();
            let mut stale = false;
            let add = |prefixes: &mut HashMap<String, u32>, family: &str, count: u32| {
                *prefixes.entry(family.to_owned()).or_default() += count;
            };
            add(&mut prefixes, "ipv4-unicast", 0);
            add(&mut prefixes, "ipv6-unicast", 0);
            for table in entry.converter.ids().filter_map(|id| routes.get(&id)) {
                let names = match (table.peer.labelled, table.peer.vrf.is_empty()) {
                    (true, _) => ("ipv4-labelled", "ipv6-labelled"),
                    (false, true) => (Family::V4Unicast.text(), Family::V6Unicast.text()),
                    (false, false) => ("ipv4-vpn", "ipv6-vpn"),
                };
                add(&mut prefixes, names.0, table.v4);
                add(&mut prefixes, names.1, table.v6);
                stale |= table.stale;
            }
            let count = |family: &str| prefixes.get(family).copied().unwrap_or(0);
            entry.metrics.routes_v4.set(f64::from(count("ipv4-unicast")));
            entry.metrics.routes_v6.set(f64::from(count("ipv6-unicast")));
            PeerStatus {
                name: entry.plan.name.clone(),
                address: entry.plan.address.to_string(),
                source: "bgp".to_owned(),
                remote_as: live_as(entry),
                state: entry.state.text().to_owned(),
                since: entry.since,
                router_id: entry.bgp_id.map_or_else(String::new, |id| std::net::Ipv4Addr::from(id).to_string()),
                reflector: entry.plan.template.reflector,
                prefixes,
                updates: entry.updates,
                stale,
                rules: entry.converter.rules().len(),
                announced: entry.announced,
                last_error: entry.last_error.clone(),
            }
        };
        self.bmp.routers.set(self.guests.routers_connected() as f64);
        self.bmp.tables_now.set(self.guests.count(Way::Bmp) as f64);
        let sessions = self.peers.iter().map(status);
        self.board.peers.store(Arc::new(sessions.chain(self.guests.status(&routes)).collect()));
    }

    /// Asks peers of an address for all their routes again; `None` asks everyone. How many were asked.
    pub(crate) fn refresh(&self, address: Option<IpAddr>) -> usize {
        let asked = self.peers.iter().filter(|entry| address.is_none_or(|address| entry.plan.address == address));
        let live = asked.filter(|entry| entry.state == State::Established).filter_map(|entry| entry.live.as_ref());
        live.inspect(|live| live.control.order(Order::Refresh)).count()
    }
}

/// RFC 4271 4.5.
pub(crate) mod bgp_code {
    pub(crate) const HOLD_TIMER: u8 = 4;
    pub(crate) const STATE_MACHINE: u8 = 5;
    pub(crate) const CEASE: u8 = 6;
    /// RFC 4486 3.
    pub(crate) const REJECTED: u8 = 5;
    /// RFC 8538 3.
    pub(crate) const HARD_RESET: u8 = 9;
}

fn live_as(entry: &PeerEntry) -> u32 {
    entry.live.as_ref().map_or(entry.plan.template.remote_as, |live| live.remote.remote_as)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl PeerEntry {
    fn new(number: usize, plan: PeerPlan, imports: Arc<Imports>, rules_max: usize) -> Self {
        let metrics = PeerMetrics::new(&plan.name);
        metrics.established.set(0.0);
        Self {
            id: number as PeerId,
            plan,
            state: State::Idle,
            since: now_ms(),
            live: None,
            bgp_id: None,
            restored: false,
            due: Vec::new(),
            failures: 0,
            idle_until: None,
            established_at: None,
            converter: Converter::new(number as PeerId, imports, Vec::new(), rules_max),
            updates: 0,
            announced: 0,
            last_error: None,
            metrics,
        }
    }

    /// It did not come back.
    fn give_up(&mut self, events: &mut Vec<RouteEvent>) {
        self.due.clear();
        if self.live.is_none() {
            self.set_state(State::Idle);
        }
        self.converter.peer_down(events);
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.since = now_ms();
        }
    }
}
