//! Who exports what, learnt from what arrives.
//!
//! A record seen coming in over an interface says that the exporter exports that
//! interface's ingress; one seen going out likewise. What was not seen for a while
//! is forgotten. Bounded: what does not fit is taken as not exported.

use ahash::AHashMap;
use benocs_model::address::Address;
use benocs_model::flow::Observation;
use benocs_model::network::Boundary;

use crate::reference::{PortInfo, Reference, SiteId};

/// So many records in a row seen leaving that came over an interface, and none seen
/// entering there, mean that its ingress is not exported though that of others is.
const EGRESS_ONLY_RECORDS: u32 = 1_000;

const NEVER: i64 = i64::MIN;

/// One interface of an exporter.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    pub info: PortInfo,
    ingress_ms: i64,
    egress_only_records: u32,
}

/// What one exporter exports.
#[derive(Debug)]
pub struct Exporter {
    pub address: Address,
    pub site: SiteId,
    ports: AHashMap<u32, Port>,
    /// Last sighting that would show where traffic entered the network, where it left, and any coming in.
    entry_ms: i64,
    exit_ms: i64,
    ingress_ms: i64,
    /// Last record that named an interface where traffic left.
    output_ms: i64,
    /// From configuration: ingress, egress.
    fixed: Option<(bool, bool)>,
    last_ms: i64,
}

/// Bounds and times.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub age_ms: i64,
    pub exporters_max: usize,
    pub ports_max: usize,
}

impl Exporter {
    fn new(address: Address, site: SiteId, fixed: Option<(bool, bool)>) -> Self {
        Self {
            address,
            site,
            ports: AHashMap::new(),
            entry_ms: NEVER,
            exit_ms: NEVER,
            ingress_ms: NEVER,
            output_ms: NEVER,
            fixed,
            last_ms: NEVER,
        }
    }

    /// The interface's facts; `look_up` is asked when it is new.
    #[inline]
    pub fn port(
        &mut self,
        if_index: u32,
        ports_max: usize,
        look_up: impl FnOnce(Address, u32) -> PortInfo,
    ) -> PortInfo {
        if let Some(port) = self.ports.get(&if_index) {
            return port.info;
        }
        let info = look_up(self.address, if_index);
        if self.ports.len() < ports_max {
            self.ports.insert(if_index, Port { info, ingress_ms: NEVER, egress_only_records: 0 });
        }
        info
    }

    /// Learns from one record.
    #[inline]
    pub fn learn(
        &mut self,
        observation: Observation,
        in_if: Option<u32>,
        in_boundary: Boundary,
        out_boundary: Boundary,
        now_ms: i64,
    ) {
        self.last_ms = now_ms;
        let port = in_if.and_then(|in_if| self.ports.get_mut(&in_if));
        if observation == Observation::Egress {
            if let Some(port) = port {
                port.egress_only_records = port.egress_only_records.saturating_add(1);
            }
            if out_boundary != Boundary::External {
                self.entry_ms = now_ms;
            }
            if out_boundary != Boundary::Internal {
                self.exit_ms = now_ms;
            }
        } else {
            if let Some(port) = port {
                port.ingress_ms = now_ms;
                port.egress_only_records = 0;
            }
            self.ingress_ms = now_ms;
            if in_boundary != Boundary::Internal {
                self.entry_ms = now_ms;
            }
            if in_boundary != Boundary::External {
                self.exit_ms = now_ms;
            }
        }
    }

    /// A record named an interface where traffic leaves.
    #[inline]
    pub fn learn_output(&mut self, now_ms: i64) {
        self.output_ms = now_ms;
    }

    /// Its records name where traffic leaves. A probe on a wire writes 0 where it does not know; from a router that
    /// names outputs, 0 is the device itself or nowhere.
    pub fn names_outputs(&self, now_ms: i64, age_ms: i64) -> bool {
        self.output_ms != NEVER && now_ms.saturating_sub(self.output_ms) <= age_ms
    }

    /// It exports what comes in over the interface.
    #[inline]
    pub fn covers_ingress(&self, in_if: Option<u32>, now_ms: i64, age_ms: i64) -> bool {
        if let Some((ingress, _)) = self.fixed {
            return ingress;
        }
        let fresh = |seen_ms: i64| seen_ms != NEVER && now_ms.saturating_sub(seen_ms) <= age_ms;
        match in_if.and_then(|in_if| self.ports.get(&in_if)) {
            Some(port) => {
                fresh(port.ingress_ms) || fresh(self.ingress_ms) && port.egress_only_records < EGRESS_ONLY_RECORDS
            }
            None => fresh(self.ingress_ms),
        }
    }

    /// (shows where traffic enters the network, shows where it leaves).
    pub fn covers_edge(&self, now_ms: i64, age_ms: i64) -> (bool, bool) {
        if let Some((ingress, egress)) = self.fixed {
            return (ingress || egress, ingress || egress);
        }
        let fresh = |seen_ms: i64| seen_ms != NEVER && now_ms.saturating_sub(seen_ms) <= age_ms;
        (fresh(self.entry_ms), fresh(self.exit_ms))
    }
}

/// Everything learnt.
#[derive(Debug)]
pub struct Coverage {
    limits: Limits,
    fixed: AHashMap<Address, (bool, bool)>,
    exporters: Vec<Exporter>,
    index: AHashMap<Address, u32>,
}

