//! Rows on their way to a file: batches brought to one schema, sorted, summed.

use std::sync::Arc;

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch, UInt32Array, UInt64Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Field, Int64Type, Schema, UInt64Type};
use arrow::row::{RowConverter, SortField};
use benocs_model::flow::{Column, SCHEMA_VERSION};
use benocs_model::message::SourceId;
use benocs_model::rollup;
use hashbrown::HashMap;

use crate::error::{Result, columns};
use crate::manifest::Span;

/// One batch of all: columns in canonical order; those that are null in every row are left out.
pub(crate) fn join_flows(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for column in Column::ALL {
        let parts: Vec<Option<&ArrayRef>> = batches.iter().map(|batch| batch.column_by_name(column.name())).collect();
        let empty = |part: &Option<&ArrayRef>| part.is_none_or(|array| array.null_count() == array.len());
        if column.nullable() && parts.iter().all(empty) {
            continue;
        }
        let parts: Vec<ArrayRef> = parts
            .into_iter()
            .zip(batches)
            .map(|(part, batch)| match part {
                Some(array) => array.clone(),
                None => new_null_array(&column.data_type(), batch.num_rows()),
            })
            .collect();
        let references: Vec<&dyn Array> = parts.iter().map(|array| array.as_ref()).collect();
        let joined = concat(&references).map_err(columns("join flow batches"))?;
        fields.push(Field::new(column.name(), column.data_type(), column.nullable() && joined.null_count() > 0));
        arrays.push(joined);
    }
    let metadata = [("benocs.flow.version".to_owned(), SCHEMA_VERSION.to_string())];
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata.into()));
    RecordBatch::try_new(schema, arrays).map_err(columns("join flow batches"))
}

/// The rows of these numbers, in their order.
pub(crate) fn pick(batch: &RecordBatch, rows: &UInt32Array) -> Result<RecordBatch> {
    let arrays = batch
        .columns()
        .iter()
        .map(|array| take(array, rows, None))
        .collect::<Result<Vec<_>, _>>()
        .map_err(columns("sort rows"))?;
    RecordBatch::try_new(batch.schema(), arrays).map_err(columns("sort rows"))
}

/// The order of merged files: by exporter, input and output interface, then as received. Equal values
/// stand together, which compresses; and what a question about one router needs is in few pages.
pub(crate) fn file_order(
    exporter: &UInt32Array,
    in_if: Option<&UInt32Array>,
    out_if: Option<&UInt32Array>,
) -> UInt32Array {
    let value = |array: Option<&UInt32Array>, row: usize| match array {
        Some(array) if array.is_valid(row) => array.value(row),
        _ => u32::MAX,
    };
    let mut keyed: Vec<(u128, u32)> = (0..exporter.len())
        .map(|row| {
            let key = u128::from(exporter.value(row)) << 64
                | u128::from(value(in_if, row)) << 32
                | u128::from(value(out_if, row));
            (key, row as u32)
        })
        .collect();
    keyed.sort_unstable();
    UInt32Array::from_iter_values(keyed.into_iter().map(|(_, row)| row))
}

/// Least and greatest of a column without nulls.
pub(crate) fn span(batch: &RecordBatch, name: &str) -> Option<Span> {
    let array = batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    Some(Span { min: arrow::compute::min(array)?, max: arrow::compute::max(array)? })
}

/// First and last batch number by source.
pub(crate) fn batch_ranges(batch: &RecordBatch) -> std::collections::BTreeMap<SourceId, (u64, u64)> {
    let numbers = |column: Column| batch.column_by_name(column.name())?.as_primitive_opt::<UInt64Type>();
    let mut ranges = std::collections::BTreeMap::new();
    let (Some(sources), Some(seqs)) = (numbers(Column::IngestSource), numbers(Column::IngestSeq)) else {
        return ranges;
    };
    for (source, seq) in sources.values().iter().zip(seqs.values()) {
        let seq = seq >> 16;
        let range = ranges.entry(SourceId(*source)).or_insert((seq, seq));
        range.0 = range.0.min(seq);
        range.1 = range.1.max(seq);
    }
    ranges
}

/// Row numbers by partition of a time column.
pub(crate) fn by_partition(batch: &RecordBatch, name: &str, width_ms: i64) -> Vec<(i64, Option<UInt32Array>)> {
    let Some(span) = span(batch, name) else { return Vec::new() };
    let start = |t: i64| benocs_model::span::bucket_start(t, width_ms);
    if start(span.min) == start(span.max) {
        return vec![(start(span.min), None)];
    }
    let times = batch.column_by_name(name).and_then(|array| array.as_primitive_opt::<Int64Type>());
    let mut parts: std::collections::BTreeMap<i64, Vec<u32>> = std::collections::BTreeMap::new();
    for (row, t) in times.into_iter().flat_map(|array| array.values().iter()).enumerate() {
        parts.entry(start(*t)).or_default().push(row as u32);
    }
    parts.into_iter().map(|(partition, rows)| (partition, Some(UInt32Array::from(rows)))).collect()
}

