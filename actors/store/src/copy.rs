//! A copy of the store on the front end: rollups and tables, no flow rows.
//!
//!   storage00: snapshots --[Publisher]--> Table*, File*, Commit ==link==> [Store::open_copy] af00
//!
//! What is copied is files, as they were committed, merged and removed there; so the
//! copy is one of the original's states, whatever was killed or cut. A file's id at
//! the copy is its checksum and its id: another original cannot be mistaken for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use benocs_model::message::{Copied, Cursors, StoreInput};
use benocs_model::network::{Exporters, Interfaces, Labels, Network, Services};
use benocs_model::tables::TableUpdate;
use benocs_runtime::{Closed, Outbox};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::{Result, StoreError};
use crate::manifest::{DataFile, FileMeta, Snapshot, Table};
use crate::reader::StoreReader;

/// The original is looked at this often.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn refused(reason: impl Into<String>) -> StoreError {
    StoreError::Copy { reason: reason.into() }
}

fn id_at_copy(meta: &FileMeta) -> u64 {
    u64::from(meta.crc32) << 32 | meta.id & 0xffff_ffff
}

/// The description of a file that came, if it is the file.
pub(crate) fn check(meta: &[u8], octets: &[u8]) -> Result<FileMeta> {
    let meta: FileMeta =
        postcard::from_bytes(meta).map_err(|_| refused("it is described in another version: update the older end"))?;
    if meta.table == Table::Flows {
        return Err(refused("it has flow rows, which a copy does not keep"));
    }
    if meta.octets != octets.len() as u64 || meta.crc32 != crc32fast::hash(octets) {
        return Err(refused("it has another checksum than its original"));
    }
    if meta.id >> 32 != u64::from(meta.crc32) {
        return Err(refused("its number is not made of its checksum"));
    }
    Ok(meta)
}

/// Which files a copy has on its disk, of a committed state or on the way to one; cheap to clone.
#[derive(Clone, Default)]
pub struct Holds(Arc<Mutex<BTreeSet<u64>>>);

impl Holds {
    pub fn files(&self) -> Vec<u64> {
        self.0.lock().iter().copied().collect()
    }
}

/// What a store that is a copy knows beside its manifest.
#[derive(Default)]
pub(crate) struct Receiving {
    /// On the disk; no commit has named them yet.
    pub(crate) arrived: BTreeMap<u64, FileMeta>,
    pub(crate) holds: Holds,
    /// When the last state came, UTC ms.
    pub(crate) copied_ms: Arc<AtomicI64>,
}

impl Receiving {
    /// Of a copy as it is opened; a store of another kind is refused, for its rows would go with the first commit.
    pub(crate) fn open(root: &Path, snapshot: &Snapshot) -> Result<Self> {
        if !snapshot.flows.is_empty() || snapshot.of(Table::Flows).next().is_some() {
            let root = root.display();
            return Err(refused(format!("{root} is a store with flow rows: give af00 a data directory of its own")));
        }
        let receiving = Self::default();
        *receiving.holds.0.lock() = snapshot.files.keys().copied().collect();
        receiving.copied_ms.store(i64::MAX, Ordering::Release);
        Ok(receiving)
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.holds.0.lock().contains(&id)
    }

    pub(crate) fn arrive(&mut self, meta: FileMeta) {
        self.holds.0.lock().insert(meta.id);
        self.arrived.insert(meta.id, meta);
    }

    /// The copy is this state now; files that came and are not of it.
    pub(crate) fn committed(&mut self, files: BTreeSet<u64>, now_ms: i64) -> Vec<FileMeta> {
        let arrived = std::mem::take(&mut self.arrived);
        let left = arrived.into_values().filter(|meta| !files.contains(&meta.id)).collect();
        *self.holds.0.lock() = files;
        self.copied_ms.store(now_ms, Ordering::Release);
        left
    }
}

