//! Settings of the link; who talks to whom is in `roles.toml`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Kept for a receiver that has not committed it yet, in octets; when full, senders wait.
    pub window_octets_max: usize,
    /// Largest message taken, in octets.
    pub message_octets_max: usize,
    /// Bound of each mailbox, in batches.
    pub mailbox_batches: usize,
    /// Longest time for a connection with its handshakes, in milliseconds.
    pub connect_ms_max: u64,
    /// First and longest pause before another attempt, in milliseconds.
    pub retry_ms_min: u64,
    pub retry_ms_max: u64,
    /// A silent connection is probed this often, and given up as long after, in milliseconds.
    pub keepalive_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_octets_max: 512 << 20,
            message_octets_max: 64 << 20,
            mailbox_batches: 16,
            connect_ms_max: 10_000,
            retry_ms_min: 100,
            retry_ms_max: 10_000,
            keepalive_ms: 10_000,
        }
    }
}
