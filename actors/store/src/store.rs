//! The store: batches in, commits out, exactly once.
//!
//! A batch is known by (source, seq). What is below the cursor has been taken
//! before and is dropped; what is above it means that the log lost something, and
//! ends the process. A commit is: files written and synced, then one manifest
//! record that names them together with the cursors; only then is anybody told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use arrow::array::RecordBatch;
use benocs_model::message::{Copied, Cursors, FlowBatch, RollupBatch, SourceId, StoreInput, Stream};
use benocs_model::tables::Tables;
use benocs_runtime::state::State;

use crate::compact;
use crate::config::Config;
use crate::copy::{self, Holds, Receiving};
use crate::disk::{self, Disk, Fault};
use crate::error::{Result, StoreError};
use crate::file;
use crate::index::Index;
use crate::manifest::{FileMeta, Manifest, Record, Snapshot, Span, Table};
use crate::metrics::Metrics;
use crate::reader::StoreReader;
use crate::rows;
use crate::tables::TableLog;

/// Rows and cursors that the next commit makes durable.
#[derive(Default)]
struct Pending {
    flows: Vec<RecordBatch>,
    rows: usize,
    partials: BTreeMap<i64, Vec<RecordBatch>>,
    partial_rows: usize,
    since: Option<Instant>,
}

/// A merge that runs on a thread of its own.
struct Merge {
    id: u64,
    inputs: Vec<u64>,
    done: mpsc::Receiver<Result<FileMeta>>,
    thread: std::thread::JoinHandle<()>,
}

pub struct Store {
    root: PathBuf,
    config: Config,
    disk: Disk,
    manifest: Manifest,
    index: Index,
    tables: TableLog,
    /// Positions of what was accepted, committed or not.
    accepted_flows: Cursors,
    accepted_rollups: Cursors,
    pending: Pending,
    merge: Option<Merge>,
    /// Of a store that is a copy of another one.
    copy: Option<Receiving>,
    metrics: Metrics,
    reader: StoreReader,
}

impl Store {
    /// Opens or creates the store in `root`; publishes the tables of the last run in `tables`.
    pub fn open(root: &Path, config: Config, state: &State, tables: Arc<Tables>) -> anyhow::Result<Self> {
        Self::open_on(Disk::default(), root, config, state, tables, false)
    }

    /// Opens or creates a copy: it takes what a [`crate::Publisher`] tells of another store, and nothing else.
    pub fn open_copy(root: &Path, config: Config, state: &State, tables: Arc<Tables>) -> anyhow::Result<Self> {
        Self::open_on(Disk::default(), root, config, state, tables, true)
    }

    pub fn open_copy_with_fault(
        root: &Path,
        config: Config,
        state: &State,
        tables: Arc<Tables>,
        fault: Fault,
    ) -> anyhow::Result<Self> {
        Self::open_on(Disk::with_fault(fault), root, config, state, tables, true)
    }

    /// With faults between the steps of a commit, for tests of recovery.
    pub fn open_with_fault(
        root: &Path,
        config: Config,
        state: &State,
        tables: Arc<Tables>,
        fault: Fault,
    ) -> anyhow::Result<Self> {
        Self::open_on(Disk::with_fault(fault), root, config, state, tables, false)
    }

    fn open_on(
        disk: Disk,
        root: &Path,
        config: Config,
        state: &State,
        tables: Arc<Tables>,
        is_copy: bool,
    ) -> anyhow::Result<Self> {
        disk::create_directory(root)?;
        let mut manifest = Manifest::open(root, &disk, config.drop_damaged_files)?;
        let snapshot = manifest.snapshot();
        let copy = if is_copy { Some(Receiving::open(root, &snapshot)?) } else { None };
        if is_copy {
            manifest.begin(&disk)?;
        }
        let (index, rebuilt) = Index::open(state, &snapshot).context("cannot open the store's index")?;
        if rebuilt && !snapshot.files.is_empty() {
            tracing::info!(files = snapshot.files.len(), "rebuilt the index from the manifest");
        }
        let log = TableLog::open(root, tables.clone())?;
        let copied = copy.as_ref().map(|copy| copy.copied_ms.clone());
        let reader = StoreReader::new(manifest.published(), tables, log.names(), config.clone(), copied);
        let store = Self {
            root: root.to_owned(),
            accepted_flows: snapshot.flows.clone(),
            accepted_rollups: snapshot.rollups.clone(),
            config,
            disk,
            manifest,
            index,
            tables: log,
            pending: Pending::default(),
            merge: None,
            copy,
            metrics: Metrics::new(),
            reader,
        };
        store.gauge();
        Ok(store)
    }

