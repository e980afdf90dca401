//! Answers questions from the committed files.
//!
//! A question runs on threads of its own, over the snapshot of the manifest at
//! its start: row groups that cannot matter are left out, the others are shared
//! among the threads, each row is spread over its buckets and summed by key.
//! Dropping the future stops the threads at the next batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use arrow::array::{AsArray as _, BooleanArray, RecordBatch, UInt64Array};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use benocs_model::count::Verdict;
use benocs_model::flow::{Column, quality};
use benocs_model::message::Cursors;
use benocs_model::question::dimension::{self, Dimension, Kind, Source};
use benocs_model::question::{Answer, Ask, AskError, BoxFuture, DimensionInfo, Order, Question, Sums};
use benocs_model::span;
use benocs_model::tables::Tables;
use benocs_runtime::metric;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowFilter};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use crate::config::Config;
use crate::error::{Result, StoreError};
use crate::file;
use crate::group::{self, Groups, KEYS_MAX};
use crate::manifest::{DataFile, Snapshot, Table};
use crate::plan::{LIMIT_MAX, Plan};
use crate::resolve::{Coder, Lookup, Numbers};
use crate::scan::{self, Condition};
use crate::tables::Names;

const BATCH_ROWS: usize = 16_384;

/// Answers questions; cheap to clone.
#[derive(Clone)]
pub struct StoreReader {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    tables: Arc<Tables>,
    names: Arc<Names>,
    pub(crate) config: Config,
    /// Of a copy, which has no flow rows: when its state came, UTC ms.
    pub(crate) copied: Option<Arc<AtomicI64>>,
    permits: Semaphore,
    seconds: metrics::Histogram,
}

