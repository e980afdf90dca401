//! The poller against recorded walks, a real snmpd, and routers that misbehave.

mod agent;
mod live;
mod walks;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use benocs_model::network::Interfaces;
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::State;
use benocs_runtime::{Outbox, fatal_channel};
use benocs_snmp::{Config, Parts, Secret, Snmp, SystemInfo, Target, spawn};

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A poller with the table that it publishes.
pub struct Bench {
    pub snmp: Snmp,
    pub table: Arc<Interfaces>,
    pub systems: Arc<Mutex<Vec<SystemInfo>>>,
    take: Box<dyn FnMut() -> Option<Arc<TableUpdate>>>,
}

pub fn target(address: IpAddr, port: u16) -> Target {
    Target { address, port, name: None, community: Secret::new("public") }
}

impl Bench {
    pub fn start(config: Config, state: &State) -> anyhow::Result<Self> {
        let (tables, updates) = Outbox::channel(64);
        let (fatal, _failures) = fatal_channel();
        let systems: Arc<Mutex<Vec<SystemInfo>>> = Arc::default();
        let told = systems.clone();
        let parts = Parts {
            state: state.clone(),
            tables,
            systems: Arc::new(move |system| {
                told.lock().expect("not poisoned").push(system);
                true
            }),
            fatal,
        };
        let take = Box::new(move || updates.try_recv().ok());
        Ok(Self { snmp: spawn(config, parts)?, table: Arc::default(), systems, take })
    }

    /// Takes over what has come, and looks.
    pub async fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            while let Some(update) = (self.take)() {
                if let TableUpdate::Interfaces(table) = &*update {
                    assert!(table.generation > self.table.generation, "generations grow");
                    self.table = table.clone();
                }
            }
            if let Some(found) = look(self) {
                return found;
            }
            let status = self.snmp.status.get();
            assert!(Instant::now() < deadline, "{what} did not come; {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until the first target has been polled whole, or failed.
    pub async fn first_poll(&mut self) {
        self.until("a poll", |bench| {
            let status = bench.snmp.status.get();
            let done = status.targets.first().is_some_and(|target| target.polls > 0);
            (done && (bench.table.generation > 0 || status.interfaces == 0)).then_some(())
        })
        .await;
    }
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
