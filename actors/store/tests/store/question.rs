//! Every question against the plain computation.

use benocs_model::message::StoreInput;
use benocs_model::question::filter::{Datum, Filter};
use benocs_model::question::{Answer, Ask, AskError, Order, Question, Sums, dimension};
use benocs_store::{Config, Store};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::rows::{self, Row, answered, flow_batch, plain, question, rollup_batch};
use crate::{T0, config, open, random_rows, source, take, try_open};

/// A store with these rows: in batches, commits and merges of all sizes; the rollups may lag behind.
fn filled(directory: &std::path::Path, rows: &[Row], batch: usize, lag: usize, config: Config) -> Store {
    let mut store = try_open(directory, config).unwrap();
    for table in rows::tables() {
        take(&mut store, StoreInput::Table(table.into()));
    }
    let chunks: Vec<&[Row]> = rows.chunks(batch.max(1)).collect();
    for (seq, chunk) in chunks.iter().enumerate() {
        let seq = seq as u64;
        take(&mut store, StoreInput::Flows(flow_batch(chunk, source(1), seq)));
        if seq as usize + lag < chunks.len() {
            take(&mut store, StoreInput::Rollups(rollup_batch(source(1), seq, seq + 1, chunk)));
        }
        if seq.is_multiple_of(3) {
            store.commit().unwrap();
        }
    }
    store.commit().unwrap();
    store
}

fn merged(store: &mut Store) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while store.compact(T0 + 86_400_000 * 3).unwrap() {
        assert!(std::time::Instant::now() < deadline, "merging does not end");
        std::thread::yield_now();
    }
}

/// The plain verdict of a filter on a row, by the filter's own definition over shown values.
fn filter_keeps(filter: &Filter, row: &Row) -> bool {
    let mut values: Vec<(&'static str, Value)> = Vec::new();
    filter.tests(&mut |test| values.push((test.dimension.name, rows::shown(row, test.dimension.name))));
    filter.matches(&mut |dimension| {
        let (_, value) = values.iter().find(|(name, _)| *name == dimension.name).unwrap();
        match value {
            Value::Null => Datum::Null,
            Value::Number(number) => Datum::Number(number.as_u64().unwrap()),
            Value::String(text) => match dimension.number_of(text) {
                Some(number) if dimension.kind.text() == "enum" => Datum::Number(number),
                _ => match text.parse::<std::net::IpAddr>() {
                    Ok(ip) if dimension.kind.text() == "address" => Datum::Address(ip.into()),
                    _ => Datum::Text(text),
                },
            },
            other => panic!("{other}"),
        }
    })
}

fn check(store: &Store, rows: &[Row], question: &Question) -> Answer {
    let answer = store.reader().ask_blocking(question).unwrap();
    let filter = Filter::parse(&question.filter).unwrap();
    let keep = |row: &Row| {
        let counted = question.all_sightings || row.verdict.is_none_or(|verdict| verdict == 0);
        let allowed =
            question.tenant_sets.as_ref().is_none_or(|sets| row.tenant.is_some_and(|set| sets.contains(&set)));
        counted && allowed && filter_keeps(&filter, row)
    };
    let by: Vec<&str> = question.by.iter().map(String::as_str).filter(|name| *name != "time").collect();
    let width = question.by.iter().any(|name| name == "time").then_some(answer.resolution_ms);
    let (expected, totals) = plain(rows, answer.from_ms, answer.to_ms, &by, width, keep);
    assert_eq!(answered(&answer), expected, "{question:?} answered from {}", answer.source);
    assert_eq!(answer.totals, totals, "{question:?}");
    assert_eq!(answer.other, Sums::default());
    answer
}

const DIMENSIONS: &[&str] = &[
    "src_addr",
    "dst_addr",
    "src_prefix",
    "src_as",
    "dst_as",
    "handover_as",
    "next_as",
    "src_as_name",
    "exporter",
    "exporter_name",
    "ingress_router",
    "in_if",
    "out_if",
    "in_if_name",
    "in_if_description",
    "in_if_boundary",
    "in_if_provider",
    "service",
    "proto",
    "etype",
    "src_port",
    "dst_port",
    "sampling",
    "as_path",
    "communities",
    "count_verdict",
    "tos",
];

const FILTERS: &[&str] = &[
    "",
    "proto = tcp",
    "src_as = AS15169 OR dst_as IN (64500, null)",
    "NOT (proto = udp AND src_port = 443)",
    "in_if_name LIKE \"et-%/3\"",
    "in_if_boundary = external AND service = Netflix",
    "exporter_name = \"edge one\"",
    "exporter = 192.0.2.2",
    "src_addr << 198.51.1.0/30 OR src_addr << 2001:db8::/32",
    "src_addr !<< 198.51.1.0/24",
    "src_addr = 198.51.1.3",
    "src_as_name ILIKE \"%carrier\"",
    "as_path ~ \"_15169$\"",
    "communities = 64501:2",
    "src_as != 15169 AND src_as > 5",
    "count_verdict != duplicate",
    "in_if NOTIN (1, 2)",
    "tos = null",
    "tos != 5 AND service != null OR ingress_router = \"core1.fra\"",
];

fn a_question(random: &mut StdRng) -> Question {
    let mut by: Vec<&str> = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let name = DIMENSIONS[random.random_range(0..DIMENSIONS.len())];
        if !by.contains(&name) {
            by.push(name);
        }
    }
    let grain = [1, 1_000, 60_000, 300_000][random.random_range(0..4)];
    let from = T0 + random.random_range(0..7_000_000) / grain * grain;
    let length = (random.random_range(1..7_200_000) / grain).max(1) * grain;
    let mut question = question(from, from + length, &by);
    if random.random() {
        question.by.insert(random.random_range(0..=by.len()), "time".to_owned());
        question.resolution_ms = [0, 60_000, 777_000][random.random_range(0..3)];
    }
    question.filter = FILTERS[random.random_range(0..FILTERS.len())].to_owned();
    question.all_sightings = random.random();
    question.tenant_sets = random.random_bool(0.3).then(|| (1..=random.random_range(0..3)).collect());
    question
}

