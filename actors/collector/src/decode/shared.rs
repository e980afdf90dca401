//! What the decoders of all sockets know together: exporters and their ids,
//! templates, samplers, sequence numbers, statistics.
//!
//! One lock an exporter, held for one datagram: an exporter's datagrams come
//! over one socket as a rule. Everything is bounded by [`Config`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use benocs_model::Address;
use benocs_model::flow::SamplingSource;
use benocs_model::flow::builder::Octets16;
use benocs_model::network::{self, Exporter, Exporters, Label};
use benocs_wire::element::Id;
use benocs_wire::ipfix;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::cause::{Cause, Causes, Counters};
use super::config::{Config, InterfaceConfig};
use super::domains::{Domains, Templates};
use super::kept::Changes;
use super::labels::Labels;
use super::layout::Layout;
use super::mapping::{self, Mapped};
use super::plan::{Clock, Plan};
use super::sampling::{Fraction, Interfaces, Samplers, Sampling};
use super::sequence::{Sequence, SequenceStatus, Unit};
use super::unmapped::{Places, Unmapped, UnmappedStatus};

/// A way in which exporters speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    #[serde(rename = "netflow1")]
    NetFlow1,
    #[serde(rename = "netflow5")]
    NetFlow5,
    #[serde(rename = "netflow7")]
    NetFlow7,
    #[serde(rename = "netflow9")]
    NetFlow9,
    #[serde(rename = "ipfix")]
    Ipfix,
    #[serde(rename = "sflow5")]
    Sflow5,
    #[serde(rename = "sflow4")]
    Sflow4,
    #[serde(rename = "sflow2")]
    Sflow2,
}

impl Protocol {
    const ALL: [Self; 8] = [
        Self::NetFlow1,
        Self::NetFlow5,
        Self::NetFlow7,
        Self::NetFlow9,
        Self::Ipfix,
        Self::Sflow5,
        Self::Sflow4,
        Self::Sflow2,
    ];

    fn unit(self) -> Unit {
        match self {
            Self::NetFlow9 | Self::Sflow5 | Self::Sflow4 | Self::Sflow2 => Unit::Datagrams,
            _ => Unit::Records,
        }
    }
}

/// State of all exporters, shared by the decoders.
pub struct Shared {
    pub(crate) config: Config,
    /// Who gives ids, where it is not this one.
    live: Option<Arc<Shared>>,
    registry: RwLock<Registry>,
    generation: AtomicU64,
    pub(crate) maps: Vec<Mapped>,
    pending_octets: AtomicUsize,
    labels_generation: AtomicU64,
    label_octets: AtomicUsize,
    /// Of datagrams that belong to no exporter.
    refused: Mutex<Causes>,
    pub(crate) changes: Changes,
    compiled: Mutex<Compiled>,
}

/// Templates in use by what they say: thousands of exporters say the same, and share one plan.
type Compiled = HashMap<u64, Vec<Weak<Template>>, ahash::RandomState>;

#[derive(Default)]
struct Registry {
    by_address: HashMap<Address, Arc<ExporterState>, ahash::RandomState>,
    by_id: HashMap<u32, Arc<ExporterState>, ahash::RandomState>,
    next_id: u32,
}

pub(crate) struct ExporterState {
    pub(crate) exporter: Exporter,
    pub(crate) address: Octets16,
    pub(crate) configured: Option<Fraction>,
    pub(crate) interfaces: Option<Box<Interfaces>>,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) stats: Stats,
    pub(crate) domains: Domains,
    /// Of all domains.
    pub(crate) templates: usize,
    pub(crate) pending_octets: usize,
    pub(crate) unmapped: Unmapped,
}

#[derive(Default)]
pub(crate) struct Stats {
    protocols: u16,
    pub(crate) datagrams: u64,
    pub(crate) records: u64,
    pub(crate) octets: u64,
    pub(crate) last_seen_ms: Option<i64>,
    pub(crate) templates_received: u64,
    pub(crate) options_records: u64,
    pub(crate) counter_samples: u64,
    pub(crate) pending_kept: u64,
    pub(crate) sampling: Option<Sampling>,
    pub(crate) errors: Causes,
    /// Of sessions that have ended.
    ended: SequenceStatus,
}

