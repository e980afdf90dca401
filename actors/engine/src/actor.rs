//! The engine's worker.
//!
//!   hub (1)         --Table(Exporters, Interfaces)--> [engine] --TableUpdate::Network--> hub (1)
//!   BGP speaker (1) --Peer, Graph-->                     +--> Graph: readers (n)
//!   SNMP poller (1) --System-->                          +--> state (ids)

use std::sync::Arc;
use std::time::{Duration, Instant};

use benocs_model::address::Address;
use benocs_model::graph::{Graph, GraphBatch};
use benocs_model::network::{Neighbour, Network};
use benocs_model::route::{Peer, RibView};
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::{State, Tree};
use benocs_runtime::{Context, Fatal, Handle, Outbox, Restart, Settings, Worker};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::Config;
use crate::graph;
use crate::routers::{Entry, NameSource, Routers};

/// Changes of routers are gathered this long before they are published, those of the graph at most for a tick.
const ROUTERS_EVERY: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(20);
const MAILBOX: usize = 256;

#[derive(Clone, Debug)]
pub enum Message {
    Table(Arc<TableUpdate>),
    /// A BGP session came up.
    Peer(Arc<Peer>),
    /// What a router says of itself.
    System {
        address: Address,
        name: String,
        vendor: Option<String>,
    },
    /// What BGP-LS says.
    Graph(GraphBatch),
}

#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Status {
    pub routers: usize,
    pub neighbours: usize,
}

pub struct Engine {
    config: Config,
    routers: Routers,
    neighbours: Vec<Neighbour>,
    tree: Tree,
    network: Outbox<Arc<TableUpdate>>,
    published: Network,
    changed: bool,
    due: Instant,
    graph: graph::Network,
    file: graph::Watch,
}

/// Starts the worker; after a panic it is rebuilt from what it keeps.
pub fn spawn(
    config: Config,
    state: State,
    network: Outbox<Arc<TableUpdate>>,
    graph: graph::Network,
    fatal: UnboundedSender<Fatal>,
) -> Handle<Message> {
    let settings = Settings { name: "engine", capacity: MAILBOX, tick: TICK, restart: Restart::AtMost(5) };
    benocs_runtime::spawn(settings, fatal, move || Engine::new(config.clone(), &state, network.clone(), graph.clone()))
}

impl Engine {
    pub fn new(
        config: Config,
        state: &State,
        network: Outbox<Arc<TableUpdate>>,
        graph: graph::Network,
    ) -> anyhow::Result<Self> {
        let tree = state.tree("routers")?;
        let mut routers = Routers::restore(tree.entries::<Entry>().map(|(_, entry)| entry));
        for known in &config.known {
            match &known.name {
                Some(name) => routers.name(known.address, name, NameSource::Configuration),
                None => drop(routers.identify(known.address)),
            }
        }
        Ok(Self {
            file: graph::Watch::new(config.graph_file.clone()),
            config,
            routers,
            neighbours: Vec::new(),
            tree,
            network,
            published: Network::default(),
            changed: true,
            due: Instant::now(),
            graph,
        })
    }

    /// Nodes of the graph are routers that are known: by an address of theirs, else by their name.
    fn join_graph(&mut self, graph: &Graph) {
        let found: Vec<(Address, Vec<Address>, Option<String>)> = self
            .routers
            .entries()
            .filter_map(|entry| {
                let addresses = || entry.identities.iter().chain(&entry.interfaces);
                let by_address = addresses().find_map(|address| graph.router_at(*address));
                let node = graph.node(by_address.or_else(|| graph.node_named(&entry.name))?)?;
                let one = *entry.identities.first()?;
                Some((one, node.facts.router_ids.clone(), node.facts.name.clone()))
            })
            .collect();
        for (one, router_ids, name) in found {
            self.routers.joins_node(one, &router_ids, name.as_deref());
        }
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        let graph = self.graph.reader().graph();
        self.join_graph(&graph);

        let next = Network {
            generation: self.published.generation,
            own_as: self.config.own_as.clone(),
            own_prefixes: self.config.own_prefixes.clone(),
            routers: self.routers.table(),
            neighbours: self.neighbours.clone(),
        };
        let same = next.routers == self.published.routers && next.neighbours == self.published.neighbours;
        if same && self.published.generation > 0 {
            self.changed = false;
            return Ok(());
        }
        // Replicas keep what is newer: after a restart too.
        let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
        let network = Network { generation: (now_ms as u64).max(self.published.generation + 1), ..next };
        if self.network.offer(Arc::new(TableUpdate::Network(Arc::new(network.clone())))).is_err() {
            // The hub is busy; the next tick says it.
            return Ok(());
        }
        for entry in self.routers.entries() {
            self.tree.put(&entry.id.to_be_bytes(), entry)?;
        }
        // Routers that turned out to be another one.
        for gone in self.published.routers.iter().filter(|old| !network.routers.iter().any(|new| new.id == old.id)) {
            self.tree.remove(&gone.id.to_be_bytes())?;
        }
        self.published = network;
        self.changed = false;
        Ok(())
    }
}

impl Worker for Engine {
    type Message = Message;

    fn start(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        if let Some(batch) = self.file.first()? {
            self.graph.apply(batch);
        }
        self.graph.publish();
        self.publish()
    }

    fn handle(&mut self, message: Message, context: &mut Context<Self>) -> anyhow::Result<()> {
        match message {
            Message::Table(update) => match &*update {
                TableUpdate::Exporters(table) => {
                    for exporter in &table.rows {
                        match &exporter.name {
                            Some(name) => self.routers.name(exporter.address, name, NameSource::Configuration),
                            None => drop(self.routers.identify(exporter.address)),
                        }
                    }
                }
                TableUpdate::Interfaces(table) => {
                    let current = || table.rows.iter().filter(|interface| interface.valid_to.is_none());
                    let mut exporters: Vec<Address> = current().map(|interface| interface.exporter).collect();
                    exporters.sort_unstable();
                    exporters.dedup();
                    for exporter in exporters {
                        let own = current().filter(|interface| interface.exporter == exporter);
                        let addresses =
                            own.flat_map(|interface| interface.addresses.iter().map(|(address, _)| *address));
                        self.routers.interfaces(exporter, addresses);
                    }
                    self.neighbours = current()
                        .filter_map(|interface| {
                            let remote_as = interface.remote_as?;
                            Some(Neighbour { exporter: interface.exporter, if_index: interface.if_index, remote_as })
                        })
                        .collect();
                }
                _ => return Ok(()),
            },
            Message::Peer(peer) => {
                // A neighbour's router is not one of ours.
                if peer.remote_as == peer.local_as && matches!(peer.view, RibView::Session | RibView::LocRib) {
                    self.routers.join(peer.address, Address::from_v4(peer.bgp_id));
                }
            }
            Message::Graph(batch) => {
                self.graph.apply(batch);
                // What comes alone is seen at once; what comes in a row, at the tick.
                if context.outbox().is_empty() && self.graph.publish_due() {
                    self.changed = true;
                }
                return Ok(());
            }
            Message::System { address, name, vendor } => {
                self.routers.name(address, &name, NameSource::SysName);
                self.routers.describe(address, vendor);
            }
        }
        self.changed = true;
        Ok(())
    }

    fn tick(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        if let Some(batch) = self.file.again() {
            self.graph.apply(batch);
        }
        if self.graph.publish_due() {
            self.changed = true;
        }
        if !self.changed || Instant::now() < self.due {
            return Ok(());
        }
        self.due = Instant::now() + ROUTERS_EVERY;
        self.publish()
    }

    fn drain(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        self.publish()
    }
}
