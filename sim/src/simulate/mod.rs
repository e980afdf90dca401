//! A simulated internet provider: one model, every feed, and the truth.
//!
//!   [`network`] + [`rib`] + [`services`]     who is connected where, and what each router would do
//!        |
//!   [`traffic`] --flows--> [`export`] (per router)  --NetFlow, IPFIX, sFlow-->  collector
//!        |                 [`agent`]  (per router)  <--SNMP-------------------  poller
//!        |                 [`session`](per router)  --iBGP------------------->  speaker
//!        |                                          --BGP-LS of [`igp`]----->
//!        |--lookups------> [`tap`]                  --dnstap----------------->  receiver
//!        '--each bit once-> [`truth`]               --JSON lines
//!
//! Everything follows from the seed and the moment when time begins.

pub mod agent;
pub mod engine;
pub mod export;
pub mod fault;
pub mod igp;
pub mod network;
pub mod plan;
pub mod rib;
pub mod services;
pub mod session;
pub mod tap;
pub mod traffic;
pub mod truth;

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use benocs_sys::UdpSender;
use serde::Serialize;

use crate::as_table::AsTable;
use crate::{Stop, source};
use engine::{Engine, Second};
use export::{Output, Port};
use fault::Fault;
use network::{Network, RouterId};
use rib::Rib;
use services::Services;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// 10 routers.
    #[default]
    Small,
    /// 30 routers.
    Medium,
    /// 100 routers.
    Large,
}

impl std::str::FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "small" => Ok(Self::Small),
            "medium" => Ok(Self::Medium),
            "large" => Ok(Self::Large),
            _ => Err(format!("unknown scale {text}: small, medium or large")),
        }
    }
}

impl Scale {
    /// Conversations a second at the day's peak; each is two flows, each seen by two to four routers.
    fn conversations_per_s(self) -> f64 {
        match self {
            Scale::Small => 40.0,
            Scale::Medium => 300.0,
            Scale::Large => 2_000.0,
        }
    }

    fn prefixes_max(self) -> usize {
        match self {
            Scale::Small => 5_000,
            Scale::Medium => 50_000,
            Scale::Large => 400_000,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    pub scale: Scale,
    /// Own AS of the provider.
    pub own_as: u32,
    /// Files of `@ip-location-db/asn`; without them the small table that is built in.
    pub as_table: Option<PathBuf>,
    /// host:port of the flow collector; `None` sends no flows.
    pub collector: Option<String>,
    /// host:port for sFlow; `None` is the flow collector.
    pub sflow: Option<String>,
    /// host:port of the BGP speaker that sessions are opened to.
    pub bgp: Option<String>,
    /// host:port of the dnstap receiver.
    pub dnstap: Option<String>,
    /// Frames are written to this file as well.
    pub dnstap_file: Option<PathBuf>,
    /// UDP port of the agents, on each router's address.
    pub snmp_port: Option<u16>,
    pub snmp_community: String,
    /// 1 in so many packets; 1 is all of them.
    pub sampling: u32,
    /// At the day's peak; `None` is by scale.
    pub conversations_per_s: Option<f64>,
    /// Flows of so many seconds before now are sent first, faster than they flowed.
    pub backfill_s: u64,
    /// Records a second of that.
    pub backfill_records_per_s: u64,
    /// Real time after that; `None` is until stopped.
    pub duration_s: Option<u64>,
    /// Flows wait at most so long for sessions to be complete and interfaces to be read.
    pub warm_up_s: u64,
    /// JSON lines; see [`truth`].
    pub truth: Option<PathBuf>,
    /// JSON of the IGP's graph; see [`igp`].
    pub graph: Option<PathBuf>,
    /// Nodes that are in the IGP alone.
    pub igp_nodes: usize,
    pub faults: Vec<Fault>,
    /// One vendor's first data goes out before its template.
    pub templates_late: bool,
    /// Moment when real time begins, Unix ms; `None` is now. For tests.
    pub start_ms: Option<i64>,
    pub stop: Stop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            scale: Scale::default(),
            own_as: 64_500,
            as_table: None,
            collector: Some("127.0.0.1:2055".to_owned()),
            sflow: None,
            bgp: Some("127.0.0.1:179".to_owned()),
            dnstap: Some("127.0.0.1:5453".to_owned()),
            dnstap_file: None,
            snmp_port: Some(1161),
            snmp_community: "public".to_owned(),
            sampling: 1,
            conversations_per_s: None,
            backfill_s: 0,
            backfill_records_per_s: 30_000,
            duration_s: None,
            warm_up_s: 30,
            truth: None,
            graph: None,
            igp_nodes: 0,
            faults: Vec::new(),
            templates_late: true,
            start_ms: None,
            stop: Stop::default(),
        }
    }
}

