//! An engine over generated traffic: the same question gives the same answer.
//!
//! For the tests of the API and for work on the page without a store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use benocs_model::question::dimension::{self, Dimension};
use benocs_model::question::filter::{Datum, Filter};
use benocs_model::question::{Answer, Ask, AskError, BoxFuture, DimensionInfo, Order, Question, Sums};
use benocs_model::route::HistoryQuestion;
use benocs_model::tables::{TableUpdate, Tables};
use benocs_web::status::{BgpPeer, Exporter, Feed, Health, Link, Loss, Resolver, SnmpTarget, Status, Store};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Everything is made on this grid.
const STEP_MS: i64 = 300_000;

type Facts = HashMap<&'static str, Value>;

/// One stream of traffic: what it is, and its mean rate in Gbit/s.
struct Stream {
    facts: Facts,
    gigabits: f64,
    phase: f64,
}

pub struct Demo {
    streams: Vec<Stream>,
    /// The newest data ends here.
    clock: fn() -> i64,
    /// How long an answer takes at least.
    pub delay: Duration,
    /// How many questions came.
    pub asked: Arc<AtomicUsize>,
}

const SERVICES: &[(&str, u32, f64)] = &[
    ("Netflix", 2906, 410.0),
    ("YouTube", 15169, 380.0),
    ("Prime Video", 16509, 190.0),
    ("Disney+", 16509, 110.0),
    ("Instagram", 32934, 170.0),
    ("Windows Update", 20940, 140.0),
    ("TikTok", 20940, 90.0),
    ("Twitch", 16509, 64.0),
    ("Steam", 3356, 75.0),
    ("Spotify", 15169, 28.0),
    ("Disney+", 54113, 80.0),
    ("iCloud", 714, 58.0),
    ("WhatsApp", 32934, 33.0),
    ("", 60068, 120.0),
    ("", 24940, 62.0),
    ("", 16276, 48.0),
    ("", 13335, 85.0),
    ("Zoom", 30103, 12.0),
];

/// (handover AS, router, interface, description, connectivity, weight)
const DOORS: &[(u32, &str, &str, &str, &str, f64)] = &[
    (0, "r1.fra", "xe-0/0/0", "Private peering", "peering", 5.0),
    (6695, "r2.fra", "et-0/1/0", "DE-CIX Frankfurt", "exchange", 2.2),
    (1299, "r1.ber", "xe-1/0/2", "Transit Arelion", "transit", 1.4),
    (3356, "r1.ham", "xe-0/0/1", "Transit Lumen", "transit", 1.2),
    (0, "r2.fra", "xe-0/0/3", "Cache and private peering", "cache", 3.1),
];

const DOORS_OUT: &[(&str, &str, f64)] =
    &[("bng-south", "ae10.100", 1.0), ("bng-north", "ae11.100", 1.05), ("bng-west", "ae12.100", 0.85)];

const AS_NAMES: &[(u32, &str)] = &[
    (714, "Apple"),
    (1299, "Arelion"),
    (2906, "Netflix"),
    (3356, "Lumen"),
    (6695, "DE-CIX"),
    (13335, "Cloudflare"),
    (15169, "Google"),
    (16276, "OVHcloud"),
    (16509, "Amazon"),
    (20940, "Akamai"),
    (24940, "Hetzner"),
    (30103, "Zoom"),
    (32934, "Meta"),
    (54113, "Fastly"),
    (60068, "Datacamp"),
    (64500, "Example Broadband"),
];

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(0)
}

/// A number between 0 and 1 that depends on nothing but its arguments.
fn noise(a: u64, b: u64) -> f64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 31;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 29;
    (x % 10_000) as f64 / 10_000.0
}

