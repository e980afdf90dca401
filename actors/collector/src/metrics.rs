//! Metric handles, taken once; and the same numbers for `status`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use benocs_runtime::metric;
use metrics::{Counter, Gauge};
use serde::Serialize;

use crate::decode::ExporterStatus;
use crate::log::LogStatus;

/// A counter that can be read back.
#[derive(Clone, Debug)]
pub(crate) struct Total {
    counter: Counter,
    value: Arc<AtomicU64>,
}

impl Total {
    fn new(counter: Counter) -> Self {
        Self { counter, value: Arc::default() }
    }

    fn dropped(cause: &'static str) -> Self {
        Self::new(metrics::counter!(metric::DROPPED, "actor" => "collector", "cause" => cause))
    }

    pub(crate) fn add(&self, amount: u64) {
        if amount > 0 {
            self.counter.increment(amount);
            self.value.fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) datagrams: Total,
    pub(crate) octets: Total,
    pub(crate) records: Total,
    pub(crate) acknowledged: Total,
    /// Datagrams.
    pub(crate) dropped_kernel: Total,
    /// Datagrams, and connections.
    pub(crate) dropped_denied: Total,
    /// Datagrams.
    pub(crate) dropped_rate_limited: Total,
    /// Connections: too many were open.
    pub(crate) dropped_sessions: Total,
    /// Connections that sent what is no message.
    pub(crate) dropped_framing: Total,
    pub(crate) session_messages: Total,
    pub(crate) session_octets: Total,
    pub(crate) sessions: Gauge,
    /// Rows: the appender was too slow.
    pub(crate) dropped_mailbox: Total,
    /// Rows.
    pub(crate) dropped_log_full: Total,
    pub(crate) queue: Gauge,
    pub(crate) log_octets: Gauge,
    pub(crate) log_segments: Gauge,
    exporters: Gauge,
    templates: Gauge,
    silent: Gauge,
}

/// Exporters with a label of their own; the sums of all are in `status`.
const EXPORTER_LABELS_MAX: usize = 1000;

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            datagrams: Total::new(metrics::counter!(metric::COLLECTOR_DATAGRAMS)),
            octets: Total::new(metrics::counter!(metric::COLLECTOR_OCTETS)),
            records: Total::new(metrics::counter!(metric::COLLECTOR_RECORDS)),
            acknowledged: Total::new(metrics::counter!(metric::LOG_ACKNOWLEDGED)),
            dropped_kernel: Total::dropped("kernel"),
            dropped_denied: Total::dropped("denied"),
            dropped_rate_limited: Total::dropped("rate_limited"),
            dropped_sessions: Total::dropped("session_limit"),
            dropped_framing: Total::dropped("session_framing"),
            session_messages: Total::new(metrics::counter!(metric::COLLECTOR_SESSION_MESSAGES)),
            session_octets: Total::new(metrics::counter!(metric::COLLECTOR_SESSION_OCTETS)),
            sessions: metrics::gauge!(metric::COLLECTOR_SESSIONS),
            dropped_mailbox: Total::dropped("mailbox"),
            dropped_log_full: Total::dropped("log_full"),
            queue: metrics::gauge!(metric::MAILBOX_BATCHES, "actor" => "collector_log"),
            log_octets: metrics::gauge!(metric::LOG_OCTETS),
            log_segments: metrics::gauge!(metric::LOG_SEGMENTS),
            exporters: metrics::gauge!(metric::COLLECTOR_EXPORTERS),
            templates: metrics::gauge!(metric::COLLECTOR_TEMPLATES),
            silent: metrics::gauge!(metric::COLLECTOR_SILENT),
        }
    }

    /// What is a level, not an event.
    pub(crate) fn standing(&self, log: &LogStatus, exporters: &[ExporterStatus], silent: usize) {
        self.log_octets.set(log.octets as f64);
        self.log_segments.set(log.segments as f64);
        self.silent.set(silent as f64);
        self.exporters.set(exporters.len() as f64);
        self.templates.set(exporters.iter().map(|exporter| exporter.templates).sum::<usize>() as f64);
        let spoke = exporters.iter().filter(|exporter| exporter.last_seen_ms.is_some());
        for exporter in spoke.take(EXPORTER_LABELS_MAX) {
            let address = exporter.address.to_string();
            let sequence = &exporter.sequence;
            let kinds = [("gap", sequence.gaps), ("reorder", sequence.reordered), ("restart", sequence.restarts)];
            for (kind, count) in kinds {
                metrics::counter!(metric::COLLECTOR_SEQUENCE, "exporter" => address.clone(), "kind" => kind)
                    .absolute(count);
            }
            for (cause, count) in &exporter.errors {
                metrics::counter!(metric::COLLECTOR_LOST, "exporter" => address.clone(), "cause" => *cause)
                    .absolute(*count);
            }
            metrics::gauge!(metric::COLLECTOR_EXPORTER_SILENT, "exporter" => address)
                .set(f64::from(u8::from(exporter.silent)));
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            datagrams: self.datagrams.get(),
            octets: self.octets.get(),
            records: self.records.get(),
            acknowledged: self.acknowledged.get(),
            dropped_kernel: self.dropped_kernel.get(),
            dropped_denied: self.dropped_denied.get(),
            dropped_rate_limited: self.dropped_rate_limited.get(),
            dropped_sessions: self.dropped_sessions.get(),
            dropped_framing: self.dropped_framing.get(),
            session_messages: self.session_messages.get(),
            session_octets: self.session_octets.get(),
            dropped_mailbox: self.dropped_mailbox.get(),
            dropped_log_full: self.dropped_log_full.get(),
        }
    }
}

/// Since the process began. What decoding lost is counted there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub datagrams: u64,
    /// Of payloads of datagrams.
    pub octets: u64,
    /// Decoded into rows.
    pub records: u64,
    /// Rows on the disk.
    pub acknowledged: u64,
    /// Datagrams.
    pub dropped_kernel: u64,
    /// Datagrams, and connections.
    pub dropped_denied: u64,
    /// Datagrams.
    pub dropped_rate_limited: u64,
    /// TCP and TLS connections: too many were open.
    pub dropped_sessions: u64,
    /// TCP and TLS connections that sent what is no message.
    pub dropped_framing: u64,
    /// IPFIX messages over TCP and TLS.
    pub session_messages: u64,
    pub session_octets: u64,
    /// Rows.
    pub dropped_mailbox: u64,
    /// Rows.
    pub dropped_log_full: u64,
}