    /// What has been committed: everything before it may leave its log.
    pub fn cursors(&self, stream: Stream) -> Cursors {
        self.manifest.snapshot().cursors(stream).clone()
    }

    /// Answers questions from what has been committed.
    pub fn reader(&self) -> StoreReader {
        self.reader.clone()
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.manifest.snapshot()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Of a copy, which files it has: the others are missing.
    pub fn holds(&self) -> Option<Holds> {
        self.copy.as_ref().map(|copy| copy.holds.clone())
    }

    /// Takes a message; true where a commit is due because memory is full.
    pub fn accept(&mut self, input: StoreInput) -> Result<bool> {
        match input {
            StoreInput::Copied(copied) => self.accept_copied(copied)?,
            _ if self.copy.is_some() => {
                return Err(copy::refused("it is no part of a state of the original: a copy takes nothing else"));
            }
            StoreInput::Flows(batch) => self.accept_flows(batch)?,
            StoreInput::Rollups(batch) => self.accept_rollups(batch)?,
            StoreInput::Table(update) => {
                if self.tables.take(&update) {
                    self.pending.since.get_or_insert_with(Instant::now);
                }
            }
        }
        Ok(self.pending.rows >= self.config.pending_rows_max
            || self.pending.partial_rows >= self.config.pending_rows_max)
    }

    fn accept_copied(&mut self, copied: Copied) -> Result<()> {
        let Some(copy) = &mut self.copy else {
            return Err(copy::refused("this store is no copy: it takes rows, not another one's files"));
        };
        match copied {
            Copied::Table { update, .. } => {
                if self.tables.follow(&update) {
                    self.pending.since.get_or_insert_with(Instant::now);
                }
            }
            Copied::File { meta, octets, .. } => {
                let meta = copy::check(&meta, &octets)?;
                if copy.has(meta.id) {
                    return Ok(());
                }
                let path = self.root.join(meta.relative_path());
                path.parent().map_or(Ok(()), disk::create_directory)?;
                self.disk.place(&path, &octets)?;
                copy.arrive(meta);
            }
            Copied::Commit { files, rollups, .. } => self.take_state(files.into_iter().collect(), rollups)?,
        }
        Ok(())
    }

    /// Becomes the original's state of these files, at once or not at all.
    fn take_state(&mut self, files: BTreeSet<u64>, rollups: Cursors) -> Result<()> {
        let Some(copy) = &mut self.copy else { return Ok(()) };
        let before = self.manifest.snapshot();
        let lacking = files.iter().filter(|id| !copy.has(**id)).count();
        if lacking > 0 {
            let all = files.len();
            return Err(copy::refused(format!(
                "{lacking} of {all} files of a state did not come: the one before stays"
            )));
        }
        let record = Record {
            added: files.iter().filter_map(|id| copy.arrived.get(id)).cloned().collect(),
            removed: before.files.keys().filter(|id| !files.contains(id)).copied().collect(),
            rollups: rollups.into_iter().filter(|(source, next)| before.rollups.get(source) != Some(next)).collect(),
            ..Record::default()
        };
        drop(before);
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        // Names are durable before the rows that refer to them.
        self.tables.flush(&self.disk)?;
        let rows = record.added.iter().map(|meta| meta.rows).sum();
        if record != Record::default() {
            self.commit_record(record)?;
            self.metrics.rollup_rows.increment(rows);
            self.metrics.commits.increment(1);
        }
        let left = self.copy.as_mut().map(|copy| copy.committed(files, now_ms)).unwrap_or_default();
        for meta in left {
            let path = self.root.join(meta.relative_path());
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot delete a file that no state of the original has");
            }
        }
        Ok(())
    }

    fn accept_flows(&mut self, batch: FlowBatch) -> Result<()> {
        let expected = self.accepted_flows.get(&batch.source).copied().unwrap_or(0);
        if batch.seq < expected {
            self.metrics.duplicate_batches.increment(1);
            return Ok(());
        }
        if batch.seq > expected {
            return Err(StoreError::Gap { log: batch.source.0, expected, got: batch.seq });
        }
        self.accepted_flows.insert(batch.source, expected + 1);
        self.pending.since.get_or_insert_with(Instant::now);
        if batch.rows.num_rows() > 0 {
            self.pending.rows += batch.rows.num_rows();
            self.pending.flows.push(batch.rows);
        }
        Ok(())
    }

