//! What the actors report, in the words of the page.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use benocs_collector as collector;
use benocs_collector::decode::ExporterStatus;
use benocs_model::names::NameStats;
use benocs_model::tables::Tables;
use benocs_runtime::Outbox;
use benocs_store::{StoreReader, Table};
use benocs_web::status::{BgpPeer, Exporter, Feed, Health, Resolver, SnmpTarget, Status, Store};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::board::Board;
use crate::when;

/// The collector is asked this often.
const EVERY: Duration = Duration::from_secs(1);
/// The collector's last answer, and the one before, for rates.
#[derive(Clone, Default)]
pub struct Exporters {
    seen: Arc<ArcSwap<Seen>>,
}

#[derive(Default)]
struct Seen {
    now: Option<Arc<Look>>,
    before: Option<Arc<Look>>,
}

struct Look {
    at: Instant,
    at_ms: i64,
    status: collector::Status,
}

/// A second.
#[derive(Clone, Copy, Serialize)]
struct Rates {
    records_per_s: Option<f64>,
    datagrams_per_s: Option<f64>,
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
                    let look = Look { at: Instant::now(), at_ms: when::now_ms(), status };
                    let before = keep.seen.load().now.clone();
                    keep.seen.store(Arc::new(Seen { now: Some(Arc::new(look)), before }));
                }
            }
        });
        watch
    }

    fn rows(&self) -> Vec<Exporter> {
        self.rated().map_or_else(Vec::new, |(look, rates)| {
            look.status.exporters.iter().zip(rates).map(|(exporter, rates)| row(exporter, rates)).collect()
        })
    }

    /// The last answer, with the rates of its exporters.
    fn rated(&self) -> Option<(Arc<Look>, Vec<Rates>)> {
        let seen = self.seen.load();
        let now = seen.now.clone()?;
        let before = seen.before.as_ref();
        let seconds = before.map_or(1.0, |before| now.at.duration_since(before.at).as_secs_f64().max(0.1));
        let earlier: HashMap<u32, &ExporterStatus> = before
            .map(|before| before.status.exporters.iter().map(|exporter| (exporter.id, exporter)).collect())
            .unwrap_or_default();
        let rates = |exporter: &ExporterStatus| {
            let old = earlier.get(&exporter.id);
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            Rates {
                records_per_s: old.map(|old| rate(exporter.records, old.records)),
                datagrams_per_s: old.map(|old| rate(exporter.datagrams, old.datagrams)),
            }
        };
        let rates = now.status.exporters.iter().map(rates).collect();
        Some((now, rates))
    }
}

/// How an exporter does, and what to do.
fn judge(exporter: &ExporterStatus) -> (Health, String) {
    let lost = |causes: &[&str]| causes.iter().filter_map(|cause| exporter.errors.get(cause)).sum::<u64>();
    if exporter.silent {
        let minutes = exporter.last_seen_ms.map_or(0, |last| (when::now_ms() - last) / 60_000);
        (Health::Bad, format!("silent for {minutes} min: is it up, is its export configured, does a firewall drop it?"))
    } else if exporter.last_seen_ms.is_none() {
        (Health::Attention, "nothing came yet: point its export at this machine, from this address".to_owned())
    } else if lost(&["rate_limited"]) > 0 {
        let count = lost(&["rate_limited"]);
        (Health::Attention, format!("{count} datagrams were beyond collector.rate_max: sample more, or raise it"))
    } else if lost(&["mailbox", "log_full"]) > 0 {
        let count = lost(&["mailbox", "log_full"]);
        (
            Health::Attention,
            format!("{count} of its records found the log busy or full: is storage behind, or the disk slow?"),
        )
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
    }
}

fn row(exporter: &ExporterStatus, rates: Rates) -> Exporter {
    let (health, problem) = judge(exporter);
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
        records_per_s: rates.records_per_s,
        datagrams_per_s: rates.datagrams_per_s,
        lost: exporter.sequence.lost,
        dropped: exporter.errors.iter().map(|(cause, count)| ((*cause).to_owned(), *count)).collect(),
        silent: exporter.silent,
        templates: exporter.templates as u64,
        waiting: exporter.pending as u64,
        sampling: exporter.sampling.as_ref().map(|sampling| f64::from(sampling.den) / f64::from(sampling.num.max(1))),
        sampling_source: exporter.sampling.as_ref().map_or("", |sampling| sampling.source).to_owned(),
        last_ms: exporter.last_seen_ms,
        health,
        problem,
    }
}