impl StoreReader {
    pub(crate) fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        tables: Arc<Tables>,
        names: Arc<Names>,
        config: Config,
        copied: Option<Arc<AtomicI64>>,
    ) -> Self {
        let permits = Semaphore::new(config.questions_max.max(1));
        let seconds = metrics::histogram!(metric::STORE_QUERY_SECONDS);
        Self { inner: Arc::new(Inner { snapshot, tables, names, config, copied, permits, seconds }) }
    }

    /// The committed state that the next question sees.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot.load_full()
    }

    /// Answers from a copy, which has rollups and no flow rows.
    pub fn is_copy(&self) -> bool {
        self.inner.copied.is_some()
    }

    pub fn tables(&self) -> &Tables {
        &self.inner.tables
    }

    pub fn as_names_len(&self) -> usize {
        self.inner.names.as_names.read().len()
    }

    /// Names of autonomous systems by number, in its order.
    pub fn as_names(&self) -> Vec<(u32, String)> {
        let names = self.inner.names.as_names.read();
        let mut names: Vec<(u32, String)> = names.iter().map(|(asn, name)| (*asn, name.to_string())).collect();
        names.sort_unstable();
        names
    }

    /// Answers on this thread (and helpers); for callers without a runtime.
    pub fn ask_blocking(&self, question: &Question) -> Result<Answer, AskError> {
        run(&self.inner, question, &AtomicBool::new(false))
    }

    /// Runs `work` on a thread of its own under the limit of questions; dropping the future sets its flag.
    async fn on_thread<T, W>(&self, work: W) -> Result<T, AskError>
    where
        T: Send + 'static,
        W: FnOnce(&Inner, &AtomicBool) -> Result<T, AskError> + Send + 'static,
    {
        let closed = |_| AskError::Failed("the store is closed".to_owned());
        let _permit = self.inner.permits.acquire().await.map_err(closed)?;
        let cancel = Cancel(Arc::new(AtomicBool::new(false)));
        let (flag, inner) = (cancel.0.clone(), self.inner.clone());
        let (sender, receiver) = oneshot::channel();
        let body = move || {
            // Nobody waits for the answer of a question that was dropped.
            let _ = sender.send(work(&inner, &flag));
        };
        let thread = std::thread::Builder::new().name("question".to_owned()).spawn(body);
        thread.map_err(|error| AskError::Failed(format!("cannot start a thread for the question: {error}")))?;
        receiver.await.map_err(|_| AskError::Failed("the question ended without an answer".to_owned()))?
    }

    async fn complete_value(
        &self,
        dimension: &'static Dimension,
        text: &str,
        limit: usize,
    ) -> Result<Vec<String>, AskError> {
        let mut found = Completions::new(text, limit);
        for (word, _) in &dimension.words {
            found.add(word);
        }
        if dimension.kind == Kind::Asn {
            let names = self.inner.names.as_names.read();
            let mut matching: Vec<u32> =
                names.iter().filter(|(_, name)| found.rank(name).is_some()).map(|(asn, _)| *asn).collect();
            matching.sort_unstable();
            for asn in matching {
                found.add_as(&format!("AS{asn}"), 1);
            }
        }
        for text in self.table_values(dimension) {
            found.add(&text);
        }
        let is_kept = !self.is_copy() || dimension.rollup_columns().is_some();
        if !found.is_full() && is_kept && dimension.kind != Kind::Time {
            let to_ms = self.newest_ms().unwrap_or(0) + 1;
            let question = Question {
                from_ms: to_ms - 3_600_000,
                to_ms,
                by: vec![dimension.name.to_owned()],
                filter: String::new(),
                limit: 2_000,
                resolution_ms: 0,
                order: Order::Octets,
                all_sightings: true,
                tenant_sets: None,
            };
            let answer = self.ask(question).await?;
            for row in answer.rows {
                match row.first() {
                    Some(Value::String(text)) => found.add(text),
                    Some(Value::Number(number)) if dimension.kind == Kind::Asn => found.add(&format!("AS{number}")),
                    Some(Value::Number(number)) => found.add(&number.to_string()),
                    _ => {}
                }
            }
        }
        Ok(found.take())
    }

    /// Every value of the dimension table behind a name.
    fn table_values(&self, dimension: &Dimension) -> Vec<String> {
        use benocs_model::question::dimension::{PortField, ServiceField};
        let tables = &self.inner.tables;
        let mut values: Vec<String> = match dimension.source {
            Source::Port(_, field) => {
                let interfaces = tables.interfaces.load();
                let text = |row: &benocs_model::network::Interface| match field {
                    PortField::Name => Some(row.name.clone()),
                    PortField::Description => Some(row.description.clone()),
                    PortField::Provider => row.provider.clone(),
                    PortField::Boundary | PortField::Connectivity => None,
                };
                interfaces.rows.iter().filter_map(text).collect()
            }
            Source::Service(field) => {
                let services = tables.services.load();
                let text = |row: &benocs_model::network::Service| match field {
                    ServiceField::Name => Some(row.name.clone()),
                    ServiceField::Provider => row.provider.clone(),
                    ServiceField::Category => row.category.clone(),
                };
                services.rows.iter().filter_map(text).collect()
            }
            Source::Label(kind, _) => {
                let rows = &tables.labels.load().rows;
                rows.iter().filter(|row| row.kind == kind as u8).map(|row| row.name.clone()).collect()
            }
            Source::Router(_) => tables.network.load().routers.iter().map(|router| router.name.clone()).collect(),
            Source::Exporter => tables.exporters.load().rows.iter().map(|row| row.address.to_string()).collect(),
            Source::AsName(_) => self.inner.names.as_names.read().values().map(|name| name.to_string()).collect(),
            _ => Vec::new(),
        };
        values.sort_unstable();
        values.dedup();
        values
    }

    pub fn newest_ms(&self) -> Option<i64> {
        newest_ms(&self.inner, &self.snapshot())
    }
}

impl Ask for StoreReader {
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Answer, AskError>> {
        Box::pin(async move { self.on_thread(move |inner, cancel| run(inner, &question, cancel)).await })
    }

    fn dimensions(&self) -> Vec<DimensionInfo> {
        let serves = |dimension: &&Dimension| {
            !self.is_copy() || dimension.kind == Kind::Time || dimension.rollup_columns().is_some()
        };
        dimension::all().iter().filter(serves).map(Dimension::info).collect()
    }

    fn complete(&self, dimension: &str, text: &str, limit: usize) -> BoxFuture<'_, Result<Vec<String>, AskError>> {
        let found = dimension::by_name(dimension);
        let (name, text) = (dimension.to_owned(), text.to_owned());
        Box::pin(async move {
            let Some(dimension) = found else {
                return Err(AskError::Wrong { message: format!("there is no dimension `{name}`"), at: None });
            };
            self.complete_value(dimension, &text, limit).await
        })
    }
}

