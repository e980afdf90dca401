//! The pipeline cut at the role boundaries: two processes, mutual TLS between
//! them, either killed under load.
//!
//!   [netflow00 ce00 dns00] --flows, routes, names, tables--> [process00 process01 storage00 af00]
//!   [netflow00 ce00 dns00 process00 process01 storage00] --what is committed--> [af00]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::delivery::{KEYS, ROLLUP_FLOWS, ROWS, sql};
use crate::process::{BENOCS, Ports, Process, eventually, free_tcp, generate};

const FRONT: [&str; 3] = ["netflow00", "ce00", "dns00"];
const BACK: [&str; 4] = ["process00", "process01", "storage00", "af00"];
const INSIDE: [&str; 6] = ["netflow00", "ce00", "dns00", "process00", "process01", "storage00"];

fn certificates(directory: &Path) {
    for role in FRONT.iter().chain(&BACK) {
        let output = Command::new(BENOCS)
            .args(["ca", "--ca"])
            .arg(directory.join("ca"))
            .args(["issue", role, "--out"])
            .arg(directory.join("link"))
            .output()
            .expect("benocs runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Starts one half; it ends with the value.
struct Halves {
    directory: tempfile::TempDir,
    front: Ports,
    back: Ports,
    link: std::net::SocketAddr,
}

impl Halves {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        certificates(directory.path());
        Self { directory, front: Ports::free(), back: Ports::free(), link: free_tcp() }
    }

    fn sets(&self, link: String) -> [String; 2] {
        [format!("link.certificates={:?}", self.directory.path().join("link")), link]
    }

    fn start(&self, roles: &[&str], ports: &Ports, link: String) -> Process {
        let sets = self.sets(link);
        let data = self.directory.path().join(roles[0]);
        Process::start(&roles.join(","), &data, ports, None, &[&sets[0], &sets[1]])
    }

    fn front(&self) -> Process {
        self.start(&FRONT, &self.front, format!("link.peer.process00={:?}", self.link.to_string()))
    }

    fn back(&self) -> Process {
        self.start(&BACK, &self.back, format!("link.listen.process00={:?}", self.link.to_string()))
    }
}

#[test]
fn two_processes_store_what_one_received_whichever_is_killed() {
    let halves = Halves::new();
    let (front, mut back) = (halves.front(), halves.back());
    let sent = generate(front.ports.collector, &["--rate", "20000", "--seconds", "2", "--unique-key"]);
    let mut sent = sent["records"].as_u64().expect("records");
    eventually("records arrive over the link", || (sql(&back, ROWS) == sent).then_some(()));

    // The receiving half dies under load, three times: the log of the other keeps what it has not committed.
    for _ in 0..3 {
        let load = Command::new(BENOCS)
            .args(["generate", "--rate", "20000", "--seconds", "4", "--json", "--to"])
            .arg(front.ports.collector.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("generate starts");
        let before = front.metric("benocs_collector_records_total");
        eventually("load arrives", || {
            (front.metric("benocs_collector_records_total") > before + 20_000.0).then_some(())
        });
        back.kill();
        std::thread::sleep(Duration::from_millis(500));
        back = halves.back();
        let output = load.wait_with_output().expect("generate ends");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("generate prints JSON");
        sent += report["records"].as_u64().expect("records");
    }
    let received = eventually("everything sent is received", || {
        let received = front.metric("benocs_collector_records_total") as u64;
        (received == sent).then_some(received)
    });
    assert_eq!(front.metric("benocs_dropped_total"), 0.0);
    eventually("everything received is stored and rolled up", || {
        (sql(&back, ROWS) == received && sql(&back, ROLLUP_FLOWS) == received).then_some(())
    });

    // The sending half dies: what it had acknowledged is there, once.
    let acknowledged = front.metric("benocs_log_acknowledged_records_total") as u64;
    assert_eq!(acknowledged, received);
    front.kill();
    let front = halves.front();
    let more = generate(front.ports.collector, &["--rate", "20000", "--seconds", "1", "--unique-key"]);
    let more = more["records"].as_u64().expect("records");
    eventually("it goes on", || (sql(&back, ROWS) == received + more).then_some(()));
    assert!(sql(&back, KEYS) > 0);
    assert!(front.terminate());
    assert!(back.terminate());
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let halves = Halves::new();
    let back = halves.back();
    let stranger = Halves { link: halves.link, ..Halves::new() };
    let front = stranger.front();
    let sent = generate(front.ports.collector, &["--rate", "5000", "--seconds", "1"]);
    assert!(sent["records"].as_u64().is_some_and(|records| records > 0));
    let log = stranger.directory.path().join(FRONT[0]).join("process.log");
    eventually("the refusal is in the log", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().any(|line| line.contains("link") && line.contains("process00")).then_some(())
    });
    assert_eq!(sql(&back, ROWS), 0, "nothing of a stranger is taken");
    assert!(back.terminate());
}

/// Everything inside in one process, the front end in another.
struct Ends {
    halves: Halves,
}

impl Ends {
    fn inside(&self) -> Process {
        let Halves { front, link, .. } = &self.halves;
        self.halves.start(&INSIDE, front, format!("link.peer.af00={:?}", link.to_string()))
    }

    fn front(&self) -> Process {
        let Halves { back, link, .. } = &self.halves;
        self.halves.start(&["af00"], back, format!("link.listen.af00={:?}", link.to_string()))
    }
}

/// Answer to a question that rollups serve, without what is of the process that gave it.
fn by_rollups(process: &Process) -> serde_json::Value {
    let answer = process.query("src_as,dst_as,exporter,proto", "");
    assert_eq!(answer["source"], "rollup_5m");
    serde_json::json!([answer["rows"], answer["totals"], answer["quality"]])
}

/// The moments come from a fixed sequence, so a failure can be repeated.
#[test]
fn the_front_end_has_a_copy_of_what_storage_committed_whichever_is_killed() {
    const COMMITS: &str = "benocs_store_commits_total";
    let ends = Ends { halves: Halves::new() };
    let (mut inside, mut front) = (ends.inside(), ends.front());
    let mut load = Command::new(BENOCS)
        .args(["generate", "--rate", "10000", "--seconds", "600", "--exporters", "3", "--to"])
        .arg(inside.ports.collector.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("generate starts");
    let mut seen = 0;
    for kill in 0..8u64 {
        let alive = Duration::from_millis(500 + kill * 7919 % 2500);
        let (since, before) = (Instant::now(), front.metric(COMMITS));
        eventually("the front end goes on", || {
            (since.elapsed() >= alive && front.metric(COMMITS) > before).then_some(())
        });
        let flows = sql(&front, ROLLUP_FLOWS);
        assert!(flows >= seen, "{flows} flows are in a later state, {seen} were in an earlier one");
        seen = flows;
        if kill % 2 == 0 {
            front.kill();
            front = ends.front();
        } else {
            inside.kill();
            inside = ends.inside();
        }
    }
    load.kill().expect("generate is ended");
    load.wait().expect("generate is waited for");
    let mut last = 0;
    let rows = eventually("everything is rolled up", || {
        let (rows, rolled) = (sql(&inside, ROWS), sql(&inside, ROLLUP_FLOWS));
        let settled = rows == rolled && rows == last && rows >= seen;
        last = rows;
        if !settled {
            std::thread::sleep(Duration::from_millis(500));
        }
        settled.then_some(rows)
    });
    assert!(rows > 0);
    eventually("the front end has it too", || (sql(&front, ROLLUP_FLOWS) == rows).then_some(()));
    eventually("and answers alike", || (by_rollups(&front) == by_rollups(&inside)).then_some(()));
    assert_eq!(front.metric("benocs_dropped_total"), 0.0, "nothing of a state was refused");

    // No flow row is there, and whoever asks for one is told so.
    let flows = front.data.join("store").join("flows");
    assert!(!flows.exists(), "{}", flows.display());
    let refused = |arguments: &[&str], word: &str| {
        let output = front.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word) && said.trim().lines().count() == 1, "{said}");
    };
    refused(&["query", "--from", "-1h", "--to", "now", "--by", "src_addr"], "not on the front end");
    refused(&["sql", "SELECT count(*) FROM flows"], "not on the front end");
    refused(&["rib", "lookup", "192.0.2.1"], "ce00");
    refused(&["flows"], "netflow00");
    let status = front.json(&["status", "--json"]);
    let link = &status["links"][0];
    assert_eq!((&link["peer"], &link["connected"]), (&"storage00".into(), &true.into()), "{status}");
    assert!(status["feeds"][0]["summary"].as_str().is_some_and(|says| says.starts_with("3 exporters")), "{status}");

    // An orderly end of storage00 leaves nothing untold.
    assert!(inside.terminate());
    assert_eq!(sql(&front, ROLLUP_FLOWS), rows);
    assert!(front.terminate());
}