/// Who is there and what they would do; does not change while it runs.
#[derive(Clone, Debug)]
pub struct Model {
    pub network: Network,
    pub rib: Rib,
    pub services: Services,
    /// Nodes that are in the IGP alone.
    pub igp_nodes: usize,
}

impl Model {
    pub fn build(config: &Config) -> anyhow::Result<Self> {
        let table = match &config.as_table {
            Some(path) => AsTable::read(path, config.scale.prefixes_max())?,
            None => AsTable::embedded()?,
        };
        let network = Network::build(config.seed, config.scale, config.own_as, &table);
        let rib = Rib::build(&network);
        let services = Services::build(&network)?;
        Ok(Self { network, rib, services, igp_nodes: config.igp_nodes })
    }

    /// Prefixes that each router announces: IPv4, IPv6.
    pub fn routes(&self) -> (usize, usize) {
        let groups = &self.network.groups;
        (groups.iter().map(|group| group.v4.len()).sum(), groups.iter().map(|group| group.v6.len()).sum())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub routers: u64,
    /// Prefixes each router announces.
    pub routes: u64,
    pub bgp_sessions: u64,
    /// Nodes, links and prefixes told over BGP-LS, of all sessions.
    pub link_states: u64,
    pub conversations: u64,
    pub lookups: u64,
    pub dnstap_frames: u64,
    pub dnstap_dropped: u64,
    pub datagrams: u64,
    /// Flow records and sFlow samples that were sent, all sightings.
    pub records: u64,
    pub octets: u64,
    /// Each bit once: what really flowed.
    pub truth: truth::Sums,
    pub seconds: f64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} conversations, {} records in {} datagrams of {} routers, {} answers in {:.1} s; truth: {} octets, {} packets, {} flows",
            self.conversations,
            self.records,
            self.datagrams,
            self.routers,
            self.lookups,
            self.seconds,
            self.truth.octets,
            self.truth.packets,
            self.truth.flows
        )
    }
}

/// Configuration of the product that fits the simulated network.
pub fn print_config(config: &Config, community_file: &Path) -> anyhow::Result<String> {
    plan::print(config, &Model::build(config)?, community_file)
}

/// Blocks until the duration is over, or until stopped.
pub fn run(config: Config) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let model = Arc::new(Model::build(&config)?);
    write_graph(&config, &model)?;
    let routers = model.network.routers.len();
    let mut senders = match &config.collector {
        Some(collector) => Some(Senders::new(&model.network, collector, config.sflow.as_deref().unwrap_or(collector))?),
        None => None,
    };
    let bgp = config.bgp.as_deref().map(source::resolve).transpose()?;
    let dnstap = config.dnstap.as_deref().map(source::resolve).transpose()?;
    let counters: Arc<Vec<agent::Counters>> =
        Arc::new(model.network.interfaces.iter().map(|_| Default::default()).collect());
    let agent_states: Vec<Arc<agent::State>> = (0..routers).map(|_| Arc::default()).collect();
    let session_states: Vec<Arc<session::State>> = (0..routers).map(|_| Arc::default()).collect();
    for (router, state) in agent_states.iter().enumerate() {
        state.boot_ms.store(engine::boot_ms(now_ms()?, router), Ordering::Relaxed);
    }

    // Agents first, then sessions, then names, then flows: what is needed to judge a flow precedes it.
    let feeds = Stop::default();
    let runtime = match config.snmp_port {
        Some(port) => Some(start_agents(&model, port, &config.snmp_community, &agent_states, &counters)?),
        None => None,
    };
    let mut sessions = Vec::new();
    for (router, state) in session_states.iter().enumerate() {
        let Some(to) = bgp else { break };
        let (model, state, stop) = (model.clone(), state.clone(), feeds.clone());
        let thread = std::thread::Builder::new()
            .name(format!("sim-bgp-{router}"))
            .stack_size(512 << 10)
            .spawn(move || session::run(&model, router, to, &state, &stop))?;
        sessions.push(thread);
    }
    let mut tap = tap::Tap::open(dnstap, config.dnstap_file.as_deref(), &feeds)?;
    let outcome = (|| {
        let polled = config.snmp_port.is_some();
        warm_up(&config, bgp.is_some(), polled, &session_states, &agent_states);
        let start_ms = match config.start_ms {
            Some(start_ms) => start_ms,
            None => now_ms()?,
        };
        let shared = engine::Shared { counters, agents: agent_states.clone(), sessions: session_states.clone() };
        let mut engine = Engine::new(&config, model.clone(), shared, start_ms)?;
        let mut report = Report::default();
        drive(&config, &mut engine, &mut senders, &mut tap, &mut report)?;
        if bgp.is_some() && senders.is_some() {
            // The last flows are still being joined with the routes.
            config.stop.wait_until(Instant::now() + 2 * SETTLE);
        }
        anyhow::Ok((engine, report))
    })();
    feeds.stop();
    let counts = tap.counts.clone();
    let closed = tap.close();
    for session in sessions {
        anyhow::ensure!(session.join().is_ok(), "a BGP session's thread panicked");
    }
    if let Some(runtime) = runtime {
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
    let (engine, mut report) = outcome?;
    closed?;
    report.routers = routers as u64;
    let (v4, v6) = model.routes();
    report.routes = (v4 + v6) as u64;
    report.bgp_sessions = session_states.iter().map(|state| state.sessions.load(Ordering::Relaxed)).sum();
    report.link_states = session_states.iter().map(|state| state.link_states.load(Ordering::Relaxed)).sum();
    report.conversations = engine.conversations;
    report.lookups = engine.lookups;
    report.dnstap_frames = counts.sent.load(Ordering::Relaxed);
    report.dnstap_dropped = counts.dropped.load(Ordering::Relaxed);
    report.truth = engine.truth.totals;
    report.seconds = begun.elapsed().as_secs_f64();
    write_truth(&config, &engine, &model)?;
    Ok(report)
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_millis() as i64)
}

