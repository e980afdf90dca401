//! The store's worker.
//!
//!   enricher (1..n)  --StoreInput::Flows-->   [store] --Commit--> logs (1..n), aggregator, links
//!   aggregator (1)   --StoreInput::Rollups-->    |
//!   table owners     --StoreInput::Table-->      +--snapshot--> StoreReader (questions), Publisher (of a copy)
//!
//!   link (1) --StoreInput::Copied--> [store, a copy] --snapshot--> StoreReader (questions)
//!
//! Commits are cumulative and are offered, never waited for: one that finds a
//! mailbox full is said again with the next.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use benocs_model::message::{Commit, StoreInput, Stream};
use benocs_runtime::{Context, Fatal, Handle, Outbox, Restart, Settings, Worker};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::StoreError;
use crate::store::Store;

/// Files are looked at for retention and merging this often.
const MAINTENANCE: Duration = Duration::from_secs(5);

pub struct StoreWorker {
    store: Store,
    commits: Vec<Outbox<Commit>>,
    /// By outbox: a commit that it has not taken.
    owed: Vec<bool>,
    maintained: Option<Instant>,
}

impl StoreWorker {
    pub fn new(store: Store, commits: Vec<Outbox<Commit>>) -> Self {
        Self { store, owed: vec![true; commits.len()], commits, maintained: None }
    }

    fn tell(&mut self) {
        if !self.owed.iter().any(|owed| *owed) {
            return;
        }
        let snapshot = self.store.snapshot();
        for (outbox, owed) in self.commits.iter().zip(&mut self.owed) {
            if !*owed {
                continue;
            }
            let said = [Stream::Flows, Stream::Rollups]
                .into_iter()
                .all(|stream| outbox.offer(Commit { stream, cursors: snapshot.cursors(stream).clone() }).is_ok());
            *owed = !said;
            if !said {
                self.store.metrics().commits_deferred.increment(1);
            }
        }
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        if self.store.commit()? {
            self.owed.fill(true);
        }
        self.tell();
        Ok(())
    }

    fn maintain(&mut self) -> anyhow::Result<()> {
        if self.maintained.is_some_and(|at| at.elapsed() < MAINTENANCE) {
            return Ok(());
        }
        self.maintained = Some(Instant::now());
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        self.store.retain(now_ms)?;
        self.store.compact(now_ms)?;
        Ok(())
    }
}

impl Worker for StoreWorker {
    type Message = StoreInput;

    fn start(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        self.tell();
        Ok(())
    }

    fn handle(&mut self, message: StoreInput, _: &mut Context<Self>) -> anyhow::Result<()> {
        let is_full = match self.store.accept(message) {
            // What another machine sent ends no process; the state before stays.
            Err(error @ StoreError::Copy { .. }) => {
                tracing::error!(%error, "the front end's copy does not go on");
                self.store.metrics().refused.increment(1);
                false
            }
            taken => taken?,
        };
        if is_full || self.store.is_due() {
            self.commit()?;
        }
        Ok(())
    }

    fn tick(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        if self.store.is_due() {
            self.commit()?;
        }
        self.tell();
        self.maintain()
    }

    fn drain(&mut self, _: &mut Context<Self>) -> anyhow::Result<()> {
        self.commit()?;
        self.store.finish_merge(true)?;
        Ok(())
    }
}

/// Starts the worker. A panic ends the process: the logs replay what was not committed.
pub fn spawn(
    store: Store,
    capacity: usize,
    commits: Vec<Outbox<Commit>>,
    fatal: UnboundedSender<Fatal>,
) -> Handle<StoreInput> {
    let tick = Duration::from_millis((store.config().flush_ms / 4).clamp(10, 250));
    let settings = Settings { name: "store", capacity, tick, restart: Restart::Never };
    let mut worker = Some(StoreWorker::new(store, commits));
    benocs_runtime::spawn(settings, fatal, move || {
        worker.take().ok_or_else(|| anyhow::anyhow!("the store is not opened twice in a process: restart it"))
    })
}
