//! The manifest: which data files exist, what they hold, and which source
//! offsets they cover. It is the truth; the index and every snapshot are made of it.
//!
//! One record is one commit: files added, files removed, cursors moved, all or
//! nothing.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use benocs_model::message::{Cursors, SourceId, Stream};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::record::RecordLog;

/// A table of the store, with a folder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    Flows,
    Rollup1m,
    Rollup5m,
}

impl Table {
    pub const ALL: [Table; 3] = [Table::Flows, Table::Rollup1m, Table::Rollup5m];

    pub fn name(self) -> &'static str {
        match self {
            Table::Flows => "flows",
            Table::Rollup1m => "rollup_1m",
            Table::Rollup5m => "rollup_5m",
        }
    }

    /// Of a rollup, the width of its windows.
    pub fn width_ms(self) -> Option<i64> {
        match self {
            Table::Flows => None,
            Table::Rollup1m => Some(60_000),
            Table::Rollup5m => Some(300_000),
        }
    }

    pub fn of_width(width_ms: i64) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.width_ms() == Some(width_ms))
    }

    /// Time that one partition covers.
    pub fn partition_ms(self) -> i64 {
        match self {
            Table::Flows | Table::Rollup1m => 3_600_000,
            Table::Rollup5m => 86_400_000,
        }
    }
}

/// A closed range of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub min: i64,
    pub max: i64,
}

impl Span {
    pub fn join(self, other: Span) -> Span {
        Span { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// What the manifest knows of a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    pub id: u64,
    pub table: Table,
    /// Start of the partition, UTC ms.
    pub partition: i64,
    pub rows: u64,
    pub octets: u64,
    /// Of the whole file.
    pub crc32: u32,
    /// How often its rows were merged.
    pub level: u8,
    /// Of a rollup, these three are the windows.
    pub first: Span,
    pub last: Span,
    pub received: Span,
    /// Batches that its rows came from, first and last, by source; of flows.
    pub batches: BTreeMap<SourceId, (u64, u64)>,
}

impl FileMeta {
    /// Below the store's directory.
    pub fn relative_path(&self) -> PathBuf {
        PathBuf::from(self.table.name()).join(partition_name(self.partition)).join(format!("{:012}.parquet", self.id))
    }
}

/// `2026-11-22T22` of a partition's start.
fn partition_name(start_ms: i64) -> String {
    let days = start_ms.div_euclid(86_400_000);
    let hour = start_ms.rem_euclid(86_400_000) / 3_600_000;
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}")
}

/// Proleptic Gregorian date of a day since 1970-01-01.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// One commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub added: Vec<FileMeta>,
    pub removed: Vec<u64>,
    /// New positions, of the sources that moved.
    pub flows: Cursors,
    pub rollups: Cursors,
    /// Ids given so far.
    pub next_id: u64,
}

/// A data file that snapshots hold. When the manifest no longer names it and the last reader is
/// done, it is deleted.
pub struct DataFile {
    pub meta: FileMeta,
    pub path: PathBuf,
    removed: AtomicBool,
    /// Its footer, once read.
    footer: Mutex<Option<ArrowReaderMetadata>>,
}

impl DataFile {
    fn new(root: &Path, meta: FileMeta) -> Self {
        let path = root.join(meta.relative_path());
        Self { meta, path, removed: AtomicBool::new(false), footer: Mutex::new(None) }
    }

    /// Whether the file is there, as long as it should be.
    fn check_present(&self) -> Result<(), String> {
        match fs::metadata(&self.path) {
            Ok(found) if found.len() == self.meta.octets => Ok(()),
            Ok(found) => Err(format!("has {} octets where the manifest says {}", found.len(), self.meta.octets)),
            Err(error) => Err(format!("is named by the manifest but cannot be opened ({error})")),
        }
    }

    pub(crate) fn footer(&self) -> Option<ArrowReaderMetadata> {
        self.footer.lock().clone()
    }

