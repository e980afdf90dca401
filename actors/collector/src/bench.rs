//! The collector alone, for measurements: from the sockets to the log, with a
//! consumer that takes everything and commits it at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use benocs_model::message::{Commit, FlowBatch, Stream};
use benocs_runtime::Outbox;
use benocs_runtime::state::State;

use crate::actor::{Running, Status, Wiring};
use crate::config::Config;

/// Bound of the consumer's mailbox, in batches.
const MAILBOX: usize = 64;
const LOOK: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(10);

/// Runs on the calling thread until `done` says so of what it is shown about ten times a second; then
/// drains. Gives the last status.
pub fn run(config: &Config, data: &Path, mut done: impl FnMut(&Status) -> bool) -> anyhow::Result<Status> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let (flows, taken) = Outbox::channel(MAILBOX);
    let (tables, updates) = Outbox::channel(MAILBOX);
    let (committed, commits) = Outbox::channel(MAILBOX);
    let state = State::open(&data.join("state"))?;
    let wiring = Wiring { data: data.to_owned(), node: 0, state, flows, tables, commits };
    let consumer = std::thread::Builder::new()
        .name("consumer".to_owned())
        .spawn(move || consume(&taken, &committed))
        .context("cannot start a thread")?;
    let running = Running::start(config, &wiring)?;
    while !done(&running.status()) {
        if running.has_ended() {
            return Err(running.reason());
        }
        running.settle()?;
        while updates.try_recv().is_ok() {}
        std::thread::sleep(LOOK);
    }
    let (log, metrics) = (running.log_handle(), running.status());
    running.drain(&wiring, DRAIN)?;
    drop(wiring);
    if consumer.join().is_err() {
        anyhow::bail!("the consumer panicked");
    }
    Ok(Status { log: log.status(), ..metrics })
}

fn consume(taken: &async_channel::Receiver<FlowBatch>, committed: &Outbox<Commit>) {
    while let Ok(batch) = taken.recv_blocking() {
        for stream in [Stream::Flows, Stream::Rollups] {
            let cursors = BTreeMap::from([(batch.source, batch.seq + 1)]);
            if committed.send_blocking(Commit { stream, cursors }).is_err() {
                return;
            }
        }
    }
}
