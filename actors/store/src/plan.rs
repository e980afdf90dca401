//! Which table answers a question, over which range, in which buckets.
//!
//! A rollup answers where every dimension is one of its keys and the range and
//! the resolution are whole windows; else the flow rows do. A rollup holds what
//! the aggregator has summed; the rows that it has not seen yet are read from
//! the flow files, so that both tables always say the same. A copy has no flow
//! rows: range and resolution are widened to whole windows there.

use benocs_model::question::dimension::{self, Dimension, Kind};
use benocs_model::question::filter::Filter;
use benocs_model::question::{AskError, Question};
use benocs_model::span::bucket_start;

use crate::group::KEYS_MAX;
use crate::manifest::{Snapshot, Table};
use crate::scan;

/// A range up to this long is answered exactly, to the millisecond, where it is not made of whole windows.
const EXACT_MS: i64 = 3_600_000;
/// Width of the widest windows.
const COARSEST_MS: i64 = 300_000;
/// Buckets that are aimed at where no resolution is given.
const BUCKETS: i64 = 200;
/// Most buckets of a series.
const BUCKETS_MAX: i64 = 20_000;
/// Most rows of an answer.
pub(crate) const LIMIT_MAX: usize = 1_000_000;

/// Widths that a person reads easily, ascending.
const WIDTHS_MS: &[i64] = &[
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    604_800_000,
];

pub(crate) struct Plan {
    pub(crate) table: Table,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Dimensions without time.
    pub(crate) keys: Vec<&'static Dimension>,
    /// Position of `time` among the asked dimensions.
    pub(crate) time_at: Option<usize>,
    /// 0 without a series.
    pub(crate) resolution: i64,
    pub(crate) filter: Filter,
    pub(crate) notes: Vec<String>,
}

fn wrong(message: String) -> AskError {
    AskError::Wrong { message, at: None }
}

impl Plan {
    /// `has_rows` is false for a copy.
    pub(crate) fn new(question: &Question, snapshot: &Snapshot, has_rows: bool) -> Result<Self, AskError> {
        if question.from_ms >= question.to_ms {
            return Err(wrong("the range is empty: its end must be after its start".to_owned()));
        }
        // Times that leave room for arithmetic.
        let limit = 1 << 52;
        if question.from_ms < -limit || question.to_ms > limit {
            return Err(wrong("the range is not a time that can be: give UTC milliseconds".to_owned()));
        }
        let (keys, time_at) = keys(question)?;
        let filter = Filter::parse(&question.filter)?;
        let mut needed: Vec<&'static Dimension> = keys.clone();
        needed.extend(scan::dimensions(&filter));
        let raw_only = needed.iter().find(|dimension| dimension.rollup_columns().is_none());
        if let (Some(dimension), false) = (raw_only, has_rows) {
            let name = dimension.name;
            return Err(wrong(format!(
                "`{name}` is in flow rows alone, which are not on the front end: ask the process that runs storage00"
            )));
        }

        let (mut from, mut to) = (question.from_ms, question.to_ms);
        let mut notes = Vec::new();
        let mut resolution = match time_at {
            Some(_) => resolution(question)?,
            None => 0,
        };
        let oldest = |table: Table| snapshot.of(table).map(|file| file.meta.first.min).min();
        let rollups = [Table::Rollup5m, Table::Rollup1m];
        let oldest_of_all = rollups.into_iter().filter_map(oldest).min().unwrap_or(from);
        // Finer windows are kept for a shorter time; one of the coarser begins before the finer ones in it.
        let covers =
            |table: &Table| oldest(*table).is_some_and(|own| own < question.from_ms.max(oldest_of_all) + COARSEST_MS);
        let first = |tables: &mut dyn Iterator<Item = Table>, fits: &dyn Fn(&Table) -> bool| {
            let fitting: Vec<Table> = tables.filter(|table| oldest(*table).is_some() && fits(table)).collect();
            fitting.iter().find(|table| covers(table)).or(fitting.first()).copied()
        };
        let finest = first(&mut rollups.into_iter().rev(), &|_| true).unwrap_or(Table::Rollup1m);
        let why = if has_rows { "" } else { ": flow rows are not on the front end" };
        let finest_ms = finest.width_ms().unwrap_or(1);
        if !has_rows && resolution % finest_ms != 0 {
            resolution = bucket_start(resolution + finest_ms - 1, finest_ms);
            if question.resolution_ms > 0 {
                notes.push(format!("the resolution was widened to {} min{why}", resolution / 60_000));
            }
        }
        let fits = |table: &Table, from: i64, to: i64| {
            let width = table.width_ms().unwrap_or(1);
            from % width == 0 && to % width == 0 && resolution % width == 0
        };
        let mut table = if has_rows { Table::Flows } else { finest };
        if raw_only.is_none() {
            let may_widen = to - from > EXACT_MS || !has_rows;
            let exact = first(&mut rollups.into_iter(), &|table| fits(table, from, to));
            if let Some(exact) = exact.filter(|table| covers(table) || !may_widen) {
                table = exact;
            } else if may_widen {
                let whole = |table: &Table| {
                    let width = table.width_ms().unwrap_or(1);
                    (bucket_start(from, width), bucket_start(to + width - 1, width))
                };
                // The finest that is kept: it widens the least.
                let widened = first(&mut rollups.into_iter().rev(), &|table| {
                    let (from, to) = whole(table);
                    fits(table, from, to)
                });
                if let Some(widened) = widened.or((!has_rows).then_some(finest)) {
                    (from, to) = whole(&widened);
                    table = first(&mut rollups.into_iter(), &|table| fits(table, from, to)).unwrap_or(widened);
                    if (from, to) != (question.from_ms, question.to_ms) {
                        let minutes = widened.width_ms().unwrap_or(0) / 60_000;
                        notes.push(format!("the range was widened to whole windows of {minutes} min{why}"));
                    }
                }
            }
        }
        Ok(Self { table, from, to, keys, time_at, resolution, filter, notes })
    }

