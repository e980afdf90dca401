//! What is written is read again, by the `parquet` crate's own reader.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const EFFORTS: [Effort; 3] = [
    Effort { zstd_level: 0, dense: false },
    Effort { zstd_level: 3, dense: true },
    Effort { zstd_level: 0, dense: true },
];

fn file(schema: &Schema, columns: &[ArrayRef], effort: Effort) -> Bytes {
    let parquet = ArrowSchemaConverter::new().convert(schema).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), parquet.root_schema_ptr(), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (index, column) in columns.iter().enumerate() {
        let chunk = encode(&parquet.column(index), column, effort, true).unwrap();
        group.append_column(&chunk.octets, chunk.close).unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap().into()
}

fn check(name: &str, column: &ArrayRef) {
    let nullable = column.null_count() > 0;
    for effort in EFFORTS {
        let schema = Schema::new(vec![Field::new("v", column.data_type().clone(), nullable)]);
        let octets = file(&schema, std::slice::from_ref(column), effort);
        let options = ArrowReaderOptions::new()
            .with_schema(Arc::new(schema.clone()))
            .with_offset_index_policy(PageIndexPolicy::Required);
        let open = || ParquetRecordBatchReaderBuilder::try_new_with_options(octets.clone(), options.clone()).unwrap();
        let batches: Vec<RecordBatch> = open().with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect();
        let read = arrow::compute::concat_batches(&Arc::new(schema.clone()), &batches).unwrap();
        assert_eq!(read.column(0), column, "{name} {effort:?}");
        // By the offset index: the last row alone.
        let rows = column.len();
        let last = RowSelection::from(vec![RowSelector::skip(rows - 1), RowSelector::select(1)]);
        let read = open().with_row_selection(last).build().unwrap().next().unwrap().unwrap();
        assert_eq!(read.column(0), &column.slice(rows - 1, 1), "{name} {effort:?}");
    }
}

fn some(row: usize) -> bool {
    !row.is_multiple_of(3)
}

#[test]
fn every_type_and_shape_is_read_again() {
    let mut random = StdRng::seed_from_u64(7);
    for rows in [1, 2, 7, 8, 31, 32, 33, 129, 1000, PAGE_ROWS, PAGE_ROWS + 1, 40_000] {
        for shape in 0..8u64 {
            // Constant, few, narrow, wide, growing, falling, in runs, extremes.
            let values: Vec<u64> = (0..rows as u64)
                .map(|row| match shape {
                    0 => 7,
                    1 => random.random_range(0..5),
                    2 => random.random_range(1_000..1_200),
                    3 => random.random(),
                    4 => 1_750_000_000_000 + row * 13,
                    5 => u64::MAX - row * 1_000,
                    6 => row / 100 % 3,
                    _ => [0, u64::MAX, 1 << 63, (1 << 63) - 1][random.random_range(0..4)],
                })
                .collect();
            let nullable = |row: usize, value: u64| some(row).then_some(value);
            let name = format!("shape {shape}, {rows} rows");
            let columns: [ArrayRef; 6] = [
                Arc::new(UInt8Array::from_iter_values(values.iter().map(|value| *value as u8))),
                Arc::new(UInt16Array::from_iter_values(values.iter().map(|value| *value as u16))),
                Arc::new(UInt32Array::from_iter_values(values.iter().map(|value| *value as u32))),
                Arc::new(UInt64Array::from_iter_values(values.iter().copied())),
                Arc::new(Int64Array::from_iter_values(values.iter().map(|value| *value as i64))),
                Arc::new(UInt32Array::from_iter(
                    values.iter().enumerate().map(|(row, value)| nullable(row, *value).map(|value| value as u32)),
                )),
            ];
            columns.iter().for_each(|column| check(&name, column));
            let address = |value: u64| (u128::from(value) << 64 | u128::from(value)).to_be_bytes();
            let plain = FixedSizeBinaryArray::try_from_iter(values.iter().map(|value| address(*value))).unwrap();
            check(&name, &(Arc::new(plain) as ArrayRef));
            let optional = values.iter().enumerate().map(|(row, value)| nullable(row, *value).map(address));
            let optional = FixedSizeBinaryArray::try_from_sparse_iter_with_size(optional, 16).unwrap();
            check(&name, &(Arc::new(optional) as ArrayRef));
        }
    }
    check("all null", &(Arc::new(UInt16Array::new_null(20_000)) as ArrayRef));
    let late: UInt64Array = (0..PAGE_ROWS + 50).map(|row| (row >= PAGE_ROWS).then_some(row as u64)).collect();
    check("a page of nulls before values", &(Arc::new(late) as ArrayRef));
}

#[test]
fn a_slice_is_its_own_rows() {
    let values: UInt32Array = (0..50_000u32).map(|row| some(row as usize).then_some(row % 977)).collect();
    check("slice", &(Arc::new(values) as ArrayRef).slice(13, 30_011));
}

#[test]
fn statistics_are_of_the_values_as_they_are_compared() {
    let column: ArrayRef = Arc::new(UInt32Array::from(vec![Some(5), None, Some(u32::MAX)]));
    let schema = Schema::new(vec![Field::new("v", DataType::UInt32, true)]);
    let parquet = ArrowSchemaConverter::new().convert(&schema).unwrap();
    let chunk = encode(&parquet.column(0), &column, EFFORTS[0], false).unwrap();
    let Some(Statistics::Int32(found)) = chunk.close.metadata.statistics() else { panic!("no statistics") };
    assert_eq!((found.min_opt(), found.max_opt(), found.null_count_opt()), (Some(&5), Some(&-1), Some(1)));
}