/// `benocs flows`: every exporter with all that is known of it, and what was lost before it had a name.
pub fn flows(exporters: &Exporters) -> Value {
    #[derive(Serialize)]
    struct Flows<'a> {
        now_ms: i64,
        #[serde(flatten)]
        collector: &'a collector::Status,
    }
    #[derive(Serialize)]
    struct Judged {
        #[serde(flatten)]
        rates: Rates,
        health: Health,
        problem: String,
    }
    let Some((look, rates)) = exporters.rated() else { return json!({ "now_ms": when::now_ms(), "exporters": [] }) };
    let flows = Flows { now_ms: look.at_ms, collector: &look.status };
    let mut value = serde_json::to_value(flows).unwrap_or(Value::Null);
    let Some(shown) = value["exporters"].as_array_mut() else { return value };
    for ((shown, exporter), rates) in shown.iter_mut().zip(&look.status.exporters).zip(rates) {
        let (health, problem) = judge(exporter);
        let judged = serde_json::to_value(Judged { rates, health, problem });
        if let (Some(shown), Ok(Value::Object(judged))) = (shown.as_object_mut(), judged) {
            shown.extend(judged);
        }
    }
    value
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
    /// Of a front end by itself: all that it knows of the feeds.
    pub front: Option<Arc<Tables>>,
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
        if let Some(tables) = &self.front {
            fill_front(tables, status);
        }
        if let Some(reader) = &self.store {
            self.fill_store(reader, status);
        }
    }

    fn fill_flows(&self, status: &mut Status) {
        status.exporters = self.exporters.rows();
        let rate: f64 = status.exporters.iter().filter_map(|exporter| exporter.records_per_s).sum();
        let silent = status.exporters.iter().filter(|exporter| exporter.silent).count();
        let silent = if silent > 0 { format!(", {silent} silent") } else { String::new() };
        status.feeds.push(feed(
            "flows",
            "Flows",
            worst(status.exporters.iter().map(|exporter| exporter.health)),
            format!("{rate:.0} records/s of {} exporters{silent}", status.exporters.len()),
            "no router exports yet: point one at UDP port 2055 of this machine",
            status.exporters.iter().filter_map(|exporter| exporter.last_ms).max(),
        ));
    }

    fn fill_store(&self, reader: &StoreReader, status: &mut Status) {
        let snapshot = reader.snapshot();
        let is_copy = reader.is_copy();
        let table = if is_copy { Table::Rollup1m } else { Table::Flows };
        let kept: Vec<_> = snapshot.of(table).map(|file| &file.meta).collect();
        let rows: u64 = kept.iter().map(|file| file.rows).sum();
        let files = snapshot.files.len() as u64;
        status.newest_ms = reader.newest_ms();
        let log_octets = self.exporters.seen.load().now.as_ref().map_or(0, |look| look.status.log.octets);
        let lag = status.newest_ms.map_or(0, |newest| when::now_ms() - newest);
        status.store = Some(Store {
            rows,
            files,
            octets: snapshot.files.values().map(|file| file.meta.octets).sum(),
            oldest_ms: kept.iter().map(|file| file.received.min).min(),
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
            format!(
                "{rows} {} in {files} files, newest {} s old",
                if is_copy { "windows" } else { "rows" },
                lag / 1000
            ),
            if is_copy {
                "nothing has come from storage00 yet: set link.peer.af00 there"
            } else {
                "nothing is stored yet"
            },
            status.newest_ms,
        ));
    }
}

/// What the tables say; rates and sessions are known where they are made.
fn fill_front(tables: &Tables, status: &mut Status) {
    let (exporters, network, interfaces) = (tables.exporters.load(), tables.network.load(), tables.interfaces.load());
    let is_known = !exporters.rows.is_empty();
    status.feeds.push(Feed {
        name: "flows".to_owned(),
        title: "Flows".to_owned(),
        health: if is_known { Health::Good } else { Health::Off },
        summary: format!(
            "{} exporters, {} routers, {} interfaces",
            exporters.rows.len(),
            network.routers.len(),
            interfaces.rows.len()
        ),
        problem: "rates, losses, sessions and routes are not on the front end: ask `benocs status` where they are made"
            .to_owned(),
        last_ms: None,
    });
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
                source: peer.source.clone(),
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
    let count = |source: &str| {
        let of: Vec<&BgpPeer> = status.bgp_peers.iter().filter(|peer| peer.source == source).collect();
        (of.iter().filter(|peer| peer.health == Health::Good).count(), of.len())
    };
    let ((up, sessions), (monitoring, routers)) = (count("bgp"), count("bmp-router"));
    let bmp = if routers > 0 { format!(", {monitoring} of {routers} routers over BMP") } else { String::new() };
    let routes: u64 = status.bgp_peers.iter().map(|peer| peer.routes_v4 + peer.routes_v6).sum();
    status.feeds.push(feed(
        "bgp",
        "BGP",
        worst(status.bgp_peers.iter().map(|peer| peer.health)),
        format!("{up} of {sessions} sessions{bmp}, {routes} routes"),
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
