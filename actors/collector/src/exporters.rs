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
/// Names that exporters give are published no more often than this: the table is large, and routers repeat it.
const LABELS_MS: i64 = 10_000;

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
    labels_published: AtomicU64,
    labels_ms: AtomicI64,
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
        let (labels_published, labels_ms) = (AtomicU64::new(0), AtomicI64::new(i64::MIN));
        let state = state.clone();
        let keeper = Self {
            state,
            tree,
            epochs,
            domains,
            alive_ms,
            epoch,
            kept,
            published,
            labels_published,
            labels_ms,
            tables,
        };
        Ok((keeper, known))
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

impl Keeper {
    /// Offers the names that exporters gave, where they are others than the last time and that was a while ago.
    pub(crate) fn publish_labels(&self, shared: &Shared, now_ms: i64) {
        let generation = shared.labels_generation();
        let soon = now_ms.saturating_sub(self.labels_ms.load(Ordering::Acquire)) < LABELS_MS;
        if soon || self.labels_published.load(Ordering::Acquire) == generation {
            return;
        }
        let mut table = shared.labels();
        table.generation |= self.epoch << 32;
        if self.tables.offer(Arc::new(TableUpdate::Labels(Arc::new(table)))).is_ok() {
            self.labels_published.store(generation, Ordering::Release);
            self.labels_ms.store(now_ms, Ordering::Release);
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

    type Started = (Keeper, Arc<Shared>, async_channel::Receiver<Arc<TableUpdate>>);

    fn start(state: &State, sources: &[&str]) -> Started {
        start_with(state, sources, 1)
    }

    fn start_with(state: &State, sources: &[&str], bound: usize) -> Started {
        let (outbox, tables) = Outbox::channel(bound);
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
    fn names_of_options_are_published_seldom_and_with_growing_generations() {
        const NOW: i64 = 1_750_000_000_000;
        // Options template 256: scope ingressVRFID, VRFname of 3 octets.
        let message = |vrf: u8, name: &[u8]| {
            let template = [0u8, 3, 0, 18, 1, 0, 0, 2, 0, 1, 0, 234, 0, 1, 0, 236, 0, 3];
            let mut octets = vec![0, 10, 0, 42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            octets.extend(template);
            octets.extend([&[1, 0, 0, 8, vrf][..], name].concat());
            octets
        };
        let state = State::temporary().unwrap();
        let mut newest = 0;
        for start in 0..2 {
            let (keeper, shared, tables) = start_with(&state, &["192.0.2.1"], 8);
            let mut decoder = Decoder::new(Config::default(), shared.clone());
            let mut rows = FlowBuilder::with_capacity(1);
            let mut say = |vrf, name: &[u8]| {
                decoder.datagram("192.0.2.1:9".parse().unwrap(), NOW, &message(vrf, name), &mut rows);
            };
            let mut names = |now_ms| {
                keeper.publish_labels(&shared, now_ms);
                std::iter::from_fn(|| tables.try_recv().ok()).find_map(|update| match update.as_ref() {
                    TableUpdate::Labels(table) => {
                        assert!(table.generation > newest, "start {start}");
                        newest = table.generation;
                        Some(table.rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>())
                    }
                    _ => None,
                })
            };
            assert_eq!(names(NOW), None, "nobody named anything");
            say(1, b"red");
            assert_eq!(names(NOW), Some(vec!["red".to_owned()]));
            say(2, b"sea");
            assert_eq!(names(NOW + LABELS_MS - 1), None, "soon again");
            assert_eq!(names(NOW + LABELS_MS), Some(vec!["red".to_owned(), "sea".to_owned()]));
            say(2, b"sea");
            assert_eq!(names(NOW + 10 * LABELS_MS), None, "nothing new");
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
