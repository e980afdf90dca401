//! The audit log: one JSON line for each login, change and refusal, in the data
//! directory (0600) and in the log.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde_json::json;

use crate::when;

/// At this size the file becomes `audit.jsonl.1`, and that one goes.
const OCTETS_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: Mutex<(File, u64)>,
}

impl Audit {
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("audit.jsonl");
        let file = append(&path)?;
        let octets = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        Ok(Self { path, file: Mutex::new((file, octets)) })
    }

    /// `action` is a word of a fixed set; `detail` never holds a secret.
    pub fn write(&self, user: &str, address: &str, action: &'static str, detail: &str) {
        tracing::info!(target: "benocs::audit", user, address, action, detail);
        let line = json!({
            "time": when::text(when::now_ms()), "user": user, "address": address, "action": action, "detail": detail,
        });
        let line = format!("{line}\n");
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.1 >= OCTETS_MAX {
            let rotated = std::fs::rename(&self.path, self.path.with_extension("jsonl.1")).map_err(anyhow::Error::from);
            match rotated.and_then(|()| append(&self.path)) {
                Ok(file) => *guard = (file, 0),
                Err(error) => tracing::error!(%error, "cannot rotate the audit log"),
            }
        }
        match guard.0.write_all(line.as_bytes()) {
            Ok(()) => guard.1 += line.len() as u64,
            Err(error) => tracing::error!(%error, "cannot write the audit log"),
        }
    }
}

fn append(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open the audit log {}", path.display()))
}
