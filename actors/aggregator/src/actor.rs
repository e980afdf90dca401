//! The aggregator: windows of flows, by dimension.
//!
//!   enricher (1..n) --FlowBatch--> [aggregator] --StoreInput::Rollups--> store (1)
//!
//! It keeps nothing over a restart: batches that the store has no rollups of
//! come again from the log.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use benocs_model::message::{Cursors, FlowBatch, RollupBatch, StoreInput};
use benocs_runtime::{Context, Outbox, Worker};

use crate::config::Config;
use crate::cursor::{Arrival, Progress};
use crate::metrics::Metrics;
use crate::windows::Windows;

pub struct Aggregator {
    config: Config,
    windows: Windows,
    progress: Progress,
    store: Outbox<StoreInput>,
    metrics: Metrics,
    /// When the first batch of the stretch arrived.
    since: Instant,
}

impl Aggregator {
    /// `committed` are the store's cursors of [`benocs_model::message::Stream::Rollups`].
    pub fn new(config: Config, committed: Cursors, store: Outbox<StoreInput>) -> Self {
        Self {
            config,
            windows: Windows::new(),
            progress: Progress::new(committed),
            store,
            metrics: Metrics::new(),
            since: Instant::now(),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.progress.is_empty() {
            return Ok(());
        }
        let (from, upto) = self.progress.take();
        let partials = self.windows.take()?;
        self.metrics.keys.set(0.0);
        let rollups = StoreInput::Rollups(RollupBatch { from, upto, partials });
        self.store.send_blocking(rollups).context("cannot hand rollups to the store")
    }

    fn flush_if_due(&mut self) -> anyhow::Result<()> {
        let full = self.windows.len() >= self.config.keys_max;
        if full || self.since.elapsed() >= Duration::from_millis(self.config.flush_ms) {
            self.flush()?;
        }
        Ok(())
    }
}

impl Worker for Aggregator {
    type Message = FlowBatch;

    fn handle(&mut self, batch: FlowBatch, _context: &mut Context<Self>) -> anyhow::Result<()> {
        let first = self.progress.is_empty();
        match self.progress.arrive(batch.source, batch.seq)? {
            Arrival::Duplicate => self.metrics.duplicate_batches.increment(1),
            Arrival::New => {
                if first {
                    self.since = Instant::now();
                }
                self.windows.add(&batch.rows)?;
                self.metrics.rows.increment(batch.rows.num_rows() as u64);
                self.metrics.keys.set(self.windows.len() as f64);
            }
        }
        self.flush_if_due()
    }

    fn tick(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        self.flush_if_due()
    }

    fn drain(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        self.flush()
    }
}
