//! Sets of NetFlow version 9 and IPFIX: templates learned, data decoded, or
//! kept until its template comes.

use benocs_model::flow::builder::FlowBuilder;
use benocs_model::flow::{SamplingSource, quality};
use benocs_wire::error::{Why, WireError};
use benocs_wire::ipfix::{self, FIRST_DATA_SET, Sets};
use benocs_wire::netflow9;

use super::cause::{Cause, Counters};
use super::labels::Put;
use super::layout::{Layout, Purpose, Rows};
use super::mapping::Mapped;
use super::options;
use super::plan::{Clock, Context, Plan, Scratch};
use super::sampling::{Samplers, Sampling};
use super::shared::{
    Domain, DomainKey, ExporterState, Kind, Known, Pending, Protocol, Session, Shared, State, Template,
};
use super::unmapped;

/// A message's header, as far as its sets need it.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    pub(crate) key: DomainKey,
    pub(crate) received_ms: i64,
    pub(crate) export_ms: i64,
    pub(crate) clock: Clock,
    pub(crate) udp_source: benocs_model::flow::builder::Octets16,
    pub(crate) quality: u64,
}

/// One datagram's way through an exporter's state.
pub(crate) struct Work<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) counters: &'a Counters,
    pub(crate) exporter: &'a ExporterState,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) rewritten: &'a mut Vec<u8>,
    pub(crate) out: &'a mut FlowBuilder,
}

