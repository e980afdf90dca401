//! The SNMP agent of one router: system, interfaces (RFC 2863), addresses (RFC 4293).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use async_snmp::agent::Agent;
use async_snmp::handler::{BoxFuture, GetNextResult, GetResult, HandlerResult, MibHandler, RequestContext};
use async_snmp::value::Value;
use async_snmp::varbind::VarBind;
use async_snmp::{Oid, oid};
use bytes::Bytes;

use super::Model;
use super::network::{Connectivity, IfId, RouterId};

/// Octets and packets of an interface, from the Ethernet header on.
#[derive(Debug, Default)]
pub struct Counters {
    pub in_octets: AtomicU64,
    pub in_packets: AtomicU64,
    pub out_octets: AtomicU64,
    pub out_packets: AtomicU64,
}

/// What changes while an agent runs.
#[derive(Debug, Default)]
pub struct State {
    pub boot_ms: AtomicI64,
    /// Added to every ifIndex.
    pub renumbered_by: AtomicU32,
    /// Somebody has read the interface table to its end.
    pub polled: AtomicBool,
    /// Counts changes of the tables.
    pub generation: AtomicU32,
}

#[derive(Clone, Debug)]
enum Entry {
    Static(Value),
    UpTime,
    Counter(IfId, Which, bool),
}

#[derive(Clone, Copy, Debug)]
enum Which {
    InOctets,
    InPackets,
    OutOctets,
    OutPackets,
}

struct Tables {
    generation: u32,
    /// Ascending.
    entries: Vec<(Oid, Entry)>,
}

struct Handler {
    model: Arc<Model>,
    router: RouterId,
    state: Arc<State>,
    counters: Arc<Vec<Counters>>,
    tables: RwLock<Tables>,
}

impl Handler {
    fn fresh(&self) -> RwLockReadGuard<'_, Tables> {
        let generation = self.state.generation.load(Ordering::Acquire);
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        if tables.generation == generation {
            return tables;
        }
        drop(tables);
        let entries = entries(&self.model, self.router, self.state.renumbered_by.load(Ordering::Acquire));
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Tables { generation, entries };
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn value(&self, entry: &Entry) -> Value {
        match entry {
            Entry::Static(value) => value.clone(),
            Entry::UpTime => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
                Value::TimeTicks((now.wrapping_sub(self.state.boot_ms.load(Ordering::Relaxed)) / 10) as u32)
            }
            Entry::Counter(interface, which, wide) => {
                let counters = &self.counters[*interface];
                let value = match which {
                    Which::InOctets => &counters.in_octets,
                    Which::InPackets => &counters.in_packets,
                    Which::OutOctets => &counters.out_octets,
                    Which::OutPackets => &counters.out_packets,
                }
                .load(Ordering::Relaxed);
                if *wide { Value::Counter64(value) } else { Value::Counter32(value as u32) }
            }
        }
    }
}

impl MibHandler for Handler {
    fn get<'a>(&'a self, _context: &'a RequestContext, oid: &'a Oid) -> BoxFuture<'a, HandlerResult<GetResult>> {
        Box::pin(async move {
            let tables = self.fresh();
            Ok(match tables.entries.binary_search_by(|entry| entry.0.cmp(oid)) {
                Ok(at) => GetResult::Value(self.value(&tables.entries[at].1)),
                Err(_) => GetResult::NoSuchInstance,
            })
        })
    }

    fn get_next<'a>(
        &'a self,
        _context: &'a RequestContext,
        oid: &'a Oid,
    ) -> BoxFuture<'a, HandlerResult<GetNextResult>> {
        Box::pin(async move {
            let tables = self.fresh();
            let at = tables.entries.partition_point(|entry| entry.0 <= *oid);
            if oid.starts_with(&oid!(1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18)) {
                self.state.polled.store(true, Ordering::Relaxed);
            }
            Ok(match tables.entries.get(at) {
                Some((oid, entry)) => GetNextResult::Value(VarBind::new(oid.clone(), self.value(entry))),
                None => GetNextResult::EndOfMibView,
            })
        })
    }
}

/// Listens; the agent answers while its `run` is polled.
pub async fn start(
    model: Arc<Model>,
    router: RouterId,
    port: u16,
    community: &str,
    state: Arc<State>,
    counters: Arc<Vec<Counters>>,
) -> anyhow::Result<Agent> {
    let address = SocketAddr::from((model.network.routers[router].address, port));
    let tables = Tables { generation: state.generation.load(Ordering::Acquire), entries: entries(&model, router, 0) };
    let handler = Handler { model, router, state, counters, tables: RwLock::new(tables) };
    Agent::builder()
        .bind(address.to_string())
        .community(community.as_bytes())
        .handler(oid!(1, 3, 6, 1, 2, 1), Arc::new(handler))
        .allow_all_access()
        .build()
        .await
        .map_err(|error| anyhow::anyhow!("cannot start an SNMP agent on {address}: {error}"))
}

fn text(value: &str) -> Entry {
    Entry::Static(Value::OctetString(Bytes::copy_from_slice(value.as_bytes())))
}

fn at(prefix: &[u32], tail: &[u32]) -> Oid {
    let arcs: Vec<u32> = [1, 3, 6, 1, 2, 1].iter().chain(prefix).chain(tail).copied().collect();
    Oid::from(arcs.as_slice())
}