/// Values that begin with the text, then those that contain it.
struct Completions {
    text: String,
    limit: usize,
    /// (rank, order of arrival) to value.
    found: BTreeMap<(u8, usize), String>,
    seen: std::collections::HashSet<String>,
}

impl Completions {
    fn new(text: &str, limit: usize) -> Self {
        Self { text: text.to_lowercase(), limit, found: BTreeMap::new(), seen: Default::default() }
    }

    fn rank(&self, value: &str) -> Option<u8> {
        let value = value.to_lowercase();
        if value.starts_with(&self.text) { Some(0) } else { value.contains(&self.text).then_some(1) }
    }

    fn add(&mut self, value: &str) {
        if let Some(rank) = self.rank(value) {
            self.add_as(value, rank);
        }
    }

    fn add_as(&mut self, value: &str, rank: u8) {
        if !value.is_empty() && self.seen.insert(value.to_owned()) {
            self.found.insert((rank, self.seen.len()), value.to_owned());
        }
    }

    fn is_full(&self) -> bool {
        self.found.keys().filter(|(rank, _)| *rank == 0).count() >= self.limit
    }

    fn take(self) -> Vec<String> {
        self.found.into_values().take(self.limit).collect()
    }
}

/// Set when the asker went away.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn newest_ms(inner: &Inner, snapshot: &Snapshot) -> Option<i64> {
    let newest = |table| snapshot.of(table).map(|file: &Arc<DataFile>| file.meta.received.max).max();
    if let Some(copied) = &inner.copied {
        // A window is told of from its start on: data reaches to its end, or to when the state came.
        let end = |table: Table| Some(newest(table)? + table.width_ms()?);
        let end = end(Table::Rollup1m).or_else(|| end(Table::Rollup5m))?;
        return Some(end.min(copied.load(Ordering::Acquire)));
    }
    newest(Table::Flows).or_else(|| newest(Table::Rollup1m)).or_else(|| newest(Table::Rollup5m))
}

/// A row group to read, and how.
struct Task {
    file: Arc<DataFile>,
    footer: ArrowReaderMetadata,
    row_group: usize,
    /// A flow file read beside rollups: only batches that the rollups do not hold.
    is_tail: bool,
}

/// What the threads of a question share.
struct Run<'a> {
    plan: &'a Plan,
    question: &'a Question,
    lookup: Arc<Lookup>,
    tasks: Vec<Task>,
    next: AtomicUsize,
    rollups: &'a Cursors,
    cancel: &'a AtomicBool,
    failed: AtomicBool,
    deadline: Instant,
    rows_read: AtomicU64,
    groups_max: usize,
}

fn failed(error: StoreError) -> AskError {
    AskError::Failed(error.to_string())
}

fn run(inner: &Inner, question: &Question, cancel: &AtomicBool) -> Result<Answer, AskError> {
    let started = Instant::now();
    let snapshot = inner.snapshot.load_full();
    let plan = Plan::new(question, &snapshot, inner.copied.is_none())?;
    let used = plan.keys.iter().copied().chain(scan::dimensions(&plan.filter));
    let used: Vec<&'static Dimension> = used.collect();
    let lookup = Arc::new(Lookup::new(&inner.tables, &inner.names, used.iter().copied()));
    let (tasks, files_read) = tasks(&plan, &snapshot).map_err(failed)?;
    let run = Run {
        plan: &plan,
        question,
        lookup,
        tasks,
        next: AtomicUsize::new(0),
        rollups: &snapshot.rollups,
        cancel,
        failed: AtomicBool::new(false),
        deadline: started + Duration::from_millis(inner.config.question_ms_max),
        rows_read: AtomicU64::new(0),
        groups_max: inner.config.question_groups_max,
    };
    let threads = match inner.config.question_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let threads = threads.min(run.tasks.len()).max(1);
    let results: Vec<Result<(Groups, Vec<Coder>), AskError>> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(|| run.work())).collect();
        let mut results = vec![run.work()];
        let panicked = || Err(AskError::Failed("a thread of the question panicked: this is a defect".to_owned()));
        results.extend(helpers.into_iter().map(|helper| helper.join().unwrap_or_else(|_| panicked())));
        results
    });
    let mut merged: Option<(Groups, Vec<Coder>)> = None;
    for result in results {
        let (groups, coders) = result?;
        merged = Some(match merged {
            None => (groups, coders),
            Some((mut all, mut coder)) => {
                let translate: Vec<Option<Vec<u64>>> =
                    coder.iter_mut().zip(&coders).map(|(coder, other)| coder.adopt(other)).collect();
                all.merge(groups, &translate);
                run.check_size(all.len())?;
                (all, coder)
            }
        });
    }
    let (groups, coders) = merged.unwrap_or_else(|| (Groups::new(plan.keys.len()), run.coders()));
    let mut answer = answer(question, &plan, &groups, &coders);
    answer.rows_read = run.rows_read.load(Ordering::Relaxed);
    answer.files_read = files_read;
    answer.newest_ms = newest_ms(inner, &snapshot);
    note_feeds(&mut answer, inner);
    let elapsed = started.elapsed();
    inner.seconds.record(elapsed.as_secs_f64());
    answer.elapsed_ms = elapsed.as_secs_f64() * 1e3;
    Ok(answer)
}

