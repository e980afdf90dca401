//! Settings of the store and of its question engine.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest time that rows wait in memory before they are committed to a file, milliseconds.
    pub flush_ms: u64,
    /// Most rows that wait in memory: a commit is made when they are reached.
    pub pending_rows_max: usize,
    /// Flow rows are kept for this long after they were received, seconds; 0 is for ever.
    pub retention_flows_s: u64,
    /// Windows of one minute are kept for this long, seconds; 0 is for ever.
    pub retention_rollup_1m_s: u64,
    /// Windows of five minutes are kept for this long, seconds; 0 is for ever.
    pub retention_rollup_5m_s: u64,
    /// Oldest flow files are deleted when all of them are larger than this, octets; 0 is no limit.
    pub flows_octets_max: u64,
    /// Small files of one hour are merged when there are this many of similar size.
    pub compact_files_min: usize,
    /// A merged file has at most about this many rows; also bounds the memory of a merge.
    pub compact_rows_max: usize,
    /// zstd level of files as they are committed; 0 is not compressed: they are merged within the hour.
    pub zstd_level: i32,
    /// zstd level of merged files.
    pub compact_zstd_level: i32,
    /// Start although data files are missing or damaged; their rows are given up, each file is logged.
    pub drop_damaged_files: bool,
    /// Questions answered at once; further ones wait.
    pub questions_max: usize,
    /// Threads that read files for one question; 0 is one per processor.
    pub question_threads: usize,
    /// A question is given up after this time, milliseconds.
    pub question_ms_max: u64,
    /// Most groups (times buckets) that one question may hold in memory.
    pub question_groups_max: usize,
    /// Memory of one SQL statement, octets.
    pub sql_memory_octets_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flush_ms: 3_000,
            pending_rows_max: 262_144,
            retention_flows_s: 7 * 86_400,
            retention_rollup_1m_s: 35 * 86_400,
            retention_rollup_5m_s: 400 * 86_400,
            flows_octets_max: 0,
            compact_files_min: 8,
            compact_rows_max: 1_500_000,
            zstd_level: 0,
            compact_zstd_level: 3,
            drop_damaged_files: false,
            questions_max: 4,
            question_threads: 0,
            question_ms_max: 60_000,
            question_groups_max: 8_000_000,
            sql_memory_octets_max: 512 << 20,
        }
    }
}
