//! What the actors report, in the words of the page.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use benocs_collector as collector;
use benocs_model::names::NameStats;
use benocs_runtime::Outbox;
use benocs_store::{StoreReader, Table};
use benocs_web::status::{BgpPeer, Exporter, Feed, Health, Resolver, SnmpTarget, Status, Store};
use serde_json::Value;
use tokio::sync::oneshot;

use super::board::Board;
use crate::when;

/// The collector is asked this often.
const EVERY: Duration = Duration::from_secs(1);
/// An exporter that sent nothing for so long is worth a look.
const SILENT_MS: i64 = 120_000;

/// The collector's last answer, and the record counts of the one before, for rates.
#[derive(Clone, Default)]
pub struct Exporters {
    now: Arc<ArcSwap<Option<collector::Status>>>,
    before: Arc<ArcSwap<Option<collector::Status>>>,
}

impl Exporters {
    /// Asks the collector once a second, until it is gone.
    pub fn watch(collector: Outbox<collector::Message>) -> Self {
        let watch = Self::default();
        let keep = watch.clone();
        tokio::spawn(async move {
            let mut every = tokio::time::interval(EVERY);
            loop {
                every.tick().await;
                let (reply, status) = oneshot::channel();
                if collector.send(collector::Message::Status(reply)).await.is_err() {
                    return;
                }
                if let Ok(status) = status.await {
                    keep.before.store(keep.now.load_full());
                    keep.now.store(Arc::new(Some(status)));
                }
            }
        });
        watch
    }

    fn rows(&self) -> Vec<Exporter> {
        let (now, before) = (self.now.load(), self.before.load());
        let Some(now) = &**now else { return Vec::new() };
        let before = (**before).as_ref();
        now.exporters
            .iter()
            .map(|exporter| {
                let earlier = before.and_then(|before| before.exporters.iter().find(|old| old.id == exporter.id));
                row(exporter, earlier.map(|old| exporter.records.saturating_sub(old.records) as f64))
            })
            .collect()
    }
}

fn row(exporter: &collector::decode::ExporterStatus, records_per_s: Option<f64>) -> Exporter {
    let silent = exporter.last_seen_ms.is_some_and(|last| when::now_ms() - last > SILENT_MS);
    let (health, problem) = if silent {
        (Health::Bad, "nothing came for two minutes: is the export configured, and does a firewall drop it?".to_owned())
    } else if exporter.pending > 0 {
        (Health::Attention, "data waits for its template: set a shorter template refresh on the router".to_owned())
    } else if exporter.sequence.lost > 0 {
        let lost = exporter.sequence.lost;
        (
            Health::Attention,
            format!("its sequence numbers miss {lost}: look at the path, and at the router's export rate"),
        )
    } else if exporter.sampling.is_none() {
        (Health::Attention, "its sampling is unknown and counted as 1:1: set [[exporter]] sampling".to_owned())
    } else {
        (Health::Good, String::new())
    };
    let versions: Vec<String> = exporter
        .versions
        .iter()
        .filter_map(|version| serde_json::to_value(version).ok()?.as_str().map(str::to_owned))
        .collect();
    Exporter {
        address: exporter.address.to_string(),
        name: exporter.name.clone(),
        protocol: versions.join(" "),
        records: exporter.records,
        datagrams: exporter.datagrams,
        records_per_s,
        lost: exporter.sequence.lost,
        templates: exporter.templates as u64,
        waiting: exporter.pending as u64,
        sampling: exporter.sampling.as_ref().map(|sampling| f64::from(sampling.den) / f64::from(sampling.num.max(1))),
        sampling_source: exporter.sampling.as_ref().map_or("", |sampling| sampling.source).to_owned(),
        last_ms: exporter.last_seen_ms,
        health,
        problem,
    }
}

/// `benocs flows`: every exporter with all that is known of it.
pub fn flows(exporters: &Exporters) -> Value {
    match &**exporters.now.load() {
        Some(status) => serde_json::to_value(&status.exporters).unwrap_or(Value::Null),
        None => Value::Array(Vec::new()),
    }
}

/// Who reports.
pub struct Sources {
    pub exporters: Exporters,
    pub bgp: Option<benocs_bgp::Board>,
    pub snmp: Option<benocs_snmp::StatusReader>,
    pub dnstap: Option<benocs_dnstap::StatusReader>,
    pub names: Option<Box<dyn Fn() -> NameStats + Send + Sync>>,
    pub store: Option<StoreReader>,
    /// This process has a collector.
    pub collects: bool,
}

pub fn add(board: &Board, sources: Sources) {
    board.add(move |status| sources.fill(status));
}

fn worst(parts: impl Iterator<Item = Health>) -> Health {
    let rank = |health: &Health| match health {
        Health::Off => 0,
        Health::Good => 1,
        Health::Attention => 2,
        Health::Bad => 3,
    };
    parts.max_by_key(rank).unwrap_or_default()
}

fn feed(name: &str, title: &str, health: Health, summary: String, missing: &str, last_ms: Option<i64>) -> Feed {
    let problem = if health == Health::Off { missing.to_owned() } else { String::new() };
    Feed { name: name.to_owned(), title: title.to_owned(), health, summary, problem, last_ms }
}

impl Sources {
    fn fill(&self, status: &mut Status) {
        if self.collects {
            self.fill_flows(status);
        }
        if let Some(board) = &self.bgp {
            fill_bgp(board, status);
        }
        if let Some(reader) = &self.snmp {
            fill_snmp(reader, status);
        }
        if let Some(reader) = &self.dnstap {
            fill_dnstap(reader, self.names.as_ref().map(|names| names()).unwrap_or_default(), status);
        }
        if let Some(reader) = &self.store {
            self.fill_store(reader, status);
        }
    }