/// Says when the newest data is older than the end of the range that was asked for.
fn note_feeds(answer: &mut Answer, inner: &Inner) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let expected = answer.to_ms.min(now - 60_000 - inner.config.flush_ms as i64);
    match answer.newest_ms {
        None if inner.copied.is_some() => answer.notes.push("nothing has come from storage00 yet".to_owned()),
        None => answer.notes.push("the store is empty: no flow has been received yet".to_owned()),
        Some(newest) if newest < expected && answer.to_ms > now - 3_600_000 => {
            answer.notes.push(format!("no flow was received since {}", rfc3339(newest)));
        }
        _ => {}
    }
}

/// Row groups that may hold rows of the range and match the filter.
fn tasks(plan: &Plan, snapshot: &Snapshot) -> Result<(Vec<Task>, u64)> {
    let mut tasks = Vec::new();
    let mut files_read = 0;
    let is_rollup = plan.table != Table::Flows;
    let tail = snapshot.of(Table::Flows).filter(|file| is_rollup && !snapshot.is_rolled_up(file));
    let required = scan::required_addresses(&plan.filter);
    for (file, is_tail) in snapshot.of(plan.table).map(|file| (file, false)).chain(tail.map(|file| (file, true))) {
        if file.meta.first.min >= plan.to || file.meta.last.max < plan.from {
            continue;
        }
        let footer = file::footer(file)?;
        let before = tasks.len();
        for (row_group, group) in footer.metadata().row_groups().iter().enumerate() {
            let (first, last) = match is_rollup && !is_tail {
                true => ("window", "window"),
                false => ("first", "last"),
            };
            let begins_after = scan::time_range(group, first).is_some_and(|(min, _)| min >= plan.to);
            let ends_before = scan::time_range(group, last).is_some_and(|(_, max)| max < plan.from);
            if begins_after || ends_before || !scan::may_match(&plan.filter, group) {
                continue;
            }
            if !required.is_empty() && !file::bloom_may_have(file, &footer, row_group, &required)? {
                continue;
            }
            tasks.push(Task { file: file.clone(), footer: footer.clone(), row_group, is_tail });
        }
        files_read += u64::from(tasks.len() > before);
    }
    Ok((tasks, files_read))
}

/// Columns of one kind of file that the question needs.
fn columns(plan: &Plan, question: &Question, rollup: bool, tail: bool) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = if rollup {
        vec!["window", "octets", "packets", "flows", "quality"]
    } else {
        let needed = [Column::First, Column::Last, Column::Octets, Column::Packets, Column::SamplingNum];
        needed.into_iter().chain([Column::SamplingDen, Column::Quality]).map(Column::name).collect()
    };
    if tail {
        names.extend([Column::IngestSource.name(), Column::IngestSeq.name()]);
    }
    if !question.all_sightings {
        names.push(Column::CountVerdict.name());
    }
    if question.tenant_sets.is_some() {
        names.push(Column::TenantSet.name());
    }
    for dimension in plan.keys.iter().copied().chain(scan::dimensions(&plan.filter)) {
        names.extend(needs(dimension, rollup || tail));
    }
    names
}

/// Columns that a dimension needs; beside rollups, the ones that both have.
fn needs(dimension: &Dimension, as_rollup: bool) -> Vec<&'static str> {
    match dimension.rollup_columns().filter(|_| as_rollup) {
        Some(columns) => columns,
        None => dimension.columns().into_iter().map(Column::name).collect(),
    }
}

