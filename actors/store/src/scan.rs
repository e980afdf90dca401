//! Conditions over batches: which rows count, column at a time; and which row
//! groups cannot hold any.

use std::sync::Arc;

use arrow::array::RecordBatch;
use benocs_model::question::dimension::{Dimension, Source};
use benocs_model::question::filter::{Datum, Filter, Literal, Predicate, Test};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use crate::resolve::{Addresses, Coder, Lookup};

/// A filter ready to run over batches; each thread has its own.
pub(crate) enum Condition {
    All,
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    /// An address column, held directly: there are too many to give codes.
    Address {
        column: &'static str,
        test: Test,
    },
    Coded(Box<Coded>),
}

pub(crate) struct Coded {
    coder: Coder,
    test: Test,
    codes: Vec<u64>,
    /// Verdict by code, where codes are dense.
    known: Vec<Option<bool>>,
}

impl Condition {
    pub(crate) fn new(filter: &Filter, lookup: &Arc<Lookup>) -> Self {
        match filter {
            Filter::All => Condition::All,
            Filter::And(parts) => Condition::And(parts.iter().map(|part| Self::new(part, lookup)).collect()),
            Filter::Or(parts) => Condition::Or(parts.iter().map(|part| Self::new(part, lookup)).collect()),
            Filter::Not(part) => Condition::Not(Box::new(Self::new(part, lookup))),
            Filter::Test(test) => match test.dimension.source {
                Source::Address(column) => Condition::Address { column: column.name(), test: test.clone() },
                _ => Condition::Coded(Box::new(Coded {
                    coder: Coder::new(test.dimension, lookup.clone()),
                    test: test.clone(),
                    codes: Vec::new(),
                    known: Vec::new(),
                })),
            },
        }
    }

    /// Clears `keep` where a row does not match.
    pub(crate) fn narrow(&mut self, batch: &RecordBatch, keep: &mut [bool]) {
        match self {
            Condition::All => {}
            Condition::And(parts) => {
                for part in parts {
                    if !keep.iter().any(|kept| *kept) {
                        return;
                    }
                    part.narrow(batch, keep);
                }
            }
            Condition::Or(parts) => {
                let mut any = vec![false; keep.len()];
                for part in parts {
                    let mut found = keep.to_vec();
                    part.narrow(batch, &mut found);
                    any.iter_mut().zip(found).for_each(|(any, found)| *any |= found);
                }
                keep.copy_from_slice(&any);
            }
            Condition::Not(part) => {
                let mut found = keep.to_vec();
                part.narrow(batch, &mut found);
                keep.iter_mut().zip(found).for_each(|(kept, found)| *kept &= !found);
            }
            Condition::Address { column, test } => {
                let addresses = Addresses::of(batch, column);
                for (row, kept) in keep.iter_mut().enumerate().filter(|(_, kept)| **kept) {
                    *kept = test.matches(addresses.get(row).map_or(Datum::Null, Datum::Address));
                }
            }
            Condition::Coded(coded) => coded.narrow(batch, keep),
        }
    }
}

impl Coded {
    fn narrow(&mut self, batch: &RecordBatch, keep: &mut [bool]) {
        self.coder.codes(batch, &mut self.codes);
        if !self.coder.is_interned() {
            for (kept, code) in keep.iter_mut().zip(&self.codes).filter(|(kept, _)| **kept) {
                *kept = self.test.matches(self.coder.datum(*code));
            }
            return;
        }
        self.known.resize(self.coder.len(), None);
        for (kept, code) in keep.iter_mut().zip(&self.codes).filter(|(kept, _)| **kept) {
            *kept = match self.known.get_mut(*code as usize) {
                Some(Some(verdict)) => *verdict,
                Some(slot) => *slot.insert(self.test.matches(self.coder.datum(*code))),
                None => self.test.matches(Datum::Null),
            };
        }
    }
}

/// Dimensions that a filter names.
pub(crate) fn dimensions(filter: &Filter) -> Vec<&'static Dimension> {
    let mut found: Vec<&'static Dimension> = Vec::new();
    filter.tests(&mut |test| found.push(test.dimension));
    found
}

/// Least and greatest of a column in a row group, as unsigned numbers of `bits` bits.
fn unsigned_range(group: &RowGroupMetaData, name: &str) -> Option<(u64, u64)> {
    match statistics(group, name)? {
        Statistics::Int32(values) => Some((u64::from(*values.min_opt()? as u32), u64::from(*values.max_opt()? as u32))),
        Statistics::Int64(values) => Some((*values.min_opt()? as u64, *values.max_opt()? as u64)),
        _ => None,
    }
}

fn statistics<'a>(group: &'a RowGroupMetaData, name: &str) -> Option<&'a Statistics> {
    group.columns().iter().find(|column| column.column_descr().name() == name)?.statistics()
}

/// Least and greatest of a time column.
pub(crate) fn time_range(group: &RowGroupMetaData, name: &str) -> Option<(i64, i64)> {
    match statistics(group, name)? {
        Statistics::Int64(values) => Some((*values.min_opt()?, *values.max_opt()?)),
        _ => None,
    }
}

/// False where statistics say that no row of the group can match.
pub(crate) fn may_match(filter: &Filter, group: &RowGroupMetaData) -> bool {
    match filter {
        Filter::And(parts) => parts.iter().all(|part| may_match(part, group)),
        Filter::Or(parts) => parts.iter().any(|part| may_match(part, group)),
        Filter::Test(test) if !test.negated => match test.dimension.source {
            Source::Number(column) => {
                let Some((min, max)) = unsigned_range(group, column.name()) else { return true };
                match &test.predicate {
                    Predicate::AnyOf(literals) => literals.iter().any(|literal| match literal {
                        Literal::Number(number) => (min..=max).contains(number),
                        _ => true,
                    }),
                    Predicate::Less(limit) => min < *limit,
                    Predicate::LessOrEqual(limit) => min <= *limit,
                    Predicate::Greater(limit) => max > *limit,
                    Predicate::GreaterOrEqual(limit) => max >= *limit,
                    _ => true,
                }
            }
            _ => true,
        },
        _ => true,
    }
}

/// True where a row must pass a test of an address that few pass.
pub(crate) fn tests_addresses(filter: &Filter) -> bool {
    match filter {
        Filter::And(parts) => parts.iter().any(tests_addresses),
        Filter::Or(parts) => parts.iter().all(tests_addresses),
        Filter::Test(test) => !test.negated && matches!(test.dimension.source, Source::Address(_)),
        Filter::All | Filter::Not(_) => false,
    }
}

/// Address columns of which every matching row has one of these values.
pub(crate) fn required_addresses(filter: &Filter) -> Vec<(&'static str, Vec<[u8; 16]>)> {
    match filter {
        Filter::And(parts) => parts.iter().flat_map(required_addresses).collect(),
        Filter::Test(Test { dimension, negated: false, predicate: Predicate::AnyOf(literals) }) => {
            let Source::Address(column) = dimension.source else { return Vec::new() };
            let values: Option<Vec<[u8; 16]>> = literals
                .iter()
                .map(|literal| match literal {
                    Literal::Address(address) => Some(address.0),
                    _ => None,
                })
                .collect();
            values.map(|values| vec![(column.name(), values)]).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}