fn start_agents(
    model: &Arc<Model>,
    port: u16,
    community: &str,
    states: &[Arc<agent::State>],
    counters: &Arc<Vec<agent::Counters>>,
) -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("sim-snmp").enable_all().build()?;
    for (router, state) in states.iter().enumerate() {
        let start = agent::start(model.clone(), router, port, community, state.clone(), counters.clone());
        let agent = runtime.block_on(start)?;
        runtime.spawn(async move {
            if let Err(error) = agent.run().await {
                tracing::warn!(%error, "an SNMP agent ended");
            }
        });
    }
    Ok(runtime)
}

/// Waits until every session is complete and every agent was read, as far as they are wanted.
fn warm_up(config: &Config, bgp: bool, snmp: bool, sessions: &[Arc<session::State>], agents: &[Arc<agent::State>]) {
    let deadline = Instant::now() + Duration::from_secs(config.warm_up_s);
    let ready = || {
        (!bgp || sessions.iter().all(|state| state.complete.load(Ordering::Relaxed)))
            && (!snmp || agents.iter().all(|state| state.polled.load(Ordering::Relaxed)))
    };
    while !ready() && Instant::now() < deadline {
        if !config.stop.wait_until(Instant::now() + Duration::from_millis(100)) {
            return;
        }
    }
    if !ready() {
        let down = sessions.iter().filter(|state| bgp && !state.complete.load(Ordering::Relaxed)).count();
        let unread = agents.iter().filter(|state| snmp && !state.polled.load(Ordering::Relaxed)).count();
        tracing::warn!(sessions_down = down, agents_unread = unread, "flows begin though not everything is ready");
    } else if bgp || snmp {
        // What arrived has to be published before flows are joined with it.
        config.stop.wait_until(Instant::now() + SETTLE.min(Duration::from_secs(config.warm_up_s)));
    }
}

const SETTLE: Duration = Duration::from_secs(2);

