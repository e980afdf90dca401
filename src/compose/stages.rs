//! The actors of a process, joined.
//!
//!   collector --FlowBatch--> enricher --rows--> store <--rollups-- aggregator <--rows-- enricher
//!       ^------------------------Commit----------'
//!   bgp, snmp, dnstap, engine, collector --TableUpdate--> hub --> tables, store, engine
//!   store --what it committed--> a copy, where af00 is another process

use std::collections::HashSet;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use benocs_collector as collector;
use benocs_engine as engine;
use benocs_link::{CopySink, Sinks, Wanted};
use benocs_model::address::Address;
use benocs_model::graph::{GraphBatch, GraphReader};
use benocs_model::message::{Commit, StoreInput, Stream};
use benocs_model::question::Ask;
use benocs_model::route::{Peer, RouteReader};
use benocs_model::tables::{TableUpdate, Tables};
use benocs_runtime::state::State;
use benocs_runtime::{Fatal, Handle, Outbox, Restart, Settings as WorkerSettings};
use benocs_store::{Publisher, Store, StoreReader};
use benocs_web::{Engines, Web};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::board::Board;
use super::hub::{Hub, onward};
use super::links::Links;
use super::status::{self, Exporters};
use crate::control::import::{BeginImport, Imports};
use crate::control::rib::RibFiles;
use crate::control::{Answers, GraphAnswer, RibAnswer, SqlAnswer};
use crate::settings::Settings;
use crate::when;

/// Commits that wait for the log; they are cumulative, so few are enough.
const COMMITS: usize = 64;
const TABLES: usize = 256;
const STORE: usize = 64;
/// Messages on their way into a copy; they hold whole files.
const COPY: usize = 4;
/// Batches of link state between speaker and engine.
const GRAPH: usize = 64;
/// RFC 3430 and RFC 1157: where agents listen.
const SNMP: u16 = 161;
const PEERS: Duration = Duration::from_secs(1);
/// Routes are published this often.
const ROUTES: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(20);
/// How long open requests of the page may take when it stops.
const WEB_STOP: Duration = Duration::from_secs(3);

pub type Drain = Box<dyn FnOnce(Duration) -> Pin<Box<dyn Future<Output = bool>>>>;

/// Everything that runs, upstream first.
pub struct Site {
    stages: Vec<(&'static str, Drain)>,
    answers: Answers,
    first_password: Option<String>,
    /// Their servers listen as long as this lives.
    _links: Links,
}

/// Passes commits on to every log and link of this process.
fn relay(committed: async_channel::Receiver<Commit>, sinks: Vec<Outbox<Commit>>) {
    tokio::spawn(async move {
        while let Ok(commit) = committed.recv().await {
            for sink in &sinks {
                // One that is gone has been drained.
                let _ = sink.send(commit.clone()).await;
            }
        }
    });
}

/// Lines of "number,name".
fn as_names(settings: &Settings) -> anyhow::Result<Option<Vec<(u32, String)>>> {
    let Some(file) = &settings.network.as_names_file else { return Ok(None) };
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let parse = |line: &str| {
        let (number, name) = line.split_once(',')?;
        let number = number.trim().trim_start_matches("AS").parse().ok()?;
        Some((number, name.trim().trim_matches('"').to_owned()))
    };
    Ok(Some(text.lines().filter_map(parse).collect()))
}

/// Puts a worker's handle among the stages.
pub fn stage<M: Send + 'static>(handle: Handle<M>) -> (&'static str, Drain) {
    (handle.name, Box::new(move |limit| Box::pin(handle.drain(limit))))
}

fn worker(name: &'static str, capacity: usize, restart: Restart) -> WorkerSettings {
    WorkerSettings { name, capacity, tick: TICK, restart }
}

/// What every part of a process is made with.
pub struct Base<'a> {
    pub roles: &'a [String],
    pub settings: &'a Settings,
    pub data: &'a Path,
    pub node: u16,
    pub state: &'a State,
    pub board: &'a Board,
    pub fatal: UnboundedSender<Fatal>,
}

impl Base<'_> {
    pub fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|name| name == role)
    }
}

