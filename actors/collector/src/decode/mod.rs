//! Datagrams to flow rows: NetFlow 1, 5, 7, 9, IPFIX and sFlow 2, 4, 5, told apart by content.
//!
//! A [`Decoder`] a socket thread; what they know together is in [`Shared`].
//! Whatever arrives becomes rows, or is counted by [`Cause`]; nothing stops it.

mod cause;
mod config;
mod domains;
mod facts;
mod kept;
mod labels;
mod layout;
mod mapping;
mod nested;
mod options;
mod plan;
mod samples;
mod sampling;
mod sequence;
mod sets;
mod shared;
#[cfg(test)]
mod tests;
mod time;
mod unmapped;

use std::net::SocketAddr;
use std::sync::Arc;

use benocs_model::Address;
use benocs_model::flow::builder::FlowBuilder;
use benocs_model::flow::{SamplingSource, quality};
use benocs_wire::error::Why;
use benocs_wire::ipfix::{self, Field};
use benocs_wire::{netflow5, netflow9, sflow};

pub use cause::{Cause, Causes};
pub use config::{Config, ExporterConfig, InterfaceConfig};
pub use kept::KeptDomain;
pub use mapping::MapConfig;
pub use sampling::{Fraction, Sampling};
pub use sequence::SequenceStatus;
pub use shared::{DomainStatus, ExporterStatus, Protocol, SamplingStatus, Session, Shared};
pub use unmapped::UnmappedStatus;

use cause::Counters;
use domains::NearTemplates;
use layout::{Layout, Purpose, Rows};
use plan::{Clock, Context, Plan, Scratch};
use samples::{Agent, Outcome, Seen};
use sampling::Samplers;
use sequence::Step;
use sets::{Message, Work};
use shared::{Domain, DomainKey, ExporterState, State};

/// How often sets that wait for a template are looked through.
const SWEEP_MS: i64 = 10_000;
/// What fewer exporters need is near anyway.
const NEAR_EXPORTERS: usize = 64;
/// Datagrams between asking memory and needing it.
const AHEAD: usize = 4;

/// Exporters that this decoder has seen.
type Sources = std::collections::HashMap<Address, Source, ahash::RandomState>;

struct Source {
    exporter: Arc<ExporterState>,
    near: Near,
}

/// Where what a datagram needs lay at the last one of its exporter: to ask memory for, never to read.
#[derive(Clone, Copy, Debug, Default)]
struct Near {
    exporter: usize,
    keys: usize,
    domain: usize,
    unmapped: usize,
    templates: NearTemplates,
    /// Id of the datagram's first set.
    set: u16,
}

impl Near {
    #[inline]
    fn prefetch(&self) {
        if self.domain != 0 {
            benocs_sys::prefetch(self.exporter, size_of::<ExporterState>());
            benocs_sys::prefetch(self.keys, size_of::<DomainKey>());
            benocs_sys::prefetch(self.domain, Domain::NEAR_OCTETS);
            benocs_sys::prefetch(self.unmapped, 1);
            self.templates.prefetch(self.set);
        }
    }
}

/// Decodes the datagrams of one socket.
pub struct Decoder {
    shared: Arc<Shared>,
    sources: Sources,
    /// Of the datagrams that are expected, and how many of them have come.
    ahead: Vec<Near>,
    arrived: usize,
    counters: Counters,
    /// Plans of the versions that have no templates.
    fixed: [Option<Plan>; 3],
    no_samplers: Samplers,
    scratch: Scratch,
    rewritten: Vec<u8>,
    seen: Vec<Seen>,
    swept_ms: i64,
}

impl Decoder {
    /// The bounds are those of `shared`.
    pub fn new(_config: Config, shared: Arc<Shared>) -> Self {
        let counters = Counters::new(shared.actor());
        Self {
            shared,
            sources: Sources::default(),
            ahead: Vec::new(),
            arrived: 0,
            counters,
            fixed: [plan_of(FIELDS_1), plan_of(FIELDS_5), plan_of(FIELDS_7)],
            no_samplers: Samplers::default(),
            scratch: Scratch::default(),
            rewritten: Vec::new(),
            seen: Vec::new(),
            swept_ms: i64::MIN,
        }
    }