    /// Whole or not at all: every source's stretch begins where the last one ended.
    fn accept_rollups(&mut self, batch: RollupBatch) -> Result<()> {
        let at = |source: &SourceId| self.accepted_rollups.get(source).copied().unwrap_or(0);
        if batch.upto.iter().all(|(source, upto)| *upto <= at(source)) && !batch.upto.is_empty() {
            self.metrics.duplicate_batches.increment(1);
            return Ok(());
        }
        for source in batch.upto.keys() {
            let got = batch.from.get(source).copied().unwrap_or(0);
            if got != at(source) {
                return Err(StoreError::RollupGap { log: source.0, expected: at(source), got });
            }
        }
        self.accepted_rollups.extend(batch.upto);
        self.pending.since.get_or_insert_with(Instant::now);
        for (width_ms, partials) in batch.partials {
            if partials.num_rows() == 0 {
                continue;
            }
            if Table::of_width(width_ms).is_none() {
                tracing::warn!(width_ms, "dropped rollups of a width that has no table");
                continue;
            }
            self.pending.partial_rows += partials.num_rows();
            self.pending.partials.entry(width_ms).or_default().push(partials);
        }
        Ok(())
    }

    /// True where something has waited long enough.
    pub fn is_due(&self) -> bool {
        self.pending.since.is_some_and(|since| since.elapsed() >= Duration::from_millis(self.config.flush_ms))
    }

    /// Makes everything accepted so far durable; false where there was nothing.
    pub fn commit(&mut self) -> Result<bool> {
        let pending = std::mem::take(&mut self.pending);
        if pending.since.is_none() {
            return Ok(false);
        }
        // Names are durable before the rows that refer to them.
        self.tables.flush(&self.disk)?;
        let mut record = Record::default();
        if !pending.flows.is_empty() {
            let joined = rows::join_flows(&pending.flows)?;
            drop(pending.flows);
            self.write_partitions(Table::Flows, "time_received", joined, &mut record)?;
        }
        for (width_ms, partials) in pending.partials {
            let Some(table) = Table::of_width(width_ms) else { continue };
            let summed = rows::sum_rollups(&partials)?;
            self.write_partitions(table, "window", summed, &mut record)?;
        }
        let before = self.manifest.snapshot();
        let moved = |accepted: &Cursors, committed: &Cursors| -> Cursors {
            let changed = accepted.iter().filter(|(source, next)| committed.get(source) != Some(next));
            changed.map(|(source, next)| (*source, *next)).collect()
        };
        record.flows = moved(&self.accepted_flows, &before.flows);
        record.rollups = moved(&self.accepted_rollups, &before.rollups);
        drop(before);
        if record == Record::default() {
            return Ok(false);
        }
        let count = |flows: bool| -> u64 {
            record.added.iter().filter(|meta| (meta.table == Table::Flows) == flows).map(|meta| meta.rows).sum()
        };
        let (flow_rows, rollup_rows) = (count(true), count(false));
        self.commit_record(record)?;
        self.metrics.rows.increment(flow_rows);
        self.metrics.rollup_rows.increment(rollup_rows);
        self.metrics.commits.increment(1);
        Ok(true)
    }

    fn write_partitions(&mut self, table: Table, time: &str, batch: RecordBatch, record: &mut Record) -> Result<()> {
        for (partition, picked) in rows::by_partition(&batch, time, table.partition_ms()) {
            let part = match &picked {
                Some(numbers) => rows::pick(&batch, numbers)?,
                None => batch.clone(),
            };
            let none = Span { min: 0, max: 0 };
            let span = |name| rows::span(&part, name).unwrap_or(none);
            let (first, last, received) = if table == Table::Flows {
                (span("first"), span("last"), span("time_received"))
            } else {
                (span("window"), span("window"), span("window"))
            };
            let mut meta = FileMeta {
                id: self.manifest.next_id(),
                table,
                partition,
                rows: part.num_rows() as u64,
                octets: 0,
                crc32: 0,
                level: 0,
                first,
                last,
                received,
                batches: rows::batch_ranges(&part),
            };
            compact::write(&mut meta, &part, &self.root, self.config.zstd_level, &self.disk)?;
            record.added.push(meta);
        }
        Ok(())
    }

    fn commit_record(&mut self, record: Record) -> Result<()> {
        let (added, removed) = (record.added.clone(), record.removed.clone());
        self.manifest.commit(record, &self.disk)?;
        // The manifest is the truth: an index that cannot be written is rebuilt at the next start.
        if let Err(error) = self.index.apply(&added, &removed, &self.manifest.snapshot()) {
            tracing::warn!(%error, "cannot update the store's index");
        }
        self.gauge();
        Ok(())
    }

