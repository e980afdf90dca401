//! The board: the state of the process's feeds, gathered once a second and read
//! by the page, the API and the control socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use benocs_runtime::metric;
use benocs_web::status::{Health, Link, Loss, Mailbox, Status};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;

const EVERY: Duration = Duration::from_secs(1);

/// Adds one actor's part.
pub type Part = Box<dyn Fn(&mut Status) + Send + Sync>;

#[derive(Clone)]
pub struct Board {
    inner: Arc<Inner>,
}

struct Inner {
    role: String,
    started_ms: i64,
    recorder: PrometheusHandle,
    parts: Mutex<Vec<Part>>,
    current: ArcSwap<Value>,
    gathered: Mutex<Option<Instant>>,
}

impl Board {
    pub fn new(role: &str, recorder: PrometheusHandle) -> Self {
        let inner = Inner {
            role: role.to_owned(),
            started_ms: crate::when::now_ms(),
            recorder,
            parts: Mutex::default(),
            current: ArcSwap::from_pointee(Value::Null),
            gathered: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn add(&self, part: impl Fn(&mut Status) + Send + Sync + 'static) {
        lock(&self.inner.parts).push(Box::new(part));
    }

    /// At most a second old.
    pub fn status(&self) -> Value {
        let mut gathered = lock(&self.inner.gathered);
        if gathered.is_none_or(|at| at.elapsed() >= EVERY) {
            let status = self.gather();
            self.inner.current.store(Arc::new(serde_json::to_value(status).unwrap_or(Value::Null)));
            *gathered = Some(Instant::now());
        }
        (**self.inner.current.load()).clone()
    }

    fn gather(&self) -> Status {
        let text = self.inner.recorder.render();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.inner.role.clone(),
            now_ms: crate::when::now_ms(),
            started_ms: self.inner.started_ms,
            losses: samples(&text, metric::DROPPED)
                .into_iter()
                .filter(|sample| sample.value > 0.0)
                .map(|sample| Loss {
                    actor: sample.label("actor"),
                    cause: sample.label("cause"),
                    count: sample.value as u64,
                })
                .collect(),
            mailboxes: samples(&text, metric::MAILBOX_BATCHES)
                .into_iter()
                .map(|sample| Mailbox {
                    actor: sample.label("actor"),
                    batches: sample.value as u64,
                    ..Mailbox::default()
                })
                .collect(),
            links: links(&text),
            ..Status::default()
        };
        for part in lock(&self.inner.parts).iter() {
            part(&mut status);
        }
        status
    }
}

/// Streams to and from other processes, as the link counts them.
fn links(text: &str) -> Vec<Link> {
    let batches = samples(text, metric::LINK_BATCHES);
    samples(text, metric::LINK_CONNECTED)
        .into_iter()
        .map(|sample| {
            let (peer, connected) = (sample.label("peer"), sample.value > 0.0);
            let count = batches.iter().find(|batches| batches.labels == sample.labels);
            Link {
                name: format!("{} {}", sample.label("kind"), sample.label("direction")),
                connected,
                batches: count.map_or(0, |count| count.value as u64),
                health: if connected { Health::Good } else { Health::Bad },
                problem: match connected {
                    true => String::new(),
                    false => format!("no connection with {peer}: does it run, and does the network let it through?"),
                },
                peer,
                ..Link::default()
            }
        })
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One sample of the metric text: labels and value.
#[derive(Debug, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> String {
        self.labels.get(name).cloned().unwrap_or_default()
    }
}

/// Samples of a metric in Prometheus' text format, as this process renders it.
pub fn samples(text: &str, name: &str) -> Vec<Sample> {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let labels = labels
                .split("\",")
                .filter_map(|label| label.split_once("=\""))
                .map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()))
                .collect();
            Some(Sample { labels, value: value.trim().parse().ok()? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_back() {
        let text = "# TYPE a counter\na{actor=\"store\",cause=\"x y\"} 3\na 4.5\nab 5\n";
        let read = samples(text, "a");
        assert_eq!(read.iter().map(|sample| sample.value).collect::<Vec<_>>(), [3.0, 4.5]);
        assert_eq!(read[0].labels["cause"], "x y");
        assert!(samples(text, "c").is_empty());
    }
}
