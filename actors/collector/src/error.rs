//! What can go wrong with the log.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    /// A version of the program that this one does not know wrote it, or it is no part of a log.
    #[error("{} is not a segment of a flow log of this version: move it away", path.display())]
    Foreign { path: PathBuf },
    /// Another process appends to it.
    #[error("the flow log in {} is in use: is another benocs running on this data directory?", path.display())]
    Busy { path: PathBuf },
    /// Refused, nothing was written: `log_octets_max` is reached, or the disk is full.
    #[error("the flow log is full")]
    Full,
    #[error("cannot encode a batch for the flow log: {0}")]
    Encode(#[from] arrow::error::ArrowError),
}

impl LogError {
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
