//! An agent that answers from a map, which a test may change.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use async_snmp::agent::Agent;
use async_snmp::handler::{BoxFuture, GetNextResult, GetResult, HandlerResult, MibHandler, RequestContext};
use async_snmp::{Oid, Value, VarBind};

pub type Objects = Arc<RwLock<BTreeMap<Oid, Value>>>;

struct Map(Objects);

impl MibHandler for Map {
    fn get<'a>(&'a self, _: &'a RequestContext, oid: &'a Oid) -> BoxFuture<'a, HandlerResult<GetResult>> {
        let found = self.0.read().expect("not poisoned").get(oid).cloned();
        Box::pin(async move { Ok(found.map_or(GetResult::NoSuchObject, GetResult::Value)) })
    }

    fn get_next<'a>(&'a self, _: &'a RequestContext, oid: &'a Oid) -> BoxFuture<'a, HandlerResult<GetNextResult>> {
        let objects = self.0.read().expect("not poisoned");
        let next = objects.range((Bound::Excluded(oid), Bound::Unbounded)).next();
        let next = next.map(|(oid, value)| VarBind::new(oid.clone(), value.clone()));
        Box::pin(async move { Ok(next.map_or(GetNextResult::EndOfMibView, GetNextResult::Value)) })
    }
}

/// Starts it on a loopback port, in the background of the test's runtime.
pub async fn start(objects: Objects) -> u16 {
    let agent = Agent::builder()
        .bind("127.0.0.1:0")
        .community(b"public")
        .handler(Oid::from_slice(&[1, 3, 6, 1, 2, 1]), Arc::new(Map(objects)))
        .allow_all_access()
        .build()
        .await
        .expect("an agent");
    let port = agent.local_addr().port();
    tokio::spawn(async move { agent.run().await });
    port
}

/// "1.3.6.1.2.1.1.5.0" and a value.
pub fn objects(lines: &[(&str, Value)]) -> BTreeMap<Oid, Value> {
    let oid = |text: &str| {
        let arcs: Vec<u32> = text.split('.').map(|arc| arc.parse().expect("an arc")).collect();
        Oid::from_slice(&arcs)
    };
    lines.iter().map(|(text, value)| (oid(text), value.clone())).collect()
}