    /// Datagrams that will be decoded next, in this order: what they need is brought near in time.
    pub fn expect<'d>(&mut self, datagrams: impl Iterator<Item = (SocketAddr, &'d [u8])>) {
        self.ahead.clear();
        self.arrived = 0;
        if self.sources.len() <= NEAR_EXPORTERS {
            return;
        }
        let sources = &self.sources;
        // The searches do not depend on each other, so that they overlap.
        self.ahead.extend(datagrams.map(|(source, payload)| {
            let set_at = match payload {
                [0, 9, ..] => netflow9::HEADER_LEN,
                [0, 10, ..] => ipfix::HEADER_LEN,
                _ => return Near::default(),
            };
            let known = sources.get(&Address::from(source.ip()));
            let set = payload.get(set_at..set_at + 2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
            known.map_or(Near::default(), |known| Near { set, ..known.near })
        }));
        self.ahead.iter().take(AHEAD).for_each(Near::prefetch);
    }

    /// Appends the rows of a datagram to `out`. Takes any bytes.
    pub fn datagram(&mut self, source: SocketAddr, received_ms: i64, payload: &[u8], out: &mut FlowBuilder) {
        if let Some(near) = self.ahead.get(self.arrived + AHEAD) {
            near.prefetch();
        }
        self.arrived += 1;
        if received_ms.saturating_sub(self.swept_ms) >= SWEEP_MS {
            self.swept_ms = received_ms;
            self.shared.sweep(received_ms, &self.counters);
        }
        let source = Address::from(source.ip());
        match payload {
            [0, 10, ..] => self.ipfix(source, Session::NONE, received_ms, payload, out),
            [0, 9, ..] => self.netflow9(source, received_ms, payload, out),
            [0, 5, ..] => self.netflow5(Protocol::NetFlow5, source, received_ms, payload, out),
            [0, 0, 0, 2 | 4 | 5, ..] => self.sflow(source, received_ms, payload, out),
            [0, 1, ..] => self.netflow5(Protocol::NetFlow1, source, received_ms, payload, out),
            [0, 7, ..] => self.netflow5(Protocol::NetFlow7, source, received_ms, payload, out),
            _ => self.refuse(source, Cause::UnknownProtocol),
        }
    }

    /// Appends the rows of an IPFIX message that came in a session (RFC 7011 10.4).
    pub fn session_message(
        &mut self,
        source: SocketAddr,
        session: Session,
        received_ms: i64,
        payload: &[u8],
        out: &mut FlowBuilder,
    ) {
        self.ipfix(Address::from(source.ip()), session, received_ms, payload, out);
    }

    /// The session is over, and with it what was said in it.
    pub fn end_session(&mut self, source: SocketAddr, session: Session) {
        self.shared.end_session(Address::from(source.ip()), session, &self.counters);
    }

    /// Counts a datagram that nothing could be read of; such a one makes no exporter known.
    fn refuse(&mut self, source: Address, cause: Cause) {
        self.counters.add(cause, 1);
        match self.shared.known(source) {
            Some(exporter) => exporter.state.lock().stats.errors.add(cause, 1),
            None => self.shared.refuse(cause),
        }
    }

    fn netflow5(
        &mut self,
        protocol: Protocol,
        source: Address,
        received_ms: i64,
        payload: &[u8],
        out: &mut FlowBuilder,
    ) {
        let Ok(datagram) = netflow5::parse(payload) else {
            return self.refuse(source, Cause::Truncated);
        };
        // Versions 1 and 7 are rare, and other protocols begin with such octets.
        if protocol != Protocol::NetFlow5 && !(1..=30).contains(&datagram.header.count) {
            return self.refuse(source, Cause::UnknownProtocol);
        }
        let Some(Source { exporter, .. }) = known(&mut self.sources, &self.shared, &self.counters, source) else {
            return;
        };
        let mut state = exporter.state.lock();
        state.stats.datagram(protocol, received_ms, payload.len());
        let header = &datagram.header;
        let domain = u32::from(header.engine_type) << 8 | u32::from(header.engine_id);
        let records = datagram.records.len() / datagram.record_len;
        let mut base = 0;
        let key = DomainKey { protocol, domain, session: Session::NONE };
        if let Some(number) = header.flow_sequence {
            let Some(domain) = state.domain(key, self.shared.config.domains_max) else {
                return count(&self.counters, &mut state, key, Cause::TemplateLimit, 1);
            };
            domain.datagrams += 1;
            domain.records += records as u64;
            let step = domain.sequence.arrive(number, Some(header.sys_uptime_ms));
            domain.sequence.advance(number, step, Some(header.count.into()));
            base |= after_gap(step);
        }
        // The header's interval; 0 means 1, where configuration does not know better.
        let sampling = match (header.sampling_interval().and_then(|one| Fraction::one_of(one.into())), protocol) {
            (Some(fraction), _) => Sampling::new(fraction, SamplingSource::Header),
            (None, Protocol::NetFlow5) if exporter.configured.is_none() && exporter.interfaces.is_none() => {
                Sampling::new(Fraction::ONE, SamplingSource::Header)
            }
            (None, _) => exporter.fallback(),
        };
        state.stats.sampling = Some(sampling);
        let context = Context {
            shared: &self.shared,
            received_ms,
            exporter_id: exporter.exporter.id,
            exporter: exporter.address,
            udp_source: source.into(),
            domain,
            export_ms: header.export_ms(),
            clock: Clock::Uptime(header.sys_uptime_ms),
            sampling,
            samplers: &self.no_samplers,
            samplers_0: None,
            interfaces: exporter.interfaces.as_deref(),
            longest_ms: i64::from(self.shared.config.active_timeout_s) * 1000,
            exporter_from_record: false,
            quality: base,
        };
        let plan = match protocol {
            Protocol::NetFlow1 => &self.fixed[0],
            Protocol::NetFlow7 => &self.fixed[2],
            _ => &self.fixed[1],
        };
        if let Some(plan) = plan {
            let rows = Rows::new(datagram.records, datagram.record_len);
            state.stats.records += plan.fill(rows, datagram.records, &context, &mut self.scratch, out) as u64;
        }
        if datagram.missing > 0 {
            count(&self.counters, &mut state, key, Cause::Truncated, datagram.missing as u64);
        } else if records == 0 {
            count(&self.counters, &mut state, key, Cause::Empty, 1);
        }
    }

    fn netflow9(&mut self, source: Address, received_ms: i64, payload: &[u8], out: &mut FlowBuilder) {
        let Ok((header, body)) = netflow9::header(payload) else {
            return self.refuse(source, Cause::Truncated);
        };
        let message = Message {
            key: DomainKey { protocol: Protocol::NetFlow9, domain: header.source_id, session: Session::NONE },
            received_ms,
            export_ms: i64::from(header.unix_secs) * 1000,
            clock: Clock::Uptime(header.sys_uptime_ms),
            udp_source: source.into(),
            quality: 0,
        };
        self.message(source, message, header.sequence, Some(header.sys_uptime_ms), payload.len(), body, false, out);
    }

    fn ipfix(&mut self, source: Address, session: Session, received_ms: i64, payload: &[u8], out: &mut FlowBuilder) {
        let (header, body) = match ipfix::header(payload) {
            Ok(message) => message,
            Err(error) => {
                let truncated = matches!(error.why, Why::Truncated { .. });
                return self.refuse(source, if truncated { Cause::Truncated } else { Cause::SetLength });
            }
        };
        let message = Message {
            key: DomainKey { protocol: Protocol::Ipfix, domain: header.domain, session },
            received_ms,
            export_ms: i64::from(header.export_secs) * 1000,
            clock: Clock::Unknown,
            udp_source: source.into(),
            quality: 0,
        };
        let cut = usize::from(header.length) > payload.len();
        self.message(source, message, header.sequence, None, payload.len(), body, cut, out);
    }

    fn message(
        &mut self,
        source: Address,
        mut message: Message,
        number: u32,
        uptime_ms: Option<u32>,
        octets: usize,
        body: &[u8],
        cut: bool,
        out: &mut FlowBuilder,
    ) {
        let Self { sources, shared, counters, scratch, rewritten, .. } = self;
        let Some(Source { exporter, near }) = known(sources, shared, counters, source) else { return };
        let mut state = exporter.state.lock();
        let state = &mut *state;
        state.stats.datagram(message.key.protocol, message.received_ms, octets);
        let mut work = Work { shared, counters, exporter, scratch, rewritten, out };
        let Some(domain) = state.domain(message.key, shared.config.domains_max) else {
            return work.count(state, message.key, Cause::TemplateLimit, 1);
        };
        domain.datagrams += 1;
        let step = domain.sequence.arrive(number, uptime_ms);
        message.quality |= after_gap(step);
        let before = state.stats.records;
        let mut records = work.sets(state, &message, body);
        if cut {
            work.count(state, message.key, Cause::Truncated, 1);
            records = None;
        }
        let rows = state.stats.records - before;
        if let Some(domain) = state.domains.get_mut(&message.key) {
            domain.sequence.advance(number, step, records);
            domain.records += rows;
            *near = Near {
                exporter: std::ptr::from_ref::<ExporterState>(exporter).addr(),
                domain: std::ptr::from_ref::<Domain>(domain).addr(),
                templates: domain.templates.near(),
                keys: state.domains.near(),
                unmapped: state.unmapped.near(),
                set: 0,
            };
        }
    }

    fn sflow(&mut self, source: Address, received_ms: i64, payload: &[u8], out: &mut FlowBuilder) {
        let datagram = match sflow::parse(payload) {
            Ok(datagram) => datagram,
            Err(error) => {
                let truncated = matches!(error.why, Why::Truncated { .. });
                return self.refuse(source, if truncated { Cause::Truncated } else { Cause::SampleInvalid });
            }
        };
        // The agent's own name for itself, where it has one.
        let unknown = datagram.agent == [0; 16] || datagram.agent == Address::from_v4([0; 4]).0;
        let agent = if unknown { source } else { Address(datagram.agent) };
        let Some(Source { exporter, .. }) = known(&mut self.sources, &self.shared, &self.counters, agent) else {
            return;
        };
        let mut state = exporter.state.lock();
        let protocol = match datagram.version {
            2 => Protocol::Sflow2,
            4 => Protocol::Sflow4,
            _ => Protocol::Sflow5,
        };
        state.stats.datagram(protocol, received_ms, payload.len());
        let key = DomainKey { protocol, domain: datagram.sub_agent, session: Session::NONE };
        let Some(domain) = state.domain(key, self.shared.config.domains_max) else {
            return count(&self.counters, &mut state, key, Cause::TemplateLimit, 1);
        };
        domain.datagrams += 1;
        let step = domain.sequence.arrive(datagram.sequence, Some(datagram.uptime_ms));
        domain.sequence.advance(datagram.sequence, step, Some(1));
        self.seen.clear();
        let mut samples = 0u64;
        for sample in datagram.samples() {
            samples += 1;
            let outcome = sample.map_or_else(
                |error| {
                    Err(if matches!(error.why, Why::Truncated { .. }) {
                        Cause::Truncated
                    } else {
                        Cause::SampleInvalid
                    })
                },
                |sample| Ok(samples::read(&sample, exporter)),
            );
            let cause = match outcome {
                Ok(Outcome::Flow(seen)) => {
                    self.seen.push(seen);
                    continue;
                }
                Ok(Outcome::Counters) => {
                    state.stats.counter_samples += 1;
                    continue;
                }
                Ok(Outcome::Drop) => Cause::SampleDrop,
                Ok(Outcome::Unknown) => Cause::SampleUnknown,
                Ok(Outcome::Invalid) => Cause::SampleInvalid,
                Err(cause) => cause,
            };
            count(&self.counters, &mut state, key, cause, 1);
        }
        if samples == 0 {
            count(&self.counters, &mut state, key, Cause::Empty, 1);
        }
        let agent = Agent {
            received_ms,
            exporter_id: exporter.exporter.id,
            exporter: exporter.address,
            udp_source: source.into(),
            sub_agent: datagram.sub_agent,
            quality: after_gap(step),
        };
        samples::fill(&agent, &self.seen, out);
        state.stats.records += self.seen.len() as u64;
        if let Some(domain) = state.domains.get_mut(&key) {
            domain.records += self.seen.len() as u64;
        }
        if let Some(seen) = self.seen.last() {
            state.stats.sampling = Some(seen.sampling());
        }
    }
}

