//! A file of the log.
//!
//! ```text
//!  0  magic "BENOCSL1"   8 octets
//!  8  source             u64     little endian, all
//! 16  first seq          u64
//! 24  CRC-32 of the 24 octets before   u32
//! 28  zero               u32
//! 32  frames, see [`super::frame`], without gaps
//! ```
//!
//! Its name is its first seq in hexadecimal, so that a sorted listing is the log.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use benocs_model::message::SourceId;

use super::frame;
use crate::error::LogError;

pub(crate) const HEADER_OCTETS: u64 = 32;

const MAGIC: &[u8; 8] = b"BENOCSL1";
const SUFFIX: &str = ".flows";

pub(crate) fn path(directory: &Path, first_seq: u64) -> PathBuf {
    directory.join(format!("{first_seq:016x}{SUFFIX}"))
}

/// First seqs of the segments in a directory, ascending.
pub(crate) fn list(directory: &Path) -> Result<Vec<u64>, LogError> {
    let entries = std::fs::read_dir(directory).map_err(LogError::file("list", directory))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LogError::file("list", directory))?;
        let name = entry.file_name();
        let seq = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).filter(|seq| seq.len() == 16);
        if let Some(seq) = seq.and_then(|seq| u64::from_str_radix(seq, 16).ok()) {
            found.push(seq);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Creates an empty segment that survives a power cut from here on.
pub(crate) fn create(directory: &Path, source: SourceId, first_seq: u64) -> Result<File, LogError> {
    let file = create_unsynced(directory, source, first_seq)?;
    file.sync_all().map_err(LogError::file("sync", path(directory, first_seq)))?;
    sync_directory(directory)?;
    Ok(file)
}

/// Creates an empty segment; it survives a power cut once it and its directory are synced.
pub(crate) fn create_unsynced(directory: &Path, source: SourceId, first_seq: u64) -> Result<File, LogError> {
    let path = path(directory, first_seq);
    let mut octets = [0; HEADER_OCTETS as usize];
    octets[..8].copy_from_slice(MAGIC);
    octets[8..16].copy_from_slice(&source.0.to_le_bytes());
    octets[16..24].copy_from_slice(&first_seq.to_le_bytes());
    let crc = crc32fast::hash(&octets[..24]);
    octets[24..28].copy_from_slice(&crc.to_le_bytes());
    let written =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).and_then(|mut file| {
            file.write_all(&octets)?;
            Ok(file)
        });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full,
        _ => LogError::file("create", &path)(error),
    })
}

pub(crate) fn sync_directory(directory: &Path) -> Result<(), LogError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(LogError::file("sync", directory))
}

/// Opens a segment for reading and appending; its source, or `None` where its header is torn.
pub(crate) fn open(path: &Path, first_seq: u64) -> Result<Option<(File, SourceId)>, LogError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(LogError::file("open", path))?;
    let mut octets = [0; HEADER_OCTETS as usize];
    match file.read_exact(&mut octets) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(LogError::file("read", path)(error)),
    }
    if octets == [0; HEADER_OCTETS as usize] {
        return Ok(None);
    }
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| octets[at + index]));
    let crc = crc32fast::hash(&octets[..24]).to_le_bytes();
    if octets[..8] != *MAGIC || octets[24..28] != crc || u64_at(16) != first_seq {
        return Err(LogError::Foreign { path: path.to_owned() });
    }
    Ok(Some((file, SourceId(u64_at(8)))))
}

/// The header at `offset`, where there is one of batch `seq`.
pub(crate) fn header_at(file: &File, offset: u64, seq: u64) -> io::Result<Option<frame::Header>> {
    let mut octets = [0; frame::HEADER_OCTETS];
    match file.read_exact_at(&mut octets, offset) {
        Ok(()) => Ok(frame::Header::parse(&octets).filter(|header| header.seq == seq)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The payload after the header at `offset`; `None` where it is not what was written.
pub(crate) fn payload_at(file: &File, offset: u64, header: &frame::Header) -> io::Result<Option<Vec<u8>>> {
    let mut payload = vec![0; header.payload_octets as usize];
    match file.read_exact_at(&mut payload, offset + frame::HEADER_OCTETS as u64) {
        Ok(()) => Ok(header.matches(&payload).then_some(payload)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last whole frame of a segment ends, and the seq after it. A spoiled frame before a whole one
/// is no torn tail: it stays, so that what comes after it is not lost.
pub(crate) fn scan(file: &File, first_seq: u64) -> io::Result<(u64, u64)> {
    let (mut offset, mut seq) = (HEADER_OCTETS, first_seq);
    let mut whole = (offset, seq);
    while let Some(header) = header_at(file, offset, seq)? {
        offset += header.frame_octets();
        seq += 1;
        if payload_at(file, offset - header.frame_octets(), &header)?.is_some() {
            whole = (offset, seq);
        }
    }
    Ok(whole)
}