impl Demo {
    pub fn new(clock: fn() -> i64) -> Self {
        let mut streams = Vec::new();
        for (s, (service, asn, gigabits)) in SERVICES.iter().enumerate() {
            for (d, (door_as, router, interface, text, connectivity, door)) in DOORS.iter().enumerate() {
                let share = noise(s as u64 + 3, d as u64 + 11);
                if share < 0.35 {
                    continue;
                }
                let handover = if *door_as == 0 { *asn } else { *door_as };
                for (e, (egress, out, weight)) in DOORS_OUT.iter().enumerate() {
                    let facts = Facts::from([
                        ("service", if service.is_empty() { Value::Null } else { json!(service) }),
                        ("src_as", json!(asn)),
                        ("handover_as", json!(handover)),
                        ("dst_as", json!(64500)),
                        ("exporter", json!(format!("192.0.2.{}", d + 1))),
                        ("exporter_name", json!(router)),
                        ("ingress_router", json!(router)),
                        ("in_if", json!(500 + d)),
                        ("in_if_name", json!(interface)),
                        ("in_if_description", json!(text)),
                        ("in_if_connectivity", json!(connectivity)),
                        ("in_if_boundary", json!("external")),
                        ("egress_router", json!(egress)),
                        ("egress_if_name", json!(out)),
                        ("out_if_name", json!(out)),
                        ("proto", json!(if s % 3 == 1 { 17 } else { 6 })),
                        ("etype", json!(if (s + e) % 3 == 0 { 0x86dd } else { 0x0800 })),
                        ("count_verdict", json!("counted")),
                    ]);
                    let gigabits = gigabits * door * weight * share / 24.0;
                    streams.push(Stream { facts, gigabits, phase: noise(s as u64, e as u64) });
                }
            }
        }
        Self { streams, clock, delay: Duration::ZERO, asked: Arc::default() }
    }

    /// Octets of one stream in one step.
    fn octets(&self, index: usize, step: i64) -> u64 {
        let stream = &self.streams[index];
        let hour = (step * STEP_MS) as f64 / 3_600_000.0 + stream.phase * 3.0 + 1.0;
        let day = 0.62 + 0.38 * ((hour - 20.5) / 24.0 * std::f64::consts::TAU).cos();
        let wobble = 0.93 + 0.14 * noise(index as u64 + 100, step.unsigned_abs());
        (stream.gigabits * day * wobble * 1e9 / 8.0 * (STEP_MS as f64 / 1000.0)) as u64
    }

