//! The engine's worker.
//!
//!   hub (1)         --Table(Exporters, Interfaces)--> [engine] --TableUpdate::Network--> hub (1)
//!   BGP speaker (1) --Peer-->                            |
//!   SNMP poller (1) --System-->                          +--> state (ids)

use std::sync::Arc;
use std::time::Duration;

use benocs_model::address::Address;
use benocs_model::network::{Neighbour, Network};
use benocs_model::route::{Peer, RibView};
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::{State, Tree};
use benocs_runtime::{Context, Fatal, Handle, Outbox, Restart, Settings, Worker};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::Config;
use crate::routers::{Entry, NameSource, Routers};

/// Changes are gathered this long before they are published.
const TICK: Duration = Duration::from_millis(200);
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
}

/// Starts the worker; after a panic it is rebuilt from what it keeps.
pub fn spawn(
    config: Config,
    state: State,
    network: Outbox<Arc<TableUpdate>>,
    fatal: UnboundedSender<Fatal>,
) -> Handle<Message> {
    let settings = Settings { name: "engine", capacity: MAILBOX, tick: TICK, restart: Restart::AtMost(5) };
    benocs_runtime::spawn(settings, fatal, move || Engine::new(config.clone(), &state, network.clone()))
}

impl Engine {
    pub fn new(config: Config, state: &State, network: Outbox<Arc<TableUpdate>>) -> anyhow::Result<Self> {
        let tree = state.tree("routers")?;
        let mut routers = Routers::restore(tree.entries::<Entry>().map(|(_, entry)| entry));
        for known in &config.known {
            match &known.name {
                Some(name) => routers.name(known.address, name, NameSource::Configuration),
                None => drop(routers.identify(known.address)),
            }
        }
        Ok(Self {
            config,
            routers,
            neighbours: Vec::new(),
            tree,
            network,
            published: Network::default(),
            changed: true,
        })
    }

    fn publish(&mut self) -> anyhow::Result<()> {
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
        self.publish()
    }

    fn handle(&mut self, message: Message, _: &mut Context<Self>) -> anyhow::Result<()> {
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
            Message::System { address, name, vendor } => {
                self.routers.name(address, &name, NameSource::SysName);
                self.routers.describe(address, vendor);
            }
        }
        self.changed = true;
        Ok(())
    }

    fn tick(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        if self.changed { self.publish() } else { Ok(()) }
    }

    fn drain(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        self.publish()
    }
}