impl Work<'_> {
    pub(crate) fn count(&self, state: &mut State, key: DomainKey, cause: Cause, count: u64) {
        state.count(key, cause, count);
        self.counters.add(cause, count);
    }

    /// All sets of a message; how many data records it had, where that can be known.
    pub(crate) fn sets(&mut self, state: &mut State, message: &Message, body: &[u8]) -> Option<u32> {
        let mut records = Some(0u32);
        let mut sets = 0;
        for set in Sets::new(body) {
            sets += 1;
            let set = match set {
                Ok(set) => set,
                Err(error) => {
                    self.count(state, message.key, cause_of(&error, Cause::SetLength), 1);
                    records = None;
                    break;
                }
            };
            if set.missing > 0 {
                self.count(state, message.key, Cause::Truncated, 1);
                records = None;
            }
            match (message.key.protocol, set.id) {
                (Protocol::NetFlow9, netflow9::TEMPLATE_SET | netflow9::OPTIONS_TEMPLATE_SET) => {
                    let options = set.id == netflow9::OPTIONS_TEMPLATE_SET;
                    let templates = netflow9::Templates::new(set.body, options);
                    self.templates(state, message, templates);
                }
                (Protocol::Ipfix, ipfix::TEMPLATE_SET | ipfix::OPTIONS_TEMPLATE_SET) => {
                    let options = set.id == ipfix::OPTIONS_TEMPLATE_SET;
                    let templates = ipfix::Templates::new(set.body, options);
                    self.templates(state, message, templates);
                }
                (_, id) if id >= FIRST_DATA_SET => {
                    let found = self.data(state, message, id, set.body);
                    records = records.zip(found).map(|(sum, more)| sum.saturating_add(more));
                }
                _ => self.count(state, message.key, Cause::SetReserved, 1),
            }
        }
        if sets == 0 {
            self.count(state, message.key, Cause::Empty, 1);
        }
        records
    }

    /// A set of data; its records, `None` where it has to wait for its template.
    fn data(&mut self, state: &mut State, message: &Message, id: u16, body: &[u8]) -> Option<u32> {
        let count = self.known_data(state, message, id, body);
        if count.is_none() {
            self.keep(state, message, id, body);
        }
        count
    }

    /// `None` where its template is not known.
    fn known_data(&mut self, state: &mut State, message: &Message, id: u16, body: &[u8]) -> Option<u32> {
        let State { stats, domains, unmapped, .. } = state;
        let samplers_0 = match message.key.domain {
            0 => None,
            _ => domains.get(&DomainKey { domain: 0, ..message.key }).map(|domain| &domain.samplers),
        };
        let domain = domains.get(&message.key)?;
        let template = domain.templates.get(id)?;
        let (rows, whole) = if template.layout.is_fixed() {
            // What is left and shorter than a record is padding (RFC 7011 3.3.1).
            (Rows::new(body, template.layout.stride), true)
        } else {
            let nested = |id: u16| domain.templates.get(id).map(|template| template.as_received(id));
            let whole = template.layout.rewrite(body, &nested, self.rewritten);
            (Rows::new(self.rewritten, template.layout.stride), whole)
        };
        let count = rows.len() as u32;
        unmapped.add(&template.places, count.into());
        let failed = u64::from(!whole || count == 0);
        let (mut other, mut refused) = (0, 0);
        match &template.kind {
            Kind::Flows(plan) => {
                let context = context(self.shared, self.exporter, domain, samplers_0, message, id);
                stats.sampling = Some(context.sampling);
                stats.records += plan.fill(rows, body, &context, self.scratch, self.out) as u64;
            }
            Kind::Options => {
                stats.options_records += u64::from(count);
                // Bounded: one set's records.
                let said: Vec<_> = options::read(&template.layout, rows, body).collect();
                let mut changed = false;
                refused = self.apply(domains.get_mut(&message.key), id, &said, &mut changed);
                if changed {
                    self.note_change(message.key);
                }
            }
            Kind::Other => other = u64::from(count),
        }
        if failed > 0 {
            self.count(state, message.key, Cause::RecordLength, failed);
        }
        if refused > 0 {
            self.count(state, message.key, Cause::OptionsLimit, refused);
        }
        if other > 0 {
            self.count(state, message.key, Cause::NotAFlow, other);
        }
        Some(count)
    }

    fn note_change(&self, key: DomainKey) {
        if key.session == Session::NONE {
            self.shared.changes.note(self.exporter.exporter.address, key);
        }
    }

    /// Believes options; how many found no room.
    fn apply(&self, domain: Option<&mut Domain>, template: u16, said: &[options::Said<'_>], changed: &mut bool) -> u64 {
        let Some(domain) = domain else { return 0 };
        let config = &self.shared.config;
        let mut refused = 0;
        for said in said {
            if let Some((key, fraction)) = said.sampler {
                *changed |= domain.samplers.get(key) != Some(fraction);
                let room = domain.samplers.set(key, fraction, template, config.samplers_max);
                refused += u64::from(!room);
            }
            *changed |= said.init_ms.is_some() && said.init_ms != domain.init_ms;
            domain.init_ms = said.init_ms.or(domain.init_ms);
            if let Some(address) = said.exporter.filter(|_| config.exporter_address_from_record) {
                let known = domain.exporter.is_some_and(|(_, known)| known == address);
                if !known {
                    domain.exporter = self.shared.exporter_id(address).map(|id| (id, address));
                    self.shared.labels_changed();
                }
            }
            if let Some((key, name, description)) = said.label {
                let reserve = |more| self.shared.reserve_labels(more);
                match domain.labels.put(key, name, description, template, config.labels_max, reserve) {
                    Put::Known => {}
                    Put::Changed => {
                        *changed = true;
                        self.shared.labels_changed();
                    }
                    Put::Refused => refused += 1,
                }
            }
        }
        refused
    }

    /// Keeps a set until its template comes.
    fn keep(&mut self, state: &mut State, message: &Message, id: u16, body: &[u8]) {
        let config = &self.shared.config;
        let fits = state.pending_octets + body.len() <= config.pending_octets_max;
        let Some(domain) = state.domains.get_mut(&message.key) else { return };
        if body.is_empty() || !fits || !self.shared.reserve_pending(body.len()) {
            self.count(state, message.key, if body.is_empty() { Cause::Empty } else { Cause::PendingFull }, 1);
            return;
        }
        domain.pending.entry(id).or_default().push_back(Pending {
            received_ms: message.received_ms,
            export_ms: message.export_ms,
            clock: message.clock,
            quality: message.quality,
            body: body.into(),
        });
        state.pending_octets += body.len();
        state.stats.pending_kept += 1;
    }

    fn templates<'t>(
        &mut self,
        state: &mut State,
        message: &Message,
        templates: impl Iterator<Item = Result<ipfix::Template<'t>, (Option<u16>, WireError)>>,
    ) {
        let mut any = false;
        for template in templates {
            any = true;
            self.template(state, message, template);
        }
        if !any {
            self.count(state, message.key, Cause::Empty, 1);
        }
    }

    fn template(
        &mut self,
        state: &mut State,
        message: &Message,
        template: Result<ipfix::Template<'_>, (Option<u16>, WireError)>,
    ) {
        let template = match template {
            Ok(template) => template,
            Err((id, error)) => {
                // An invalid redefinition takes the earlier one back.
                if let Some(id) = id {
                    self.forget(state, message.key, id);
                }
                self.count(state, message.key, cause_of(&error, Cause::TemplateInvalid), 1);
                return;
            }
        };
        state.stats.templates_received += 1;
        if message.key.protocol == Protocol::Ipfix && template.is_withdrawal() {
            self.withdraw(state, message.key, &template);
            return;
        }
        match learn(self.shared, state, message.key, &template) {
            Ok(changed) => {
                if changed {
                    self.note_change(message.key);
                }
                self.decode_pending(state, message, template.id);
            }
            Err(cause) => {
                self.forget(state, message.key, template.id);
                self.count(state, message.key, cause, 1);
            }
        }
    }

    fn forget(&self, state: &mut State, key: DomainKey, id: u16) {
        let Some(domain) = state.domains.get_mut(&key) else { return };
        if domain.templates.remove(id) {
            forget_said(self.shared, domain, id);
            state.templates -= 1;
            self.note_change(key);
        }
    }

    /// RFC 7011 8.1; ids 2 and 3 mean all templates and all options templates.
    fn withdraw(&self, state: &mut State, key: DomainKey, template: &ipfix::Template<'_>) {
        let Some(domain) = state.domains.get(&key) else { return };
        let all = matches!(template.id, ipfix::TEMPLATE_SET | ipfix::OPTIONS_TEMPLATE_SET);
        let gone = |(id, known): (u16, &Known)| {
            (id == template.id || all && known.options == (template.id == ipfix::OPTIONS_TEMPLATE_SET)).then_some(id)
        };
        let gone: Vec<u16> = domain.templates.iter().filter_map(gone).collect();
        for id in gone {
            self.forget(state, key, id);
        }
    }

    /// What has waited for this template.
    fn decode_pending(&mut self, state: &mut State, message: &Message, id: u16) {
        let waiting = state.domains.get_mut(&message.key).and_then(|domain| domain.pending.remove(&id));
        for set in waiting.into_iter().flatten() {
            state.pending_octets -= set.body.len();
            self.shared.release_pending(set.body.len());
            let message = Message {
                received_ms: set.received_ms,
                export_ms: set.export_ms,
                clock: set.clock,
                quality: set.quality | quality::TEMPLATE_LATE,
                ..*message
            };
            self.known_data(state, &message, id, &set.body);
        }
    }
}