fn entries(model: &Model, router: RouterId, renumbered_by: u32) -> Vec<(Oid, Entry)> {
    let network = &model.network;
    let own = &network.routers[router];
    let mut all: Vec<(Oid, Entry)> = vec![
        (at(&[1, 1, 0], &[]), text(own.vendor.description())),
        (
            at(&[1, 2, 0], &[]),
            Entry::Static(Value::ObjectIdentifier(Oid::from(
                [1, 3, 6, 1, 4, 1, own.vendor.enterprise(), 1, 1].as_slice(),
            ))),
        ),
        (at(&[1, 3, 0], &[]), Entry::UpTime),
        (at(&[1, 4, 0], &[]), text("noc@example.net")),
        (at(&[1, 5, 0], &[]), text(&own.name)),
        (at(&[1, 6, 0], &[]), text(network.pops[own.pop])),
        (at(&[1, 7, 0], &[]), Entry::Static(Value::Integer(78))),
        (at(&[2, 1, 0], &[]), Entry::Static(Value::Integer(own.interfaces.len() as i32))),
        (at(&[31, 1, 5, 0], &[]), Entry::Static(Value::TimeTicks(renumbered_by.min(1) * 100))),
    ];
    for id in &own.interfaces {
        let port = network.interface(*id);
        let index = port.if_index + renumbered_by;
        let integer = |value: i32| Entry::Static(Value::Integer(value));
        let gauge = |value: u32| Entry::Static(Value::Gauge32(value));
        let kind = if port.connectivity == Connectivity::Loopback { 24 } else { 6 };
        let column = |number: u32| at(&[2, 2, 1, number], &[index]);
        let high = |number: u32| at(&[31, 1, 1, 1, number], &[index]);
        let mac = [2, 0, (router >> 8) as u8, router as u8, (index >> 8) as u8, index as u8];
        all.extend([
            (column(1), integer(index as i32)),
            (column(2), text(&port.name)),
            (column(3), integer(kind)),
            (column(4), integer(9192)),
            (column(5), gauge(port.speed.min(u64::from(u32::MAX)) as u32)),
            (column(6), Entry::Static(Value::OctetString(Bytes::copy_from_slice(&mac)))),
            (column(7), integer(1)),
            (column(8), integer(1)),
            (column(9), Entry::Static(Value::TimeTicks(0))),
            (column(10), Entry::Counter(*id, Which::InOctets, false)),
            (column(11), Entry::Counter(*id, Which::InPackets, false)),
            (column(13), Entry::Static(Value::Counter32(0))),
            (column(14), Entry::Static(Value::Counter32(0))),
            (column(16), Entry::Counter(*id, Which::OutOctets, false)),
            (column(17), Entry::Counter(*id, Which::OutPackets, false)),
            (column(19), Entry::Static(Value::Counter32(0))),
            (column(20), Entry::Static(Value::Counter32(0))),
            (high(1), text(&port.name)),
            (high(6), Entry::Counter(*id, Which::InOctets, true)),
            (high(7), Entry::Counter(*id, Which::InPackets, true)),
            (high(10), Entry::Counter(*id, Which::OutOctets, true)),
            (high(11), Entry::Counter(*id, Which::OutPackets, true)),
            (high(15), gauge((port.speed / 1_000_000) as u32)),
            (high(18), text(&port.description)),
        ]);
        let v4 = port.v4.0.octets();
        let arcs: Vec<u32> = v4.iter().map(|octet| u32::from(*octet)).collect();
        let mask = u32::MAX.checked_shl(32 - u32::from(port.v4.1)).unwrap_or(0);
        all.extend([
            (at(&[4, 20, 1, 1], &arcs), Entry::Static(Value::IpAddress(v4))),
            (at(&[4, 20, 1, 2], &arcs), integer(index as i32)),
            (at(&[4, 20, 1, 3], &arcs), Entry::Static(Value::IpAddress(mask.to_be_bytes()))),
        ]);
        // ipAddressTable and the row of ipAddressPrefixTable that each address points to.
        let v6 = port.v6.0.octets();
        let v4_net = (u32::from(port.v4.0) & mask).to_be_bytes();
        let v6_mask = u128::MAX.checked_shl(128 - u32::from(port.v6.1)).unwrap_or(0);
        let v6_net = (u128::from(port.v6.0) & v6_mask).to_be_bytes();
        for (kind, octets, net, len) in
            [(1, v4.as_slice(), v4_net.as_slice(), port.v4.1), (2, v6.as_slice(), v6_net.as_slice(), port.v6.1)]
        {
            let arcs = |octets: &[u8]| -> Vec<u32> {
                [kind, octets.len() as u32].into_iter().chain(octets.iter().map(|octet| u32::from(*octet))).collect()
            };
            let mut prefix = vec![index];
            prefix.extend(arcs(net));
            prefix.push(u32::from(len));
            all.extend([
                (at(&[4, 34, 1, 3], &arcs(octets)), integer(index as i32)),
                (at(&[4, 34, 1, 4], &arcs(octets)), integer(1)),
                (
                    at(&[4, 34, 1, 5], &arcs(octets)),
                    Entry::Static(Value::ObjectIdentifier(at(&[4, 32, 1, 5], &prefix))),
                ),
                (at(&[4, 32, 1, 5], &prefix), integer(2)),
            ]);
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
