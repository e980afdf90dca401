//! The collector and its log alone, for measurements.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use benocs_collector as collector;
use benocs_model::message::{Commit, Stream};
use benocs_runtime::admin::{self, Ready};
use benocs_runtime::state::State;
use benocs_runtime::{Outbox, fatal_channel};

use crate::cli::BenchCollectorArgs;

const QUEUE: usize = 64;
const DRAIN: Duration = Duration::from_secs(30);

/// Receives into the log until SIGINT or SIGTERM; what is forwarded is committed at once.
pub fn collector(data: &Path, arguments: &BenchCollectorArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(data)?;
    let recorder = admin::install_recorder(env!("CARGO_PKG_VERSION"), "bench-collector")?;
    let ready = Ready::default();
    admin::serve(&[arguments.admin], recorder, ready.clone())?;
    let state = State::open(&crate::compose::state_path(data))?;
    benocs_runtime::block_on(async move {
        let (fatal, mut failures) = fatal_channel();
        let (flows, received) = Outbox::channel(QUEUE);
        let (commits, committed) = Outbox::channel(QUEUE);
        let (tables, _tables) = Outbox::channel(QUEUE);
        std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            while let Ok(batch) = received.recv_blocking() {
                let batch: benocs_model::message::FlowBatch = batch;
                for stream in [Stream::Flows, Stream::Rollups] {
                    let cursors = BTreeMap::from([(batch.source, batch.seq + 1)]);
                    // Cumulative: the next says what this one could not.
                    let _ = commits.offer(Commit { stream, cursors });
                }
            }
        })?;
        let config = collector::Config {
            listen: vec![arguments.listen.to_string()],
            sflow: collector::SflowConfig { listen: Vec::new() },
            ..collector::Config::default()
        };
        let wiring = collector::Wiring { data: data.to_owned(), node: 0, state, flows, tables, commits: committed };
        let handle = collector::spawn(config, wiring, fatal);
        ready.set(true);
        tokio::select! {
            Some(failure) = failures.recv() => anyhow::bail!("{}: {}", failure.actor, failure.reason),
            ended = super::ended_by_signal() => ended?,
        }
        ready.set(false);
        anyhow::ensure!(handle.drain(DRAIN).await, "the collector did not drain");
        Ok(())
    })
}