    pub(crate) fn keep_footer(&self, footer: ArrowReaderMetadata) {
        *self.footer.lock() = Some(footer);
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if self.removed.load(Ordering::Acquire)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot delete a data file that is no longer used");
        }
    }
}

/// What readers see: a commit's state, whole.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// In order of id.
    pub files: Arc<BTreeMap<u64, Arc<DataFile>>>,
    pub flows: Cursors,
    pub rollups: Cursors,
}

impl Snapshot {
    pub fn of(&self, table: Table) -> impl Iterator<Item = &Arc<DataFile>> {
        self.files.values().filter(move |file| file.meta.table == table)
    }

    /// Whether the rollups hold every batch that the file's rows came from.
    pub fn is_rolled_up(&self, file: &DataFile) -> bool {
        let next = |source: &SourceId| self.rollups.get(source).copied().unwrap_or(0);
        file.meta.batches.iter().all(|(source, (_, last))| *last < next(source))
    }

    pub fn cursors(&self, stream: Stream) -> &Cursors {
        match stream {
            Stream::Flows => &self.flows,
            Stream::Rollups => &self.rollups,
        }
    }
}

pub(crate) struct Manifest {
    root: PathBuf,
    log: RecordLog,
    next_id: u64,
    published: Arc<ArcSwap<Snapshot>>,
}

/// The manifest is rewritten when it is larger than this and than twice what it says.
const REWRITE_OCTETS: u64 = 4 << 20;

impl Manifest {
    pub(crate) fn open(root: &Path, disk: &Disk, drop_damaged: bool) -> Result<Self> {
        let path = root.join("manifest");
        let (log, records) = RecordLog::open::<Record>(&path)?;
        let mut files: BTreeMap<u64, FileMeta> = BTreeMap::new();
        let (mut flows, mut rollups) = (Cursors::new(), Cursors::new());
        let mut next_id = 0;
        for record in records {
            for id in &record.removed {
                files.remove(id);
            }
            files.extend(record.added.into_iter().map(|meta| (meta.id, meta)));
            flows.extend(record.flows);
            rollups.extend(record.rollups);
            next_id = next_id.max(record.next_id);
        }
        if next_id == 0 {
            refuse_without_manifest(root, &path)?;
        }
        let files: BTreeMap<u64, Arc<DataFile>> =
            files.into_iter().map(|(id, meta)| (id, Arc::new(DataFile::new(root, meta)))).collect();
        let mut damaged = Vec::new();
        for file in files.values() {
            match file.check_present() {
                Err(reason) if drop_damaged => damaged.push((file.clone(), reason)),
                Err(reason) => return Err(StoreError::DataFile { path: file.path.clone(), reason }),
                Ok(()) if drop_damaged => {
                    damaged.extend(crate::file::verify(file).map(|fault| (file.clone(), fault.reason)));
                }
                Ok(()) => {}
            }
        }
        // Only now: a start that is refused changes nothing.
        remove_orphans(root, &files);
        let snapshot = Snapshot { files: Arc::new(files), flows, rollups };
        let published = Arc::new(ArcSwap::from_pointee(snapshot));
        let mut manifest = Self { root: root.to_owned(), log, next_id, published };
        manifest.rewrite_if_large(disk)?;
        if !damaged.is_empty() {
            for (file, reason) in &damaged {
                let (path, rows) = (file.path.display(), file.meta.rows);
                tracing::error!(%path, rows, %reason, "gave up a damaged data file and its rows");
            }
            let removed = damaged.iter().map(|(file, _)| file.meta.id).collect();
            manifest.commit(Record { removed, ..Record::default() }, disk)?;
        }
        Ok(manifest)
    }

