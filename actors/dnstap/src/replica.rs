//! A name table behind a mailbox: in dns00's process and wherever flows are joined.
//!
//!   dnstap, or a link (1) --NameBatch--> [names] ~~NameReader~~> enricher (n)

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use benocs_model::names::{NameBatch, NameReader, NameStats, NameTable, Settings as NameSettings};
use benocs_runtime::{Context, Fatal, Handle, Restart, Settings, Worker, metric};
use metrics::{Counter, Gauge};
use tokio::sync::mpsc::UnboundedSender;

const MAILBOX: usize = 64;
const TICK: Duration = Duration::from_millis(200);
/// A part of what is gone is swept so often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A running name table.
#[derive(Debug)]
pub struct Replica {
    pub handle: Handle<NameBatch>,
    pub reader: NameReader,
    stats: Arc<ArcSwap<NameStats>>,
}

impl Replica {
    /// Reads the statistics, for as long as the caller likes.
    pub fn stats(&self) -> impl Fn() -> NameStats + Send + Sync + use<> {
        let stats = self.stats.clone();
        move || **stats.load()
    }
}

/// Starts a name table.
pub fn spawn_replica(settings: NameSettings, fatal: UnboundedSender<Fatal>) -> Replica {
    let table = NameTable::new(settings);
    let reader = table.reader();
    let mut table = Some(table);
    let stats = Arc::new(ArcSwap::from_pointee(NameStats::default()));
    let worker_stats = stats.clone();
    // Readers hold this table: one that is rebuilt would be another one.
    let shell = Settings { name: "names", capacity: MAILBOX, tick: TICK, restart: Restart::Never };
    let handle = benocs_runtime::spawn(shell, fatal, move || {
        let table = table.take().ok_or_else(|| anyhow::anyhow!("the name table was lost"))?;
        Ok(Names::new(table, worker_stats.clone()))
    });
    Replica { handle, reader, stats }
}

struct Names {
    table: NameTable,
    published: Arc<ArcSwap<NameStats>>,
    last: NameStats,
    swept: Instant,
    names: Gauge,
    dropped: [Counter; 3],
}

impl Names {
    fn new(table: NameTable, published: Arc<ArcSwap<NameStats>>) -> Self {
        let dropped = |cause: &'static str| metrics::counter!(metric::DROPPED, "actor" => "names", "cause" => cause);
        Self {
            table,
            published,
            last: NameStats::default(),
            swept: Instant::now(),
            names: metrics::gauge!(metric::DNSTAP_NAMES),
            dropped: [dropped("names_max"), dropped("candidates_max"), dropped("aliases_max")],
        }
    }
}

impl Worker for Names {
    type Message = NameBatch;

    fn handle(&mut self, batch: NameBatch, _: &mut Context<Self>) -> anyhow::Result<()> {
        self.table.apply(&batch);
        self.table.publish();
        Ok(())
    }

    fn tick(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        if self.swept.elapsed() >= SWEEP_EVERY {
            self.swept = Instant::now();
            self.table.publish();
        }
        let stats = self.table.stats();
        self.names.set(stats.names as f64);
        let [evicted, candidates, aliases] = &self.dropped;
        evicted.increment(stats.evicted - self.last.evicted);
        candidates.increment(stats.candidates_evicted - self.last.candidates_evicted);
        aliases.increment(stats.aliases_refused - self.last.aliases_refused);
        self.last = stats;
        self.published.store(Arc::new(stats));
        Ok(())
    }
}
