//! Where small reference tables meet.
//!
//!   collector, snmp, engine, dnstap, enricher --TableUpdate--> [hub] --> tables of this process, store, engine, links

use std::sync::Arc;

use benocs_model::tables::{TableUpdate, Tables};
use benocs_runtime::{Context, Outbox, Worker};

/// Publishes updates in this process and passes them on to whoever keeps a replica.
pub struct Hub {
    pub tables: Arc<Tables>,
    pub onward: Vec<Onward>,
}

/// One receiver, in its own message type.
pub type Onward = Box<dyn Fn(Arc<TableUpdate>) -> bool + Send>;

/// Passes an update into a mailbox of another message type; false where it is full.
pub fn onward<M: Send + 'static>(outbox: Outbox<M>, wrap: impl Fn(Arc<TableUpdate>) -> M + Send + 'static) -> Onward {
    Box::new(move |update| outbox.send_blocking(wrap(update)).is_ok())
}

impl Worker for Hub {
    type Message = Arc<TableUpdate>;

    fn handle(&mut self, update: Arc<TableUpdate>, _: &mut Context<Self>) -> anyhow::Result<()> {
        if self.tables.apply(&update) {
            for onward in &self.onward {
                // A receiver that is gone has been drained.
                onward(update.clone());
            }
        }
        Ok(())
    }
}