    fn answer(&self, question: &Question) -> Result<Answer, AskError> {
        let began = Instant::now();
        let wrong = |message: String| AskError::Wrong { message, at: None };
        let filter = Filter::parse(&question.filter)?;
        for name in &question.by {
            dimension::by_name(name).ok_or_else(|| wrong(format!("there is no dimension {name}")))?;
        }
        let newest_ms = (self.clock)() / STEP_MS * STEP_MS;
        let from = question.from_ms.div_euclid(STEP_MS);
        let to = question.to_ms.min(newest_ms).div_euclid(STEP_MS);
        let span_ms = (question.to_ms - question.from_ms).max(1);
        let widths = [STEP_MS, 900_000, 3_600_000, 14_400_000];
        let resolution_ms = match question.resolution_ms {
            0 => widths.into_iter().find(|width| span_ms / width <= 250).unwrap_or(14_400_000),
            asked => asked.max(STEP_MS),
        };
        let keys: Vec<&String> = question.by.iter().filter(|name| *name != "time").collect();
        let with_time = keys.len() != question.by.len();
        let mut groups: HashMap<String, (Vec<Value>, Sums, HashMap<i64, Sums>)> = HashMap::new();
        let mut totals = Sums::default();
        let mut rows_read = 0;
        for (index, stream) in self.streams.iter().enumerate() {
            let fact = |dimension: &'static Dimension| stream.facts.get(dimension.name);
            let matches = filter.matches(&mut |dimension| match fact(dimension) {
                Some(Value::Number(number)) => Datum::Number(number.as_u64().unwrap_or(0)),
                Some(Value::String(text)) => match dimension.number_of(text) {
                    Some(number) => Datum::Number(number),
                    None => Datum::Text(text),
                },
                _ => Datum::Null,
            });
            if !matches {
                continue;
            }
            let key: Vec<Value> =
                keys.iter().map(|name| stream.facts.get(name.as_str()).cloned().unwrap_or(Value::Null)).collect();
            let group = groups.entry(json!(key).to_string()).or_insert_with(|| (key, Sums::default(), HashMap::new()));
            for step in from..to {
                // The feed was silent for half an hour each day.
                if (step * STEP_MS).rem_euclid(86_400_000) / 1_800_000 == 19 {
                    continue;
                }
                let octets = self.octets(index, step);
                let sums = Sums { octets, packets: octets / 1140, flows: octets / 48_000_000 };
                rows_read += 1;
                add(&mut totals, sums);
                add(&mut group.1, sums);
                if with_time {
                    let bucket = (step * STEP_MS).div_euclid(resolution_ms) * resolution_ms;
                    add(group.2.entry(bucket).or_default(), sums);
                }
            }
        }
        let weight = |sums: &Sums| match question.order {
            Order::Octets => sums.octets,
            Order::Packets => sums.packets,
            Order::Flows => sums.flows,
        };
        let mut groups: Vec<_> = groups.into_values().filter(|group| group.1.flows > 0).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(weight(&group.1)));
        let rest = groups.split_off(groups.len().min(question.limit));
        let mut other = Sums::default();
        let mut other_series: HashMap<i64, Sums> = HashMap::new();
        for (_, sums, series) in &rest {
            add(&mut other, *sums);
            for (bucket, sums) in series {
                add(other_series.entry(*bucket).or_default(), *sums);
            }
        }
        let mut rows = Vec::new();
        for (key, sums, series) in groups {
            let row = |time: Option<i64>, sums: Sums| {
                let mut values = key.iter();
                let mut row: Vec<Value> = question
                    .by
                    .iter()
                    .map(|name| match (name.as_str(), time) {
                        ("time", Some(bucket)) => json!(rfc3339(bucket)),
                        _ => values.next().cloned().unwrap_or(Value::Null),
                    })
                    .collect();
                row.extend([json!(sums.octets), json!(sums.packets), json!(sums.flows)]);
                row
            };
            if with_time {
                let mut buckets: Vec<_> = series.into_iter().collect();
                buckets.sort_unstable_by_key(|(bucket, _)| *bucket);
                rows.extend(buckets.into_iter().map(|(bucket, sums)| row(Some(bucket), sums)));
            } else {
                rows.push(row(None, sums));
            }
        }
        let mut columns = question.by.clone();
        columns.extend(["octets", "packets", "flows"].map(str::to_owned));
        let mut other_series: Vec<_> = other_series.into_iter().collect();
        other_series.sort_unstable_by_key(|(bucket, _)| *bucket);
        Ok(Answer {
            columns,
            rows,
            totals,
            other,
            other_series,
            source: "rollup_5m".to_owned(),
            from_ms: from * STEP_MS,
            to_ms: question.to_ms,
            resolution_ms: if with_time { resolution_ms } else { 0 },
            rows_read,
            files_read: 3,
            elapsed_ms: began.elapsed().as_secs_f64() * 1000.0,
            newest_ms: Some(newest_ms),
            quality: vec!["handover_guessed".to_owned()],
            notes: Vec::new(),
        })
    }
}

fn add(to: &mut Sums, sums: Sums) {
    to.octets += sums.octets;
    to.packets += sums.packets;
    to.flows += sums.flows;
}

fn rfc3339(ms: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(ms / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).unwrap_or_default()
}

impl Ask for Demo {
    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Answer, AskError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Memory::SeqCst);
            tokio::time::sleep(self.delay).await;
            self.answer(&question)
        })
    }

    fn dimensions(&self) -> Vec<DimensionInfo> {
        dimension::all().iter().map(Dimension::info).collect()
    }

    fn complete(&self, dimension: &str, text: &str, limit: usize) -> BoxFuture<'_, Result<Vec<String>, AskError>> {
        let wanted = text.to_lowercase();
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut values: Vec<String> = self
            .streams
            .iter()
            .filter_map(|stream| stream.facts.get(dimension).filter(|value| !value.is_null()).map(plain))
            .filter(|value| value.to_lowercase().contains(&wanted))
            .collect();
        values.sort_unstable();
        values.dedup();
        values.truncate(limit);
        Box::pin(async move { Ok(values) })
    }
}

pub fn tables() -> Arc<Tables> {
    let tables = Tables::default();
    let names = AS_NAMES.iter().map(|(asn, name)| (*asn, (*name).to_owned())).collect();
    tables.apply(&TableUpdate::AsNames(Arc::new(names)));
    Arc::new(tables)
}

