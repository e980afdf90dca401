//! The network graph in the engine: its writer, which a rebuilt engine takes over, and its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use benocs_model::graph::{GraphBatch, GraphFile, GraphReader, Modification};
use benocs_runtime::metric;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;

/// Publications are at least this far apart, and twice as far as one takes.
const GAP: Duration = Duration::from_millis(10);
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A file that is larger is refused.
const FILE_OCTETS_MAX: u64 = 1 << 30;

/// What is known of the network; made before the engine, kept when that is rebuilt. The lock is the engine's own:
/// readers have [`Network::reader`].
#[derive(Clone)]
pub struct Network {
    writer: Arc<Mutex<Writer>>,
    reader: GraphReader,
}

struct Writer {
    network: Modification,
    /// Something was applied that is not published.
    waiting: bool,
    due: Instant,
    /// Of the network's counts, what was counted.
    changes: u64,
    refused: u64,
    metrics: Metrics,
}

struct Metrics {
    nodes: Gauge,
    links: Gauge,
    prefixes: Gauge,
    changes: Counter,
    published: Gauge,
    publish_seconds: Histogram,
    trees_kept: Counter,
    trees_dropped: Counter,
    refused: Counter,
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    pub fn new() -> Self {
        let network = Modification::new();
        let reader = network.reader();
        let metrics = Metrics {
            nodes: gauge!(metric::GRAPH_NODES),
            links: gauge!(metric::GRAPH_LINKS),
            prefixes: gauge!(metric::GRAPH_PREFIXES),
            changes: counter!(metric::GRAPH_CHANGES),
            published: gauge!(metric::GRAPH_PUBLISHED),
            publish_seconds: histogram!(metric::GRAPH_PUBLISH_SECONDS),
            trees_kept: counter!(metric::GRAPH_TREES, "result" => "kept"),
            trees_dropped: counter!(metric::GRAPH_TREES, "result" => "dropped"),
            refused: counter!(metric::DROPPED, "actor" => "engine", "cause" => "graph-full"),
        };
        let writer = Writer { network, waiting: false, due: Instant::now(), changes: 0, refused: 0, metrics };
        Self { writer: Arc::new(Mutex::new(writer)), reader }
    }

    pub fn reader(&self) -> GraphReader {
        self.reader.clone()
    }

    pub(crate) fn apply(&self, batch: GraphBatch) {
        let mut writer = self.writer.lock();
        writer.network.apply(batch);
        writer.waiting = true;
    }

    /// Publishes what waits, unless that was done just now; true where the graph is another one.
    pub(crate) fn publish_due(&self) -> bool {
        let due = {
            let writer = self.writer.lock();
            writer.waiting && Instant::now() >= writer.due
        };
        due && self.publish()
    }

    pub(crate) fn publish(&self) -> bool {
        let mut writer = self.writer.lock();
        let begin = Instant::now();
        let published = writer.network.publish();
        let took = begin.elapsed();
        (writer.waiting, writer.due) = (false, Instant::now() + GAP.max(took * 2));
        let (changes, refused) = (writer.network.changes(), writer.network.refused());
        writer.metrics.changes.increment(changes - writer.changes);
        writer.metrics.refused.increment(refused - writer.refused);
        (writer.changes, writer.refused) = (changes, refused);
        if !published.changed {
            return false;
        }
        let graph = self.reader.graph();
        let metrics = &writer.metrics;
        metrics.nodes.set(graph.nodes().count() as f64);
        metrics.links.set(graph.edge_count(false) as f64);
        metrics.prefixes.set(graph.prefix_count() as f64);
        metrics.publish_seconds.record(took);
        metrics.trees_kept.increment(published.trees_kept as u64);
        metrics.trees_dropped.increment(published.trees_dropped as u64);
        metrics.published.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        true
    }
}