/// Compiles a template; whether it says anything new.
pub(crate) fn learn(
    shared: &Shared,
    state: &mut State,
    key: DomainKey,
    template: &ipfix::Template<'_>,
) -> Result<bool, Cause> {
    let config = &shared.config;
    let Some(domain) = state.domains.get_mut(&key) else { return Err(Cause::TemplateLimit) };
    let known = domain.templates.get(template.id);
    if known.is_some_and(|known| known.says(template)) {
        return Ok(false);
    }
    if template.field_count > config.template_fields_max || known.is_none() && state.templates >= config.templates_max {
        return Err(Cause::TemplateLimit);
    }
    let compiled = shared.compiled(template, || compile(template, &shared.maps))?;
    // What the earlier options said is stale.
    forget_said(shared, domain, template.id);
    let places = state.unmapped.places(&compiled.unmapped, config.unmapped_max);
    if !domain.templates.insert(template.id, Known { compiled, places }) {
        state.templates += 1;
    }
    Ok(true)
}

fn compile(template: &ipfix::Template<'_>, maps: &[Mapped]) -> Result<Template, Cause> {
    let scope = if template.enterprise_bit { 0 } else { template.scope_count };
    let fields = template.fields().enumerate().map(|(at, mut field)| {
        if at < scope {
            field.element = netflow9::scope_element(field.element);
        }
        field
    });
    let purpose = if template.options { Purpose::Options } else { Purpose::Flows };
    let unmapped = unmapped::of(fields.clone(), purpose, maps).into();
    let layout = Layout::new(fields, purpose).ok_or(Cause::TemplateInvalid)?;
    let kind = match purpose {
        Purpose::Options => Kind::Options,
        Purpose::Flows => Plan::new(&layout.fields, maps).map_or(Kind::Other, Kind::Flows),
    };
    Ok(Template {
        specifiers: template.fields.into(),
        field_count: template.field_count,
        enterprise_bit: template.enterprise_bit,
        scope_count: template.scope_count,
        options: template.options,
        layout,
        kind,
        unmapped,
    })
}

/// Takes back what options of a template said.
fn forget_said(shared: &Shared, domain: &mut Domain, template: u16) {
    domain.samplers.forget_template(template);
    let freed = domain.labels.forget_template(template);
    if freed > 0 {
        shared.reserve_labels(-(freed as isize));
        shared.labels_changed();
    }
}

fn context<'c>(
    shared: &'c Shared,
    exporter: &'c ExporterState,
    domain: &'c Domain,
    samplers_0: Option<&'c Samplers>,
    message: &Message,
    template: u16,
) -> Context<'c> {
    let said = domain
        .samplers
        .of_template(template)
        .or_else(|| samplers_0.and_then(|samplers| samplers.of_template(template)));
    let sampling = match said {
        Some(fraction) => Sampling::new(fraction, SamplingSource::Options),
        None => exporter.fallback(),
    };
    let clock = match (message.clock, domain.init_ms) {
        (Clock::Unknown, Some(init)) => Clock::Init(init),
        (clock, _) => clock,
    };
    let interfaces = exporter.interfaces.as_deref();
    let (exporter_id, exporter) = domain.exporter.unwrap_or((exporter.exporter.id, exporter.address));
    Context {
        shared,
        received_ms: message.received_ms,
        exporter_id,
        exporter,
        udp_source: message.udp_source,
        domain: message.key.domain,
        export_ms: message.export_ms,
        clock,
        sampling,
        samplers: &domain.samplers,
        samplers_0,
        interfaces,
        longest_ms: i64::from(shared.config.active_timeout_s) * 1000,
        exporter_from_record: shared.config.exporter_address_from_record,
        quality: message.quality,
    }
}

fn cause_of(error: &WireError, otherwise: Cause) -> Cause {
    match error.why {
        Why::Truncated { .. } => Cause::Truncated,
        Why::Length(_) | Why::Value(_) => otherwise,
    }
}
