//! The poller's worker.
//!
//!   routers (n) <--SNMP v2c, UDP--> poll tasks (1 a router) --result--> [snmp] --Interfaces--> hub (1)
//!   hub (1) --Table(Labels)----------------------------------------------^ |--SystemInfo------> engine (1)
//!                                                                         '--> state (ids, versions)
//!
//! A router's task waits for its own answers only: a silent one delays nobody.
//! An interface is what configuration says, else what SNMP says, else what the
//! exporter itself says in options.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use benocs_model::address::Address;
use benocs_model::network::{LabelKind, Labels};
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::State;
use benocs_runtime::{Context, Fatal, Handle, Outbox, Restart, Settings, Worker};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};

use crate::classify::{Classifier, Subject};
use crate::config::{Config, StaticInterface, Target, boundary, connectivity};
use crate::inventory::{Inventory, Polled};
use crate::metrics::Metrics;
use crate::poll::{Outcome, Sockets, poll};
use crate::versions::{Observed, Versions};

const MAILBOX: usize = 256;
/// Changes are gathered this long before they are published.
const TICK: Duration = Duration::from_millis(200);
/// First polls are spread over this, at most.
const SPREAD_MAX: Duration = Duration::from_secs(5);
/// After the first poll that failed.
const RETRY: Duration = Duration::from_secs(2);

/// What a router says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemInfo {
    pub address: Address,
    /// sysName.
    pub name: String,
    pub vendor: Option<String>,
}

/// What the poller is told.
#[derive(Debug)]
pub enum Message {
    Polled(Poller),
    /// Names that exporters gave; the others are of no interest.
    Table(Arc<TableUpdate>),
}

/// A poll's result, on its way from its task.
#[derive(Debug)]
pub struct Poller {
    target: usize,
    outcome: Outcome,
}

/// What the poller sends to.
#[derive(Clone)]
pub struct Parts {
    pub state: State,
    pub tables: Outbox<Arc<TableUpdate>>,
    /// Told what routers say of themselves; false where it could not be taken, and is told again.
    pub systems: Arc<dyn Fn(SystemInfo) -> bool + Send + Sync>,
    pub fatal: UnboundedSender<Fatal>,
}

/// A running poller.
pub struct Snmp {
    pub handle: Handle<Message>,
    pub status: StatusReader,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TargetStatus {
    pub name: Option<String>,
    pub address: String,
    pub port: u16,
    /// sysName and sysDescr.
    pub system_name: String,
    pub system_description: String,
    pub vendor: Option<String>,
    pub interfaces: Vec<InterfaceStatus>,
    pub polls: u64,
    pub failures: u64,
    /// Restarts of the agent that were seen.
    pub restarts: u64,
    /// Of the last poll that was answered, Unix ms.
    pub last_ms: Option<i64>,
    /// What is wrong; empty where nothing is.
    pub problem: String,
}

/// An interface as the last poll saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InterfaceStatus {
    pub if_index: u32,
    pub name: String,
    pub description: String,
    pub speed: u64,
    pub up: bool,
    /// Between the last two polls; `None` after one poll, a restart, or where there are no counters.
    pub in_bits_per_s: Option<f64>,
    pub out_bits_per_s: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub targets: Vec<TargetStatus>,
    /// That are there now, of all routers and of configuration.
    pub interfaces: usize,
}

/// The status as of the last change.
#[derive(Clone, Debug, Default)]
pub struct StatusReader(Arc<ArcSwap<Status>>);

impl StatusReader {
    pub fn get(&self) -> Arc<Status> {
        self.0.load_full()
    }
}

/// Starts polling. Errors are the configuration's.
pub fn spawn(config: Config, parts: Parts) -> anyhow::Result<Snmp> {
    let classifier = Classifier::new(&config.classify, config.classify_built_in)?;
    config.interfaces.iter().try_for_each(StaticInterface::check)?;
    let status = StatusReader::default();
    status.0.store(Arc::new(Status { targets: fresh_statuses(&config), interfaces: 0 }));
    let settings = Settings { name: "snmp", capacity: MAILBOX, tick: TICK, restart: Restart::AtMost(5) };
    let (fatal, reader) = (parts.fatal.clone(), status.clone());
    let handle = benocs_runtime::spawn(settings, fatal, move || {
        Poll::new(config.clone(), classifier.clone(), parts.clone(), reader.clone())
    });
    Ok(Snmp { handle, status })
}

