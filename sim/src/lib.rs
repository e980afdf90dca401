//! Feeds for a network analyser: captures sent again, load at a given rate, and
//! a whole simulated provider whose traffic is known.
//!
//! The encoders here share no code with the product's decoders: they are what
//! the decoders are held against.
//!
//! | module | |
//! |---|---|
//! | [`replay`] | datagrams of a capture file, sent again |
//! | [`generate`] | flow records of one kind, as fast as asked |
//! | [`simulate`] | every feed of a provider, and the truth about its traffic |
//! | [`encode`] | bytes of NetFlow, IPFIX, sFlow, BGP with link state, dnstap |

pub mod as_table;
pub mod encode;
pub mod generate;
pub mod replay;
pub mod simulate;

mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a running command to end early; clones ask the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits until `deadline`, or less if asked to stop; false in that case.
    pub(crate) fn wait_until(&self, deadline: std::time::Instant) -> bool {
        const SLICE: std::time::Duration = std::time::Duration::from_millis(100);
        loop {
            if self.is_stopped() {
                return false;
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(SLICE));
        }
    }
}