pub fn routes(address: &str, router: Option<&str>, _vrf: Option<&str>) -> anyhow::Result<Value> {
    let address: std::net::IpAddr =
        address.parse().map_err(|_| anyhow::anyhow!("{address} is no address: give one like 192.0.2.1"))?;
    let all = ["r1.fra", "r2.fra", "r1.ber", "r1.ham"];
    let routes: Vec<Value> = all
        .iter()
        .filter(|name| router.is_none_or(|router| router == **name))
        .enumerate()
        .map(|(index, name)| {
            json!({
                "router": name, "peer": format!("192.0.2.{}", index + 1),
                "prefix": if address.is_ipv4() { "203.0.113.0/24" } else { "2001:db8::/32" },
                "as_path": if index == 0 { "15169" } else { "1299 15169" },
                "next_hop": format!("198.51.100.{}", index + 1), "local_pref": 200 - 50 * index, "med": null,
                "communities": ["64500:100", format!("64500:{}", 1000 + index)], "provenance": "router",
            })
        })
        .collect();
    Ok(json!({ "routes": routes }))
}

pub fn history(question: &HistoryQuestion) -> anyhow::Result<Value> {
    anyhow::ensure!(question.prefix.contains(['.', ':']), "{:?} is neither a prefix nor an address", question.prefix);
    let event = |ago_ms: i64, event: &str, path: Value| {
        json!({
            "ms": question.to_ms - ago_ms, "event": event, "prefix": "203.0.113.0/24", "peer": "r1.fra",
            "peer_address": "192.0.2.1", "vrf": "", "path_id": 0, "path": path,
        })
    };
    let path = |as_path: &str| json!({ "as_path": as_path, "next_hop": "198.51.100.1", "communities": "64500:100" });
    Ok(json!({
        "prefix": question.prefix, "from_ms": question.from_ms, "to_ms": question.to_ms, "is_cut": false,
        "oldest_ms": question.from_ms,
        "events": [
            event(900_000, "announce", path("15169")),
            event(60_000, "withdraw", Value::Null),
            event(30_000, "announce", path("1299 15169")),
        ],
    }))
}

pub fn graph(path: Option<(&str, &str)>) -> anyhow::Result<Value> {
    let all = ["r1.fra", "r2.fra", "r1.ber"];
    let Some((from, to)) = path else {
        let nodes: Vec<Value> = all.iter().map(|name| json!({ "name": name })).collect();
        let link = |from: usize, to: usize| json!({ "from": from, "to": to, "metric": 10, "used": true });
        return Ok(json!({
            "generation": 1, "prefixes": 3, "nodes": nodes,
            "links": [link(0, 1), link(1, 0), link(1, 2), link(2, 1)],
        }));
    };
    let place = |name: &str| {
        let place = all.iter().position(|known| *known == name);
        place.ok_or_else(|| anyhow::anyhow!("no node is called {name:?}: give a router's name"))
    };
    let (near, far) = (place(from)?, place(to)?);
    let hops = near.abs_diff(far);
    Ok(json!({ "from": from, "to": to, "cost": 10 * hops, "hops": hops, "equal_cost_paths": 1 }))
}