    /// Number of the bucket of a moment.
    #[inline]
    pub(crate) fn bucket(&self, t: i64) -> u32 {
        ((bucket_start(t, self.resolution) - bucket_start(self.from, self.resolution)) / self.resolution) as u32
    }

    /// Start of a bucket.
    pub(crate) fn bucket_time(&self, bucket: u32) -> i64 {
        bucket_start(self.from, self.resolution) + i64::from(bucket) * self.resolution
    }
}

fn keys(question: &Question) -> Result<(Vec<&'static Dimension>, Option<usize>), AskError> {
    let mut keys: Vec<&'static Dimension> = Vec::new();
    let mut time_at = None;
    for (position, name) in question.by.iter().enumerate() {
        let Some(dimension) = dimension::by_name(name) else {
            let hint = match dimension::nearest(name) {
                Some(near) => format!("did you mean `{}`?", near.name),
                None => "list them with `benocs query --dimensions`".to_owned(),
            };
            return Err(wrong(format!("there is no dimension `{name}`: {hint}")));
        };
        if question.by[..position].contains(name) {
            return Err(wrong(format!("`{name}` is asked for twice")));
        }
        if dimension.kind == Kind::Time {
            time_at = Some(position);
        } else {
            keys.push(dimension);
        }
    }
    if keys.len() > KEYS_MAX {
        return Err(wrong(format!("a question has at most {KEYS_MAX} dimensions beside time, not {}", keys.len())));
    }
    Ok((keys, time_at))
}

/// As asked, else about [`BUCKETS`] of a readable width.
fn resolution(question: &Question) -> Result<i64, AskError> {
    let range = question.to_ms - question.from_ms;
    if question.resolution_ms < 0 {
        return Err(wrong("the resolution is negative: give milliseconds, or 0 to have one chosen".to_owned()));
    }
    if question.resolution_ms == 0 {
        let fits = WIDTHS_MS.iter().copied().find(|width| range / width <= BUCKETS);
        return Ok(fits.unwrap_or_else(|| (range / BUCKETS / 86_400_000 + 1) * 86_400_000));
    }
    if range / question.resolution_ms > BUCKETS_MAX {
        return Err(wrong(format!("a series of more than {BUCKETS_MAX} buckets: ask a coarser resolution")));
    }
    Ok(question.resolution_ms)
}