/// First the past at its rate, then real time.
fn drive(
    config: &Config,
    engine: &mut Engine,
    senders: &mut Option<Senders>,
    tap: &mut tap::Tap,
    report: &mut Report,
) -> anyhow::Result<()> {
    let prime = engine.prime();
    deliver(prime, senders, tap, report)?;
    let first_ms = engine.start_ms - config.backfill_s as i64 * 1000;
    if senders.is_some() && (config.backfill_s > 0 || config.duration_s != Some(0)) && config.start_ms.is_none() {
        // Every router has exported something, and that is known, before it is asked who exports what.
        config.stop.wait_until(Instant::now() + SETTLE);
    }
    let begun = Instant::now();
    let already = report.records;
    let mut second = first_ms;
    while second < engine.start_ms && !config.stop.is_stopped() {
        let due = begun
            + Duration::from_secs_f64((report.records - already) as f64 / config.backfill_records_per_s.max(1) as f64);
        if !config.stop.wait_until(due) {
            break;
        }
        deliver(engine.second(second, false), senders, tap, report)?;
        second += 1000;
        if config.start_ms.is_none() && config.duration_s != Some(0) {
            // The past goes on growing while it is told.
            let now = now_ms()?;
            engine.start_ms = engine.start_ms.max(now - now.rem_euclid(1000));
        }
    }
    let end_ms = config.duration_s.map(|seconds| engine.start_ms + seconds as i64 * 1000);
    engine.live_from(engine.start_ms);
    let wall_zero = Instant::now();
    let zero_ms = second;
    let mut written = Instant::now();
    while end_ms.is_none_or(|end_ms| second < end_ms) && !config.stop.is_stopped() {
        let due = match config.start_ms {
            // By the clock, so that seconds begin where they do.
            None => Instant::now() + Duration::from_millis((second - now_ms()?).max(0) as u64),
            Some(_) => wall_zero + Duration::from_millis((second - zero_ms).max(0) as u64),
        };
        if !config.stop.wait_until(due) {
            break;
        }
        deliver(engine.second(second, true), senders, tap, report)?;
        second += 1000;
        if written.elapsed() > Duration::from_secs(60) {
            written = Instant::now();
            write_truth(config, engine, &engine.model)?;
        }
    }
    deliver(engine.finish(second), senders, tap, report)
}

/// Names before flows; where entering traffic is seen before everything else.
fn deliver(
    second: Second,
    senders: &mut Option<Senders>,
    tap: &mut tap::Tap,
    report: &mut Report,
) -> anyhow::Result<()> {
    for frame in &second.frames {
        tap.send(frame)?;
    }
    if let Some(senders) = senders {
        senders.send(&second.outputs, report)?;
    }
    Ok(())
}

fn write_truth(config: &Config, engine: &Engine, model: &Model) -> anyhow::Result<()> {
    let Some(path) = &config.truth else { return Ok(()) };
    write_whole(path, |out| engine.truth.write(out, &model.network, &model.services))
}

/// The IGP's graph, where a file is given for it.
pub fn write_graph(config: &Config, model: &Model) -> anyhow::Result<()> {
    let Some(path) = &config.graph else { return Ok(()) };
    write_whole(path, |out| Ok(serde_json::to_writer(out, &igp::Graph::of(&model.network, model.igp_nodes))?))
}

/// Replaces the file whole, so that a reader never sees half of it.
fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let temporary = path.with_extension("partial");
    let file = std::fs::File::create(&temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.flush()?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

/// A socket for each router.
struct Senders {
    sockets: HashMap<RouterId, UdpSender>,
    flows: SocketAddr,
    sflow: SocketAddr,
}

/// Datagrams that may follow each other at once; a receiver's buffer takes more.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);

impl Senders {
    fn new(network: &Network, flows: &str, sflow: &str) -> anyhow::Result<Self> {
        let (flows, sflow) = (source::resolve(flows)?, source::resolve(sflow)?);
        let mut sockets = HashMap::new();
        for (id, router) in network.routers.iter().enumerate() {
            let loopback = flows.is_ipv4() && flows.ip().is_loopback();
            let ip = if loopback { IpAddr::V4(router.address) } else { source::unspecified(flows) };
            let socket = UdpSender::bind(SocketAddr::new(ip, 0)).with_context(|| format!("cannot send from {ip}"))?;
            sockets.insert(id, socket);
        }
        Ok(Self { sockets, flows, sflow })
    }

    fn send(&mut self, outputs: &[Output], report: &mut Report) -> anyhow::Result<()> {
        for (nth, output) in outputs.iter().enumerate() {
            if nth % BURST == BURST - 1 {
                std::thread::sleep(PAUSE);
            }
            let to = match output.port {
                Port::Flows => self.flows,
                Port::Sflow => self.sflow,
            };
            if let Some(socket) = self.sockets.get_mut(&output.router) {
                socket.send(&[&output.octets], to).with_context(|| format!("cannot send to {to}"))?;
            }
            report.datagrams += 1;
            report.records += u64::from(output.records);
            report.octets += output.octets.len() as u64;
        }
        Ok(())
    }
}
