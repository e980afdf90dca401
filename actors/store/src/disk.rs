//! Durable writes: the steps of a commit, each of which may be the last one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Result, StoreError};

/// A step of a commit. Tests end the process (in effect) before any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    WriteFile,
    SyncFile,
    RenameFile,
    SyncDirectory,
    /// After half of the record.
    WriteRecord,
    SyncRecord,
    /// The record is durable; nobody has been told.
    Publish,
}

impl Step {
    pub const ALL: [Step; 7] = [
        Step::WriteFile,
        Step::SyncFile,
        Step::RenameFile,
        Step::SyncDirectory,
        Step::WriteRecord,
        Step::SyncRecord,
        Step::Publish,
    ];
}

/// Decides whether a step fails.
pub type Fault = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// The disk, with faults where a test injects them.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    fault: Option<Fault>,
}

impl Disk {
    pub(crate) fn with_fault(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }

    pub(crate) fn step(&self, step: Step) -> io::Result<()> {
        match &self.fault {
            Some(fault) => fault(step),
            None => Ok(()),
        }
    }

    /// Writes under another name, syncs, renames, syncs the directory: afterwards the file is whole or absent.
    pub(crate) fn place(&self, path: &Path, octets: &[u8]) -> Result<()> {
        let failed = |action| move |source| StoreError::Write { action, path: path.to_owned(), source };
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary).map_err(failed("create"))?;
        match self.step(Step::WriteFile) {
            Ok(()) => file.write_all(octets).map_err(failed("write"))?,
            Err(error) => {
                // What a process that dies here leaves behind.
                let _ = file.write_all(&octets[..octets.len() / 2]);
                return Err(failed("write")(error));
            }
        }
        self.step(Step::SyncFile).and_then(|()| file.sync_data()).map_err(failed("sync"))?;
        self.step(Step::RenameFile).and_then(|()| fs::rename(&temporary, path)).map_err(failed("rename"))?;
        self.step(Step::SyncDirectory)
            .and_then(|()| path.parent().map_or(Ok(()), sync_directory))
            .map_err(failed("sync the directory of"))
    }

    /// Appends a record and syncs.
    pub(crate) fn append(&self, file: &mut File, path: &Path, record: &[u8]) -> Result<()> {
        let failed = |action| move |source| StoreError::Write { action, path: path.to_owned(), source };
        match self.step(Step::WriteRecord) {
            Ok(()) => file.write_all(record).map_err(failed("append to"))?,
            Err(error) => {
                let _ = file.write_all(&record[..record.len() / 2]);
                return Err(failed("append to")(error));
            }
        }
        self.step(Step::SyncRecord).and_then(|()| file.sync_data()).map_err(failed("sync"))
    }
}

pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Opens for appending; made where it is missing.
pub(crate) fn open_append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|source| StoreError::Write {
        action: "open",
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn create_directory(path: &Path) -> Result<()> {
    let failed = |source| StoreError::Write { action: "create", path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed)?;
    path.parent().map_or(Ok(()), sync_directory).map_err(failed)
}
