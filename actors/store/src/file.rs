//! Data files: Parquet (format 2), zstd, one encoding for each kind of column.
//!
//! Numbers that grow (times, batch numbers) are delta packed; everything else has
//! a dictionary until it is too large. Addresses have a bloom filter in merged
//! files, so that a question about one address opens few row groups.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowWriterOptions, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::error::{Result, StoreError};
use crate::manifest::DataFile;

/// Rows of a row group: the unit that one thread reads and that statistics rule out.
const ROW_GROUP_ROWS: usize = 131_072;
const PAGE_ROWS: usize = 20_000;

/// Columns that grow in the order of a file, or nearly do.
const DELTA: &[&str] = &["ingest_seq", "time_received", "first", "last", "exported_first", "exported_last", "window"];
/// Columns whose page statistics rule pages out.
const PAGE_STATISTICS: &[&str] = &["first", "last", "time_received", "window", "exporter_id", "in_if"];
const BLOOM: &[&str] = &["src_addr", "dst_addr"];

fn properties(level: i32, bloom: bool, metadata: Vec<KeyValue>) -> WriterProperties {
    let level = ZstdLevel::try_new(level).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by("benocs".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(8_192)
        .set_key_value_metadata(Some(metadata));
    for name in DELTA {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(*name), false)
            .set_column_encoding(ColumnPath::from(*name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in PAGE_STATISTICS {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(*name), EnabledStatistics::Page);
    }
    if bloom {
        for name in BLOOM {
            builder = builder
                .set_column_bloom_filter_enabled(ColumnPath::from(*name), true)
                .set_column_bloom_filter_fpp(ColumnPath::from(*name), 0.02)
                .set_column_bloom_filter_max_ndv(ColumnPath::from(*name), ROW_GROUP_ROWS as u64);
        }
    }
    builder.build()
}

fn writer(schema: &SchemaRef, level: i32, merged: bool, rows: usize) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
    let metadata = schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let options = ArrowWriterOptions::new()
        .with_properties(properties(level, merged, metadata.collect()))
        .with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Vec::with_capacity(rows * 40 + 65_536), schema.clone(), options)
}

/// The octets of a file.
pub(crate) fn encode(batch: &RecordBatch, level: i32, merged: bool, path: &Path) -> Result<Vec<u8>> {
    let failed = |source| StoreError::Encode { path: path.to_owned(), source };
    let mut writer = writer(&batch.schema(), level, merged, batch.num_rows()).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// A file written column by column: memory holds one column of values, and pages that are compressed.
pub(crate) struct ColumnWise {
    schema: SchemaRef,
    rows: usize,
    writer: SerializedFileWriter<Vec<u8>>,
    /// By row group: columns that wait for their values.
    open: Vec<std::vec::IntoIter<ArrowColumnWriter>>,
    done: Vec<Vec<ArrowColumnChunk>>,
    next: usize,
    path: PathBuf,
}

impl ColumnWise {
    pub(crate) fn new(schema: SchemaRef, rows: usize, level: i32, path: &Path) -> Result<Self> {
        let failed = |source| StoreError::Encode { path: path.to_owned(), source };
        let writer = writer(&schema, level, true, rows).map_err(failed)?;
        let (writer, factory) = writer.into_serialized_writer().map_err(failed)?;
        let groups = rows.div_ceil(ROW_GROUP_ROWS);
        let open = (0..groups)
            .map(|group| Ok(factory.create_column_writers(group)?.into_iter()))
            .collect::<std::result::Result<Vec<_>, ParquetError>>()
            .map_err(failed)?;
        let done = (0..groups).map(|_| Vec::new()).collect();
        Ok(Self { schema, rows, writer, open, done, next: 0, path: path.to_owned() })
    }

    /// The next column of the schema, all of its rows.
    pub(crate) fn add(&mut self, array: &ArrayRef) -> Result<()> {
        let field = self.schema.field(self.next).clone();
        self.next += 1;
        let path = self.path.clone();
        let failed = |source| StoreError::Encode { path: path.clone(), source };
        for (group, (open, done)) in self.open.iter_mut().zip(&mut self.done).enumerate() {
            let start = group * ROW_GROUP_ROWS;
            let part = array.slice(start, ROW_GROUP_ROWS.min(self.rows - start));
            let Some(mut writer) = open.next() else { continue };
            for leaf in compute_leaves(&field, &part).map_err(failed)? {
                writer.write(&leaf).map_err(failed)?;
            }
            done.push(writer.close().map_err(failed)?);
        }
        Ok(())
    }

    /// The octets of the file.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        let failed = |source| StoreError::Encode { path: self.path.clone(), source };
        for chunks in self.done {
            let mut group = self.writer.next_row_group().map_err(failed)?;
            for chunk in chunks {
                chunk.append_to_row_group(&mut group).map_err(failed)?;
            }
            group.close().map_err(failed)?;
        }
        self.writer.into_inner().map_err(failed)
    }
}

