//! Settings of the decoder.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::mapping::{self, MapConfig};

/// `[collector.decode]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is known of exporters; others may send too.
    pub exporters: Vec<ExporterConfig>,
    /// Longest flow that is believed, in seconds; longer ones are shortened and flagged.
    pub active_timeout_s: u32,
    /// Exporters that are remembered; datagrams of further ones are dropped and counted.
    pub exporters_max: usize,
    /// Observation domains of one exporter.
    pub domains_max: usize,
    /// Templates of one exporter, over all of its domains.
    pub templates_max: usize,
    /// Fields of one template.
    pub template_fields_max: usize,
    /// Samplers of one domain.
    pub samplers_max: usize,
    /// Names of interfaces, VRFs and applications that one domain may tell in options.
    pub labels_max: usize,
    /// Octets of all such names, over all exporters.
    pub labels_octets_total_max: usize,
    /// Elements without a column that are counted by number, per exporter; further ones are counted as one.
    pub unmapped_max: usize,
    /// Data that waits for its template, per exporter, in octets.
    pub pending_octets_max: usize,
    /// The same, over all exporters, in octets.
    pub pending_octets_total_max: usize,
    /// How long data waits for its template, in seconds.
    pub pending_age_s: u32,
    /// How long the collector may have been away for templates of before to be still believed, in seconds.
    pub template_keep_s: u32,
    /// Believe exporterIPv4Address and exporterIPv6Address (130, 131) in records and options.
    pub exporter_address_from_record: bool,
    /// Elements and the columns of the flow row that they fill, over what is built in.
    pub map: Vec<MapConfig>,
    /// What is known of interfaces; `[[interface]]` fills it.
    #[serde(skip)]
    pub interfaces: Vec<InterfaceConfig>,
}

impl Config {
    /// What the types cannot hold, in one line.
    pub fn check(&self) -> Result<(), String> {
        mapping::check(&self.map).map(drop)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            exporters: Vec::new(),
            active_timeout_s: 3600,
            exporters_max: 20_000,
            domains_max: 256,
            templates_max: 2_048,
            template_fields_max: 512,
            samplers_max: 1_024,
            labels_max: 16_384,
            labels_octets_total_max: 16 << 20,
            unmapped_max: 256,
            pending_octets_max: 256 << 10,
            pending_octets_total_max: 64 << 20,
            pending_age_s: 1_800,
            template_keep_s: 3_600,
            exporter_address_from_record: true,
            map: Vec::new(),
            interfaces: Vec::new(),
        }
    }
}

/// `[[exporter]]`, as far as decoding is concerned.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExporterConfig {
    /// Source address of its datagrams (sFlow: agent address).
    pub address: IpAddr,
    /// Shown instead of the address.
    #[serde(default)]
    pub name: Option<String>,
    /// One of how many packets it samples, where it does not say so itself.
    #[serde(default)]
    pub sampling: Option<u32>,
}

/// `[[interface]]`, as far as decoding is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    pub exporter: IpAddr,
    pub if_index: u32,
    /// One of how many packets is sampled on it, where the exporter does not say so itself.
    pub sampling: u32,
}
