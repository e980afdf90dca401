//! What exporters said about their data, as it outlives a restart: many repeat
//! their templates every half hour, and until then nothing of theirs could be read.

use benocs_model::Address;
use benocs_wire::ipfix;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::labels::KeptLabel;
use super::sampling::Samplers;
use super::sets;
use super::shared::{DomainKey, Protocol, Session, Shared, Template};

/// Templates, samplers and names of one observation domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptDomain {
    pub exporter: Address,
    pub protocol: Protocol,
    pub domain: u32,
    templates: Vec<KeptTemplate>,
    samplers: Samplers,
    init_ms: Option<i64>,
    labels: Vec<KeptLabel>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptTemplate {
    id: u16,
    options: bool,
    enterprise_bit: bool,
    field_count: u16,
    scope_count: u16,
    fields: Vec<u8>,
}

impl KeptDomain {
    /// Nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }
}

/// Domains that changed since somebody asked.
#[derive(Default)]
pub(crate) struct Changes(Mutex<std::collections::HashSet<(Address, DomainKey), ahash::RandomState>>);

impl Changes {
    /// Bounded by the domains that there are.
    pub(crate) fn note(&self, exporter: Address, key: DomainKey) {
        self.0.lock().insert((exporter, key));
    }
}

impl Shared {
    /// What changed since the last call, as it is now.
    pub fn take_changes(&self) -> Vec<KeptDomain> {
        let changed = std::mem::take(&mut *self.changes.0.lock());
        changed.into_iter().filter_map(|(exporter, key)| self.kept(exporter, key)).collect()
    }

    fn kept(&self, exporter: Address, key: DomainKey) -> Option<KeptDomain> {
        let known = self.known(exporter)?;
        let state = known.state.lock();
        let mut kept = KeptDomain {
            exporter,
            protocol: key.protocol,
            domain: key.domain,
            templates: Vec::new(),
            samplers: Samplers::default(),
            init_ms: None,
            labels: Vec::new(),
        };
        // A domain that made room for another is kept as an empty one.
        if let Some(domain) = state.domains.get(&key) {
            kept.templates = domain.templates.iter().map(|(id, template)| keep(id, template)).collect();
            kept.samplers = domain.samplers.clone();
            kept.init_ms = domain.init_ms;
            kept.labels = domain.labels.keep();
        }
        Some(kept)
    }

    /// Takes up what an earlier start learned, within the bounds of this one.
    pub fn restore(&self, kept: KeptDomain) {
        let Some(exporter) = self.known(kept.exporter) else { return };
        let key = DomainKey { protocol: kept.protocol, domain: kept.domain, session: Session::NONE };
        let mut state = exporter.state.lock();
        if state.domain(key, self.config.domains_max).is_none() {
            return;
        }
        for template in &kept.templates {
            let template = ipfix::Template {
                id: template.id,
                options: template.options,
                field_count: template.field_count.into(),
                scope_count: template.scope_count.into(),
                fields: &template.fields,
                enterprise_bit: template.enterprise_bit,
            };
            // What does not fit comes again from the exporter, and is counted then.
            let _ = sets::learn(self, &mut state, key, &template);
        }
        if let Some(domain) = state.domains.get_mut(&key) {
            domain.samplers = kept.samplers;
            domain.init_ms = kept.init_ms;
            let known = kept.labels.iter().filter(|label| domain.templates.contains(label.template));
            for label in known {
                let (Some(key), (name, description)) = (label.key(), label.texts()) else { continue };
                let reserve = |more| self.reserve_labels(more);
                let max = self.config.labels_max;
                let _ = domain.labels.put(key, name, description, label.template, max, reserve);
            }
            self.labels_changed();
        }
    }
}

fn keep(id: u16, template: &Template) -> KeptTemplate {
    KeptTemplate {
        id,
        options: template.options,
        enterprise_bit: template.enterprise_bit,
        field_count: template.field_count as u16,
        scope_count: template.scope_count as u16,
        fields: template.specifiers.to_vec(),
    }
}
