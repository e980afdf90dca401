//! Data files: Parquet, of chunks that [`chunk`] encodes.
//!
//! Addresses have a bloom filter in merged files, so that a question about one
//! address opens few row groups.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowSchemaConverter, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;

use crate::chunk::{self, Chunk, Effort};
use crate::error::{Result, StoreError};
use crate::manifest::DataFile;

/// Rows of a row group: the unit that one thread reads and that statistics rule out.
const ROW_GROUP_ROWS: usize = 131_072;

/// Columns that are asked for single values.
const BLOOM: &[&str] = &["src_addr", "dst_addr"];

/// A file written column by column: memory holds one column of values, and pages that are encoded.
pub(crate) struct ColumnWise {
    schema: SchemaRef,
    parquet: SchemaDescriptor,
    rows: usize,
    effort: Effort,
    groups: Vec<Vec<Chunk>>,
    next: usize,
    path: PathBuf,
}

impl ColumnWise {
    pub(crate) fn new(schema: SchemaRef, rows: usize, effort: Effort, path: &Path) -> Result<Self> {
        let parquet = ArrowSchemaConverter::new().convert(&schema);
        let parquet = parquet.map_err(|source| StoreError::Encode { path: path.to_owned(), source })?;
        let groups = (0..rows.div_ceil(ROW_GROUP_ROWS)).map(|_| Vec::new()).collect();
        Ok(Self { schema, parquet, rows, effort, groups, next: 0, path: path.to_owned() })
    }

    fn failed(&self) -> impl Fn(ParquetError) -> StoreError + use<> {
        let path = self.path.clone();
        move |source| StoreError::Encode { path: path.clone(), source }
    }

    /// The next column of the schema, all of its rows.
    pub(crate) fn add(&mut self, array: &ArrayRef) -> Result<()> {
        let failed = self.failed();
        let column = self.parquet.column(self.next);
        // Files that will soon be merged are read whole.
        let bloom = self.effort.dense && BLOOM.contains(&column.name());
        self.next += 1;
        for (group, done) in self.groups.iter_mut().enumerate() {
            let start = group * ROW_GROUP_ROWS;
            let part = array.slice(start, ROW_GROUP_ROWS.min(self.rows - start));
            done.push(chunk::encode(&column, &part, self.effort, bloom).map_err(&failed)?);
        }
        Ok(())
    }

    /// The octets of the file.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let failed = self.failed();
        let metadata = self.schema.metadata().iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_created_by("benocs".to_owned())
            .set_key_value_metadata(Some(metadata.collect()));
        let octets = self.groups.iter().flatten().map(|chunk| chunk.octets.len()).sum::<usize>();
        let buffer = Vec::with_capacity(octets + 65_536);
        let root = self.parquet.root_schema_ptr();
        let mut writer = SerializedFileWriter::new(buffer, root, Arc::new(properties.build())).map_err(&failed)?;
        for chunks in self.groups {
            let mut group = writer.next_row_group().map_err(&failed)?;
            for chunk in chunks {
                group.append_column(&chunk.octets, chunk.close).map_err(&failed)?;
            }
            group.close().map_err(&failed)?;
        }
        writer.into_inner().map_err(failed)
    }
}

/// The octets of a file.
pub(crate) fn encode(batch: &RecordBatch, effort: Effort, path: &Path) -> Result<Vec<u8>> {
    let mut writer = ColumnWise::new(batch.schema(), batch.num_rows(), effort, path)?;
    for column in batch.columns() {
        writer.add(column)?;
    }
    writer.finish()
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