fn fresh_statuses(config: &Config) -> Vec<TargetStatus> {
    let status = |target: &Target| TargetStatus {
        name: target.name.clone(),
        address: target.address.to_string(),
        port: target.port,
        ..TargetStatus::default()
    };
    config.targets.iter().map(status).collect()
}

struct Counted {
    at_ms: i64,
    uptime_cs: Option<u32>,
    octets: HashMap<u32, (u64, u64, bool)>,
}

struct Poll {
    config: Rc<Config>,
    classifier: Classifier,
    parts: Parts,
    versions: Versions,
    /// What exporters say of their interfaces.
    labels: Arc<Labels>,
    statuses: Vec<TargetStatus>,
    counted: Vec<Option<Counted>>,
    metrics: Metrics,
    /// Tasks end when it does.
    stop: watch::Sender<()>,
    generation: u64,
    reader: StatusReader,
    status_changed: bool,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

impl Poll {
    fn new(config: Config, classifier: Classifier, parts: Parts, reader: StatusReader) -> anyhow::Result<Self> {
        let versions = Versions::restore(&parts.state)?;
        Ok(Self {
            statuses: fresh_statuses(&config),
            counted: config.targets.iter().map(|_| None).collect(),
            config: Rc::new(config),
            classifier,
            parts,
            versions,
            labels: Arc::default(),
            metrics: Metrics::new(),
            stop: watch::channel(()).0,
            generation: 0,
            reader,
            status_changed: true,
        })
    }

    /// What a poll says; over it what configuration says; where both are silent, what the exporter says.
    fn observe(&self, exporter: IpAddr, exporter_name: &str, polled: &[Polled]) -> Vec<Observed> {
        let address = exporter.to_string();
        let fixed = || self.config.interfaces.iter().filter(|fixed| fixed.exporter == exporter);
        let mut all: Vec<Polled> = polled.to_vec();
        let mut places: HashMap<u32, usize> = all.iter().enumerate().map(|(at, one)| (one.if_index, at)).collect();
        let mut place = |all: &mut Vec<Polled>, if_index: u32| {
            *places.entry(if_index).or_insert_with(|| {
                all.push(Polled { if_index, ..Polled::default() });
                all.len() - 1
            })
        };
        for one in fixed() {
            let at = place(&mut all, one.if_index);
            let polled = &mut all[at];
            if let Some(name) = &one.name {
                polled.name.clone_from(name);
            }
            if let Some(description) = &one.description {
                polled.description.clone_from(description);
            }
            polled.speed = one.speed.unwrap_or(polled.speed);
        }
        let known = all.len();
        for label in self.labels.of(Address::from(exporter), LabelKind::Interface) {
            let Ok(if_index) = u32::try_from(label.number) else { continue };
            let at = place(&mut all, if_index);
            if all[at].name.is_empty() {
                all[at].name.clone_from(&label.name);
                if all[at].description.is_empty() {
                    all[at].description.clone_from(&label.description);
                }
            }
        }
        // Configuration that gives no name leaves the one that was found earlier.
        for polled in all.iter_mut().filter(|polled| polled.name.is_empty()) {
            let Some(before) = self.versions.current(Address::from(exporter), polled.if_index) else { continue };
            polled.name.clone_from(&before.name);
            if polled.description.is_empty() {
                polled.description.clone_from(&before.description);
            }
        }
        all.into_iter()
            .enumerate()
            .map(|(at, polled)| {
                let mut class = self.classifier.classify(&Subject {
                    name: &polled.name,
                    description: &polled.description,
                    exporter: exporter_name,
                    address: &address,
                    speed: polled.speed,
                });
                if let Some(one) = fixed().find(|fixed| fixed.if_index == polled.if_index) {
                    // Words were checked at the start.
                    let words = (connectivity("", one.connectivity.as_deref()), boundary("", one.boundary.as_deref()));
                    class.connectivity = words.0.ok().flatten().unwrap_or(class.connectivity);
                    class.boundary = words.1.ok().flatten().unwrap_or(class.boundary);
                    class.provider = one.provider.clone().or(class.provider);
                    class.remote_as = one.remote_as.or(class.remote_as);
                }
                let Polled { if_index, name, description, speed, addresses, .. } = polled;
                Observed { if_index, name, description, speed, class, addresses, by_exporter: at >= known }
            })
            .collect()
    }