pub fn status() -> Value {
    let now = now_ms();
    let feed = |name: &str, title: &str, health, summary: &str, problem: &str| Feed {
        name: name.to_owned(),
        title: title.to_owned(),
        health,
        summary: summary.to_owned(),
        problem: problem.to_owned(),
        last_ms: Some(now - 1_200),
    };
    let exporter = |address: &str, name: &str, protocol: &str, sampling, health, problem: &str, rate: f64| Exporter {
        address: address.to_owned(),
        name: Some(name.to_owned()),
        protocol: protocol.to_owned(),
        records: (rate * 86_400.0) as u64,
        datagrams: (rate * 86_400.0 / 28.0) as u64,
        records_per_s: Some(rate),
        lost: if health == Health::Attention { 2_113 } else { 0 },
        templates: 6,
        waiting: 0,
        sampling,
        sampling_source: if sampling.is_some() { "options".to_owned() } else { String::new() },
        last_ms: Some(now - 900),
        health,
        problem: problem.to_owned(),
        ..Exporter::default()
    };
    let peer = |name: &str, address: &str, up: bool| BgpPeer {
        name: name.to_owned(),
        address: address.to_owned(),
        source: "bgp".to_owned(),
        remote_as: 64500,
        state: if up { "established" } else { "active" }.to_owned(),
        since_ms: Some(now - 7_212_000),
        routes_v4: if up { 1_014_233 } else { 0 },
        routes_v6: if up { 221_908 } else { 0 },
        updates: 4_118_002,
        health: if up { Health::Good } else { Health::Bad },
        problem: if up {
            String::new()
        } else {
            "The session is down for 2 h: flows of r1.ham are named by r2.fra's table. Check that r1.ham reaches TCP 179 \
             here and that both passwords are equal."
                .to_owned()
        },
    };
    let lossy =
        "2,113 records were lost in 24 h, by its sequence numbers: look for drops between router and collector.";
    let unknown =
        "It does not say its sampling rate: its traffic counts as 1:1. Set `sampling` for it, or export options.";
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: "all".to_owned(),
        now_ms: now,
        started_ms: now - 93_000_000,
        newest_ms: Some(now / STEP_MS * STEP_MS),
        feeds: vec![
            feed("flows", "Flows", Health::Attention, "41.8 k records/s from 5 exporters", "2 exporters need a look."),
            feed("bgp", "BGP", Health::Bad, "4.9 M routes of 3 peers", "1 of 4 sessions is down."),
            feed("snmp", "SNMP", Health::Good, "1,204 interfaces of 4 routers", ""),
            feed("dnstap", "DNS", Health::Good, "31.0 k answers/s, 2.1 M names", ""),
            feed("store", "Store", Health::Good, "8.4 G rows, 412 GB", ""),
        ],
        exporters: vec![
            exporter("192.0.2.1", "r1.fra", "ipfix", Some(1000.0), Health::Good, "", 14_200.0),
            exporter("192.0.2.2", "r2.fra", "netflow9", Some(1000.0), Health::Good, "", 12_900.0),
            exporter("192.0.2.3", "r1.ber", "sflow5", Some(2048.0), Health::Attention, lossy, 8_300.0),
            exporter("192.0.2.4", "r1.ham", "netflow9", None, Health::Attention, unknown, 6_100.0),
            exporter("192.0.2.5", "sw1.fra", "netflow5", Some(512.0), Health::Good, "", 310.0),
        ],
        bgp_peers: vec![
            peer("r1.fra", "192.0.2.1", true),
            peer("r2.fra", "192.0.2.2", true),
            peer("r1.ber", "192.0.2.3", true),
            peer("r1.ham", "192.0.2.4", false),
        ],
        snmp_targets: ["r1.fra", "r2.fra", "r1.ber", "r1.ham"]
            .iter()
            .enumerate()
            .map(|(index, name)| SnmpTarget {
                name: (*name).to_owned(),
                address: format!("192.0.2.{}", index + 1),
                interfaces: 301,
                polls: 1_440,
                failures: 0,
                last_ms: Some(now - 31_000),
                health: Health::Good,
                problem: String::new(),
            })
            .collect(),
        resolvers: vec![Resolver {
            name: "resolver1".to_owned(),
            address: "192.0.2.53".to_owned(),
            connected: true,
            answers: 2_670_000_000,
            names: 2_100_000,
            last_ms: Some(now - 300),
            health: Health::Good,
            problem: String::new(),
        }],
        store: Some(Store {
            rows: 8_402_118_330,
            files: 4_120,
            octets: 412_000_000_000,
            oldest_ms: Some(now - 30 * 86_400_000),
            newest_ms: Some(now / STEP_MS * STEP_MS),
            log_octets: 88_000_000,
            disk_free_octets: Some(1_200_000_000_000),
            health: Health::Good,
            problem: String::new(),
        }),
        links: vec![Link {
            name: "flows".to_owned(),
            peer: "process00".to_owned(),
            connected: true,
            batches: 1_204_000,
            waiting: 0,
            last_ms: Some(now - 400),
            health: Health::Good,
            problem: String::new(),
        }],
        losses: vec![
            Loss { actor: "collector".to_owned(), cause: "sequence_gap".to_owned(), count: 2_113 },
            Loss { actor: "collector".to_owned(), cause: "truncated".to_owned(), count: 4 },
        ],
        mailboxes: Vec::new(),
    };
    serde_json::to_value(status).unwrap_or_default()
}
