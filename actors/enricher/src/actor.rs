//! The enricher: the join, a batch at a time and in order.
//!
//!   collector, or link (1) --FlowBatch--> [enricher] --StoreInput::{Table, Flows}--> store (1)
//!                                                    --FlowBatch, joined-----------> aggregator (1)
//!   BGP speaker --RouteView-->  names --NameView-->  Tables -->   (read, never asked)
//!
//! It keeps nothing: what was not stored comes again from the log. Where the
//! store or the aggregator is full it blocks, and so does whoever sends to it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use benocs_model::flow::{self, Column};
use benocs_model::message::{FlowBatch, StoreInput};
use benocs_model::names::NameReader;
use benocs_model::route::RouteReader;
use benocs_model::tables::{TableUpdate, Tables};
use benocs_runtime::{Context, Outbox, Worker};

use crate::config::Config;
use crate::hold::Hold;
use crate::join::Joiner;
use crate::metrics::Metrics;

pub struct Enricher {
    joiner: Joiner,
    hold: Hold<FlowBatch>,
    store: Outbox<StoreInput>,
    aggregator: Outbox<FlowBatch>,
    metrics: Metrics,
    /// The mailbox is taken to be behind from here on.
    backlog_batches: usize,
}

impl Enricher {
    pub fn new(
        config: &Config,
        tables: Arc<Tables>,
        routes: RouteReader,
        names: NameReader,
        store: Outbox<StoreInput>,
        aggregator: Outbox<FlowBatch>,
    ) -> Self {
        Self {
            joiner: Joiner::new(config, tables, routes, names),
            hold: Hold::new(config.dns_wait_ms, config.wait_batches_max),
            store,
            aggregator,
            metrics: Metrics::new(),
            backlog_batches: (config.mailbox_batches / 2).max(1),
        }
    }

    fn release(&mut self, hurry: bool) -> anyhow::Result<()> {
        let hurry = hurry || !self.joiner.names_expected();
        while let Some(batch) = self.hold.pop(now_ms(), hurry) {
            self.forward(batch)?;
        }
        self.metrics.waiting.set(self.hold.len() as f64);
        Ok(())
    }

    fn forward(&mut self, batch: FlowBatch) -> anyhow::Result<()> {
        let joined = self.joiner.join(&batch.rows).context("cannot join a flow batch")?;
        self.metrics.add(&joined.tally);
        if !joined.paths.is_empty() {
            let paths = StoreInput::Table(Arc::new(TableUpdate::Paths(joined.paths)));
            self.store.send_blocking(paths).context("cannot hand paths to the store")?;
        }
        let batch = FlowBatch { rows: joined.rows, ..batch };
        self.store.send_blocking(StoreInput::Flows(batch.clone())).context("cannot hand flows to the store")?;
        self.aggregator.send_blocking(batch).context("cannot hand flows to the aggregator")
    }
}

impl Worker for Enricher {
    type Message = FlowBatch;

    fn handle(&mut self, batch: FlowBatch, context: &mut Context<Self>) -> anyhow::Result<()> {
        let now = now_ms();
        let received = flow::column(&batch.rows, Column::TimeReceived);
        let received = received.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let newest = received.and_then(|times| times.values().iter().copied().max());
        self.hold.push(newest.unwrap_or(now), now, batch);
        self.release(context.outbox().len() >= self.backlog_batches)
    }

    fn tick(&mut self, context: &mut Context<Self>) -> anyhow::Result<()> {
        self.release(context.outbox().len() >= self.backlog_batches)
    }

    fn drain(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        self.release(true)
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