impl Run<'_> {
    fn coders(&self) -> Vec<Coder> {
        self.plan.keys.iter().map(|dimension| Coder::new(dimension, self.lookup.clone())).collect()
    }

    fn check_size(&self, entries: usize) -> Result<(), AskError> {
        if entries <= self.groups_max {
            return Ok(());
        }
        Err(AskError::Failed(format!(
            "the question has more than {} groups: shorten the range, filter, or ask fewer dimensions",
            self.groups_max
        )))
    }

    /// Takes tasks until there are none.
    fn work(&self) -> Result<(Groups, Vec<Coder>), AskError> {
        let mut worker = Sum {
            run: self,
            groups: Groups::new(self.plan.keys.len()),
            coders: self.coders(),
            condition: Condition::new(&self.plan.filter, &self.lookup),
            codes: vec![Vec::new(); self.plan.keys.len()],
            keep: Vec::new(),
        };
        let result = worker.all();
        if let Err(error) = result {
            self.failed.store(true, Ordering::Release);
            return Err(error);
        }
        Ok((worker.groups, worker.coders))
    }
}

/// One thread's sums.
struct Sum<'a> {
    run: &'a Run<'a>,
    groups: Groups,
    coders: Vec<Coder>,
    condition: Condition,
    codes: Vec<Vec<u64>>,
    keep: Vec<bool>,
}