/// Reads a graph file, and says in one line what is wrong with it.
pub fn check_file(path: &Path) -> anyhow::Result<GraphBatch> {
    let shown = path.display();
    let octets = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    anyhow::ensure!(octets <= FILE_OCTETS_MAX, "{shown} has more than {FILE_OCTETS_MAX} octets");
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let file: GraphFile = match path.extension().is_some_and(|extension| extension == "toml") {
        true => toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            anyhow::anyhow!("{shown}:{line}: {}", error.message())
        })?,
        false => serde_json::from_str(&text).map_err(|error| anyhow::anyhow!("{shown}: {error}"))?,
    };
    file.batch().map_err(|error| anyhow::anyhow!("{shown}: {error}"))
}

/// The file, read again when it is another one.
#[derive(Debug)]
pub(crate) struct Watch {
    path: Option<PathBuf>,
    seen: Option<(SystemTime, u64)>,
    due: Instant,
}

impl Watch {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path, seen: None, due: Instant::now() + LOOK }
    }

    fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// An error where it cannot be used.
    pub(crate) fn first(&mut self) -> anyhow::Result<Option<GraphBatch>> {
        let Some(path) = &self.path else { return Ok(None) };
        self.seen = Self::stamp(path);
        check_file(path).context("engine.graph_file").map(Some)
    }

    /// What it says now, where that changed; one that cannot be used changes nothing.
    pub(crate) fn again(&mut self) -> Option<GraphBatch> {
        let path = self.path.as_ref()?;
        if Instant::now() < self.due {
            return None;
        }
        self.due = Instant::now() + LOOK;
        let stamp = Self::stamp(path);
        if stamp.is_none() || stamp == self.seen {
            return None;
        }
        self.seen = stamp;
        check_file(path)
            .inspect(|_| tracing::info!(path = %path.display(), "graph file read again"))
            .inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "graph file is left as it was"))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_json_or_toml_and_says_where_it_is_wrong() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let toml = "[[nodes]]\nsystem_id = \"a\"\n[[nodes]]\nsystem_id = \"b\"\n\
                    [[links]]\nlocal = \"a\"\nremote = \"b\"\nmetric = 1\n";
        let json = r#"{"nodes": [{"system_id": "a"}, {"system_id": "b"}], "links": [{"local": "a", "remote": "b", "metric": 1}]}"#;
        let same = (check_file(&file("graph.toml", toml)), check_file(&file("graph.json", json)));
        assert_eq!(same.0.expect("TOML"), same.1.expect("JSON"));
        let error = |path: PathBuf| format!("{:#}", check_file(&path).expect_err("it is wrong"));
        let wrong = error(file("wrong.toml", "[[nodes]]\nsystem_id = 1\n"));
        assert!(wrong.contains("wrong.toml:2: "), "{wrong}");
        let wrong = error(file("wrong.json", "{\"nodes\": [{}]}"));
        assert!(wrong.contains("system_id") && wrong.contains("line 1"), "{wrong}");
        let wrong = error(directory.path().join("none.json"));
        assert!(wrong.starts_with("cannot read "), "{wrong}");
    }

    #[test]
    fn a_change_is_seen_and_one_that_says_nothing_is_not() {
        let network = Network::new();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("graph.json");
        std::fs::write(&path, r#"{"nodes": [{"system_id": "a"}]}"#).expect("a file");
        let mut watch = Watch::new(Some(path.clone()));
        network.apply(watch.first().expect("a sound file").expect("a file"));
        assert!(network.publish());
        assert_eq!(network.reader().graph().nodes().count(), 1);
        network.apply(check_file(&path).expect("the same"));
        assert!(!network.publish(), "nothing is said otherwise");
        // Looked at again when it is due, and read when it is another one.
        std::fs::write(&path, r#"{"nodes": [{"system_id": "a"}, {"system_id": "b"}]}"#).expect("a file");
        assert_eq!(watch.again(), None, "not yet");
        watch.due = Instant::now();
        network.apply(watch.again().expect("another"));
        assert!(network.publish());
        assert_eq!(network.reader().graph().nodes().count(), 2);
        watch.due = Instant::now();
        assert_eq!(watch.again(), None, "the same");
        std::fs::write(&path, "{").expect("a file");
        watch.due = Instant::now();
        assert_eq!(watch.again(), None, "wrong ones change nothing");
    }
}