    fn on_inventory(&mut self, at: usize, inventory: Inventory, whole: bool) -> anyhow::Result<()> {
        let config = self.config.clone();
        let Some(target) = config.targets.get(at) else { return Ok(()) };
        let now = now_ms();
        let name = target.name.clone().unwrap_or_else(|| inventory.name.clone());
        let observed = self.observe(target.address, &name, &inventory.interfaces);
        self.versions.apply(Address::from(target.address), observed, whole, now)?;
        let system = SystemInfo {
            address: Address::from(target.address),
            name: inventory.name.clone(),
            vendor: inventory.vendor.clone(),
        };
        let told = (self.parts.systems)(system);
        let last = self.counted.get_mut(at).and_then(Option::take);
        let interfaces: Vec<InterfaceStatus> = inventory
            .interfaces
            .iter()
            .map(|polled| {
                let rates = last.as_ref().and_then(|last| rates(last, polled, now, inventory.uptime_cs));
                InterfaceStatus {
                    if_index: polled.if_index,
                    name: polled.name.clone(),
                    description: polled.description.clone(),
                    speed: polled.speed,
                    up: polled.oper_status == 1,
                    in_bits_per_s: rates.map(|(octets, _)| octets),
                    out_bits_per_s: rates.map(|(_, octets)| octets),
                }
            })
            .collect();
        if let Some(status) = self.statuses.get_mut(at) {
            status.restarts += u64::from(last.as_ref().is_some_and(|last| restarted(last, inventory.uptime_cs)));
            status.interfaces = interfaces;
            status.last_ms = Some(now);
            status.problem = match (whole, told) {
                (true, _) => String::new(),
                (false, _) => {
                    "some tables could not be read to their end: what is missing is kept as it was".to_owned()
                }
            };
            status.system_name = inventory.name;
            status.system_description = inventory.description;
            status.vendor = inventory.vendor;
        }
        let octets = (inventory.interfaces.iter())
            .filter_map(|polled| polled.counters.map(|(i, o)| (polled.if_index, (i, o, polled.wide_counters))))
            .collect();
        if let Some(counted) = self.counted.get_mut(at) {
            *counted = Some(Counted { at_ms: now, uptime_cs: inventory.uptime_cs, octets });
        }
        Ok(())
    }

    /// A router that is not polled, or was not yet, is known by what it says itself.
    fn on_labels(&mut self, exporter: IpAddr) -> anyhow::Result<()> {
        let polled = self.config.targets.iter().any(|target| target.address == exporter);
        let observed = self.observe(exporter, "", &[]);
        let observed = observed.into_iter().filter(|one| one.by_exporter || !polled).collect();
        self.versions.apply(Address::from(exporter), observed, false, now_ms())
    }

    fn on_table(&mut self, labels: &Arc<Labels>) -> anyhow::Result<()> {
        let before = std::mem::replace(&mut self.labels, labels.clone());
        let mut exporters: Vec<Address> = labels.rows.iter().map(|row| row.exporter).collect();
        exporters.dedup();
        for exporter in exporters {
            let of = |labels: &Labels| labels.of(exporter, LabelKind::Interface).to_vec();
            // A router that answers says it better, and is asked again within a minute.
            let target = self.config.targets.iter().position(|target| Address::from(target.address) == exporter);
            let polled = target.and_then(|at| self.statuses.get(at)).is_some_and(|status| status.failures == 0);
            if !polled && of(labels) != of(&before) {
                self.on_labels(exporter.ip())?;
            }
        }
        self.status_changed = true;
        Ok(())
    }