impl Sum<'_> {
    fn all(&mut self) -> Result<(), AskError> {
        let run = self.run;
        while let Some(task) = run.tasks.get(run.next.fetch_add(1, Ordering::Relaxed)) {
            let rollup = run.plan.table != Table::Flows && !task.is_tail;
            let names = columns(run.plan, run.question, rollup, task.is_tail);
            let mask = file::projection(&task.footer, &names);
            let handle = file::open(&task.file.path).map_err(failed)?;
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(handle, task.footer.clone())
                .with_row_groups(vec![task.row_group])
                .with_projection(mask)
                .with_batch_size(BATCH_ROWS);
            // Few rows pass a test of addresses: the other columns are decoded for those only.
            if !rollup && scan::tests_addresses(&run.plan.filter) {
                builder = match self.row_filter(task) {
                    Some(filter) => builder.with_row_filter(filter),
                    None => builder,
                };
            }
            let reader = builder.build().map_err(|error| failed(file::damaged(&task.file.path, &error)))?;
            for batch in reader {
                let decoded = |error: arrow::error::ArrowError| {
                    failed(file::damaged(&task.file.path, &parquet::errors::ParquetError::from(error)))
                };
                let batch = batch.map_err(decoded)?;
                self.check()?;
                run.rows_read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                self.batch(&batch, rollup, task.is_tail);
                run.check_size(self.groups.len() + self.coders.iter().map(Coder::len).sum::<usize>())?;
            }
        }
        Ok(())
    }

    /// `None` where the file has none of the columns.
    fn row_filter(&self, task: &Task) -> Option<RowFilter> {
        let run = self.run;
        let tested = scan::dimensions(&run.plan.filter);
        let names: Vec<&'static str> = tested.iter().flat_map(|dimension| needs(dimension, task.is_tail)).collect();
        let schema = task.footer.schema();
        names.iter().find(|name| schema.column_with_name(name).is_some())?;
        let mut condition = Condition::new(&run.plan.filter, &run.lookup);
        let predicate = move |batch: RecordBatch| {
            let mut keep = vec![true; batch.num_rows()];
            condition.narrow(&batch, &mut keep);
            Ok(BooleanArray::from(keep))
        };
        let mask = file::projection(&task.footer, &names);
        Some(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, predicate))]))
    }

    fn check(&self) -> Result<(), AskError> {
        if self.run.cancel.load(Ordering::Acquire) || self.run.failed.load(Ordering::Acquire) {
            return Err(AskError::Failed("the question was given up".to_owned()));
        }
        if Instant::now() > self.run.deadline {
            return Err(AskError::Failed(
                "the question took too long: shorten the range, or ask what rollups serve".to_owned(),
            ));
        }
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch, rollup: bool, is_tail: bool) {
        let run = self.run;
        self.keep.clear();
        self.keep.resize(batch.num_rows(), true);
        // Whose rows these are comes before what is asked of them.
        if let Some(sets) = &run.question.tenant_sets {
            let tenants = Numbers::of(batch, Column::TenantSet.name());
            for (row, kept) in self.keep.iter_mut().enumerate() {
                *kept = tenants.get(row).is_some_and(|set| sets.iter().any(|allowed| u64::from(*allowed) == set));
            }
        }
        if !run.question.all_sightings {
            let verdicts = Numbers::of(batch, Column::CountVerdict.name());
            let counted = Verdict::Counted as u64;
            for (row, kept) in self.keep.iter_mut().enumerate().filter(|(_, kept)| **kept) {
                *kept = verdicts.get(row).is_none_or(|verdict| verdict == counted);
            }
        }
        if is_tail {
            let sources = Numbers::of(batch, Column::IngestSource.name());
            let seqs = Numbers::of(batch, Column::IngestSeq.name());
            let next = |source| run.rollups.get(&benocs_model::message::SourceId(source)).copied().unwrap_or(0);
            for (row, kept) in self.keep.iter_mut().enumerate().filter(|(_, kept)| **kept) {
                *kept = sources.get(row).zip(seqs.get(row)).is_some_and(|(source, seq)| seq >> 16 >= next(source));
            }
        }
        self.condition.narrow(batch, &mut self.keep);
        if !self.keep.iter().any(|kept| *kept) {
            return;
        }
        for (coder, codes) in self.coders.iter_mut().zip(&mut self.codes) {
            coder.codes(batch, codes);
        }
        if rollup {
            self.sum_windows(batch);
        } else {
            self.sum_flows(batch);
        }
    }

    #[inline]
    fn key(&self, row: usize) -> [u64; KEYS_MAX] {
        let mut key = [0; KEYS_MAX];
        for (slot, codes) in key.iter_mut().zip(&self.codes) {
            *slot = codes[row];
        }
        key
    }

    fn sum_windows(&mut self, batch: &RecordBatch) {
        let plan = self.run.plan;
        let sums = |name: &str| batch.column_by_name(name).and_then(|array| array.as_primitive_opt::<UInt64Type>());
        let windows = batch.column_by_name("window").and_then(|array| array.as_primitive_opt::<Int64Type>());
        let (Some(windows), Some(octets), Some(packets), Some(flows)) =
            (windows, sums("octets"), sums("packets"), sums("flows"))
        else {
            return;
        };
        let quality = sums("quality");
        for row in 0..batch.num_rows() {
            let window = windows.value(row);
            if !self.keep[row] || window < plan.from || window >= plan.to {
                continue;
            }
            let sums = Sums { octets: octets.value(row), packets: packets.value(row), flows: flows.value(row) };
            let key = self.key(row);
            let group = self.groups.group(&key);
            self.groups.add(group, sums);
            self.groups.quality |= quality.map_or(0, |quality| quality.value(row));
            if plan.resolution > 0 {
                self.groups.add_bucket(group, plan.bucket(window), sums);
            }
        }
    }

    fn sum_flows(&mut self, batch: &RecordBatch) {
        let plan = self.run.plan;
        let times = |column: Column| {
            batch.column_by_name(column.name()).and_then(|array| array.as_primitive_opt::<Int64Type>())
        };
        let counts = |column: Column| -> Option<&UInt64Array> {
            batch.column_by_name(column.name()).and_then(|array| array.as_primitive_opt::<UInt64Type>())
        };
        let fractions = |column: Column| {
            batch.column_by_name(column.name()).and_then(|array| array.as_primitive_opt::<UInt32Type>())
        };
        let (Some(firsts), Some(lasts), Some(octets), Some(packets)) =
            (times(Column::First), times(Column::Last), counts(Column::Octets), counts(Column::Packets))
        else {
            return;
        };
        let (nums, dens) = (fractions(Column::SamplingNum), fractions(Column::SamplingDen));
        let quality = counts(Column::Quality);
        let (from, to) = (plan.from, plan.to);
        for row in 0..batch.num_rows() {
            if !self.keep[row] {
                continue;
            }
            let first = firsts.value(row);
            let last = lasts.value(row).max(first);
            if last < from || first >= to {
                continue;
            }
            let (num, den) = match (nums, dens) {
                (Some(nums), Some(dens)) => (nums.value(row), dens.value(row)),
                _ => (1, 1),
            };
            let octets = span::scale(octets.value(row), num, den);
            let packets = span::scale(packets.value(row), num, den);
            let part = |from: i64, to: i64| Sums {
                octets: span::part(octets, first, last, from, to),
                packets: span::part(packets, first, last, from, to),
                flows: u64::from(last >= from && last < to),
            };
            let whole = if first >= from && last < to { Sums { octets, packets, flows: 1 } } else { part(from, to) };
            let key = self.key(row);
            let group = self.groups.group(&key);
            self.groups.add(group, whole);
            self.groups.quality |= quality.map_or(0, |quality| quality.value(row));
            if plan.resolution == 0 {
                continue;
            }
            let width = plan.resolution;
            let mut start = span::bucket_start(first.max(from), width);
            if start == span::bucket_start(last, width) && last < to {
                self.groups.add_bucket(group, plan.bucket(start.max(from)), whole);
                continue;
            }
            while start <= last && start < to {
                let sums = part(start.max(from), (start + width).min(to));
                if !group::is_zero(&sums) {
                    self.groups.add_bucket(group, plan.bucket(start.max(from)), sums);
                }
                start += width;
            }
        }
    }
}

