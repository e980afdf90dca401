//! The receiver against recorded streams, a client of our own, and a real resolver.

mod protocol;
mod samples;
mod unbound;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use benocs_dnstap::{Config, Dnstap, Parts, spawn};
use benocs_model::names::{NameBatch, NameTable, NameView};
use benocs_model::network::Service;
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::State;
use benocs_runtime::{Outbox, fatal_channel};

/// A receiver with the name table that it fills.
pub struct Bench {
    pub dnstap: Dnstap,
    pub names: NameTable,
    batches: Outbox<NameBatch>,
    take_batch: Box<dyn FnMut() -> Option<NameBatch>>,
    take_update: Box<dyn FnMut() -> Option<std::sync::Arc<TableUpdate>>>,
    pub services: Vec<Service>,
}

impl Bench {
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let (batches, received) = Outbox::channel(64);
        let (tables, updates) = Outbox::channel(64);
        let (fatal, _failures) = fatal_channel();
        let config = Config { listen: vec!["127.0.0.1:0".to_owned()], flush_ms: 20, ..config };
        let parts = Parts { state: State::temporary()?, names: vec![batches.clone()], tables, fatal };
        Ok(Self {
            dnstap: spawn(config, parts)?,
            names: NameTable::new(Default::default()),
            batches,
            take_batch: Box::new(move || received.try_recv().ok()),
            take_update: Box::new(move || updates.try_recv().ok()),
            services: Vec::new(),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.dnstap.addresses[0]
    }

    /// Takes over what has come, and looks.
    pub async fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self, NameView) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            while let Some(batch) = (self.take_batch)() {
                self.names.apply(&batch);
            }
            self.names.publish();
            while let Some(update) = (self.take_update)() {
                if let TableUpdate::Services(table) = &*update {
                    self.services.clone_from(&table.rows);
                }
            }
            if let Some(found) = look(self, self.names.reader().view()) {
                return found;
            }
            let status = self.dnstap.status.get();
            assert!(Instant::now() < deadline, "{what} did not come; {status:?}; {}", self.batches.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn service(&self, id: u32) -> Option<&str> {
        self.services.iter().find(|service| service.id == id).map(|service| service.name.as_str())
    }
}

pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}

/// The samples' directory; `None` where they are missing and that is allowed.
pub fn samples() -> Option<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
    let path = std::env::var_os("BENOCS_SAMPLES").map_or(default, PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "no samples in {}", path.display());
    println!("skipped: no samples in {}", path.display());
    None
}
