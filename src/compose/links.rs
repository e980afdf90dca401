//! Links: what is not in this process is reached over mutual TLS, each role with
//! its own certificate.
//!
//!   netflow00 --flows, tables--> process00 --joined--> process01 --rollups--> storage00
//!   ce00 --routes, tables-->        |-------------------joined rows, tables-->
//!   dns00 --names, tables-->        (commits flow back on the same streams)
//!   storage00 --what it committed--> af00, which connects to nobody

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use anyhow::Context as _;
use benocs_collector as collector;
use benocs_link::{
    Allow, Client, ClientHandle, Identity, Kind, Message, Server, ServerHandle, Sinks, Snapshot, Wanted,
};
use benocs_model::message::{Commit, Cursors, FlowBatch, StoreInput};
use benocs_model::names::{NameBatch, NameReader};
use benocs_model::route::{RouteBatch, RouteReader};
use benocs_model::tables::{TableUpdate, Tables};
use benocs_runtime::{Fatal, Outbox};
use benocs_store::Publisher;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::stages::{Base, Drain};
use crate::settings::Link;

/// Which role may send which kinds to which: the arrows above.
const ROWS: &[(&str, &str, &[Kind])] = &[
    ("netflow00", "process00", &[Kind::Flows, Kind::Tables]),
    ("ce00", "process00", &[Kind::Routes, Kind::Tables]),
    ("dns00", "process00", &[Kind::Names, Kind::Tables]),
    ("process00", "process01", &[Kind::Joined]),
    ("process00", "storage00", &[Kind::Store]),
    ("process01", "storage00", &[Kind::Store]),
    ("storage00", "af00", &[Kind::Copy]),
];

pub struct Links {
    settings: Link,
    fatal: UnboundedSender<Fatal>,
    servers: Mutex<Vec<ServerHandle>>,
}

/// The client of netflow00, before the collector that it serves.
pub struct FlowLink {
    pub flows: Outbox<FlowBatch>,
    pub tables: Outbox<Arc<TableUpdate>>,
    client: Client,
    log: Arc<OnceLock<(u16, Outbox<collector::Message>)>>,
}

/// The client of ce00.
pub struct RouteLink {
    pub routes: Outbox<RouteBatch>,
    pub tables: Outbox<Arc<TableUpdate>>,
    client: Client,
}

/// The client of dns00.
pub struct NameLink {
    pub names: Outbox<NameBatch>,
    pub tables: Outbox<Arc<TableUpdate>>,
    client: Client,
}

fn stage(handle: ClientHandle) -> (&'static str, Drain) {
    ("link", Box::new(move |limit| Box::pin(handle.drain(limit))))
}

/// Where the log of this node has to begin again, of what the receiver wants of all.
fn wanted_of(node: u16, cursors: &Cursors) -> u64 {
    cursors.iter().filter(|(source, _)| source.node() == node).map(|(_, seq)| *seq).next_back().unwrap_or(0)
}

impl Links {
    pub fn new(base: &Base<'_>) -> Self {
        Self { settings: base.settings.link.clone(), fatal: base.fatal.clone(), servers: Mutex::default() }
    }

    fn identity(&self, role: &str) -> anyhow::Result<Identity> {
        let directory = &self.settings.certificates;
        let file = |name: String| directory.join(name);
        Identity::load(&file(format!("{role}.pem")), &file(format!("{role}.key")), &file("ca.pem".to_owned()))
            .with_context(|| format!("certificate of {role} in {} (link.certificates)", directory.display()))
    }

    fn client(&self, role: &str, remote: &str) -> anyhow::Result<Client> {
        let address = self.settings.peer.get(remote).with_context(|| {
            format!("{role} needs {remote}, which is not in this process: set link.peer.{remote} = \"host:port\"")
        })?;
        Ok(Client::new(self.settings.tuning.clone(), self.identity(role)?, remote, address))
    }

    /// Whether this process is reached as the role.
    pub fn serves(&self, role: &str) -> bool {
        self.settings.listen.contains_key(role)
    }

    /// Listens as the role, where configured; commits put into the result reach every sender of flows.
    pub fn serve(&self, role: &str, sinks: Sinks, wanted: &Wanted) -> anyhow::Result<Option<Outbox<Commit>>> {
        let Some(address) = self.settings.listen.get(role) else { return Ok(None) };
        let address: SocketAddr = address
            .parse()
            .with_context(|| format!("link.listen.{role}: {address:?} is not an address with a port"))?;
        let to = role.to_owned();
        let allow: Allow = Arc::new(move |from, kind| {
            ROWS.iter().any(|(sender, receiver, kinds)| *sender == from && *receiver == to && kinds.contains(&kind))
        });
        let server = Server::new(self.settings.tuning.clone(), self.identity(role)?, allow, sinks, wanted.clone());
        let server = server.start(address)?;
        tracing::info!(role, address = %server.local_address(), "link listens");
        let commits = server.commits();
        self.servers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(server);
        Ok(Some(commits))
    }