/// The exporter of an address, new where it has to be; `None`, and counted, where there are too many.
fn known<'s>(
    sources: &'s mut Sources,
    shared: &Shared,
    counters: &Counters,
    address: Address,
) -> Option<&'s mut Source> {
    use std::collections::hash_map::Entry;
    match sources.entry(address) {
        Entry::Occupied(known) => Some(known.into_mut()),
        Entry::Vacant(new) => {
            let Some(exporter) = shared.exporter(address) else {
                counters.add(Cause::ExporterLimit, 1);
                shared.refuse(Cause::ExporterLimit);
                return None;
            };
            Some(new.insert(Source { exporter, near: Near::default() }))
        }
    }
}

fn count(counters: &Counters, state: &mut State, key: DomainKey, cause: Cause, count: u64) {
    state.count(key, cause, count);
    counters.add(cause, count);
}

fn after_gap(step: Step) -> u64 {
    match step {
        Step::Gap(_) => quality::AFTER_GAP,
        _ => 0,
    }
}

/// Fields of a fixed record, as (IPFIX element, octets); 0 is padding.
type Fields = &'static [(u16, u16)];

const FIELDS_5: Fields = &[
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 2),
    (14, 2),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (0, 1),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 2),
    (17, 2),
    (9, 1),
    (13, 1),
    (0, 2),
];

const FIELDS_1: Fields = &[
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 2),
    (14, 2),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (0, 2),
    (4, 1),
    (5, 1),
    (6, 1),
    (0, 11),
];

const FIELDS_7: Fields = &[
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 2),
    (14, 2),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (0, 1),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 2),
    (17, 2),
    (9, 1),
    (13, 1),
    (0, 6),
];

fn plan_of(fields: Fields) -> Option<Plan> {
    let fields = fields.iter().map(|(element, length)| Field { element: *element, enterprise: 0, length: *length });
    Plan::new(&Layout::new(fields, Purpose::Flows)?.fields, &[])
}