#[test]
fn every_question_equals_the_plain_computation() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let directory = tempfile::tempdir().unwrap();
        let rows = random_rows(seed, random.random_range(1..400));
        let (batch, lag) = (random.random_range(1..120), random.random_range(0..4));
        let mut store = filled(directory.path(), &rows, batch, lag, config());
        if random.random() {
            merged(&mut store);
        }
        for _ in 0..20 {
            check(&store, &rows, &a_question(&mut random));
        }
        assert!(store.verify().is_empty(), "seed {seed}");
    }
}

#[test]
fn rollups_and_flows_say_the_same_to_the_octet() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(3, 3_000);
    let store = filled(directory.path(), &rows, 500, 0, config());
    let reader = store.reader();
    for by in [vec![], vec!["src_as", "dst_as"], vec!["time", "exporter_name"], vec!["time", "in_if_name", "service"]] {
        for (from, to, expected) in [
            (T0, T0 + 7_200_000, "rollup_5m"),
            (T0 + 60_000, T0 + 3_720_000, "rollup_1m"),
            (T0 - 600_000, T0 + 660_000, "rollup_1m"),
        ] {
            let mut asked = question(from, to, &by);
            asked.resolution_ms = 60_000;
            if expected == "rollup_5m" {
                asked.resolution_ms = 300_000;
            }
            let rollup = check(&store, &rows, &asked);
            assert_eq!(rollup.source, expected, "{by:?}");
            // A dimension that no rollup has makes the flow rows answer.
            asked.filter = "src_port >= 0".to_owned();
            let raw = reader.ask_blocking(&asked).unwrap();
            assert_eq!(raw.source, "flows");
            assert_eq!((raw.rows, raw.totals), (rollup.rows, rollup.totals));
        }
    }
}

#[test]
fn a_range_that_is_not_whole_windows() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(4, 1_000);
    let store = filled(directory.path(), &rows, 100, 0, config());
    let short = check(&store, &rows, &question(T0 + 1_234, T0 + 1_800_777, &["src_as"]));
    assert_eq!((short.source.as_str(), short.from_ms, short.to_ms), ("flows", T0 + 1_234, T0 + 1_800_777));
    assert!(short.notes.iter().all(|note| !note.contains("widened")));
    let long = check(&store, &rows, &question(T0 + 1_234, T0 + 5_400_777, &["src_as"]));
    assert_eq!((long.from_ms, long.to_ms), (T0, T0 + 5_460_000));
    assert_eq!(long.source, "rollup_1m");
    assert!(long.notes.iter().any(|note| note.contains("widened")), "{:?}", long.notes);
}