impl Stats {
    pub(crate) fn datagram(&mut self, protocol: Protocol, received_ms: i64, octets: usize) {
        self.protocols |= 1 << protocol as u8;
        self.datagrams += 1;
        self.octets += octets as u64;
        self.last_seen_ms = Some(received_ms);
    }
}

/// Key of templates, samplers and sequence numbers (never the UDP port: exporters change it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DomainKey {
    pub(crate) protocol: Protocol,
    pub(crate) domain: u32,
    pub(crate) session: Session,
}

/// A TCP or TLS connection: what was said in it is valid in it alone (RFC 7011 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u32);

impl Session {
    /// Datagrams belong to none.
    pub const NONE: Self = Self(0);
}

/// In order of use: what every datagram needs lies in the first [`Domain::NEAR_OCTETS`].
#[repr(C)]
pub(crate) struct Domain {
    pub(crate) templates: Templates,
    pub(crate) samplers: Samplers,
    pub(crate) sequence: Sequence,
    pub(crate) datagrams: u64,
    pub(crate) records: u64,
    /// systemInitTimeMilliseconds from options.
    pub(crate) init_ms: Option<i64>,
    /// exporterIPv4Address or exporterIPv6Address from options.
    pub(crate) exporter: Option<(u32, Octets16)>,
    pub(crate) errors: Causes,
    pub(crate) labels: Labels,
    pub(crate) pending: HashMap<u16, VecDeque<Pending>, ahash::RandomState>,
}

impl Domain {
    pub(super) const NEAR_OCTETS: usize = std::mem::offset_of!(Domain, errors);

    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            templates: Templates::default(),
            samplers: Samplers::default(),
            labels: Labels::default(),
            init_ms: None,
            exporter: None,
            sequence: Sequence::new(protocol.unit()),
            pending: HashMap::default(),
            datagrams: 0,
            records: 0,
            errors: Causes::default(),
        }
    }

    fn status(&self, key: DomainKey) -> DomainStatus {
        DomainStatus {
            protocol: key.protocol,
            domain: key.domain,
            session: (key.session != Session::NONE).then_some(key.session.0),
            datagrams: self.datagrams,
            records: self.records,
            templates: self.templates.len(),
            pending: self.pending.values().map(VecDeque::len).sum(),
            sequence: self.sequence.status,
            errors: self.errors.by_text(),
        }
    }
}

/// A template of an exporter.
pub(crate) struct Known {
    pub(crate) compiled: Arc<Template>,
    /// Where its elements without a column are counted.
    pub(crate) places: Places,
}

impl std::ops::Deref for Known {
    type Target = Template;

    #[inline]
    fn deref(&self) -> &Template {
        &self.compiled
    }
}

pub(crate) struct Template {
    /// As it was received, to see whether a repetition says anything new.
    pub(crate) specifiers: Box<[u8]>,
    pub(crate) field_count: usize,
    pub(crate) enterprise_bit: bool,
    pub(crate) scope_count: usize,
    pub(crate) options: bool,
    pub(crate) layout: Layout,
    pub(crate) kind: Kind,
    /// Elements without a column.
    pub(crate) unmapped: Box<[Id]>,
}

impl Template {
    /// As the exporter sent it.
    pub(crate) fn as_received(&self, id: u16) -> ipfix::Template<'_> {
        ipfix::Template {
            id,
            options: self.options,
            field_count: self.field_count,
            scope_count: self.scope_count,
            fields: &self.specifiers,
            enterprise_bit: self.enterprise_bit,
        }
    }

    /// Whether it was made of just that.
    pub(crate) fn says(&self, said: &ipfix::Template<'_>) -> bool {
        *self.specifiers == *said.fields
            && (self.options, self.scope_count, self.enterprise_bit)
                == (said.options, said.scope_count, said.enterprise_bit)
    }
}

