//! The exporter table: ids that are given once, kept over restarts, published;
//! and what exporters said about their data, kept too.
//!
//! Rows carry an exporter's id from its first record on. So the table is on the
//! disk before such a row is acknowledged, and offered downstream before the row is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use anyhow::Context as _;
use benocs_model::network::{Exporter, Exporters};
use benocs_model::tables::TableUpdate;
use benocs_runtime::Outbox;
use benocs_runtime::state::{State, Tree};

use crate::decode::{KeptDomain, Shared};

/// Bits of an id below those of the node that gave it.
const NODE_SHIFT: u32 = 20;
pub(crate) const NODE_MAX: u16 = 0x0fff;

const TREE: &str = "exporters";
const EPOCH_TREE: &str = "exporters_epoch";
const EPOCH_KEY: &[u8] = b"epoch";
const DOMAIN_TREE: &str = "templates";
const ALIVE_KEY: &[u8] = b"alive";
/// How often is noted that the collector is there.
const ALIVE_MS: i64 = 30_000;

pub(crate) struct Keeper {
    state: State,
    tree: Tree,
    epochs: Tree,
    domains: Tree,
    alive_ms: AtomicI64,
    /// Number of this start: later ones have greater generations.
    epoch: u64,
    kept: AtomicU64,
    published: AtomicU64,
    tables: Outbox<Arc<TableUpdate>>,
}

/// The first id that `node` gives; 0 stays unused.
pub(crate) fn first_id(node: u16) -> u32 {
    u32::from(node) << NODE_SHIFT | 1
}

impl Keeper {
    /// With the exporters that earlier starts knew.
    pub(crate) fn load(state: &State, tables: Outbox<Arc<TableUpdate>>) -> anyhow::Result<(Self, Vec<Exporter>)> {
        let tree = state.tree(TREE)?;
        let epochs = state.tree(EPOCH_TREE)?;
        let epoch = epochs.get::<u64>(EPOCH_KEY).unwrap_or_default().unwrap_or_default() + 1;
        epochs.put(EPOCH_KEY, &epoch)?;
        let known: Vec<Exporter> = tree.entries::<Exporter>().map(|(_, exporter)| exporter).collect();
        anyhow::ensure!(known.len() == tree.len(), "the exporter table in the state directory cannot be read");
        let (kept, published) = (AtomicU64::new(0), AtomicU64::new(0));
        let (domains, alive_ms) = (state.tree(DOMAIN_TREE)?, AtomicI64::new(i64::MIN));
        Ok((Self { state: state.clone(), tree, epochs, domains, alive_ms, epoch, kept, published, tables }, known))
    }

    /// Templates of the last start, where that ended not long ago: after a longer time exporters may have others.
    pub(crate) fn restore(&self, shared: &Shared, keep_ms: i64, now_ms: i64) -> anyhow::Result<()> {
        let alive_ms = self.epochs.get::<i64>(ALIVE_KEY).unwrap_or_default();
        if alive_ms.is_none_or(|alive_ms| now_ms.saturating_sub(alive_ms) > keep_ms) {
            self.domains.clear()?;
        }
        // One of another version is left out, and learned again.
        for (_, domain) in self.domains.entries::<KeptDomain>() {
            shared.restore(domain);
        }
        self.keep_domains(shared, now_ms)
    }