#[test]
fn the_largest_and_the_rest_add_up() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(5, 2_000);
    let store = filled(directory.path(), &rows, 300, 0, config());
    for order in [Order::Octets, Order::Packets, Order::Flows] {
        for by in [vec!["dst_port", "src_as"], vec!["time", "dst_port", "src_as"]] {
            let mut asked = question(T0, T0 + 7_200_000, &by);
            asked.order = order;
            asked.resolution_ms = 600_000;
            let everything = store.reader().ask_blocking(&asked).unwrap();
            asked.limit = 3;
            let some = store.reader().ask_blocking(&asked).unwrap();
            assert_eq!(some.totals, everything.totals);
            let time = usize::from(by.len() == 3);
            let key = |row: &Vec<Value>| (row[time].to_string(), row[time + 1].to_string());
            let mut keys: Vec<(String, String)> = some.rows.iter().map(key).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), 3);
            let shown: Vec<_> = everything.rows.iter().filter(|row| keys.contains(&key(row))).cloned().collect();
            let sort = |mut rows: Vec<Vec<Value>>| {
                rows.sort_by_key(|row| format!("{row:?}"));
                rows
            };
            assert_eq!(sort(some.rows.clone()), sort(shown));
            let sum = |column: usize| -> u64 {
                some.rows.iter().map(|row| row[row.len() - 3 + column].as_u64().unwrap()).sum()
            };
            assert_eq!(sum(0) + some.other.octets, some.totals.octets);
            assert_eq!(sum(1) + some.other.packets, some.totals.packets);
            assert_eq!(sum(2) + some.other.flows, some.totals.flows);
            if time == 1 {
                let other: u64 = some.other_series.iter().map(|(_, sums)| sums.octets).sum();
                assert_eq!(other, some.other.octets);
            } else {
                // Nothing that is left out is larger than what is shown.
                let size = |row: &Vec<Value>| row[row.len() - 3 + order as usize].as_u64().unwrap();
                let least = some.rows.iter().map(size).min().unwrap();
                let left = everything.rows.iter().filter(|row| !keys.contains(&key(row))).map(size).max().unwrap();
                assert!(least >= left);
            }
        }
    }
}

#[test]
fn quality_and_other_enumerations_are_shown_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut rows = random_rows(6, 20);
    rows.iter_mut().for_each(|row| (row.quality, row.verdict) = (1 | 1 << 19, Some(0)));
    let store = filled(directory.path(), &rows, 7, 0, config());
    let mut asked = question(T0 - 86_400_000, T0 + 86_400_000, &["quality", "observation", "packet_size"]);
    asked.filter = "quality = after_gap".to_owned();
    let answer = store.reader().ask_blocking(&asked).unwrap();
    assert_eq!(answer.quality, ["sampling_unknown", "after_gap"]);
    assert_eq!(answer.totals.flows, 20);
    assert!(answer.rows.iter().all(|row| row[0] == "sampling_unknown,after_gap" && row[1] == "ingress"));
    asked.filter = "quality = event".to_owned();
    assert_eq!(store.reader().ask_blocking(&asked).unwrap().totals.flows, 0);
}

#[test]
fn a_tenant_sees_only_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(7, 500);
    let store = filled(directory.path(), &rows, 100, 1, config());
    for by in [vec!["src_as"], vec!["src_addr"]] {
        let mut asked = question(T0, T0 + 7_200_000, &by);
        asked.tenant_sets = Some(vec![2]);
        asked.filter = "src_as = 15169 OR NOT src_as = 15169".to_owned();
        let answer = check(&store, &rows, &asked);
        assert!(answer.totals.octets > 0);
        asked.tenant_sets = Some(Vec::new());
        assert_eq!(check(&store, &rows, &asked).totals, Sums::default());
    }
}

#[test]
fn wrong_questions_say_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let ask = |edit: fn(&mut Question)| {
        let mut asked = question(T0, T0 + 60_000, &["src_as"]);
        edit(&mut asked);
        match store.reader().ask_blocking(&asked) {
            Err(AskError::Wrong { message, at }) => (message, at),
            other => panic!("{other:?}"),
        }
    };
    assert!(ask(|asked| asked.by = vec!["src_ass".to_owned()]).0.contains("did you mean `src_as`"));
    assert!(ask(|asked| asked.by = vec!["src_as".to_owned(); 2]).0.contains("twice"));
    assert!(ask(|asked| asked.to_ms = asked.from_ms).0.contains("empty"));
    assert!(ask(|asked| (asked.from_ms, asked.to_ms) = (i64::MIN, i64::MAX)).0.contains("time"));
    assert!(ask(|asked| (asked.by[0], asked.resolution_ms) = ("time".to_owned(), -1)).0.contains("negative"));
    assert_eq!(ask(|asked| asked.filter = "proto = tcp AND nothing = 1".to_owned()).1, Some(16));
    let many: Vec<&str> = dimension::all().iter().map(|one| one.name).filter(|name| *name != "time").take(13).collect();
    let mut asked = question(T0, T0 + 1, &many);
    assert!(store.reader().ask_blocking(&asked).is_err());
    asked.by.truncate(12);
    assert_eq!(store.reader().ask_blocking(&asked).unwrap().rows.len(), 0);
}