    fn publish(&mut self) {
        if self.versions.changed {
            // Replicas keep what is newer: after a restart too.
            let generation = (now_ms() as u64).max(self.generation + 1);
            let table = Arc::new(self.versions.table(generation));
            // A busy hub gets it at the next tick.
            if self.parts.tables.offer(Arc::new(TableUpdate::Interfaces(table))).is_ok() {
                self.versions.changed = false;
                self.generation = generation;
            }
        }
        if self.status_changed {
            self.status_changed = false;
            self.metrics.interfaces.set(self.versions.open() as f64);
            let status = Status { targets: self.statuses.clone(), interfaces: self.versions.open() };
            self.reader.0.store(Arc::new(status));
        }
    }
}

/// sysUpTime went back, and not because its 32 bits wrapped (497 days).
fn restarted(last: &Counted, uptime_cs: Option<u32>) -> bool {
    match (last.uptime_cs, uptime_cs) {
        (Some(before), Some(now)) => now < before && before < u32::MAX - 10_000_000,
        _ => false,
    }
}

/// Bits a second in and out since the last poll.
fn rates(last: &Counted, polled: &Polled, now_ms: i64, uptime_cs: Option<u32>) -> Option<(f64, f64)> {
    let (before_in, before_out, wide) = *last.octets.get(&polled.if_index)?;
    let (now_in, now_out) = polled.counters?;
    let seconds = (now_ms - last.at_ms) as f64 / 1000.0;
    if restarted(last, uptime_cs) || wide != polled.wide_counters || seconds <= 0.0 {
        return None;
    }
    let grown = |before: u64, now: u64| {
        // A counter of 32 bits wraps within a poll; one of 64 that went back was reset.
        match (now >= before, wide) {
            (true, _) => Some(now - before),
            (false, false) => Some((now + (1 << 32)) - before),
            (false, true) => None,
        }
    };
    let bits = |octets: u64| octets as f64 * 8.0 / seconds;
    Some((bits(grown(before_in, now_in)?), bits(grown(before_out, now_out)?)))
}

/// Polls at a time. Those that did not answer the last time have slots of their own, so that a site that is
/// down does not delay the others.
#[derive(Clone)]
struct Slots {
    answering: Rc<Semaphore>,
    silent: Rc<Semaphore>,
}

impl Slots {
    fn new(concurrency: usize) -> Self {
        let of = |slots: usize| Rc::new(Semaphore::new(slots.max(1)));
        Self { answering: of(concurrency), silent: of(concurrency / 4) }
    }

    fn of(&self, failed: bool) -> &Semaphore {
        if failed { &self.silent } else { &self.answering }
    }
}

/// Until the next poll; what failed is asked again soon, then ever later up to the interval.
fn pause(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 => interval,
        _ => interval.min(RETRY * (1 << (failures - 1).min(16))),
    }
}

async fn keep_polling(
    at: usize,
    config: Rc<Config>,
    sockets: Sockets,
    slots: Slots,
    results: Outbox<Message>,
    mut stop: watch::Receiver<()>,
) {
    let Some(target) = config.targets.get(at) else { return };
    let interval = Duration::from_secs(config.interval_s.max(1));
    let spread = SPREAD_MAX.min(interval / 2).mul_f64(at as f64 / config.targets.len().max(1) as f64);
    let polling = async {
        let mut due = tokio::time::Instant::now() + spread;
        let mut failures = 0;
        loop {
            tokio::time::sleep_until(due).await;
            let started = tokio::time::Instant::now();
            // Never closed.
            let Ok(_slot) = slots.of(failures > 0).acquire().await else { return };
            let outcome = poll(&sockets, target, &config).await;
            failures = if matches!(outcome, Outcome::Read { .. }) { 0 } else { failures + 1 };
            if results.send(Message::Polled(Poller { target: at, outcome })).await.is_err() {
                return;
            }
            due = started + pause(interval, failures);
        }
    };
    tokio::select! {
        () = polling => {}
        // The worker is gone.
        _ = stop.changed() => {}
    }
}

impl Worker for Poll {
    type Message = Message;

