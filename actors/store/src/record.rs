//! A log of records: append only, each with its length and checksum.
//!
//! | length u32 | crc32 of the body u32 | body (length octets) | ...
//!
//! Little endian. What a crash leaves at the end is cut off; damage before the
//! end is an error, because what follows it would be lost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{Disk, open_append};
use crate::error::{Result, StoreError};

/// Largest body: more than any that is written, less than memory.
const BODY_OCTETS_MAX: usize = 1 << 30;
const HEAD: usize = 8;

pub(crate) struct RecordLog {
    path: PathBuf,
    file: File,
    octets: u64,
    /// Records that the next [`RecordLog::flush`] writes.
    queued: Vec<u8>,
}

/// A record as it is in the file.
fn framed<R: Serialize>(record: &R) -> Vec<u8> {
    let body = postcard::to_stdvec(record).unwrap_or_else(|error| unreachable!("records are plain data: {error}"));
    let mut octets = Vec::with_capacity(body.len() + HEAD);
    octets.extend_from_slice(&(body.len() as u32).to_le_bytes());
    octets.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    octets.extend_from_slice(&body);
    octets
}

enum Read<R> {
    Record(R, usize),
    End,
    /// The record is not whole, and nothing follows it.
    Torn,
    Damaged,
}

fn read_one<R: DeserializeOwned>(octets: &[u8]) -> Read<R> {
    if octets.is_empty() {
        return Read::End;
    }
    // A file that was extended before its data was written ends in zeros.
    if octets.iter().all(|octet| *octet == 0) {
        return Read::Torn;
    }
    let Some((head, rest)) = octets.split_at_checked(HEAD) else { return Read::Torn };
    let field = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (length, crc) = (field(0) as usize, field(4));
    if length > rest.len() {
        return if length <= BODY_OCTETS_MAX { Read::Torn } else { Read::Damaged };
    }
    let body = &rest[..length];
    if crc32fast::hash(body) != crc {
        return if length == rest.len() { Read::Torn } else { Read::Damaged };
    }
    match postcard::from_bytes(body) {
        Ok(record) => Read::Record(record, HEAD + length),
        Err(_) => Read::Damaged,
    }
}

impl RecordLog {
    /// Reads every record, cuts off what a crash left at the end.
    pub(crate) fn open<R: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<R>)> {
        let octets = match fs::read(path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StoreError::Read { path: path.to_owned(), source }),
        };
        let mut records = Vec::new();
        let mut at = 0;
        loop {
            match read_one(&octets[at..]) {
                Read::Record(record, length) => {
                    records.push(record);
                    at += length;
                }
                Read::End => break,
                Read::Torn => {
                    tracing::warn!(path = %path.display(), octets = octets.len() - at, "cut off a record that a crash left unfinished");
                    break;
                }
                Read::Damaged => return Err(StoreError::Damaged { path: path.to_owned(), offset: at as u64 }),
            }
        }
        let file = open_append(path)?;
        if at < octets.len() {
            let cut = file.set_len(at as u64).and_then(|()| file.sync_all());
            cut.map_err(|source| StoreError::Write { action: "truncate", path: path.to_owned(), source })?;
        }
        Ok((Self { path: path.to_owned(), file, octets: at as u64, queued: Vec::new() }, records))
    }

    pub(crate) fn append<R: Serialize>(&mut self, record: &R, disk: &Disk) -> Result<()> {
        let octets = framed(record);
        disk.append(&mut self.file, &self.path, &octets)?;
        self.octets += octets.len() as u64;
        Ok(())
    }

    /// Durable with the next flush.
    pub(crate) fn queue<R: Serialize>(&mut self, record: &R) {
        self.queued.extend_from_slice(&framed(record));
    }

    pub(crate) fn flush(&mut self, disk: &Disk) -> Result<()> {
        if self.queued.is_empty() {
            return Ok(());
        }
        let queued = std::mem::take(&mut self.queued);
        disk.append(&mut self.file, &self.path, &queued)?;
        self.octets += queued.len() as u64;
        Ok(())
    }

    /// Replaces everything by these records, in one step.
    pub(crate) fn rewrite<'a, R: Serialize + 'a>(
        &mut self,
        records: impl Iterator<Item = &'a R>,
        disk: &Disk,
    ) -> Result<()> {
        let octets: Vec<u8> = records.flat_map(|record| framed(record)).collect();
        disk.place(&self.path, &octets)?;
        self.file = open_append(&self.path)?;
        self.octets = octets.len() as u64;
        self.queued.clear();
        Ok(())
    }

    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(records: &[String]) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (mut log, found) = RecordLog::open::<String>(&path).unwrap();
        assert!(found.is_empty());
        for record in records {
            log.append(record, &Disk::default()).unwrap();
        }
        let octets = fs::read(&path).unwrap();
        assert_eq!(log.octets(), octets.len() as u64);
        (directory, path, octets)
    }

    #[test]
    fn every_torn_tail_is_cut_off() {
        let records: Vec<String> = (0..5).map(|i| format!("record {i}")).collect();
        let (_directory, path, octets) = log_of(&records);
        let ends: Vec<usize> = (1..=5).map(|n| records[..n].iter().map(|r| framed(r).len()).sum()).collect();
        for length in 0..octets.len() {
            fs::write(&path, &octets[..length]).unwrap();
            let (mut log, found) = RecordLog::open::<String>(&path).unwrap();
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(found, records[..whole]);
            log.append(&"after".to_owned(), &Disk::default()).unwrap();
            let (_, again) = RecordLog::open::<String>(&path).unwrap();
            assert_eq!(again.last().map(String::as_str), Some("after"));
            assert_eq!(again.len(), whole + 1);
        }
        fs::write(&path, [octets.clone(), vec![0; 100]].concat()).unwrap();
        assert_eq!(RecordLog::open::<String>(&path).unwrap().1, records);
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        let records: Vec<String> = (0..5).map(|i| format!("record {i}")).collect();
        let (_directory, path, mut octets) = log_of(&records);
        octets[HEAD + 2] ^= 1;
        fs::write(&path, &octets).unwrap();
        let error = RecordLog::open::<String>(&path).err().unwrap().to_string();
        assert!(error.contains("octet 0"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), octets, "nothing was cut off");
    }

    #[test]
    fn a_rewrite_replaces_everything() {
        let (_directory, path, _) = log_of(&["a".to_owned(), "b".to_owned()]);
        let (mut log, _) = RecordLog::open::<String>(&path).unwrap();
        log.rewrite(["c".to_owned()].iter(), &Disk::default()).unwrap();
        log.append(&"d".to_owned(), &Disk::default()).unwrap();
        assert_eq!(RecordLog::open::<String>(&path).unwrap().1, ["c", "d"]);
    }
}
