//! What was acknowledged is stored exactly once, whatever is killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{BENOCS, Ports, Process, eventually, generate};

const ACKNOWLEDGED: &str = "benocs_log_acknowledged_records_total";

fn total(answer: &Value, what: &str) -> u64 {
    answer["totals"][what].as_u64().expect("totals are numbers")
}

/// One number from SQL.
pub fn sql(process: &Process, statement: &str) -> u64 {
    let rows = process.json(&["sql", statement]);
    let row = rows.as_array().and_then(|rows| rows.first()).expect("SQL answers a row");
    row.as_object().and_then(|row| row.values().next()).and_then(Value::as_u64).expect("a number")
}

pub const ROWS: &str = "SELECT count(*) AS n FROM flows";
/// `generate --unique-key` makes records distinct in these.
pub const KEYS: &str = "SELECT count(*) AS n FROM (SELECT DISTINCT src_addr, src_port, dst_port FROM flows)";
pub const ROLLUP_FLOWS: &str = "SELECT CAST(coalesce(sum(flows), 0) AS BIGINT) AS n FROM rollup_1m";

#[test]
fn records_received_are_stored_and_queried() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = Process::start("all", directory.path(), &Ports::free(), None, &[]);
    for protocol in ["v5", "v9", "ipfix"] {
        let sent = generate(
            process.ports.collector,
            &["--rate", "20000", "--seconds", "2", "--protocol", protocol, "--unique-key", "--exporters", "3"],
        );
        assert!(sent["records"].as_u64().is_some_and(|records| records > 30_000), "{sent}");
    }
    let received = eventually("everything received is stored", || {
        let received = process.metric("benocs_collector_records_total");
        (received > 100_000.0 && process.metric("benocs_store_rows_total") == received).then_some(received as u64)
    });
    assert_eq!(process.metric("benocs_dropped_total"), 0.0);
    let answer = eventually("rollups have caught up", || {
        let answer = process.query("exporter", "");
        (sql(&process, ROLLUP_FLOWS) == received).then_some(answer)
    });
    assert_eq!(total(&answer, "flows"), received);
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(3));
    assert!(process.terminate());
}

#[test]
fn sigterm_drains_and_a_restart_misses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let ports = Ports::free();
    let process = Process::start("all", directory.path(), &ports, None, &[]);
    let sent = generate(ports.collector, &["--rate", "20000", "--seconds", "3", "--unique-key"]);
    let sent = sent["records"].as_u64().expect("records");
    // What the kernel holds is received before the sockets close.
    assert!(process.terminate(), "a drained process ends with status 0");
    let process = Process::start("all", directory.path(), &ports, None, &[]);
    eventually("everything sent before SIGTERM is stored after it", || (sql(&process, ROWS) == sent).then_some(()));
    assert_eq!(sql(&process, KEYS), sent);
    eventually("and rolled up", || (sql(&process, ROLLUP_FLOWS) == sent).then_some(()));
    assert!(process.terminate());
}

/// Twenty kills under load. The moments come from a fixed sequence, so a failure can be repeated.
#[test]
fn killed_twenty_times_what_was_acknowledged_is_stored_exactly_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let ports = Ports::free();
    let mut load = Command::new(BENOCS)
        .args(["generate", "--rate", "20000", "--seconds", "600", "--unique-key", "--to", &ports.collector.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("generate starts");
    let mut acknowledged = 0.0;
    for kill in 0..20u64 {
        let process = Process::start("all", directory.path(), &ports, None, &[]);
        let alive = Duration::from_millis(300 + kill * 7919 % 1700);
        let since = Instant::now();
        let mut seen = 0.0;
        // A lower bound of what this process acknowledged: read up to the kill.
        while since.elapsed() < alive || seen == 0.0 {
            seen = process.metric(ACKNOWLEDGED);
            assert!(since.elapsed() < crate::process::PATIENCE, "nothing was acknowledged");
        }
        process.kill();
        acknowledged += seen;
    }
    load.kill().expect("generate is ended");
    load.wait().expect("generate is waited for");
    let process = Process::start("all", directory.path(), &ports, None, &[]);
    let mut last = 0;
    let rows = eventually("the log is stored and rolled up", || {
        let (rows, rolled) = (sql(&process, ROWS), sql(&process, ROLLUP_FLOWS));
        let settled = rows == rolled && rows == last && rows as f64 >= acknowledged;
        last = rows;
        if !settled {
            std::thread::sleep(Duration::from_millis(500));
        }
        settled.then_some(rows)
    });
    assert_eq!(sql(&process, KEYS), rows, "every key once");
    assert!(rows as f64 >= acknowledged, "{rows} rows, {acknowledged} acknowledged");
    println!("{rows} rows, as many keys and rollup flows, {acknowledged} acknowledged");
    assert!(process.terminate());
}