#[test]
fn a_question_has_limits() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(8, 2_000);
    let limited = Config { question_groups_max: 50, ..config() };
    let store = filled(directory.path(), &rows, 500, 0, limited);
    let reader = store.reader();
    let error = reader.ask_blocking(&question(T0, T0 + 7_200_000, &["src_addr", "dst_addr"])).unwrap_err();
    assert!(error.to_string().contains("more than 50 groups"), "{error}");
    assert!(reader.ask_blocking(&question(T0, T0 + 7_200_000, &["proto"])).is_ok());
    let directory = tempfile::tempdir().unwrap();
    let hurried = Config { question_ms_max: 0, ..config() };
    let store = filled(directory.path(), &rows, 500, 0, hurried);
    let error = store.reader().ask_blocking(&question(T0, T0 + 7_200_000, &["src_addr"])).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

#[tokio::test]
async fn questions_values_and_statements_over_the_asynchronous_side() {
    let directory = tempfile::tempdir().unwrap();
    let rows = random_rows(9, 500);
    let store = filled(directory.path(), &rows, 100, 0, config());
    let reader = store.reader();
    let asked = question(T0, T0 + 7_200_000, &["service"]);
    let answer = reader.ask(asked.clone()).await.unwrap();
    assert_eq!(answer.rows, reader.ask_blocking(&asked).unwrap().rows);
    // Dropped before it is polled, and after.
    drop(reader.ask(asked.clone()));
    let dropped = tokio::time::timeout(std::time::Duration::ZERO, reader.ask(asked.clone())).await;
    drop(dropped);
    assert!(reader.ask(asked).await.is_ok());

    let complete = async |dimension: &str, text: &str| reader.complete(dimension, text, 10).await.unwrap();
    assert_eq!(complete("service", "net").await, ["Netflix"]);
    assert_eq!(complete("in_if_name", "xe").await, ["xe-9/9/9"]);
    assert_eq!(complete("in_if_boundary", "ext").await, ["external"]);
    assert_eq!(complete("proto", "tc").await, ["tcp"]);
    assert!(complete("src_as", "goog").await.contains(&"AS15169".to_owned()));
    assert!(complete("src_as", "AS6450").await.contains(&"AS64500".to_owned()));
    assert!(complete("dst_port", "102").await.contains(&"1025".to_owned()));
    assert!(reader.complete("nothing", "", 5).await.is_err());

    let batches = reader.sql("select count(*) as n, sum(octets) as o from flows").await.unwrap();
    let shown = arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap();
    assert_eq!(shown, "500");
    let joined = reader.sql("select count(*) from rollup_1m where src_as = 15169 and tos is null").await;
    assert!(matches!(joined, Err(AskError::Wrong { .. })), "a rollup has no tos: {joined:?}");
    assert!(reader.sql("select count(*) from flows where tos is null").await.is_ok());
    for writing in [
        "drop table flows",
        "create table x as select 1",
        "set datafusion.execution.batch_size = 1",
        "copy flows to '/tmp/x.csv'",
    ] {
        assert!(reader.sql(writing).await.is_err(), "{writing}");
    }
}

#[test]
fn coarser_windows_answer_where_finer_ones_have_expired() {
    const DAY: i64 = 86_400_000;
    let directory = tempfile::tempdir().unwrap();
    let old = random_rows(41, 200);
    let mut rows = old.clone();
    rows.extend(random_rows(42, 200).into_iter().map(|mut row| {
        (row.received, row.first, row.last) = (row.received + 3 * DAY, row.first + 3 * DAY, row.last + 3 * DAY);
        row
    }));
    let keep = Config { retention_flows_s: 3_600, retention_rollup_1m_s: 86_400, retention_rollup_5m_s: 0, ..config() };
    let mut store = filled(directory.path(), &rows, 200, 0, keep);
    store.retain(T0 + 3 * DAY + 7_200_000).unwrap();
    let totals = |from: i64, to: i64| {
        let mut asked = question(from, to, &["proto"]);
        asked.all_sightings = true;
        let answer = store.reader().ask_blocking(&asked).unwrap();
        (answer.source, answer.totals)
    };
    let flows = |rows: &[Row]| plain(rows, T0 - DAY, T0 + 4 * DAY, &[], None, |_| true).1;
    assert_eq!(totals(T0 - DAY + 1, T0 + 4 * DAY - 1), ("rollup_5m".to_owned(), flows(&rows)));
    assert_eq!(totals(T0 - DAY + 60_000, T0 + DAY).1, flows(&old));
    // What is young enough is asked as finely as it is kept.
    assert_eq!(totals(T0 + 3 * DAY + 60_001, T0 + 4 * DAY).0, "rollup_1m");
}