/// The answer from the sums.
fn answer(question: &Question, plan: &Plan, groups: &Groups, coders: &[Coder]) -> Answer {
    let compare = |a: &[u64; KEYS_MAX], b: &[u64; KEYS_MAX]| {
        let each = coders.iter().enumerate().map(|(i, coder)| coder.compare(a[i], b[i]));
        each.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    let largest = groups.largest(question.limit.min(LIMIT_MAX), question.order, compare);
    let mut columns = question.by.clone();
    columns.extend(["octets", "packets", "flows"].map(str::to_owned));
    let values = |group: u32| -> Vec<Value> {
        let key = &groups.keys[group as usize];
        coders.iter().enumerate().map(|(i, coder)| coder.value(key[i])).collect()
    };
    let tail = |sums: &Sums| [sums.octets, sums.packets, sums.flows].map(Value::from);
    let mut other = groups.totals;
    let mut rows = Vec::new();
    let mut other_series: BTreeMap<u32, Sums> = BTreeMap::new();
    if let Some(time_at) = plan.time_at {
        // Position among the largest, by group.
        let mut chosen: ahash::HashMap<u32, usize> = Default::default();
        chosen.extend(largest.iter().enumerate().map(|(position, group)| (*group, position)));
        let mut points: Vec<(u32, usize, Sums)> = Vec::new();
        for ((group, bucket), sums) in &groups.series {
            match chosen.get(group) {
                Some(position) => points.push((*bucket, *position, *sums)),
                None => group::add(other_series.entry(*bucket).or_default(), *sums),
            }
        }
        points.sort_unstable_by_key(|(bucket, position, _)| (*bucket, *position));
        let shown: Vec<Vec<Value>> = largest.iter().map(|group| values(*group)).collect();
        for (bucket, position, sums) in points {
            let mut row = shown[position].clone();
            row.insert(time_at, rfc3339(plan.bucket_time(bucket)).into());
            row.extend(tail(&sums));
            rows.push(row);
        }
        largest.iter().for_each(|group| group::subtract(&mut other, groups.sums[*group as usize]));
    } else {
        for group in largest {
            let sums = groups.sums[group as usize];
            let mut row = values(group);
            row.extend(tail(&sums));
            rows.push(row);
            group::subtract(&mut other, sums);
        }
    }
    let bits = quality::ALL.iter().filter(|(bit, _)| groups.quality & bit != 0);
    Answer {
        columns,
        rows,
        totals: groups.totals,
        other,
        other_series: other_series.into_iter().map(|(bucket, sums)| (plan.bucket_time(bucket), sums)).collect(),
        source: plan.table.name().to_owned(),
        from_ms: plan.from,
        to_ms: plan.to,
        resolution_ms: plan.resolution,
        quality: bits.map(|(_, name)| (*name).to_owned()).collect(),
        notes: plan.notes.clone(),
        ..Answer::default()
    }
}

/// RFC 3339, UTC; with milliseconds where there are any.
pub(crate) fn rfc3339(t_ms: i64) -> String {
    let (year, month, day) = crate::manifest::civil_from_days(t_ms.div_euclid(86_400_000));
    let ms = t_ms.rem_euclid(86_400_000);
    let (hour, minute, second, fraction) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let seconds = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction == 0 { format!("{seconds}Z") } else { format!("{seconds}.{fraction:03}Z") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_386_896_120), "2026-11-22T22:34:56.120Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }
}