pub(crate) enum Kind {
    Flows(Plan),
    Options,
    /// Records that describe no traffic.
    Other,
}

/// A set that waits for its template, with what its message said.
pub(crate) struct Pending {
    pub(crate) received_ms: i64,
    pub(crate) export_ms: i64,
    pub(crate) clock: Clock,
    pub(crate) quality: u64,
    pub(crate) body: Box<[u8]>,
}

/// An exporter as `status` and `flows` show it.
#[derive(Clone, Debug, Serialize)]
pub struct ExporterStatus {
    pub address: IpAddr,
    pub id: u32,
    pub name: Option<String>,
    pub versions: Vec<Protocol>,
    pub datagrams: u64,
    /// Rows.
    pub records: u64,
    /// Of its datagrams.
    pub octets: u64,
    /// Unix ms.
    pub last_seen_ms: Option<i64>,
    /// It sent regularly, and does not any more.
    pub silent: bool,
    /// Known now.
    pub templates: usize,
    /// Received, repetitions included.
    pub templates_received: u64,
    pub options_records: u64,
    pub counter_samples: u64,
    pub sampling: Option<SamplingStatus>,
    pub sequence: SequenceStatus,
    /// Names that it gave in options, by kind.
    pub names: BTreeMap<&'static str, usize>,
    /// Elements in its records that fill no column; most frequent first.
    pub unmapped: Vec<UnmappedStatus>,
    pub errors: BTreeMap<&'static str, u64>,
    /// Sets that wait for their template.
    pub pending: usize,
    pub pending_octets: usize,
    /// Sets that ever waited.
    pub pending_kept: u64,
    /// TCP and TLS connections that are open and have sent something.
    pub sessions: usize,
    pub domains: Vec<DomainStatus>,
}

/// An observation domain of an exporter; those of sessions that ended are in the exporter's sums.
#[derive(Clone, Debug, Serialize)]
pub struct DomainStatus {
    pub protocol: Protocol,
    pub domain: u32,
    /// Number of its TCP or TLS connection; datagrams have none.
    pub session: Option<u32>,
    pub datagrams: u64,
    pub records: u64,
    pub templates: usize,
    pub pending: usize,
    pub sequence: SequenceStatus,
    pub errors: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SamplingStatus {
    pub num: u32,
    pub den: u32,
    pub source: &'static str,
}

impl Shared {
    /// `known`: exporters that have had their ids before; ids are never given twice.
    pub fn new(config: Config, known: Vec<Exporter>) -> Self {
        Self::with_ids_from(config, known, 1)
    }

    /// Likewise; new ids begin at `first_id`, so that several machines can give them.
    pub fn with_ids_from(config: Config, known: Vec<Exporter>, first_id: u32) -> Self {
        let shared = Self {
            registry: RwLock::new(Registry { next_id: first_id, ..Registry::default() }),
            generation: AtomicU64::new(1),
            // A mapping that cannot be is refused before: `Config::check`.
            maps: mapping::check(&config.map).unwrap_or_default(),
            pending_octets: AtomicUsize::new(0),
            labels_generation: AtomicU64::new(0),
            label_octets: AtomicUsize::new(0),
            refused: Mutex::default(),
            changes: Changes::default(),
            compiled: Mutex::default(),
            live: None,
            config,
        };
        {
            let mut registry = shared.registry.write();
            for exporter in known {
                registry.next_id = registry.next_id.max(exporter.id.saturating_add(1));
                let state = Arc::new(shared.exporter_state(exporter.id, exporter.address, exporter.name));
                registry.by_id.insert(exporter.id, state.clone());
                registry.by_address.insert(exporter.address, state);
            }
            for configured in &shared.config.exporters {
                let address = Address::from(configured.address.to_canonical());
                if !registry.by_address.contains_key(&address) {
                    shared.register(&mut registry, address);
                }
            }
        }
        shared
    }

