//! Dimension tables on disk, so that names are known before their owners speak
//! again, and what questions look up in them: AS names and paths too.

use std::mem::{self, Discriminant};
use std::path::Path;
use std::sync::Arc;

use ahash::RandomState;
use benocs_model::route::PathEntry;
use benocs_model::tables::{TableUpdate, Tables};
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::disk::Disk;
use crate::error::Result;
use crate::record::RecordLog;

/// Text of a path, as questions show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathText {
    pub as_path: Arc<str>,
    pub communities: Arc<str>,
}

/// The tables that grow by additions.
#[derive(Debug, Default)]
pub struct Names {
    pub as_names: RwLock<HashMap<u32, Arc<str>, RandomState>>,
    pub paths: RwLock<HashMap<u64, PathText, RandomState>>,
}

impl Names {
    fn apply(&self, update: &TableUpdate) {
        match update {
            TableUpdate::Paths(entries) => {
                self.paths.write().extend(entries.iter().map(|entry| (entry.hash, path_text(entry))));
            }
            TableUpdate::AsNames(names) => {
                let mut known = self.as_names.write();
                known.extend(names.iter().map(|(asn, name)| (*asn, Arc::from(name.as_str()))));
            }
            _ => {}
        }
    }
}

/// Communities of all three kinds, as RFC 1997, 8092 and 4360 are usually written.
fn path_text(entry: &PathEntry) -> PathText {
    let path = &entry.path;
    let plain = path.communities.iter().map(|value| format!("{}:{}", value >> 16, value & 0xffff));
    let large = path.large_communities.iter().map(|[a, b, c]| format!("{a}:{b}:{c}"));
    let extended = path.ext_communities.iter().map(|value| format!("ext:{:016x}", u64::from_be_bytes(*value)));
    let communities: Vec<String> = plain.chain(large).chain(extended).collect();
    PathText { as_path: path.as_path_text().into(), communities: communities.join(" ").into() }
}

/// The log of updates; the newest of each whole table, all additions.
pub(crate) struct TableLog {
    log: RecordLog,
    tables: Arc<Tables>,
    names: Arc<Names>,
    /// Additions, kept to rewrite the log: paths refer to interned attributes.
    paths: HashMap<u64, PathEntry, RandomState>,
    as_names: HashMap<u32, String, RandomState>,
    /// Checksum of the newest of each whole table in the log.
    written: std::collections::HashMap<Discriminant<TableUpdate>, u32>,
    /// Size after the last rewrite.
    base_octets: u64,
}

/// The log is rewritten when it is this much larger than after the last time.
const GROWTH_OCTETS: u64 = 32 << 20;

impl TableLog {
    pub(crate) fn open(root: &Path, tables: Arc<Tables>) -> Result<Self> {
        let (log, updates) = RecordLog::open::<TableUpdate>(&root.join("tables"))?;
        let mut log = Self {
            base_octets: log.octets(),
            log,
            tables,
            names: Arc::new(Names::default()),
            paths: HashMap::default(),
            as_names: HashMap::default(),
            written: Default::default(),
        };
        for update in updates {
            log.restore(update);
        }
        Ok(log)
    }

    pub(crate) fn names(&self) -> Arc<Names> {
        self.names.clone()
    }

    /// A table from an earlier run: shown until its owner speaks, whose generations may begin anew.
    fn restore(&mut self, update: TableUpdate) {
        macro_rules! restore {
            ($slot:expr, $table:expr) => {{
                if $slot.load().generation == 0 {
                    let mut table = Arc::unwrap_or_clone($table);
                    table.generation = 0;
                    $slot.store(Arc::new(table));
                }
            }};
        }
        self.note(&update);
        match update {
            TableUpdate::Exporters(table) => restore!(self.tables.exporters, table),
            TableUpdate::Interfaces(table) => restore!(self.tables.interfaces, table),
            TableUpdate::Network(table) => restore!(self.tables.network, table),
            TableUpdate::Services(table) => restore!(self.tables.services, table),
            TableUpdate::Labels(table) => restore!(self.tables.labels, table),
            TableUpdate::AsNames(_) => {
                self.tables.apply(&update);
            }
            TableUpdate::Paths(_) => {}
        }
    }

    /// Keeps additions; true where the update says something that the log does not.
    fn note(&mut self, update: &TableUpdate) -> bool {
        self.names.apply(update);
        match update {
            TableUpdate::Paths(entries) => {
                let before = self.paths.len();
                self.paths.extend(entries.iter().map(|entry| (entry.hash, entry.clone())));
                self.paths.len() > before
            }
            TableUpdate::AsNames(names) => {
                let mut changed = false;
                for (asn, name) in names.iter() {
                    changed |= self.as_names.insert(*asn, name.clone()).as_ref() != Some(name);
                }
                changed
            }
            whole => {
                let kind = mem::discriminant(whole);
                let crc = postcard::to_stdvec(whole).map_or(0, |octets| crc32fast::hash(&octets));
                self.written.insert(kind, crc) != Some(crc)
            }
        }
    }

    /// Publishes; true where it is new and waits for [`TableLog::flush`].
    pub(crate) fn take(&mut self, update: &TableUpdate) -> bool {
        self.tables.apply(update);
        self.keep(update)
    }

    /// As [`TableLog::take`], of the store that this one is a copy of: that has the say, whatever the generation.
    pub(crate) fn follow(&mut self, update: &TableUpdate) -> bool {
        self.tables.replace(update);
        self.keep(update)
    }

    fn keep(&mut self, update: &TableUpdate) -> bool {
        let is_new = self.note(update);
        if is_new {
            self.log.queue(update);
        }
        is_new
    }

    /// Makes what was taken durable.
    pub(crate) fn flush(&mut self, disk: &Disk) -> Result<()> {
        self.log.flush(disk)?;
        if self.log.octets() > self.base_octets + GROWTH_OCTETS {
            self.rewrite(disk)?;
        }
        Ok(())
    }

    fn rewrite(&mut self, disk: &Disk) -> Result<()> {
        let updates = [
            TableUpdate::Exporters(self.tables.exporters.load_full()),
            TableUpdate::Interfaces(self.tables.interfaces.load_full()),
            TableUpdate::Network(self.tables.network.load_full()),
            TableUpdate::Services(self.tables.services.load_full()),
            TableUpdate::Labels(self.tables.labels.load_full()),
            TableUpdate::Paths(self.paths.values().cloned().collect()),
            TableUpdate::AsNames(Arc::new(self.as_names.iter().map(|(asn, name)| (*asn, name.clone())).collect())),
        ];
        self.log.rewrite(updates.iter(), disk)?;
        self.base_octets = self.log.octets();
        Ok(())
    }
}
