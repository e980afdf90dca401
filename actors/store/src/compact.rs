//! Compaction: small files of a partition become one, rollup partials of a
//! window become one row. Which files, and how; the commit is the store's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema};
use benocs_model::flow::{Column, SCHEMA_VERSION};

use crate::chunk::Effort;
use crate::config::Config;
use crate::disk::{Disk, create_directory};
use crate::error::{Result, columns};
use crate::file;
use crate::manifest::{DataFile, FileMeta, Snapshot, Span, Table};
use crate::rows;

/// A partition is closed this long after its end: nothing is received into it any more.
const CLOSED_AFTER_MS: i64 = 120_000;

/// Files that become one.
pub(crate) struct Plan {
    pub(crate) table: Table,
    pub(crate) partition: i64,
    pub(crate) inputs: Vec<Arc<DataFile>>,
}

/// Rows of a merged file. Rollups are summed in memory, flow rows pass through it column by column.
fn limit(table: Table, config: &Config) -> u64 {
    let rows = config.compact_rows_max as u64;
    if table == Table::Flows { rows } else { rows / 3 }
}

/// What to merge next, if anything: whatever is small in a closed partition, else many files of one level.
pub(crate) fn plan(snapshot: &Snapshot, now_ms: i64, config: &Config) -> Option<Plan> {
    let mut partitions: BTreeMap<(i64, Table), Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in snapshot.files.values().filter(|file| file.meta.rows <= limit(file.meta.table, config) / 2) {
        partitions.entry((file.meta.partition, file.meta.table)).or_default().push(file);
    }
    for ((partition, table), mut files) in partitions {
        let closed = partition + table.partition_ms() + CLOSED_AFTER_MS < now_ms;
        if !closed && !snapshot.rollups.is_empty() {
            // Questions read what rollups do not hold yet beside them: that stays in small files.
            files.retain(|file| snapshot.is_rolled_up(file));
        }
        let candidates = if closed {
            files.sort_by_key(|file| file.meta.rows);
            Some(files)
        } else {
            let mut levels: BTreeMap<u8, Vec<&Arc<DataFile>>> = BTreeMap::new();
            files.into_iter().for_each(|file| levels.entry(file.meta.level).or_default().push(file));
            levels.into_values().find(|files| files.len() >= config.compact_files_min.max(2))
        };
        let mut rows = 0;
        let inputs: Vec<Arc<DataFile>> = candidates
            .into_iter()
            .flatten()
            .take_while(|file| {
                rows += file.meta.rows;
                rows <= limit(table, config)
            })
            .cloned()
            .collect();
        if inputs.len() >= 2 {
            return Some(Plan { table, partition, inputs });
        }
    }
    None
}

/// Reads, merges and writes; the file is durable and not yet committed.
pub(crate) fn run(plan: &Plan, id: u64, root: &Path, config: &Config, disk: &Disk) -> Result<FileMeta> {
    let level = plan.inputs.iter().map(|input| input.meta.level).max().unwrap_or(0).saturating_add(1);
    let join = |span: fn(&FileMeta) -> Span| {
        plan.inputs.iter().map(|input| span(&input.meta)).reduce(Span::join).unwrap_or(Span { min: 0, max: 0 })
    };
    let mut sources = BTreeMap::new();
    for (source, (from, upto)) in plan.inputs.iter().flat_map(|input| &input.meta.batches) {
        let range = sources.entry(*source).or_insert((*from, *upto));
        *range = (range.0.min(*from), range.1.max(*upto));
    }
    let mut meta = FileMeta {
        id,
        table: plan.table,
        partition: plan.partition,
        rows: 0,
        octets: 0,
        crc32: 0,
        level,
        first: join(|meta| meta.first),
        last: join(|meta| meta.last),
        received: join(|meta| meta.received),
        batches: sources,
    };
    let path = root.join(meta.relative_path());
    let effort = Effort { zstd_level: config.compact_zstd_level, dense: true };
    let octets = if plan.table == Table::Flows {
        meta.rows = plan.inputs.iter().map(|input| input.meta.rows).sum();
        merge_flows(plan, meta.rows as usize, effort, &path)?
    } else {
        let mut batches = Vec::new();
        for input in &plan.inputs {
            batches.extend(file::read_all(input)?);
        }
        let summed = rows::sum_rollups(&batches)?;
        meta.rows = summed.num_rows() as u64;
        file::encode(&summed, effort, &path)?
    };
    place(&mut meta, &octets, &path, disk)?;
    Ok(meta)
}