    /// What `live` does not learn of: templates, samplers and sequence numbers apart, exporters with its ids.
    pub fn apart(config: Config, live: Arc<Shared>) -> Self {
        // Exporters become known here when they are seen in a file.
        let mut shared = Self::new(Config { exporters: Vec::new(), ..config.clone() }, Vec::new());
        shared.config = config;
        shared.live = Some(live);
        shared
    }

    /// Label of what it counts.
    pub(crate) fn actor(&self) -> &'static str {
        if self.live.is_some() { "import" } else { "collector" }
    }

    /// Goes up whenever there is an exporter that was not there before. Rows
    /// carry its id at once: whoever keeps the rows keeps the table first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// All that were ever seen or configured, by id.
    pub fn exporters(&self) -> Vec<Exporter> {
        let registry = self.registry.read();
        let mut exporters: Vec<_> = registry.by_address.values().map(|state| state.exporter.clone()).collect();
        exporters.sort_by_key(|exporter| exporter.id);
        exporters
    }

    /// The same as the table that is published.
    pub fn exporter_table(&self) -> Exporters {
        let generation = self.generation();
        Exporters { generation, rows: self.exporters() }
    }

    /// By address.
    pub fn status(&self) -> Vec<ExporterStatus> {
        let mut states: Vec<_> = self.registry.read().by_address.values().cloned().collect();
        states.sort_by_key(|state| state.exporter.address);
        states.iter().map(|state| state.status()).collect()
    }

    /// Templates that are known now, over all exporters.
    pub fn templates(&self) -> usize {
        let states: Vec<_> = self.registry.read().by_address.values().cloned().collect();
        states.iter().map(|state| state.state.lock().templates).sum()
    }

    /// Elements of all templates that are known now, once a template.
    #[cfg(test)]
    pub(crate) fn template_elements(&self) -> Vec<Id> {
        let mut found = Vec::new();
        for exporter in self.registry.read().by_address.values() {
            let state = exporter.state.lock();
            for (id, template) in state.domains.values().flat_map(|domain| domain.templates.iter()) {
                let scope = if template.enterprise_bit { 0 } else { template.scope_count };
                found.extend(
                    template
                        .as_received(id)
                        .fields()
                        .skip(scope)
                        .map(|field| Id { enterprise: field.enterprise, number: field.element }),
                );
            }
        }
        found
    }

    /// What was counted of datagrams that belong to no known exporter.
    pub fn refused(&self) -> Causes {
        self.refused.lock().clone()
    }

    pub(crate) fn refuse(&self, cause: Cause) {
        self.refused.lock().add(cause, 1);
    }

    /// Counts datagrams of a source that were not decoded.
    pub(crate) fn lose_datagrams(&self, source: IpAddr, cause: Cause, count: u64) {
        match self.known(Address::from(source)) {
            Some(exporter) => exporter.state.lock().stats.errors.add(cause, count),
            None => self.refused.lock().add(cause, count),
        }
    }

    /// Counts decoded rows that were lost, by the exporters that they name.
    pub(crate) fn lose_rows(&self, exporter_ids: &[u32], cause: Cause) {
        let mut rows: HashMap<u32, u64, ahash::RandomState> = HashMap::default();
        for run in exporter_ids.chunk_by(|one, next| one == next) {
            *rows.entry(run[0]).or_default() += run.len() as u64;
        }
        for (id, count) in rows {
            let exporter = self.registry.read().by_id.get(&id).cloned();
            if let Some(exporter) = exporter {
                exporter.state.lock().stats.errors.add(cause, count);
            }
        }
    }

    /// Forgets what was said in a session (RFC 7011 8.1): its templates end with it.
    pub(crate) fn end_session(&self, source: Address, session: Session, counters: &Counters) {
        let Some(exporter) = self.known(source) else { return };
        let mut state = exporter.state.lock();
        let State { stats, domains, templates, pending_octets, .. } = &mut *state;
        domains.retain(|key, domain| {
            if key.session != session {
                return true;
            }
            *templates -= domain.templates.len();
            let octets: usize = domain.pending.values().flatten().map(|set| set.body.len()).sum();
            *pending_octets -= octets;
            self.release_pending(octets);
            let sets = domain.pending.values().map(|sets| sets.len() as u64).sum();
            stats.errors.add(Cause::PendingExpired, sets);
            counters.add(Cause::PendingExpired, sets);
            stats.ended.add(&domain.sequence.status);
            false
        });
    }

