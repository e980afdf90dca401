//! Settings of the enricher.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time that a flow waits for a late DNS answer, in milliseconds; 0 joins at once.
    pub dns_wait_ms: u64,
    /// Batches that wait at most; with more the oldest is joined at once.
    pub wait_batches_max: usize,
    /// Bound of the mailbox, in batches.
    pub mailbox_batches: usize,
    /// A router that exported nothing for this long is taken not to export, in seconds.
    pub coverage_age_s: u64,
    /// Exporters and interfaces of each that are remembered.
    pub exporters_max: usize,
    pub interfaces_max: usize,
    /// Paths that are remembered; about as many as the route table has, 48 octets each.
    pub paths_max: usize,
    /// What exporters export, where it should not be learnt from what arrives.
    pub coverage: Vec<CoverageConfig>,
}

/// One exporter's configuration, as far as counting goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoverageConfig {
    /// Address of the exporter.
    pub exporter: IpAddr,
    /// Exports what comes in, on every interface.
    pub ingress: bool,
    /// Exports what goes out, on every interface.
    pub egress: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dns_wait_ms: 2_000,
            wait_batches_max: 256,
            mailbox_batches: 64,
            coverage_age_s: 900,
            exporters_max: 65_536,
            interfaces_max: 65_536,
            paths_max: 4_000_000,
            coverage: Vec::new(),
        }
    }
}
