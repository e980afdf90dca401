//! SQL, read only, over the same files: DataFusion with the tables `flows`,
//! `rollup_1m`, `rollup_5m`, for questions that the page does not ask.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use benocs_model::question::AskError;
use benocs_model::{flow, rollup};
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionConfig, SessionContext};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

use crate::manifest::{Snapshot, Table};
use crate::reader::StoreReader;

/// As the planner says it.
const FLOWS_MISSING: &str = "flows' not found";

fn failed(error: DataFusionError) -> AskError {
    match error.find_root() {
        DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => {
            AskError::Wrong { message: error.strip_backtrace(), at: None }
        }
        _ => AskError::Failed(error.strip_backtrace()),
    }
}

fn schema(table: Table) -> SchemaRef {
    match table {
        Table::Flows => flow::full_schema(),
        Table::Rollup1m | Table::Rollup5m => rollup::schema(),
    }
}

fn provider(snapshot: &Snapshot, table: Table) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let paths: Vec<ListingTableUrl> =
        snapshot.of(table).map(|file| ListingTableUrl::parse(file.path.to_string_lossy())).collect::<Result<_, _>>()?;
    if paths.is_empty() {
        return Ok(Arc::new(EmptyTable::new(schema(table))));
    }
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    let config =
        ListingTableConfig::new_with_multi_paths(paths).with_listing_options(options).with_schema(schema(table));
    Ok(Arc::new(ListingTable::try_new(config)?))
}

impl StoreReader {
    /// Runs one statement that reads. Files stay while it runs.
    pub async fn sql(&self, statement: &str) -> Result<Vec<RecordBatch>, AskError> {
        let snapshot = self.snapshot();
        let memory = self.inner.config.sql_memory_octets_max;
        let environment = RuntimeEnvBuilder::new().with_memory_limit(memory, 1.0).build_arc().map_err(failed)?;
        let context = SessionContext::new_with_config_rt(SessionConfig::new(), environment);
        let kept = |table: &Table| !self.is_copy() || *table != Table::Flows;
        for table in Table::ALL.into_iter().filter(kept) {
            let provider = provider(&snapshot, table).map_err(failed)?;
            context.register_table(table.name(), provider).map_err(failed)?;
        }
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let planned = context.sql_with_options(statement, reads).await;
        let frame = planned.map_err(|error| match error.find_root() {
            DataFusionError::Plan(message) if self.is_copy() && message.contains(FLOWS_MISSING) => AskError::Wrong {
                message: "`flows` is not on the front end, which has rollup_1m and rollup_5m: ask the process that runs storage00".to_owned(),
                at: None,
            },
            _ => failed(error),
        })?;
        let limit = std::time::Duration::from_millis(self.inner.config.question_ms_max);
        match tokio::time::timeout(limit, frame.collect()).await {
            Ok(batches) => batches.map_err(failed),
            Err(_) => Err(AskError::Failed("the statement took too long: shorten its range".to_owned())),
        }
    }
}