/// Rows of all inputs in the order of merged files; one column after the other.
fn merge_flows(plan: &Plan, count: usize, effort: Effort, path: &Path) -> Result<Vec<u8>> {
    // A column that no input has stays away; one that some lack has nulls there.
    let mut fields = Vec::new();
    for column in Column::ALL {
        let mut present = 0;
        let mut nullable = false;
        for input in &plan.inputs {
            let footer = file::footer(input)?;
            if let Some((_, field)) = footer.schema().column_with_name(column.name()) {
                present += 1;
                nullable |= field.is_nullable();
            }
        }
        if present > 0 {
            let nullable = nullable || present < plan.inputs.len();
            fields.push(Field::new(column.name(), column.data_type(), nullable));
        }
    }
    let metadata = [("benocs.flow.version".to_owned(), SCHEMA_VERSION.to_string())];
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata.into()));
    let whole = |name: &str, data_type: &DataType| -> Result<ArrayRef> {
        let mut parts: Vec<ArrayRef> = Vec::new();
        for input in &plan.inputs {
            match file::read_column(input, name)? {
                Some(arrays) => parts.extend(arrays),
                None => parts.push(new_null_array(data_type, input.meta.rows as usize)),
            }
        }
        let references: Vec<&dyn Array> = parts.iter().map(|array| array.as_ref()).collect();
        concat(&references).map_err(columns("merge flow rows"))
    };
    let key = |column: Column| whole(column.name(), &column.data_type());
    let (exporter, in_if, out_if) = (key(Column::ExporterId)?, key(Column::InIf)?, key(Column::OutIf)?);
    let order = rows::file_order(exporter.as_primitive(), in_if.as_primitive_opt(), out_if.as_primitive_opt());
    drop((exporter, in_if, out_if));
    let mut writer = file::ColumnWise::new(schema.clone(), count, effort, path)?;
    for field in schema.fields() {
        let array = whole(field.name(), field.data_type())?;
        writer.add(&take(&array, &order, None).map_err(columns("merge flow rows"))?)?;
    }
    writer.finish()
}

/// Fills in size and checksum, and makes the file durable.
fn place(meta: &mut FileMeta, octets: &[u8], path: &Path, disk: &Disk) -> Result<()> {
    meta.octets = octets.len() as u64;
    meta.crc32 = crc32fast::hash(octets);
    if let Some(directory) = path.parent() {
        create_directory(directory)?;
    }
    disk.place(path, octets)
}

/// Encodes and places the file that `meta` describes.
pub(crate) fn write(meta: &mut FileMeta, batch: &RecordBatch, root: &Path, zstd_level: i32, disk: &Disk) -> Result<()> {
    let path = root.join(meta.relative_path());
    let octets = file::encode(batch, Effort { zstd_level, dense: false }, &path)?;
    place(meta, &octets, &path, disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(files: &[(i64, u64, u8)]) -> Snapshot {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let mut manifest = crate::manifest::Manifest::open(directory.path(), &disk, false).unwrap();
        let zero = Span { min: 0, max: 0 };
        for (partition, rows, level) in files {
            let meta = FileMeta {
                id: manifest.next_id(),
                table: Table::Flows,
                partition: *partition,
                rows: *rows,
                octets: 0,
                crc32: 0,
                level: *level,
                first: zero,
                last: zero,
                received: zero,
                batches: BTreeMap::new(),
            };
            manifest.commit(crate::manifest::Record { added: vec![meta], ..Default::default() }, &disk).unwrap();
        }
        Snapshot::clone(&manifest.snapshot())
    }

    fn planned(files: &[(i64, u64, u8)], now_ms: i64) -> Option<Vec<u64>> {
        let config = Config { compact_files_min: 3, compact_rows_max: 100, ..Default::default() };
        plan(&snapshot(files), now_ms, &config).map(|plan| plan.inputs.iter().map(|file| file.meta.id).collect())
    }

    #[test]
    fn an_open_hour_waits_for_many_of_a_level() {
        assert_eq!(planned(&[(0, 10, 0), (0, 10, 0)], 0), None);
        assert_eq!(planned(&[(0, 10, 0), (0, 10, 1), (0, 10, 0)], 0), None);
        assert_eq!(planned(&[(0, 10, 0), (0, 10, 1), (0, 10, 0), (0, 10, 0)], 0), Some(vec![0, 2, 3]));
    }

    #[test]
    fn a_closed_hour_keeps_no_small_files() {
        let closed = 3_600_000 + CLOSED_AFTER_MS + 1;
        assert_eq!(planned(&[(0, 30, 0), (0, 10, 2)], closed), Some(vec![1, 0]));
        assert_eq!(planned(&[(0, 30, 0)], closed), None);
        assert_eq!(planned(&[(0, 51, 0), (0, 60, 0)], closed), None, "they are not small");
        assert_eq!(planned(&[(0, 50, 0), (0, 50, 0), (0, 50, 0)], closed), Some(vec![0, 1]));
    }
}