/// Values of one column of a file; `None` where the file has no such column.
pub(crate) fn read_column(file: &DataFile, name: &str) -> Result<Option<Vec<ArrayRef>>> {
    let footer = footer(file)?;
    if footer.schema().column_with_name(name).is_none() {
        return Ok(None);
    }
    let mask = projection(&footer, &[name]);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(open(&file.path)?, footer)
        .with_projection(mask)
        .with_batch_size(ROW_GROUP_ROWS)
        .build()
        .map_err(|error| damaged(&file.path, &error))?;
    reader
        .map(|batch| match batch {
            Ok(batch) => Ok(batch.column(0).clone()),
            Err(error) => Err(damaged(&file.path, &ParquetError::from(error))),
        })
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

/// The footer, from the file or from memory.
pub(crate) fn footer(file: &DataFile) -> Result<ArrowReaderMetadata> {
    if let Some(footer) = file.footer() {
        return Ok(footer);
    }
    let handle = open(&file.path)?;
    // Where pages begin, so that those without a wanted row are not decompressed.
    let options = ArrowReaderOptions::new()
        .with_column_index_policy(PageIndexPolicy::Skip)
        .with_offset_index_policy(PageIndexPolicy::Optional);
    let footer = ArrowReaderMetadata::load(&handle, options).map_err(|error| damaged(&file.path, &error))?;
    file.keep_footer(footer.clone());
    Ok(footer)
}

pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| StoreError::Read { path: path.to_owned(), source })
}

pub(crate) fn damaged(path: &Path, error: &ParquetError) -> StoreError {
    StoreError::DataFile { path: path.to_owned(), reason: format!("cannot be decoded ({error})") }
}

/// The columns of these names, of those that the file has.
pub(crate) fn projection(footer: &ArrowReaderMetadata, names: &[&str]) -> ProjectionMask {
    let schema = footer.parquet_schema();
    let wanted = schema.columns().iter().enumerate().filter(|(_, column)| names.contains(&column.name()));
    ProjectionMask::leaves(schema, wanted.map(|(index, _)| index))
}

/// Every row of a file, in batches.
pub(crate) fn read_all(file: &DataFile) -> Result<Vec<RecordBatch>> {
    let footer = footer(file)?;
    let failed = |error: ParquetError| damaged(&file.path, &error);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(open(&file.path)?, footer)
        .with_batch_size(65_536)
        .build()
        .map_err(failed)?;
    reader.collect::<Result<Vec<_>, _>>().map_err(|error| StoreError::DataFile {
        path: file.path.clone(),
        reason: format!("cannot be decoded ({error})"),
    })
}

/// What [`verify`] found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: PathBuf,
    pub reason: String,
}

/// Holds a file against what the manifest says of it: length, checksum, rows, and every value decodes.
pub(crate) fn verify(file: &Arc<DataFile>) -> Option<Fault> {
    let fault = |reason: String| Some(Fault { path: file.path.clone(), reason });
    let octets = match std::fs::read(&file.path) {
        Ok(octets) => octets,
        Err(error) => return fault(format!("cannot be read: {error}")),
    };
    if octets.len() as u64 != file.meta.octets {
        return fault(format!("has {} octets where the manifest says {}", octets.len(), file.meta.octets));
    }
    if crc32fast::hash(&octets) != file.meta.crc32 {
        return fault("has another checksum than the manifest says".to_owned());
    }
    match read_all(file) {
        Ok(batches) => {
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if rows as u64 == file.meta.rows {
                None
            } else {
                fault(format!("has {rows} rows where the manifest says {}", file.meta.rows))
            }
        }
        Err(error) => fault(error.to_string()),
    }
}

/// False where the bloom filters of a row group say that it has none of the addresses.
pub(crate) fn bloom_may_have(
    file: &DataFile,
    footer: &ArrowReaderMetadata,
    row_group: usize,
    required: &[(&'static str, Vec<[u8; 16]>)],
) -> Result<bool> {
    let group = footer.metadata().row_group(row_group);
    let mut builder = None;
    for (name, values) in required {
        let position = group.columns().iter().position(|column| column.column_descr().name() == *name);
        let Some(position) = position else { return Ok(false) };
        if group.column(position).bloom_filter_offset().is_none() {
            continue;
        }
        if builder.is_none() {
            let handle = open(&file.path)?;
            builder = Some(ParquetRecordBatchReaderBuilder::new_with_metadata(handle, footer.clone()));
        }
        let Some(builder) = builder.as_mut() else { continue };
        let filter = builder.get_row_group_column_bloom_filter(row_group, position);
        if let Some(filter) = filter.map_err(|error| damaged(&file.path, &error))?
            && !values.iter().any(|value| filter.check(value.as_slice()))
        {
            return Ok(false);
        }
    }
    Ok(true)
}