    /// A file id never given before, in this process or an earlier one: orphans of a crash are deleted at the start.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Says that it is there, before the files of a first state that may be many: a manifest that never gave an id is
    /// taken for a lost one.
    pub(crate) fn begin(&mut self, disk: &Disk) -> Result<()> {
        if self.next_id > 0 {
            return Ok(());
        }
        self.next_id();
        self.commit(Record::default(), disk)
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    pub(crate) fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        self.published.clone()
    }

    pub(crate) fn commit(&mut self, mut record: Record, disk: &Disk) -> Result<()> {
        record.next_id = self.next_id;
        self.log.append(&record, disk)?;
        let path = || self.root.join("manifest");
        disk.step(crate::disk::Step::Publish).map_err(|source| StoreError::Write {
            action: "publish",
            path: path(),
            source,
        })?;
        let before = self.snapshot();
        let mut snapshot = Snapshot::clone(&before);
        let files = Arc::make_mut(&mut snapshot.files);
        for id in &record.removed {
            if let Some(file) = files.remove(id) {
                file.removed.store(true, Ordering::Release);
            }
        }
        files.extend(record.added.into_iter().map(|meta| (meta.id, Arc::new(DataFile::new(&self.root, meta)))));
        snapshot.flows.extend(record.flows);
        snapshot.rollups.extend(record.rollups);
        self.published.store(Arc::new(snapshot));
        self.rewrite_if_large(disk)
    }

    fn rewrite_if_large(&mut self, disk: &Disk) -> Result<()> {
        if self.log.octets() < REWRITE_OCTETS {
            return Ok(());
        }
        let snapshot = self.snapshot();
        let record = Record {
            added: snapshot.files.values().map(|file| file.meta.clone()).collect(),
            removed: Vec::new(),
            flows: snapshot.flows.clone(),
            rollups: snapshot.rollups.clone(),
            next_id: self.next_id,
        };
        let size = postcard::to_stdvec(&record).map_or(u64::MAX, |octets| octets.len() as u64);
        if self.log.octets() / 2 > size {
            self.log.rewrite(std::iter::once(&record), disk)?;
        }
        Ok(())
    }
}

/// More files than a first commit leaves when it dies.
const ORPHANS_MAX: usize = 64;

/// Without a manifest every file is an orphan: that many are no crash but a manifest that was lost.
fn refuse_without_manifest(root: &Path, path: &Path) -> Result<()> {
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let partitions = Table::ALL.into_iter().flat_map(|table| entries(root.join(table.name())));
    let files = partitions.flat_map(|partition| entries(partition.path())).count();
    if files <= ORPHANS_MAX {
        return Ok(());
    }
    Err(StoreError::ManifestMissing { path: path.to_owned(), files })
}

/// Deletes what no commit names: a crash between a file's rename and its record leaves one.
fn remove_orphans(root: &Path, files: &BTreeMap<u64, Arc<DataFile>>) {
    let named: HashSet<&Path> = files.values().map(|file| file.path.as_path()).collect();
    for table in Table::ALL {
        let Ok(partitions) = fs::read_dir(root.join(table.name())) else { continue };
        for partition in partitions.flatten() {
            let Ok(entries) = fs::read_dir(partition.path()) else { continue };
            let mut kept = 0;
            for entry in entries.flatten() {
                let path = entry.path();
                let ours = path.extension().is_some_and(|extension| extension == "parquet" || extension == "new");
                if ours && !named.contains(path.as_path()) {
                    tracing::info!(path = %path.display(), "removing a file that was never committed");
                    if let Err(error) = fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "cannot remove it");
                    }
                } else {
                    kept += 1;
                }
            }
            if kept == 0 {
                // Only fails where something was put there meanwhile.
                let _ = fs::remove_dir(partition.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_have_the_name_of_their_hour() {
        assert_eq!(partition_name(0), "1970-01-01T00");
        assert_eq!(partition_name(1_795_384_800_000), "2026-11-22T22");
        assert_eq!(partition_name(951_782_400_000), "2000-02-29T00");
        assert_eq!(partition_name(-3_600_000), "1969-12-31T23");
    }
}