    fn fill_flows(&self, status: &mut Status) {
        status.exporters = self.exporters.rows();
        let rate: f64 = status.exporters.iter().filter_map(|exporter| exporter.records_per_s).sum();
        status.feeds.push(feed(
            "flows",
            "Flows",
            worst(status.exporters.iter().map(|exporter| exporter.health)),
            format!("{rate:.0} records/s of {} exporters", status.exporters.len()),
            "no router exports yet: point one at UDP port 2055 of this machine",
            status.exporters.iter().filter_map(|exporter| exporter.last_ms).max(),
        ));
    }

    fn fill_store(&self, reader: &StoreReader, status: &mut Status) {
        let snapshot = reader.snapshot();
        let flows: Vec<_> = snapshot.of(Table::Flows).map(|file| &file.meta).collect();
        let rows: u64 = flows.iter().map(|file| file.rows).sum();
        let files = snapshot.files.len() as u64;
        status.newest_ms = reader.newest_ms();
        let log_octets = (**self.exporters.now.load()).as_ref().map_or(0, |status| status.log.octets);
        let lag = status.newest_ms.map_or(0, |newest| when::now_ms() - newest);
        status.store = Some(Store {
            rows,
            files,
            octets: snapshot.files.values().map(|file| file.meta.octets).sum(),
            oldest_ms: flows.iter().map(|file| file.received.min).min(),
            newest_ms: status.newest_ms,
            log_octets,
            disk_free_octets: None,
            health: if status.newest_ms.is_some() { Health::Good } else { Health::Off },
            problem: String::new(),
        });
        status.feeds.push(feed(
            "store",
            "Store",
            if status.newest_ms.is_some() { Health::Good } else { Health::Off },
            format!("{rows} rows in {files} files, newest {} s old", lag / 1000),
            "nothing is stored yet",
            status.newest_ms,
        ));
    }
}

fn fill_bgp(board: &benocs_bgp::Board, status: &mut Status) {
    let peers = board.peers();
    status.bgp_peers = peers
        .iter()
        .map(|peer| {
            let up = peer.state == "established";
            let problem = match (&peer.last_error, up) {
                (_, true) => String::new(),
                (Some(error), false) => error.clone(),
                (None, false) => "no session yet: configure this machine as a neighbour on the router".to_owned(),
            };
            let routes = |family: &str| {
                peer.prefixes.iter().filter(|(name, _)| name.contains(family)).map(|(_, count)| u64::from(*count)).sum()
            };
            BgpPeer {
                name: peer.name.clone(),
                address: peer.address.clone(),
                remote_as: peer.remote_as,
                state: peer.state.replace('-', "_"),
                since_ms: Some(peer.since),
                routes_v4: routes("v4"),
                routes_v6: routes("v6"),
                updates: peer.updates,
                health: if up { Health::Good } else { Health::Bad },
                problem,
            }
        })
        .collect();
    let up = status.bgp_peers.iter().filter(|peer| peer.health == Health::Good).count();
    let routes: u64 = status.bgp_peers.iter().map(|peer| peer.routes_v4 + peer.routes_v6).sum();
    status.feeds.push(feed(
        "bgp",
        "BGP",
        worst(status.bgp_peers.iter().map(|peer| peer.health)),
        format!("{up} of {} sessions, {routes} routes", status.bgp_peers.len()),
        "no router is a BGP peer yet: add [[bgp.peer]]",
        None,
    ));
}

fn fill_snmp(reader: &benocs_snmp::StatusReader, status: &mut Status) {
    let report = reader.get();
    status.snmp_targets = report
        .targets
        .iter()
        .map(|target| SnmpTarget {
            name: target.name.clone().unwrap_or_else(|| target.system_name.clone()),
            address: target.address.clone(),
            interfaces: target.interfaces.len() as u64,
            polls: target.polls,
            failures: target.failures,
            last_ms: target.last_ms,
            health: if !target.problem.is_empty() {
                Health::Bad
            } else if target.last_ms.is_some() {
                Health::Good
            } else {
                Health::Off
            },
            problem: target.problem.clone(),
        })
        .collect();
    status.feeds.push(feed(
        "snmp",
        "SNMP",
        worst(status.snmp_targets.iter().map(|target| target.health)),
        format!("{} interfaces of {} routers", report.interfaces, report.targets.len()),
        "no router is polled yet: give an [[exporter]] its snmp_community_file",
        status.snmp_targets.iter().filter_map(|target| target.last_ms).max(),
    ));
}

fn fill_dnstap(reader: &benocs_dnstap::StatusReader, names: NameStats, status: &mut Status) {
    let report = reader.get();
    status.resolvers = report
        .resolvers
        .iter()
        .map(|resolver| Resolver {
            name: resolver.name.clone(),
            address: resolver.address.clone(),
            connected: resolver.connected,
            answers: resolver.answers,
            names: 0,
            last_ms: resolver.last_ms,
            health: if resolver.connected { Health::Good } else { Health::Bad },
            problem: resolver.problem.clone(),
        })
        .collect();
    status.feeds.push(feed(
        "dnstap",
        "DNS",
        worst(status.resolvers.iter().map(|resolver| resolver.health)),
        format!("{} answers, {} names, {} services", report.answers, names.names, report.services),
        "no resolver sends dnstap yet: point one at TCP port 5453 of this machine",
        status.resolvers.iter().filter_map(|resolver| resolver.last_ms).max(),
    ));
}