    /// Puts what changed where the next start finds it; costs nothing where nothing did.
    pub(crate) fn keep_domains(&self, shared: &Shared, now_ms: i64) -> anyhow::Result<()> {
        for domain in shared.take_changes() {
            let key = [&domain.exporter.0[..], &[domain.protocol as u8], &domain.domain.to_be_bytes()].concat();
            if domain.is_empty() { self.domains.remove(&key)? } else { self.domains.put(&key, &domain)? }
        }
        if now_ms.saturating_sub(self.alive_ms.load(Ordering::Relaxed)) >= ALIVE_MS {
            self.epochs.put(ALIVE_KEY, &now_ms)?;
            self.alive_ms.store(now_ms, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts exporters that are new on the disk, and publishes the table; costs nothing where there are none.
    pub(crate) fn keep(&self, shared: &Shared) -> anyhow::Result<()> {
        let generation = shared.generation();
        if self.kept.load(Ordering::Acquire) != generation {
            for exporter in shared.exporters() {
                self.tree.put(&exporter.id.to_be_bytes(), &exporter)?;
            }
            self.state.flush().context("cannot keep the exporter table")?;
            self.kept.store(generation, Ordering::Release);
        }
        self.publish(shared);
        Ok(())
    }

    /// Offers the table where it is new; where the mailbox is full, the next call does.
    pub(crate) fn publish(&self, shared: &Shared) {
        let generation = shared.generation();
        if self.published.load(Ordering::Acquire) == generation {
            return;
        }
        let table = Exporters { generation: self.epoch << 32 | generation, rows: shared.exporters() };
        if self.tables.offer(Arc::new(TableUpdate::Exporters(Arc::new(table)))).is_ok() {
            self.published.store(generation, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use benocs_model::flow::builder::FlowBuilder;

    use super::*;
    use crate::decode::{Config, Decoder};

    /// A NetFlow v5 datagram with one record.
    fn datagram() -> Vec<u8> {
        let mut octets = vec![0; 24 + 48];
        octets[1] = 5;
        octets[3] = 1;
        octets
    }

    fn start(state: &State, sources: &[&str]) -> (Keeper, Arc<Shared>, async_channel::Receiver<Arc<TableUpdate>>) {
        let (outbox, tables) = Outbox::channel(1);
        let (keeper, known) = Keeper::load(state, outbox).unwrap();
        let shared = Arc::new(Shared::with_ids_from(Config::default(), known, first_id(3)));
        let mut decoder = Decoder::new(Config::default(), shared.clone());
        let mut rows = FlowBuilder::with_capacity(1);
        for source in sources {
            decoder.datagram(SocketAddr::new(source.parse().unwrap(), 9), 1_750_000_000_000, &datagram(), &mut rows);
        }
        keeper.keep(&shared).unwrap();
        (keeper, shared, tables)
    }

    fn table(tables: &async_channel::Receiver<Arc<TableUpdate>>) -> Exporters {
        let update = tables.try_recv().unwrap();
        let TableUpdate::Exporters(table) = update.as_ref() else { panic!("{update:?}") };
        table.as_ref().clone()
    }

    #[test]
    fn ids_name_their_node_and_survive_a_restart() {
        let state = State::temporary().unwrap();
        let (keeper, shared, tables) = start(&state, &["192.0.2.1", "192.0.2.2"]);
        let first = table(&tables);
        assert_eq!(first.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [3 << 20 | 1, 3 << 20 | 2]);
        keeper.keep(&shared).unwrap();
        assert!(tables.is_empty(), "nothing new");
        let (_keeper, _shared, tables) = start(&state, &["192.0.2.9", "192.0.2.2"]);
        let second = table(&tables);
        assert!(second.generation > first.generation);
        assert_eq!(second.rows[..2], first.rows);
        assert_eq!((second.rows[2].id, second.rows[2].address.to_string()), (3 << 20 | 3, "192.0.2.9".to_owned()));
    }

    #[test]
    fn templates_and_samplers_survive_a_restart_but_not_a_long_absence() {
        const NOW: i64 = 1_750_000_000_000;
        let message = |sets: &[u8]| {
            let mut octets = vec![0, 10];
            octets.extend((16 + sets.len() as u16).to_be_bytes());
            octets.extend([0; 12]);
            octets.extend(sets);
            octets
        };
        // Template 256: octetDeltaCount of 4 octets; options template 257: scope exportingProcessId, samplingInterval.
        let templates = [
            [0u8, 2, 0, 12, 1, 0, 0, 1, 0, 1, 0, 4].as_slice(),
            &[0, 3, 0, 18, 1, 1, 0, 2, 0, 1, 0, 144, 0, 4, 0, 34, 0, 4],
            &[1, 1, 0, 12, 0, 0, 0, 1, 0, 0, 0, 100],
        ];
        let data = message(&[1, 0, 0, 8, 0, 0, 2, 0]);
        let source = "192.0.2.1:9".parse().unwrap();
        let state = State::temporary().unwrap();
        let (keeper, shared, _tables) = start(&state, &["192.0.2.1"]);
        keeper.restore(&shared, 3_600_000, NOW).unwrap();
        let mut decoder = Decoder::new(Config::default(), shared.clone());
        let mut rows = FlowBuilder::with_capacity(1);
        decoder.datagram(source, NOW, &message(&templates.concat()), &mut rows);
        keeper.keep_domains(&shared, NOW + 1000).unwrap();
        drop((keeper, shared));

        for (away_ms, known) in [(3_000_000, true), (4_000_000, false)] {
            let (keeper, shared, _tables) = start(&state, &[]);
            let now = NOW + away_ms;
            keeper.restore(&shared, 3_600_000, now).unwrap();
            let mut decoder = Decoder::new(Config::default(), shared.clone());
            let mut rows = FlowBuilder::with_capacity(1);
            decoder.datagram(source, now, &data, &mut rows);
            let status = shared.status();
            let sampling = status[0].sampling.as_ref().map(|sampling| (sampling.num, sampling.den));
            assert_eq!(rows.finish().is_some_and(|batch| batch.num_rows() == 1), known, "after {away_ms} ms");
            assert_eq!(sampling, known.then_some((1, 100)), "after {away_ms} ms");
            // The next one measures from here on, not from what this start noted.
            state.tree(EPOCH_TREE).unwrap().put(ALIVE_KEY, &NOW).unwrap();
        }
    }

    #[test]
    fn a_full_mailbox_gets_the_table_later() {
        let state = State::temporary().unwrap();
        let (keeper, shared, tables) = start(&state, &["192.0.2.1"]);
        let mut decoder = Decoder::new(Config::default(), shared.clone());
        let mut rows = FlowBuilder::with_capacity(1);
        decoder.datagram("192.0.2.5:1".parse().unwrap(), 1_750_000_000_000, &datagram(), &mut rows);
        keeper.keep(&shared).unwrap();
        assert_eq!(table(&tables).rows.len(), 1);
        keeper.keep(&shared).unwrap();
        assert_eq!(table(&tables).rows.len(), 2);
    }
}