impl Site {
    /// Parts that are not in this process are reached over links.
    pub async fn start(base: Base<'_>) -> anyhow::Result<Self> {
        let Base { settings, data, node, state, board, ref fatal, .. } = base;
        let links = Links::new(&base);
        let tables = Arc::new(Tables::default());
        let mut answers = Answers::default();
        // In the order in which they start: downstream first.
        let mut stages: Vec<(&'static str, Drain)> = Vec::new();
        // What storage has committed, on its way to the logs.
        let (committing, committed) = Outbox::<Commit>::channel(COMMITS);
        let mut commit_sinks = Vec::new();

        // storage00; af00 has a copy where that is another process.
        let mut wanted = Wanted::default();
        let mut reader = None;
        let mut local_rows = None;
        if base.has("storage00") {
            let store = Store::open(&super::store_path(data), settings.store.clone(), state, tables.clone())?;
            let (flows, rollups) = (store.cursors(Stream::Flows), store.cursors(Stream::Rollups));
            wanted = Wanted { flows, rollups };
            reader = Some(store.reader());
            if !base.has("af00") {
                stages.extend(links.to_front(Publisher::new(store.reader()))?);
            }
            let store = benocs_store::spawn(store, STORE, vec![committing.clone()], fatal.clone());
            local_rows = Some(store.outbox.clone());
            commit_sinks.extend(links.serve(
                "storage00",
                Sinks { store: local_rows.clone(), ..Sinks::default() },
                &wanted,
            )?);
            stages.push(stage(store));
        } else if base.has("af00") {
            let (copy, copied) = front_store(&base, &links, &tables)?;
            reader = Some(copied);
            stages.push(stage(copy));
        }

        // process01
        let mut local_joined = None;
        if base.has("process01") {
            let (rows, wanted) = match &local_rows {
                Some(rows) => (rows.clone(), wanted.clone()),
                None => links.to_storage("process01", vec![committing.clone()], &mut stages).await?,
            };
            let config = settings.aggregator.clone();
            let shape = worker("aggregator", config.mailbox_batches, Restart::Never);
            let from = wanted.rollups.clone();
            let aggregator = benocs_runtime::spawn(shape, fatal.clone(), move || {
                Ok(benocs_aggregator::Aggregator::new(config.clone(), from.clone(), rows.clone()))
            });
            local_joined = Some(aggregator.outbox.clone());
            commit_sinks.extend(links.serve(
                "process01",
                Sinks { joined: local_joined.clone(), ..Sinks::default() },
                &wanted,
            )?);
            stages.push(stage(aggregator));
        }

        // Tables of this process: small ones meet in the hub, large ones have one writer each.
        let (to_hub, hub_inbox) = Outbox::<Arc<TableUpdate>>::channel(TABLES);
        let mut onward_to = Vec::new();
        if let (Some(rows), true) = (&local_rows, base.has("process00")) {
            onward_to.push(onward(rows.clone(), StoreInput::Table));
        }
        let speaker_board = benocs_bgp::Board::new();
        let routes = speaker_board.table_reader();
        let names = if base.has("process00") || base.has("dns00") {
            Some(benocs_dnstap::spawn_replica(settings.dnstap.names.clone(), fatal.clone()))
        } else {
            None
        };
        let graph = engine::GraphNetwork::new();
        let engine = if base.has("ce00") {
            let config = engine_config(settings)?;
            let engine = benocs_engine::spawn(config, state.clone(), to_hub.clone(), graph.clone(), fatal.clone());
            onward_to.push(onward(engine.outbox.clone(), engine::Message::Table));
            Some(engine)
        } else {
            None
        };

        // process00
        let mut local_flows = None;
        let mut late_stages: Vec<(&'static str, Drain)> = Vec::new();
        if let (Some(names), true) = (&names, base.has("process00")) {
            let (rows, wanted) = match &local_rows {
                Some(rows) => (rows.clone(), wanted.clone()),
                None => {
                    let reached = links.to_storage("process00", vec![committing.clone()], &mut stages).await?;
                    onward_to.push(onward(reached.0.clone(), StoreInput::Table));
                    reached
                }
            };
            let joined = match &local_joined {
                Some(joined) => joined.clone(),
                None => links.to_aggregator(vec![committing.clone()], &mut stages)?,
            };
            let config = settings.enricher.clone();
            let shape = worker("enricher", config.mailbox_batches, Restart::Never);
            let (tables, readers) = (tables.clone(), (routes.clone(), names.reader.clone()));
            let enricher = benocs_runtime::spawn(shape, fatal.clone(), move || {
                let (routes, names) = readers.clone();
                Ok(benocs_enricher::Enricher::new(&config, tables.clone(), routes, names, rows.clone(), joined.clone()))
            });
            local_flows = Some(enricher.outbox.clone());
            stages.push(stage(enricher));
            let mut sinks = Sinks {
                flows: local_flows.clone(),
                names: Some(names.handle.outbox.clone()),
                tables: Some(to_hub.clone()),
                ..Sinks::default()
            };
            if !base.has("ce00") && links.serves("process00") {
                let reader = routes.clone();
                let shape = WorkerSettings { name: "routes", capacity: 64, tick: ROUTES, restart: Restart::Never };
                let replica = benocs_runtime::spawn(shape, fatal.clone(), move || {
                    Ok(benocs_bgp::RouteReplica::new(reader.clone()))
                });
                sinks.routes = Some(replica.outbox.clone());
                late_stages.push(stage(replica));
            }
            commit_sinks.extend(links.serve("process00", sinks, &wanted)?);
        }

        // netflow00
        let mut exporters = Exporters::default();
        let mut upstream: Vec<(&'static str, Drain)> = Vec::new();
        if base.has("netflow00") {
            let (commits, collector_commits) = Outbox::<Commit>::channel(COMMITS);
            commit_sinks.push(commits.clone());
            let remote = match &local_flows {
                Some(_) => None,
                None => Some(links.flows(&tables)?),
            };
            let flows = match (&local_flows, &remote) {
                (Some(flows), _) => flows.clone(),
                (None, Some(remote)) => remote.flows.clone(),
                (None, None) => anyhow::bail!("netflow00 has nowhere to send flows: set link.peer.process00"),
            };
            if let Some(remote) = &remote {
                onward_to.push(onward(remote.tables.clone(), |update| update));
            }
            let wiring = collector::Wiring {
                data: data.to_owned(),
                node,
                state: state.clone(),
                flows,
                tables: to_hub.clone(),
                commits: collector_commits,
            };
            let collector = collector::spawn(settings.collector(), wiring, fatal.clone());
            exporters = Exporters::watch(collector.outbox.clone());
            let retention_ms = i64::try_from(settings.store.retention_flows_s.saturating_mul(1000)).ok();
            answers.import = Some(Imports {
                begin: begin_import(collector.outbox.clone()),
                retention_ms: retention_ms.filter(|retention| base.has("storage00") && *retention > 0),
            });
            if let Some(remote) = remote {
                stages.push(remote.start(node, collector.outbox.clone(), vec![commits], fatal.clone())?);
            }
            upstream.push(stage(collector));
        }

        // ce00
        let mut snmp_status = None;
        if let Some(engine) = &engine {
            let mut outboxes = Vec::new();
            if !base.has("process00") {
                let link = links.routes(routes.clone(), &tables)?;
                outboxes.push(link.routes.clone());
                onward_to.push(onward(link.tables.clone(), |update| update));
                stages.push(link.start(fatal.clone())?);
            }
            let mut history = None;
            if settings.bgp.history.keep_h > 0 {
                let folder = data.join("history");
                let (writer, reader) = benocs_bgp::History::open(settings.bgp.history.clone(), &folder)?;
                let shape = WorkerSettings { name: "history", capacity: 256, tick: PEERS, restart: Restart::Never };
                let mut writer = Some(writer);
                let writer = benocs_runtime::spawn(shape, fatal.clone(), move || {
                    writer.take().ok_or_else(|| anyhow::anyhow!("the history is open already"))
                });
                outboxes.push(writer.outbox.clone());
                history = Some(writer);
                answers.history = Some(Arc::new(move |question| Ok(serde_json::to_value(reader.search(question)?)?)));
            }
            let (config, bgp_board) = (settings.bgp.clone(), speaker_board.clone());
            let (saved_routes, told_graph) = (data.join("routes"), tell_graph(engine.outbox.clone()));
            let shape = WorkerSettings { name: "bgp", capacity: 64, tick: ROUTES, restart: Restart::AtMost(5) };
            let speaker = benocs_runtime::spawn(shape, fatal.clone(), move || {
                let speaker = benocs_bgp::Speaker::new(config.clone(), outboxes.clone(), bgp_board.clone())?;
                Ok(speaker.saved_in(saved_routes.clone()).with_graph(told_graph.clone()))
            });
            let rules = speaker_board.clone();
            answers.flow_rules = Some(Arc::new(move || serde_json::to_value(&*rules.rules()).unwrap_or_default()));
            answers.rib_files = Some(rib_files(settings, speaker.outbox.clone(), routes.clone(), tables.clone())?);
            answers.rib = Some(rib(routes.clone(), tables.clone(), graph.reader()));
            answers.graph = Some(graph_answer(graph.reader(), tables.clone()));
            tell_peers(routes.clone(), engine.outbox.clone());
            let systems = engine.outbox.clone();
            let snmp = benocs_snmp::spawn(
                snmp_config(settings)?,
                benocs_snmp::Parts {
                    state: state.clone(),
                    tables: to_hub.clone(),
                    systems: Arc::new(move |system| {
                        let benocs_snmp::SystemInfo { address, name, vendor } = system;
                        systems.offer(engine::Message::System { address, name, vendor }).is_ok()
                    }),
                    fatal: fatal.clone(),
                },
            )?;
            snmp_status = Some(snmp.status.clone());
            onward_to.push(onward(snmp.handle.outbox.clone(), benocs_snmp::Message::Table));
            upstream.push(stage(speaker));
            upstream.extend(history.map(stage));
            upstream.push(stage(snmp.handle));
        }

        // dns00
        let mut dnstap_status = None;
        if let (Some(names), true) = (&names, base.has("dns00")) {
            let mut outboxes = vec![names.handle.outbox.clone()];
            if !base.has("process00") {
                let link = links.names(names.reader.clone(), &tables)?;
                outboxes.push(link.names.clone());
                onward_to.push(onward(link.tables.clone(), |update| update));
                stages.push(link.start(fatal.clone())?);
            }
            let dnstap = benocs_dnstap::spawn(
                settings.dnstap.clone(),
                benocs_dnstap::Parts {
                    state: state.clone(),
                    names: outboxes,
                    tables: to_hub.clone(),
                    fatal: fatal.clone(),
                },
            )?;
            dnstap_status = Some(dnstap.status.clone());
            upstream.push(stage(dnstap.handle));
        }

        if let Some(as_names) = as_names(settings)? {
            // The hub is not running yet: there is room for one.
            let _ = to_hub.offer(Arc::new(TableUpdate::AsNames(Arc::new(as_names))));
        }
        let mut hub = Some(Hub { tables: tables.clone(), onward: onward_to });
        let hub_shape = worker("hub", TABLES, Restart::Never);
        let hub = benocs_runtime::spawn_on(hub_shape, fatal.clone(), to_hub.clone(), hub_inbox, move || {
            hub.take().context("the hub is made once in a process")
        });
        relay(committed, commit_sinks);

        status::add(
            board,
            status::Sources {
                exporters: exporters.clone(),
                bgp: engine.is_some().then_some(speaker_board),
                snmp: snmp_status,
                dnstap: dnstap_status,
                names: names.as_ref().map(|names| Box::new(names.stats()) as _),
                store: reader.clone(),
                collects: base.has("netflow00"),
                front: (base.has("af00") && !base.has("storage00")).then(|| tables.clone()),
            },
        );
        let status = board.clone();
        answers.status = Some(Arc::new(move || status.status()));
        if base.has("netflow00") {
            answers.flows = Some(Arc::new(move || status::flows(&exporters)));
        }
        if let Some(reader) = &reader {
            answers.ask = Some(Arc::new(reader.clone()) as Arc<dyn Ask>);
            answers.sql = Some(sql(reader.clone()));
        }

        // af00
        let mut first_password = None;
        let mut ordered: Vec<(&'static str, Drain)> = Vec::new();
        if let (Some(reader), true) = (reader, base.has("af00")) {
            let (newest, status) = (reader.clone(), board.clone());
            let engines = Engines {
                ask: Arc::new(reader),
                tables: tables.clone(),
                status: Arc::new(move || status.status()),
                rib: answers.rib.clone(),
                history: answers.history.clone(),
                graph: answers.graph.clone(),
                flows: answers.flows.clone(),
                newest: Arc::new(move || newest.newest_ms()),
                runtime: tokio::runtime::Handle::current(),
            };
            let web = Web::start(settings.web.clone(), data, engines, state, fatal.clone())?;
            first_password = web.first_password().map(str::to_owned);
            answers.tokens = Some(web.tokens());
            ordered.push(("web", Box::new(move |limit| Box::pin(web.stop(limit.min(WEB_STOP))))));
        }

        // Drained upstream first: feeds, tables, then the flow path from its source to the store.
        ordered.extend(upstream);
        ordered.extend(engine.map(stage));
        ordered.push(stage(hub));
        ordered.extend(names.map(|names| stage(names.handle)));
        ordered.extend(late_stages);
        ordered.extend(stages.into_iter().rev());
        Ok(Self { stages: ordered, answers, first_password, _links: links })
    }

    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    pub fn first_password(&self) -> Option<&str> {
        self.first_password.as_deref()
    }

    /// Upstream first, under one deadline; the name of the first that was late.
    pub async fn drain(self, limit: Duration) -> Option<&'static str> {
        let deadline = Instant::now() + limit;
        let mut late = None;
        for (name, drain) in self.stages {
            let left = deadline.saturating_duration_since(Instant::now());
            if !drain(left).await {
                tracing::error!(actor = name, "did not drain in time");
                late = late.or(Some(name));
            }
        }
        late
    }
}

/// A copy of storage00's rollups and tables, which pushes them; nothing is asked for from here.
fn front_store(
    base: &Base<'_>,
    links: &Links,
    tables: &Arc<Tables>,
) -> anyhow::Result<(Handle<StoreInput>, StoreReader)> {
    let store =
        Store::open_copy(&super::store_path(base.data), base.settings.store.clone(), base.state, tables.clone())?;
    let reader = store.reader();
    let holds = store.holds().context("a copy knows its files")?;
    let copy = benocs_store::spawn(store, COPY, Vec::new(), base.fatal.clone());
    let sink = CopySink { outbox: copy.outbox.clone(), holds: Arc::new(move || holds.files()) };
    if links.serve("af00", Sinks { copy: Some(sink), ..Sinks::default() }, &Wanted::default())?.is_none() {
        tracing::warn!("nothing reaches this front end: set link.listen.af00, and link.peer.af00 where storage00 runs");
    }
    Ok((copy, reader))
}

fn begin_import(collector: Outbox<collector::Message>) -> BeginImport {
    Arc::new(move || {
        let collector = collector.clone();
        Box::pin(async move {
            let (reply, import) = oneshot::channel();
            collector.send(collector::Message::Import(reply)).await?;
            import.await.context("the collector has ended")?
        })
    })
}

/// What configuration says of exporters and interfaces, in the poller's words; secrets are read here.
fn snmp_config(settings: &Settings) -> anyhow::Result<benocs_snmp::Config> {
    let mut config = settings.snmp.clone();
    config.interfaces = settings.interface.clone();
    for exporter in &settings.exporter {
        let Some(file) = &exporter.snmp_community_file else { continue };
        config.targets.push(benocs_snmp::Target {
            address: exporter.address,
            port: exporter.snmp_port.unwrap_or(SNMP),
            name: exporter.name.clone(),
            community: benocs_snmp::Secret::new(crate::settings::secret(file)?),
        });
    }
    Ok(config)
}

fn engine_config(settings: &Settings) -> anyhow::Result<engine::Config> {
    let exporters = settings
        .exporter
        .iter()
        .map(|exporter| engine::Known { address: Address::from(exporter.address), name: exporter.name.clone() });
    let peers = settings.bgp.peer.iter().filter(|peer| peer.remote_as == settings.bgp.local_as).filter_map(|peer| {
        let name = (!peer.name.is_empty()).then(|| peer.name.clone());
        Some(engine::Known { address: Address::from(peer.address.parse::<std::net::IpAddr>().ok()?), name })
    });
    Ok(engine::Config {
        own_as: settings.own_as(),
        own_prefixes: settings.own_prefixes()?,
        known: peers.chain(exporters).collect(),
        graph_file: settings.engine.graph_file().map(Path::to_owned),
    })
}

/// Tells the engine of routers whose sessions came up: their BGP identifiers join addresses.
fn tell_peers(routes: RouteReader, engine: Outbox<engine::Message>) {
    tokio::spawn(async move {
        let mut told = HashSet::new();
        let mut every = tokio::time::interval(PEERS);
        while !engine.is_closed() {
            every.tick().await;
            let peers: Vec<Arc<Peer>> = routes.view().peers().map(|routes| routes.peer.clone()).collect();
            for peer in peers {
                let identity = (peer.address, peer.bgp_id);
                if !told.contains(&identity) && engine.offer(engine::Message::Peer(peer)).is_ok() {
                    told.insert(identity);
                }
            }
        }
    });
}

/// Link state on its way from the speaker to the engine.
fn tell_graph(engine: Outbox<engine::Message>) -> Outbox<GraphBatch> {
    let (outbox, inbox) = Outbox::<GraphBatch>::channel(GRAPH);
    tokio::spawn(async move {
        while let Ok(batch) = inbox.recv().await {
            if engine.send(engine::Message::Graph(batch)).await.is_err() {
                return;
            }
        }
    });
    outbox
}

/// `graph`: all of it, or a path between two routers.
fn graph_answer(graph: GraphReader, tables: Arc<Tables>) -> GraphAnswer {
    Arc::new(move |path: Option<(&str, &str)>| {
        let (graph, network) = (graph.graph(), tables.network.load());
        Ok(match path {
            Some((from, to)) => serde_json::to_value(engine::path::path_between(&graph, &network, from, to)?)?,
            None => serde_json::to_value(engine::path::view(&graph, &network))?,
        })
    })
}

/// `rib lookup`: the route's fields, where the traffic leaves, then every other candidate.
fn rib(routes: RouteReader, tables: Arc<Tables>, graph: GraphReader) -> RibAnswer {
    Arc::new(move |address: &str, router: Option<&str>, vrf: Option<&str>| {
        let address: std::net::IpAddr =
            address.parse().map_err(|_| anyhow::anyhow!("{address:?} is not an address, as in 192.0.2.1"))?;
        let (view, network, vrf) = (routes.view(), tables.network.load(), vrf.unwrap_or_default());
        let answer = benocs_bgp::rib_lookup_in(&view, &network, address.into(), router, vrf)?;
        let mut value = serde_json::to_value(&answer)?;
        // Whoever asks finds the field, also where nobody has a route.
        if let Some(fields) = value.as_object_mut() {
            fields.entry("prefix").or_insert(Value::Null);
        }
        // A VRF's next hops are in it, and the graph is the network's own.
        let route = answer.route.as_ref().filter(|_| vrf.is_empty());
        if let Some(next_hop) = route.and_then(|route| route.next_hop.parse::<std::net::IpAddr>().ok()) {
            let graph = graph.graph();
            let egress = engine::path::egress(&view, &network, &graph, router, address.into(), next_hop.into());
            if let (Some(fields), Value::Object(more)) = (value.as_object_mut(), serde_json::to_value(egress)?) {
                fields.extend(more);
            }
        }
        Ok(value)
    })
}

fn rib_files(
    settings: &Settings,
    speaker: Outbox<benocs_bgp::SpeakerMessage>,
    routes: RouteReader,
    tables: Arc<Tables>,
) -> anyhow::Result<RibFiles> {
    let id: std::net::Ipv4Addr = settings.bgp.router_id.parse().context("bgp.router_id")?;
    Ok(RibFiles {
        import: Arc::new(move |name, next| benocs_bgp::import_mrt(name, &speaker, next)),
        dump: Arc::new(move |router, write| {
            let time_s = u32::try_from(when::now_ms() / 1000).unwrap_or(u32::MAX);
            benocs_bgp::dump_mrt(&routes.view(), &tables.network.load(), router, id.octets(), time_s, write)
        }),
    })
}

fn sql(reader: StoreReader) -> SqlAnswer {
    Arc::new(move |statement: String| {
        let reader = reader.clone();
        Box::pin(async move {
            let batches = reader.sql(&statement).await?;
            let mut writer = arrow_json::ArrayWriter::new(Vec::new());
            for batch in &batches {
                writer.write(batch)?;
            }
            writer.finish()?;
            let text = writer.into_inner();
            Ok(if text.is_empty() { Value::Array(Vec::new()) } else { serde_json::from_slice(&text)? })
        })
    })
}