    fn start(&mut self, context: &mut Context<Self>) -> anyhow::Result<()> {
        let mut exporters: Vec<IpAddr> = self.config.interfaces.iter().map(|one| one.exporter).collect();
        exporters.sort_unstable();
        exporters.dedup();
        for exporter in exporters {
            // A polled router's come with its first poll.
            if self.config.targets.iter().all(|target| target.address != exporter) {
                let observed = self.observe(exporter, "", &[]);
                self.versions.apply(Address::from(exporter), observed, true, now_ms())?;
            }
        }
        self.publish();
        if self.config.targets.is_empty() {
            return Ok(());
        }
        let (config, results, stop) = (self.config.clone(), context.outbox(), self.stop.subscribe());
        context.spawn(async move {
            let sockets = match Sockets::bind(&config.targets).await {
                Ok(sockets) => sockets,
                Err(error) => return tracing::error!(%error, "snmp cannot open its sockets"),
            };
            let slots = Slots::new(config.concurrency);
            for at in 0..config.targets.len() {
                let task =
                    keep_polling(at, config.clone(), sockets.clone(), slots.clone(), results.clone(), stop.clone());
                tokio::task::spawn_local(task);
            }
        });
        Ok(())
    }

    fn handle(&mut self, message: Message, _: &mut Context<Self>) -> anyhow::Result<()> {
        let Poller { target, outcome } = match message {
            Message::Polled(polled) => polled,
            Message::Table(update) => {
                return match &*update {
                    TableUpdate::Labels(labels) => self.on_table(labels),
                    _ => Ok(()),
                };
            }
        };
        self.status_changed = true;
        let first_failure = self.statuses.get(target).is_some_and(|status| status.failures == 0);
        let Some(status) = self.statuses.get_mut(target) else { return Ok(()) };
        status.polls += 1;
        match outcome {
            Outcome::Read { inventory, whole } => {
                (if whole { &self.metrics.ok } else { &self.metrics.partial }).increment(1);
                self.on_inventory(target, *inventory, whole)?;
            }
            Outcome::Silent => {
                self.metrics.timeout.increment(1);
                status.failures += 1;
                status.problem = "no answer: address, port, community, or a filter on the way".to_owned();
            }
            Outcome::Failed(reason) => {
                self.metrics.error.increment(1);
                status.failures += 1;
                status.problem = reason;
            }
        }
        let silent = self.statuses.get(target).is_some_and(|status| status.failures > 0 && status.last_ms.is_none());
        match self.config.targets.get(target).map(|target| target.address) {
            Some(exporter) if first_failure && silent => self.on_labels(exporter),
            _ => Ok(()),
        }
    }

    fn tick(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        self.publish();
        Ok(())
    }

    fn drain(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        self.publish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(octets: (u64, u64, bool)) -> Counted {
        Counted { at_ms: 0, uptime_cs: Some(1000), octets: HashMap::from([(1, octets)]) }
    }

    fn polled(counters: (u64, u64), wide_counters: bool) -> Polled {
        Polled { if_index: 1, counters: Some(counters), wide_counters, ..Polled::default() }
    }

    #[test]
    fn what_failed_is_asked_again_soon_and_then_ever_later() {
        let pauses: Vec<u64> = (0..8).map(|failures| pause(Duration::from_secs(60), failures).as_secs()).collect();
        assert_eq!(pauses, [60, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(Duration::from_secs(1), 1).as_secs(), 1, "never later than the next regular one");
    }

    #[test]
    fn wraps_and_resets_are_told_apart() {
        let later = Some(2000);
        assert_eq!(rates(&counted((1000, 0, true)), &polled((2000, 0), true), 1000, later), Some((8000.0, 0.0)));
        let wrapped = rates(&counted((u64::from(u32::MAX), 5, false)), &polled((999, 5), false), 1000, later);
        assert_eq!(wrapped, Some((8000.0, 0.0)), "32 bits wrap");
        assert_eq!(rates(&counted((1000, 0, true)), &polled((999, 0), true), 1000, later), None, "64 bits were reset");
        assert_eq!(
            rates(&counted((1000, 0, true)), &polled((2000, 0), true), 1000, Some(5)),
            None,
            "the agent restarted"
        );
        let mut old = counted((0, 0, true));
        old.uptime_cs = Some(u32::MAX - 50);
        assert!(!restarted(&old, Some(20)), "the up time's own wrap");
    }
}