    fn gauge(&self) {
        let snapshot = self.manifest.snapshot();
        self.metrics.files.set(snapshot.files.len() as f64);
        self.metrics.octets.set(snapshot.files.values().map(|file| file.meta.octets).sum::<u64>() as f64);
    }

    /// Removes what is older than its table's retention; the number of files. A copy keeps what its original keeps.
    pub fn retain(&mut self, now_ms: i64) -> Result<usize> {
        if self.copy.is_some() {
            return Ok(0);
        }
        let snapshot = self.manifest.snapshot();
        let seconds = |table| match table {
            Table::Flows => self.config.retention_flows_s,
            Table::Rollup1m => self.config.retention_rollup_1m_s,
            Table::Rollup5m => self.config.retention_rollup_5m_s,
        };
        let mut removed: Vec<u64> = Vec::new();
        for file in snapshot.files.values() {
            let kept_s = seconds(file.meta.table);
            let newest = file.meta.received.max + file.meta.table.width_ms().unwrap_or(0);
            if kept_s > 0 && newest < now_ms.saturating_sub_unsigned(kept_s.saturating_mul(1_000)) {
                removed.push(file.meta.id);
            }
        }
        if self.config.flows_octets_max > 0 {
            let mut flows: Vec<_> = snapshot.of(Table::Flows).filter(|file| !removed.contains(&file.meta.id)).collect();
            flows.sort_by_key(|file| file.meta.received.max);
            let mut octets: u64 = flows.iter().map(|file| file.meta.octets).sum();
            for file in flows {
                if octets <= self.config.flows_octets_max {
                    break;
                }
                octets -= file.meta.octets;
                removed.push(file.meta.id);
            }
        }
        let count = removed.len();
        if count > 0 {
            tracing::info!(files = count, "removing files past their retention");
            self.commit_record(Record { removed, ..Record::default() })?;
        }
        Ok(count)
    }

    /// Ends a finished merge, begins the next; true while there is work. A copy gets merged files from its original.
    pub fn compact(&mut self, now_ms: i64) -> Result<bool> {
        if self.copy.is_some() {
            return Ok(false);
        }
        self.finish_merge(false)?;
        if self.merge.is_some() {
            return Ok(true);
        }
        let snapshot = self.manifest.snapshot();
        let Some(plan) = compact::plan(&snapshot, now_ms, &self.config) else { return Ok(false) };
        let id = self.manifest.next_id();
        let inputs = plan.inputs.iter().map(|file| file.meta.id).collect();
        let (sender, done) = mpsc::sync_channel(1);
        let (root, config, disk) = (self.root.clone(), self.config.clone(), self.disk.clone());
        let work = move || {
            // The receiver only goes with the store.
            let _ = sender.send(compact::run(&plan, id, &root, &config, &disk));
        };
        let thread = std::thread::Builder::new().name("store-merge".to_owned()).spawn(work);
        let thread = thread.map_err(|source| StoreError::Write {
            action: "start a thread to merge files in",
            path: self.root.clone(),
            source,
        })?;
        self.merge = Some(Merge { id, inputs, done, thread });
        Ok(true)
    }

    /// Commits a merge that is done; with `wait`, waits for it.
    pub(crate) fn finish_merge(&mut self, wait: bool) -> Result<()> {
        let Some(merge) = self.merge.take() else { return Ok(()) };
        let result = if wait {
            merge.done.recv().ok()
        } else {
            match merge.done.try_recv() {
                Err(mpsc::TryRecvError::Empty) => {
                    self.merge = Some(merge);
                    return Ok(());
                }
                other => other.ok(),
            }
        };
        let _ = merge.thread.join();
        let Some(result) = result else {
            tracing::error!(file = merge.id, "a merge of files ended without a result");
            return Ok(());
        };
        let meta = result?;
        let snapshot = self.manifest.snapshot();
        if !merge.inputs.iter().all(|id| snapshot.files.contains_key(id)) {
            // Retention took one of them meanwhile.
            let _ = std::fs::remove_file(self.root.join(meta.relative_path()));
            return Ok(());
        }
        self.commit_record(Record { added: vec![meta], removed: merge.inputs, ..Record::default() })
    }

    /// Holds every file against the manifest.
    pub fn verify(&self) -> Vec<file::Fault> {
        self.manifest.snapshot().files.values().filter_map(file::verify).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(merge) = self.merge.take() {
            let _ = merge.thread.join();
        }
    }
}