fn rollups(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<DataFile>> {
    snapshot.files.values().filter(|file| file.meta.table != Table::Flows)
}

fn commit(generation: u64, snapshot: &Snapshot) -> StoreInput {
    let files: BTreeSet<u64> = rollups(snapshot).map(|file| id_at_copy(&file.meta)).collect();
    let (files, rollups) = (files.into_iter().collect(), snapshot.rollups.clone());
    StoreInput::Copied(Copied::Commit { generation, files, rollups })
}

/// A file with its octets, or why there are none.
fn read(generation: u64, file: &DataFile) -> Result<StoreInput, String> {
    let octets = std::fs::read(&file.path).map_err(|error| error.to_string())?;
    if crc32fast::hash(&octets) != file.meta.crc32 {
        return Err("it has another checksum than the manifest says".to_owned());
    }
    let meta = FileMeta { id: id_at_copy(&file.meta), ..file.meta.clone() };
    let meta = postcard::to_stdvec(&meta).map_err(|error| error.to_string())?;
    Ok(StoreInput::Copied(Copied::File { generation, meta, octets: Bytes::from(octets) }))
}

/// Small tables as they were told last.
#[derive(Clone, Default)]
struct Told {
    exporters: Option<Arc<Exporters>>,
    interfaces: Option<Arc<Interfaces>>,
    network: Option<Arc<Network>>,
    services: Option<Arc<Services>>,
    labels: Option<Arc<Labels>>,
    as_names: usize,
}

/// What whoever is connected was told.
struct Published {
    /// Of the state below; grows by one with every change.
    generation: u64,
    files: BTreeSet<u64>,
    rollups: Cursors,
    told: Told,
    /// Files that could not be read; no state that has one is published.
    unread: BTreeSet<u64>,
}

/// Tells a copy what its original has committed.
#[derive(Clone)]
pub struct Publisher {
    reader: StoreReader,
    published: Arc<Mutex<Published>>,
}

/// What changed since it was looked last.
struct Change {
    generation: u64,
    tables: Vec<StoreInput>,
    /// Where files changed: the new ones, and the state that has them.
    files: Option<(Vec<Arc<DataFile>>, StoreInput)>,
}

impl Publisher {
    /// Whoever connects is told everything ([`Publisher::missing`]): what is there now is published already.
    pub fn new(reader: StoreReader) -> Self {
        let mut told = Told::default();
        changed_tables(&reader, &mut told, 0);
        let snapshot = reader.snapshot();
        let published = Published {
            generation: 0,
            files: rollups(&snapshot).map(|file| file.meta.id).collect(),
            rollups: snapshot.rollups.clone(),
            told,
            unread: BTreeSet::new(),
        };
        Self { reader, published: Arc::new(Mutex::new(published)) }
    }

    /// Everything but the files that the copy holds, and its generation. Files are read as they are taken.
    pub fn missing(&self, held: &[u64]) -> (u64, impl Iterator<Item = StoreInput> + Send + 'static) {
        // Between two looks: it has what was published, and what will be published has it.
        let (generation, snapshot, tables) = {
            let published = self.published.lock();
            let tables = changed_tables(&self.reader, &mut Told::default(), published.generation);
            (published.generation, self.reader.snapshot(), tables)
        };
        let held: BTreeSet<u64> = held.iter().copied().collect();
        let files: Vec<Arc<DataFile>> =
            rollups(&snapshot).filter(|file| !held.contains(&id_at_copy(&file.meta))).cloned().collect();
        let last = commit(generation, &snapshot);
        drop(snapshot);
        let mut complete = true;
        let publisher = self.clone();
        let mut files = files.into_iter();
        let mut last = Some(last);
        let rest = std::iter::from_fn(move || {
            for file in files.by_ref() {
                match publisher.read(generation, &file) {
                    Some(message) => return Some(message),
                    None => complete = false,
                }
            }
            last.take().filter(|_| complete)
        });
        (generation, tables.into_iter().chain(rest))
    }

    /// `None`, and a line in the log at the first time, where a file cannot be read; it is tried again with the next look.
    fn read(&self, generation: u64, file: &DataFile) -> Option<StoreInput> {
        match read(generation, file) {
            Ok(message) => {
                self.published.lock().unread.remove(&file.meta.id);
                Some(message)
            }
            Err(error) => {
                if self.published.lock().unread.insert(file.meta.id) {
                    let path = file.path.display();
                    tracing::error!(%path, %error, "cannot read a data file for the front end, which stays as it was: restore it, or start with --set store.drop_damaged_files=true");
                }
                None
            }
        }
    }

    fn look(&self) -> Option<Change> {
        let mut published = self.published.lock();
        let published = &mut *published;
        let now = self.reader.snapshot();
        let next = published.generation + 1;
        let tables = changed_tables(&self.reader, &mut published.told, next);
        let files: BTreeSet<u64> = rollups(&now).map(|file| file.meta.id).collect();
        published.unread.retain(|id| files.contains(id));
        let same = files == published.files && now.rollups == published.rollups && published.unread.is_empty();
        if same && tables.is_empty() {
            return None;
        }
        let is_new = |file: &&Arc<DataFile>| {
            !published.files.contains(&file.meta.id) || published.unread.contains(&file.meta.id)
        };
        let new: Vec<Arc<DataFile>> = rollups(&now).filter(is_new).cloned().collect();
        published.generation = next;
        published.files = files;
        published.rollups = now.rollups.clone();
        Some(Change { generation: next, tables, files: (!same).then(|| (new, commit(next, &now))) })
    }

    /// Publishes until the receiver is gone, or `ended`, and then what was committed until then; waits where it is slow.
    pub async fn run(self, copy: Outbox<StoreInput>, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        let mut is_last = false;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !copy.is_closed() && !is_last {
            tokio::select! {
                _ = look.tick() => {}
                () = &mut ended => is_last = true,
            }
            let Some(change) = self.look() else { continue };
            if self.tell(change, &copy).await.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, change: Change, copy: &Outbox<StoreInput>) -> Result<(), Closed> {
        for update in change.tables {
            copy.send(update).await?;
        }
        let Some((new, state)) = change.files else { return Ok(()) };
        let mut complete = true;
        for file in new {
            let publisher = self.clone();
            let read = tokio::task::spawn_blocking(move || publisher.read(change.generation, &file));
            match read.await {
                Ok(Some(message)) => copy.send(message).await?,
                _ => complete = false,
            }
        }
        if complete { copy.send(state).await } else { Ok(()) }
    }
}

/// Tables that are other ones than were told.
fn changed_tables(reader: &StoreReader, told: &mut Told, generation: u64) -> Vec<StoreInput> {
    let tables = reader.tables();
    let mut updates = Vec::new();
    macro_rules! changed {
        ($field:ident, $variant:ident) => {
            let table = tables.$field.load_full();
            // Owners begin their generations anew; a table that is held keeps its place in memory.
            if !told.$field.as_ref().is_some_and(|told| Arc::ptr_eq(told, &table)) {
                told.$field = Some(table.clone());
                updates.push(TableUpdate::$variant(table));
            }
        };
    }
    changed!(exporters, Exporters);
    changed!(interfaces, Interfaces);
    changed!(network, Network);
    changed!(services, Services);
    changed!(labels, Labels);
    let as_names = reader.as_names_len();
    if as_names != told.as_names {
        told.as_names = as_names;
        updates.push(TableUpdate::AsNames(Arc::new(reader.as_names())));
    }
    let copied = |update| StoreInput::Copied(Copied::Table { generation, update: Arc::new(update) });
    updates.into_iter().map(copied).collect()
}
