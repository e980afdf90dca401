//! Settings of the collector.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::decode;

/// `[collector]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// UDP addresses for NetFlow v5, v9 and IPFIX (sFlow is understood too); one on an IPv6 address takes IPv6 only.
    pub listen: Vec<String>,
    /// Threads, each with a socket of its own, that share an address of `listen`; the kernel spreads exporters.
    pub threads_per_socket: usize,
    /// Networks that may send; empty is everybody. The firewall comes first.
    pub allow: Vec<IpNet>,
    /// Wanted size of a socket's queue in the kernel, in octets.
    pub receive_buffer_octets: usize,
    /// Pause after a small batch of datagrams, so that the next is larger, in milliseconds; 0 is none.
    pub nap_ms: u64,
    /// A batch is sealed when it has so many rows.
    pub batch_rows: usize,
    /// A batch is sealed when it is so old, in milliseconds.
    pub batch_ms: u64,
    /// Sealed batches that wait for the log; beyond, rows are dropped and counted.
    pub queue_batches: usize,
    /// The log is synced to the disk at most this often, in milliseconds.
    pub log_sync_ms: u64,
    /// Size of the log, in octets; when it is full, new rows are refused and counted.
    pub log_octets_max: u64,
    /// Size of a file of the log, in octets.
    pub log_segment_octets: u64,
    /// Memory for batches on their way from the log to the next actor, in octets; beyond, files are read.
    pub log_memory_octets: usize,
    /// Time for everything downstream to take what was received before a stop, in milliseconds.
    pub drain_ms: u64,
    /// How datagrams become rows.
    pub decode: decode::Config,
    /// `[sflow]` of the configuration file.
    #[serde(skip)]
    pub sflow: SflowConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["0.0.0.0:2055".to_owned()],
            threads_per_socket: 1,
            allow: Vec::new(),
            receive_buffer_octets: 32 << 20,
            nap_ms: 5,
            batch_rows: 4096,
            batch_ms: 50,
            queue_batches: 64,
            log_sync_ms: 50,
            log_octets_max: 8 << 30,
            log_segment_octets: 64 << 20,
            log_memory_octets: 64 << 20,
            drain_ms: 10_000,
            decode: decode::Config::default(),
            sflow: SflowConfig::default(),
        }
    }
}

/// `[sflow]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SflowConfig {
    /// UDP addresses for sFlow v5 (the others are understood too).
    pub listen: Vec<String>,
}

impl Default for SflowConfig {
    fn default() -> Self {
        Self { listen: vec!["0.0.0.0:6343".to_owned()] }
    }
}