/// Partials summed by window and keys, in that order.
pub(crate) fn sum_rollups(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let schema = rollup::schema();
    let keys = rollup::KEYS.len() + 1;
    let failed = || columns("sum rollup partials");
    let column = |index: usize| -> Result<ArrayRef> {
        let field = schema.field(index);
        let parts: Vec<ArrayRef> = batches
            .iter()
            .map(|batch| match batch.column_by_name(field.name()) {
                Some(array) => array.clone(),
                None => new_null_array(field.data_type(), batch.num_rows()),
            })
            .collect();
        let references: Vec<&dyn Array> = parts.iter().map(|array| array.as_ref()).collect();
        concat(&references).map_err(failed())
    };
    let arrays = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>>>()?;
    let sort = (0..keys).map(|index| SortField::new(schema.field(index).data_type().clone())).collect();
    let converter = RowConverter::new(sort).map_err(failed())?;
    let rows = converter.convert_columns(&arrays[..keys]).map_err(failed())?;
    let sums: Vec<&UInt64Array> =
        arrays[keys..].iter().filter_map(|array| array.as_primitive_opt::<UInt64Type>()).collect();
    let quality = sums.len().saturating_sub(1);

    // Group number by key; the row that showed it first; its sums.
    let mut groups: HashMap<&[u8], usize, RandomState> = HashMap::default();
    let mut firsts: Vec<u32> = Vec::new();
    let mut totals: Vec<Vec<u64>> = vec![Vec::new(); sums.len()];
    for row in 0..rows.num_rows() {
        let key = rows.row(row).data();
        let group = *groups.entry(key).or_insert_with(|| {
            firsts.push(row as u32);
            totals.iter_mut().for_each(|total| total.push(0));
            firsts.len() - 1
        });
        for (index, (total, sum)) in totals.iter_mut().zip(&sums).enumerate() {
            let value = if sum.is_valid(row) { sum.value(row) } else { 0 };
            let slot = &mut total[group];
            *slot = if index == quality { *slot | value } else { slot.saturating_add(value) };
        }
    }
    let mut order: Vec<u32> = (0..firsts.len() as u32).collect();
    order.sort_unstable_by(|a, b| rows.row(firsts[*a as usize] as usize).cmp(&rows.row(firsts[*b as usize] as usize)));
    let picked = UInt32Array::from_iter_values(order.iter().map(|group| firsts[*group as usize]));
    let mut out = Vec::with_capacity(arrays.len());
    for array in &arrays[..keys] {
        out.push(take(array, &picked, None).map_err(failed())?);
    }
    for total in totals {
        out.push(Arc::new(UInt64Array::from_iter_values(order.iter().map(|group| total[*group as usize]))));
    }
    RecordBatch::try_new(schema, out).map_err(failed())
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::UInt32Type;

    use super::*;

    fn partial(rows: &[(i64, Option<u32>, u64)]) -> RecordBatch {
        let schema = rollup::schema();
        let arrays = schema
            .fields()
            .iter()
            .map(|field| -> ArrayRef {
                match field.name().as_str() {
                    "window" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
                    "src_as" => Arc::new(UInt32Array::from_iter(rows.iter().map(|row| row.1))),
                    "octets" | "packets" | "flows" | "octets_raw" | "packets_raw" | "quality" => {
                        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.2)))
                    }
                    _ => new_null_array(field.data_type(), rows.len()),
                }
            })
            .collect();
        RecordBatch::try_new(schema, arrays).unwrap()
    }

    #[test]
    fn partials_are_summed_by_window_and_key() {
        let a = partial(&[(60_000, Some(1), 5), (0, Some(1), 1), (0, None, 2)]);
        let b = partial(&[(0, Some(1), 4), (0, Some(2), 8), (0, None, 1)]);
        let sum = sum_rollups(&[a, b]).unwrap();
        let windows = sum.column(0).as_primitive::<Int64Type>().values().to_vec();
        let keys: Vec<Option<u32>> =
            sum.column_by_name("src_as").unwrap().as_primitive::<UInt32Type>().iter().collect();
        let octets = sum.column_by_name("octets").unwrap().as_primitive::<UInt64Type>().values().to_vec();
        let quality = sum.column_by_name("quality").unwrap().as_primitive::<UInt64Type>().values().to_vec();
        assert_eq!(windows, [0, 0, 0, 60_000]);
        assert_eq!(keys, [None, Some(1), Some(2), Some(1)]);
        assert_eq!(octets, [3, 5, 8, 5]);
        assert_eq!(quality, [3, 5, 8, 5]);
    }
}
