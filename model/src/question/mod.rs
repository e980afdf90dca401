//! The one question: time range, dimensions, filter, top N, resolution; and its
//! answer. The page, the API and the command line ask nothing else.

pub mod dimension;
pub mod filter;

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is asked. Times are UTC milliseconds; the range is [from, to).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub from_ms: i64,
    pub to_ms: i64,
    /// Dimension names, snake case; `time` among them asks for a series.
    #[serde(default)]
    pub by: Vec<String>,
    /// In the filter language; empty is everything.
    #[serde(default)]
    pub filter: String,
    /// The largest N by `order`; the rest is summed in [`Answer::other`]. With
    /// `time`, N distinct combinations of the other dimensions.
    #[serde(default = "default_limit")]
    pub limit: usize,
    /// Width of a `time` bucket; 0 lets the engine choose about 200 of them.
    #[serde(default)]
    pub resolution_ms: i64,
    #[serde(default)]
    pub order: Order,
    /// Also sightings that are not counted (duplicates on other routers).
    #[serde(default)]
    pub all_sightings: bool,
    /// Tenant sets that the asker may see; `None` is everything.
    #[serde(skip)]
    pub tenant_sets: Option<Vec<u32>>,
}

fn default_limit() -> usize {
    10
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    Octets,
    Packets,
    Flows,
}

/// Sums; octets and packets are scaled by sampling, flows are records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub octets: u64,
    pub packets: u64,
    pub flows: u64,
}

/// Columns are the dimensions as asked, then `octets`, `packets`, `flows`.
/// Numbers are JSON numbers, addresses and names strings, absent is null,
/// `time` is RFC 3339 of the bucket's start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// Over everything that matched, not only the rows shown.
    pub totals: Sums,
    /// What matched but is not among the rows.
    pub other: Sums,
    /// With `time`: [`Answer::other`] by bucket start (UTC ms).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_series: Vec<(i64, Sums)>,
    /// Table that answered: `flows`, `rollup_1m`, `rollup_5m`.
    pub source: String,
    pub from_ms: i64,
    pub to_ms: i64,
    pub resolution_ms: i64,
    pub rows_read: u64,
    pub files_read: u64,
    pub elapsed_ms: f64,
    /// End of the newest data in the store, UTC ms.
    pub newest_ms: Option<i64>,
    /// Names of [`crate::flow::quality`] bits that any row had.
    #[serde(default)]
    pub quality: Vec<String>,
    /// What the asker should know: range widened, a feed missing.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A dimension as the API lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DimensionInfo {
    pub name: String,
    pub title: String,
    /// `number`, `asn`, `address`, `prefix`, `text`, `enum`, `time`.
    pub kind: String,
    /// Served by rollups.
    pub rollup: bool,
    /// Of an `enum`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum AskError {
    /// `at` is the offset of the character in the filter, where it is the filter.
    #[error("{message}")]
    Wrong { message: String, at: Option<usize> },
    #[error("{0}")]
    Failed(String),
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever can answer: the local store, or a client of one.
pub trait Ask: Send + Sync {
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Answer, AskError>>;
    fn dimensions(&self) -> Vec<DimensionInfo>;
    /// Values of a dimension that begin with or contain `text`, for completion.
    fn complete(&self, dimension: &str, text: &str, limit: usize) -> BoxFuture<'_, Result<Vec<String>, AskError>>;
}
