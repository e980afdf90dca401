//! A frame of a segment: one sealed batch.
//!
//! ```text
//!  0  magic "FLWB"          u32     little endian, all
//!  4  payload octets        u32
//!  8  seq                   u64
//! 16  rows                  u32
//! 20  first time_received   i64     UTC milliseconds
//! 28  last time_received    i64
//! 36  CRC-32 of all octets of the frame but these four   u32
//! 40  payload, see [`super::pack`]
//! ```

use arrow::array::{Int64Array, RecordBatch};
use arrow::error::ArrowError;
use benocs_model::flow::{Column, column};

use super::pack;

pub(crate) const HEADER_OCTETS: usize = 40;
/// Far above any batch; a larger length is not one.
pub(crate) const PAYLOAD_OCTETS_MAX: usize = 256 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"FLWB");

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) payload_octets: u32,
    pub(crate) seq: u64,
    pub(crate) rows: u32,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    crc: u32,
}

impl Header {
    /// `None` where the octets are no header.
    pub(crate) fn parse(octets: &[u8; HEADER_OCTETS]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| octets[at + index]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| octets[at + index]));
        let header = Self {
            payload_octets: u32_at(4),
            seq: u64_at(8),
            rows: u32_at(16),
            first_ms: u64_at(20) as i64,
            last_ms: u64_at(28) as i64,
            crc: u32_at(36),
        };
        (u32_at(0) == MAGIC && header.payload_octets as usize <= PAYLOAD_OCTETS_MAX).then_some(header)
    }

    fn octets(&self) -> [u8; HEADER_OCTETS] {
        let mut octets = [0; HEADER_OCTETS];
        octets[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        octets[4..8].copy_from_slice(&self.payload_octets.to_le_bytes());
        octets[8..16].copy_from_slice(&self.seq.to_le_bytes());
        octets[16..20].copy_from_slice(&self.rows.to_le_bytes());
        octets[20..28].copy_from_slice(&self.first_ms.to_le_bytes());
        octets[28..36].copy_from_slice(&self.last_ms.to_le_bytes());
        octets[36..40].copy_from_slice(&self.crc.to_le_bytes());
        octets
    }

    pub(crate) fn frame_octets(&self) -> u64 {
        HEADER_OCTETS as u64 + u64::from(self.payload_octets)
    }

    /// Whether header and payload are what was written.
    pub(crate) fn matches(&self, payload: &[u8]) -> bool {
        payload.len() == self.payload_octets as usize && self.checksum(payload) == self.crc
    }

    fn checksum(&self, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.octets()[..36]);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// Writes the frame of `rows` into `out`, which it clears first.
pub(crate) fn encode(seq: u64, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Header, ArrowError> {
    out.clear();
    out.resize(HEADER_OCTETS, 0);
    pack::encode(rows, out)?;
    let (first_ms, last_ms) = received(rows);
    let payload_octets = u32::try_from(out.len() - HEADER_OCTETS)
        .ok()
        .filter(|octets| *octets as usize <= PAYLOAD_OCTETS_MAX)
        .ok_or_else(|| ArrowError::IpcError(format!("a batch of {} octets is too large", out.len())))?;
    let mut header = Header { payload_octets, seq, rows: rows.num_rows() as u32, first_ms, last_ms, crc: 0 };
    header.crc = header.checksum(&out[HEADER_OCTETS..]);
    out[..HEADER_OCTETS].copy_from_slice(&header.octets());
    Ok(header)
}

/// The batch of a payload that [`Header::matches`].
pub(crate) fn decode(header: &Header, payload: &[u8]) -> Result<RecordBatch, ArrowError> {
    let rows = pack::decode(payload)?;
    if rows.num_rows() != header.rows as usize {
        return Err(ArrowError::IpcError(format!("{} rows instead of {}", rows.num_rows(), header.rows)));
    }
    Ok(rows)
}

/// Range of `time_received`; zeros where there is no such column.
fn received(rows: &RecordBatch) -> (i64, i64) {
    let times = column(rows, Column::TimeReceived).and_then(|array| array.as_any().downcast_ref::<Int64Array>());
    let Some(times) = times.filter(|times| !times.values().is_empty()) else { return (0, 0) };
    let values = times.values();
    values.iter().fold((i64::MAX, i64::MIN), |(first, last), &time| (first.min(time), last.max(time)))
}