impl Coverage {
    pub fn new(limits: Limits, fixed: impl IntoIterator<Item = (Address, (bool, bool))>) -> Self {
        Self { limits, fixed: fixed.into_iter().collect(), exporters: Vec::new(), index: AHashMap::new() }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Number of an exporter; `site` is asked when it is new. A full table makes room for it.
    pub fn number(&mut self, address: Address, site: impl FnOnce(Address) -> SiteId) -> u32 {
        if let Some(number) = self.index.get(&address) {
            return *number;
        }
        let exporter = Exporter::new(address, site(address), self.fixed.get(&address).copied());
        let number = if self.exporters.len() < self.limits.exporters_max.max(1) {
            self.exporters.push(exporter);
            self.exporters.len() - 1
        } else {
            let oldest = self.exporters.iter().enumerate().min_by_key(|(_, held)| held.last_ms);
            let number = oldest.map_or(0, |(number, _)| number);
            self.index.remove(&self.exporters[number].address);
            self.exporters[number] = exporter;
            number
        } as u32;
        self.index.insert(address, number);
        number
    }

    pub fn get(&self, number: u32) -> &Exporter {
        &self.exporters[number as usize]
    }

    pub fn get_mut(&mut self, number: u32) -> &mut Exporter {
        &mut self.exporters[number as usize]
    }

    /// The tables changed: everything is looked up again, what was learnt stays.
    pub fn refresh(&mut self, reference: &mut Reference) {
        for exporter in &mut self.exporters {
            exporter.site = reference.site(exporter.address);
            for (if_index, known) in &mut exporter.ports {
                known.info = reference.port(exporter.address, *if_index);
            }
        }
    }

    /// By site: (shows where traffic enters, shows where it leaves).
    pub fn edges(&self, sites: usize, now_ms: i64, edges: &mut Vec<(bool, bool)>) {
        edges.clear();
        edges.resize(sites, (false, false));
        for exporter in &self.exporters {
            let (entry, exit) = exporter.covers_edge(now_ms, self.limits.age_ms);
            if let Some(edge) = edges.get_mut(exporter.site as usize) {
                *edge = (edge.0 | entry, edge.1 | exit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE_MS: i64 = 900_000;
    const LIMITS: Limits = Limits { age_ms: AGE_MS, exporters_max: 2, ports_max: 2 };

    fn address(last: u8) -> Address {
        Address::from_v4([10, 0, 0, last])
    }

    fn see(exporter: &mut Exporter, observation: Observation, in_if: u32, now_ms: i64) {
        exporter.port(in_if, LIMITS.ports_max, |_, _| PortInfo::UNKNOWN);
        exporter.learn(observation, Some(in_if), Boundary::Unknown, Boundary::Unknown, now_ms);
    }

    #[test]
    fn a_router_that_exports_ingress_covers_its_egress_until_it_proves_otherwise() {
        let mut exporter = Exporter::new(address(1), 0, None);
        see(&mut exporter, Observation::Egress, 1, 0);
        assert!(!exporter.covers_ingress(Some(1), 0, AGE_MS));
        see(&mut exporter, Observation::Ingress, 2, 0);
        assert!(exporter.covers_ingress(Some(1), 0, AGE_MS), "its other interfaces do");
        for _ in 0..EGRESS_ONLY_RECORDS {
            see(&mut exporter, Observation::Egress, 1, 1);
        }
        assert!(!exporter.covers_ingress(Some(1), 1, AGE_MS));
        see(&mut exporter, Observation::Ingress, 1, 2);
        assert!(exporter.covers_ingress(Some(1), 2, AGE_MS));
        assert!(!exporter.covers_ingress(Some(1), 2 + AGE_MS + 1, AGE_MS), "silence is forgotten");
    }

    #[test]
    fn borders_that_export_only_outwards_do_not_show_where_traffic_entered() {
        let mut exporter = Exporter::new(address(1), 0, None);
        exporter.learn(Observation::Egress, Some(1), Boundary::Internal, Boundary::External, 0);
        assert_eq!(exporter.covers_edge(0, AGE_MS), (false, true));
        exporter.learn(Observation::Egress, Some(2), Boundary::External, Boundary::Internal, 0);
        assert_eq!(exporter.covers_edge(0, AGE_MS), (true, true));
    }

    #[test]
    fn configuration_is_not_overruled() {
        let mut coverage = Coverage::new(LIMITS, [(address(1), (false, true))]);
        let number = coverage.number(address(1), |_| 0);
        see(coverage.get_mut(number), Observation::Ingress, 1, 0);
        assert!(!coverage.get(number).covers_ingress(Some(1), 0, AGE_MS));
        assert_eq!(coverage.get(number).covers_edge(0, AGE_MS), (true, true));
    }

    #[test]
    fn bounds_hold() {
        let mut coverage = Coverage::new(LIMITS, []);
        for last in 1..=5 {
            let number = coverage.number(address(last), |_| SiteId::from(last));
            let exporter = coverage.get_mut(number);
            for in_if in 0..5 {
                see(exporter, Observation::Ingress, in_if, i64::from(last));
            }
            assert!(exporter.ports.len() <= 2);
        }
        assert_eq!((coverage.exporters.len(), coverage.index.len()), (2, 2));
        let mut edges = Vec::new();
        coverage.edges(6, 5, &mut edges);
        assert!(edges[5].0 && edges[4].0 && !edges[3].0, "the longest silent made room");
    }
}