    fn exporter_state(&self, id: u32, address: Address, name: Option<String>) -> ExporterState {
        let configured =
            self.config.exporters.iter().find(|known| Address::from(known.address.to_canonical()) == address);
        let own = |interface: &&InterfaceConfig| Address::from(interface.exporter.to_canonical()) == address;
        let interfaces = self.config.interfaces.iter().filter(own);
        ExporterState {
            interfaces: Interfaces::new(
                interfaces
                    .filter_map(|interface| Some((interface.if_index, Fraction::one_of(interface.sampling.into())?))),
            )
            .map(Box::new),
            exporter: Exporter { id, address, name: configured.and_then(|known| known.name.clone()).or(name) },
            address: address.into(),
            configured: configured.and_then(|known| Fraction::one_of(known.sampling?.into())),
            state: Mutex::default(),
        }
    }

    fn register(&self, registry: &mut Registry, address: Address) -> Option<Arc<ExporterState>> {
        if registry.by_address.len() >= self.config.exporters_max {
            return None;
        }
        let (id, name) = match &self.live {
            Some(live) => live.exporter(address).map(|known| (known.exporter.id, known.exporter.name.clone()))?,
            None => {
                let id = registry.next_id.max(1);
                registry.next_id = id.checked_add(1)?;
                (id, None)
            }
        };
        let state = Arc::new(self.exporter_state(id, address, name));
        registry.by_id.insert(id, state.clone());
        registry.by_address.insert(address, state.clone());
        self.generation.fetch_add(1, Ordering::AcqRel);
        Some(state)
    }

    /// The exporter, where it is known.
    pub(crate) fn known(&self, address: Address) -> Option<Arc<ExporterState>> {
        self.registry.read().by_address.get(&address).cloned()
    }

    /// The exporter, new where it has to be; `None` where there are too many.
    pub(crate) fn exporter(&self, address: Address) -> Option<Arc<ExporterState>> {
        if let Some(known) = self.known(address) {
            return Some(known);
        }
        let mut registry = self.registry.write();
        match registry.by_address.get(&address) {
            Some(known) => Some(known.clone()),
            None => self.register(&mut registry, address),
        }
    }

    /// Id of an exporter that a record names.
    pub(crate) fn exporter_id(&self, address: Octets16) -> Option<u32> {
        self.exporter(Address(address.octets())).map(|state| state.exporter.id)
    }

    /// The template that says the same, if somebody uses it; else `make`'s.
    pub(crate) fn compiled(
        &self,
        said: &ipfix::Template<'_>,
        make: impl FnOnce() -> Result<Template, Cause>,
    ) -> Result<Arc<Template>, Cause> {
        let mut compiled = self.compiled.lock();
        let all = (said.fields, said.options, said.scope_count, said.enterprise_bit);
        let hash = compiled.hasher().hash_one(all);
        let alike = compiled.entry(hash).or_default();
        if let Some(known) = alike.iter().filter_map(Weak::upgrade).find(|known| known.says(said)) {
            return Ok(known);
        }
        let template = Arc::new(make()?);
        alike.push(Arc::downgrade(&template));
        Ok(template)
    }

