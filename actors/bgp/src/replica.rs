//! A route table that follows another machine's.
//!
//!   link (1) --RouteBatch: snapshot, then deltas--> [replica] --RouteView--> readers (n)

use benocs_model::route::{RouteBatch, RouteReader, RouteTable};
use benocs_runtime::{Context, Worker};

/// Publishes when its mailbox is empty, and at each tick.
pub struct RouteReplica {
    table: RouteTable,
}

impl RouteReplica {
    /// What is received is seen through `reader`: give a new one, and keep a clone.
    pub fn new(reader: RouteReader) -> Self {
        Self { table: RouteTable::with_reader(reader) }
    }

    pub fn table_reader(&self) -> RouteReader {
        self.table.reader()
    }
}

impl Worker for RouteReplica {
    type Message = RouteBatch;

    fn handle(&mut self, batch: RouteBatch, context: &mut Context<Self>) -> anyhow::Result<()> {
        self.table.apply(&batch);
        if context.outbox().is_empty() {
            self.table.publish();
        }
        Ok(())
    }

    fn tick(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        self.table.publish();
        Ok(())
    }
}
