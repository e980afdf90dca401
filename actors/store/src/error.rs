//! What can go wrong in the store; each is one line that says what to do.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {}: {source}: nothing acknowledged is lost, free space or repair the disk and start again", path.display())]
    Write { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is damaged at octet {offset} although records follow: restore it, or move the whole folder away to start empty", path.display())]
    Damaged { path: PathBuf, offset: u64 },
    #[error("data file {} {reason}: restore it, or give its rows up with --set store.drop_damaged_files=true", path.display())]
    DataFile { path: PathBuf, reason: String },
    #[error("{} is missing although there are {files} data files: restore it, or move the whole folder away to start empty", path.display())]
    ManifestMissing { path: PathBuf, files: usize },
    #[error(
        "flow batches of log {log:#x} have a gap: expected {expected}, got {got}: the log before the store lost some"
    )]
    Gap { log: u64, expected: u64, got: u64 },
    #[error(
        "rollups of log {log:#x} begin at batch {got} where {expected} is expected: restart the aggregator from the store's cursors"
    )]
    RollupGap { log: u64, expected: u64, got: u64 },
    #[error("cannot {action}: {source}")]
    Columns { action: &'static str, source: arrow::error::ArrowError },
    #[error("refused for the front end's copy: {reason}")]
    Copy { reason: String },
    #[error("cannot encode {}: {source}", path.display())]
    Encode { path: PathBuf, source: parquet::errors::ParquetError },
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Wraps an Arrow error with what was being done.
pub(crate) fn columns(action: &'static str) -> impl FnOnce(arrow::error::ArrowError) -> StoreError {
    move |source| StoreError::Columns { action, source }
}