    /// Room for a set that waits: false where it is not there.
    pub(crate) fn reserve_pending(&self, octets: usize) -> bool {
        let max = self.config.pending_octets_total_max;
        let more = |now: usize| now.checked_add(octets).filter(|sum| *sum <= max);
        self.pending_octets.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    pub(crate) fn release_pending(&self, octets: usize) {
        self.pending_octets.fetch_sub(octets, Ordering::AcqRel);
    }

    /// Goes up whenever a name in options is new, another or gone.
    pub fn labels_generation(&self) -> u64 {
        self.labels_generation.load(Ordering::Acquire)
    }

    pub(crate) fn labels_changed(&self) {
        self.labels_generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Names that exporters gave, as the table that is published. Of several
    /// domains of an exporter that name the same, one is taken.
    pub fn labels(&self) -> network::Labels {
        let states: Vec<_> = self.registry.read().by_address.values().cloned().collect();
        let mut rows = Vec::new();
        for exporter in states {
            let state = exporter.state.lock();
            for domain in state.domains.values() {
                let named = domain.exporter.map_or(exporter.exporter.address, |(_, named)| Address(named.octets()));
                rows.extend(domain.labels.iter().map(|(key, name, description)| Label {
                    exporter: named,
                    kind: key.kind as u8,
                    number: key.number,
                    name: name.to_owned(),
                    description: description.to_owned(),
                }));
            }
        }
        rows.sort_unstable_by(|a, b| label_order(a).cmp(&label_order(b)));
        rows.dedup_by_key(|row| (row.exporter, row.kind, row.number));
        network::Labels { generation: self.labels_generation(), rows }
    }

    /// Room for so many more octets of names: false where it is not there.
    pub(crate) fn reserve_labels(&self, more: isize) -> bool {
        let max = self.config.labels_octets_total_max;
        let next = |now: usize| now.checked_add_signed(more).filter(|sum| *sum <= max || more <= 0);
        self.label_octets.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }

    /// Drops what has waited too long for its template, and what nobody uses any more.
    pub(crate) fn sweep(&self, now_ms: i64, counters: &Counters) {
        self.compiled.lock().retain(|_, alike| {
            alike.retain(|template| template.strong_count() > 0);
            !alike.is_empty()
        });
        let states: Vec<_> = self.registry.read().by_address.values().cloned().collect();
        for state in states {
            // An exporter that is being decoded is swept the next time.
            if let Some(mut state) = state.state.try_lock()
                && state.pending_octets > 0
            {
                self.expire(&mut state, now_ms, counters);
            }
        }
    }

    fn expire(&self, state: &mut State, now_ms: i64, counters: &Counters) {
        let oldest_ms = now_ms - i64::from(self.config.pending_age_s) * 1000;
        let (mut sets, mut octets) = (0, 0);
        for domain in state.domains.values_mut() {
            let before = sets;
            domain.pending.retain(|_, waiting| {
                waiting.retain(|set| {
                    let keep = set.received_ms >= oldest_ms;
                    sets += u64::from(!keep);
                    octets += if keep { 0 } else { set.body.len() };
                    keep
                });
                !waiting.is_empty()
            });
            domain.errors.add(Cause::PendingExpired, sets - before);
        }
        if sets > 0 {
            state.pending_octets -= octets;
            self.release_pending(octets);
            state.stats.errors.add(Cause::PendingExpired, sets);
            counters.add(Cause::PendingExpired, sets);
        }
    }
}

impl ExporterState {
    fn status(&self) -> ExporterStatus {
        let state = self.state.lock();
        let stats = &state.stats;
        let mut sequence = stats.ended;
        let mut domains: Vec<(&DomainKey, &Domain)> = state.domains.iter().collect();
        domains.sort_unstable_by_key(|(key, _)| **key);
        let mut sessions: Vec<Session> = Vec::new();
        for (key, domain) in &domains {
            sequence.add(&domain.sequence.status);
            if key.session != Session::NONE && !sessions.contains(&key.session) {
                sessions.push(key.session);
            }
        }
        let seen = |protocol: &Protocol| stats.protocols >> (*protocol as u8) & 1 == 1;
        let mut names = BTreeMap::new();
        for (kind, count) in state.domains.values().flat_map(|domain| domain.labels.counts()) {
            *names.entry(kind.text()).or_default() += count;
        }
        ExporterStatus {
            address: self.exporter.address.ip(),
            id: self.exporter.id,
            name: self.exporter.name.clone(),
            versions: Protocol::ALL.into_iter().filter(seen).collect(),
            datagrams: stats.datagrams,
            records: stats.records,
            octets: stats.octets,
            last_seen_ms: stats.last_seen_ms,
            silent: false,
            templates: state.templates,
            templates_received: stats.templates_received,
            options_records: stats.options_records,
            counter_samples: stats.counter_samples,
            sampling: stats.sampling.map(|sampling| SamplingStatus {
                num: sampling.fraction.num,
                den: sampling.fraction.den,
                source: sampling.source.text(),
            }),
            sequence,
            names,
            unmapped: state.unmapped.status(),
            errors: stats.errors.by_text(),
            pending: state.domains.values().flat_map(|domain| domain.pending.values()).map(VecDeque::len).sum(),
            pending_octets: state.pending_octets,
            pending_kept: stats.pending_kept,
            sessions: sessions.len(),
            domains: domains.into_iter().map(|(key, domain)| domain.status(*key)).collect(),
        }
    }

    /// Where neither record nor options nor header say.
    pub(crate) fn fallback(&self) -> Sampling {
        self.configured.map_or(Sampling::UNKNOWN, |fraction| Sampling::new(fraction, SamplingSource::Configuration))
    }

    /// Likewise, of a record that came in and left by these interfaces.
    pub(crate) fn fallback_of(&self, ports: (Option<u32>, Option<u32>)) -> Sampling {
        let fallback = self.fallback();
        self.interfaces.as_ref().and_then(|interfaces| interfaces.instead_of(fallback, ports)).unwrap_or(fallback)
    }
}

impl State {
    /// Counts for the exporter and for the domain.
    pub(crate) fn count(&mut self, key: DomainKey, cause: Cause, count: u64) {
        self.stats.errors.add(cause, count);
        if let Some(domain) = self.domains.get_mut(&key) {
            domain.errors.add(cause, count);
        }
    }

    /// The domain, new where it has to be; `None` where there are too many that have templates.
    pub(crate) fn domain(&mut self, key: DomainKey, max: usize) -> Option<&mut Domain> {
        if self.domains.len() >= max && self.domains.position(&key).is_none() {
            let idle = |domain: &Domain| domain.templates.is_empty() && domain.pending.is_empty();
            let idle = *self.domains.iter().find(|(_, domain)| idle(domain))?.0;
            self.domains.remove(&idle);
        }
        Some(self.domains.get_or_insert_with(key, || Domain::new(key.protocol)))
    }
}

fn label_order(label: &Label) -> (Address, u8, u64, &str, &str) {
    (label.exporter, label.kind, label.number, &label.name, &label.description)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [u8; 8] = [0, 1, 0, 4, 0, 2, 0, 4];

    fn said(options: bool, fields: &[u8]) -> ipfix::Template<'_> {
        ipfix::Template { id: 256, options, field_count: 2, scope_count: 0, fields, enterprise_bit: true }
    }

    #[test]
    fn exporters_that_say_the_same_share_a_plan_until_nobody_uses_it() {
        let shared = Shared::new(Config::default(), Vec::new());
        let mut state = State::default();
        let mut learned = Vec::new();
        for (domain, options, fields) in
            [(1, false, FIELDS), (2, false, FIELDS), (3, true, FIELDS), (4, false, [0, 2, 0, 4, 0, 1, 0, 4])]
        {
            let key = DomainKey { protocol: Protocol::Ipfix, domain, session: Session::NONE };
            state.domain(key, 8).unwrap();
            super::super::sets::learn(&shared, &mut state, key, &said(options, &fields)).unwrap();
            learned.push(state.domains.get(&key).unwrap().templates.get(256).unwrap().compiled.clone());
        }
        assert!(Arc::ptr_eq(&learned[0], &learned[1]));
        assert!(!Arc::ptr_eq(&learned[0], &learned[2]) && !Arc::ptr_eq(&learned[0], &learned[3]));
        assert_eq!(shared.compiled.lock().len(), 3);
        drop(learned.split_off(2));
        state.domains.retain(|key, _| key.domain <= 2);
        shared.sweep(0, &Counters::new("collector"));
        assert_eq!(shared.compiled.lock().len(), 1);
    }
}