    /// The store of another machine, and what it wants; waits until it is reached.
    pub async fn to_storage(
        &self,
        role: &str,
        commits: Vec<Outbox<Commit>>,
        stages: &mut Vec<(&'static str, Drain)>,
    ) -> anyhow::Result<(Outbox<StoreInput>, Wanted)> {
        let mut client = self.client(role, "storage00")?;
        let rows = client.store();
        let handle = client.start(commits, self.fatal.clone())?;
        tracing::info!(role, "waiting for storage00");
        let wanted = handle.wanted(Kind::Store).await.context("storage00 was not reached")?;
        stages.push(stage(handle));
        Ok((rows, wanted))
    }

    pub fn to_aggregator(
        &self,
        commits: Vec<Outbox<Commit>>,
        stages: &mut Vec<(&'static str, Drain)>,
    ) -> anyhow::Result<Outbox<FlowBatch>> {
        let mut client = self.client("process00", "process01")?;
        let joined = client.joined();
        stages.push(stage(client.start(commits, self.fatal.clone())?));
        Ok(joined)
    }

    /// Publishes to af00 of another machine what this one's store commits, where configured. Drained after the store.
    pub fn to_front(&self, publisher: Publisher) -> anyhow::Result<Option<(&'static str, Drain)>> {
        if !self.settings.peer.contains_key("af00") {
            return Ok(None);
        }
        let mut client = self.client("storage00", "af00")?;
        let whole = publisher.clone();
        let copy = client.copy(move |held| {
            let (generation, messages) = whole.missing(held);
            Snapshot { generation, messages: Box::new(messages.map(Message::from)) }
        });
        let handle = client.start(Vec::new(), self.fatal.clone())?;
        let (end, ended) = oneshot::channel::<()>();
        let publishing = tokio::spawn(publisher.run(copy, async {
            let _ = ended.await;
        }));
        let drain: Drain = Box::new(move |limit| {
            Box::pin(async move {
                let deadline = Instant::now() + limit;
                drop(end);
                // A front end that is away asks for what it lacks when it is back.
                if handle.status(Kind::Copy).is_some_and(|status| status.connected) {
                    let _ = tokio::time::timeout(limit, publishing).await;
                }
                handle.drain(deadline.saturating_duration_since(Instant::now())).await
            })
        });
        Ok(Some(("link", drain)))
    }

    pub fn flows(&self, tables: &Arc<Tables>) -> anyhow::Result<FlowLink> {
        let mut client = self.client("netflow00", "process00")?;
        let log: Arc<OnceLock<(u16, Outbox<collector::Message>)>> = Arc::default();
        let rewound = log.clone();
        let flows = client.flows(move |cursors| {
            let (node, collector) = rewound.wait();
            let seq = wanted_of(*node, cursors);
            // Only a collector that is gone takes no message; then there is nothing to send.
            let _ = collector.send_blocking(collector::Message::Rewind { seq });
        });
        let own = tables.clone();
        let tables = client.tables(move || {
            vec![TableUpdate::Exporters(own.exporters.load_full()), TableUpdate::Labels(own.labels.load_full())]
        });
        Ok(FlowLink { flows, tables, client, log })
    }

    pub fn routes(&self, reader: RouteReader, tables: &Arc<Tables>) -> anyhow::Result<RouteLink> {
        let mut client = self.client("ce00", "process00")?;
        let routes = client.routes(reader);
        let own = tables.clone();
        let tables = client.tables(move || {
            vec![TableUpdate::Interfaces(own.interfaces.load_full()), TableUpdate::Network(own.network.load_full())]
        });
        Ok(RouteLink { routes, tables, client })
    }

    pub fn names(&self, reader: NameReader, tables: &Arc<Tables>) -> anyhow::Result<NameLink> {
        let mut client = self.client("dns00", "process00")?;
        let names = client.names(reader);
        let own = tables.clone();
        let tables = client.tables(move || vec![TableUpdate::Services(own.services.load_full())]);
        Ok(NameLink { names, tables, client })
    }
}

impl FlowLink {
    /// Connects once the collector can be told where to begin.
    pub fn start(
        self,
        node: u16,
        collector: Outbox<collector::Message>,
        commits: Vec<Outbox<Commit>>,
        fatal: UnboundedSender<Fatal>,
    ) -> anyhow::Result<(&'static str, Drain)> {
        let _ = self.log.set((node, collector));
        Ok(stage(self.client.start(commits, fatal)?))
    }
}

impl RouteLink {
    pub fn start(self, fatal: UnboundedSender<Fatal>) -> anyhow::Result<(&'static str, Drain)> {
        Ok(stage(self.client.start(Vec::new(), fatal)?))
    }
}

impl NameLink {
    pub fn start(self, fatal: UnboundedSender<Fatal>) -> anyhow::Result<(&'static str, Drain)> {
        Ok(stage(self.client.start(Vec::new(), fatal)?))
    }
}

#[cfg(test)]
mod tests {
    use benocs_model::message::SourceId;

    use super::*;

    #[test]
    fn a_log_begins_where_its_own_newest_source_is_wanted() {
        let cursors =
            Cursors::from([(SourceId::new(4, 100), 7), (SourceId::new(4, 200), 9), (SourceId::new(5, 300), 1)]);
        assert_eq!((wanted_of(4, &cursors), wanted_of(5, &cursors), wanted_of(6, &cursors)), (9, 1, 0));
    }
}
