//! The simulated provider, whose truth is known, against what is stored: each
//! bit counted once although up to four routers export it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::{BENOCS, Ports, Process, eventually};

/// Octets, packets, flows.
type Sums = [u64; 3];

/// What a line of the truth and a row of an answer are about.
const DIMENSIONS: [&str; 9] = [
    "src_as",
    "handover_as",
    "next_as",
    "dst_as",
    "ingress_router",
    "in_if_name",
    "egress_router",
    "egress_if_name",
    "proto",
];
/// The same in the truth's words.
const TRUTH: [&str; 9] = [
    "src_as",
    "handover_as",
    "next_as",
    "dst_as",
    "ingress_router",
    "in_if_name",
    "egress_router",
    "out_if_name",
    "proto",
];

struct Provider {
    arguments: Vec<String>,
}

impl Provider {
    fn new(ports: &Ports, files: &Path, more: &[&str]) -> Self {
        let mut arguments: Vec<String> = ["simulate", "--seed", "7"].map(str::to_owned).to_vec();
        for (flag, value) in [
            ("--collector", ports.collector.to_string()),
            ("--sflow", ports.sflow.to_string()),
            ("--bgp", ports.bgp.to_string()),
            ("--dnstap", ports.dnstap.to_string()),
            ("--snmp-port", crate::process::free_udp().port().to_string()),
            ("--files", files.display().to_string()),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Self { arguments }
    }

    fn configuration(&self) -> String {
        let output = Command::new(BENOCS).args(&self.arguments).arg("--print-config").output().expect("benocs runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a configuration is text")
    }

    fn run(&self, truth: &Path) -> Value {
        let output = Command::new(BENOCS)
            .args(&self.arguments)
            .arg("--json")
            .arg("--truth")
            .arg(truth)
            .stdin(Stdio::null())
            .output()
            .expect("benocs runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("simulate prints JSON")
    }
}

fn key(values: impl Iterator<Item = Value>) -> String {
    let words = values.map(|value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The truth, over its windows; octets as exported, since a sampled frame counts from layer 2.
fn truth(file: &Path) -> BTreeMap<String, Sums> {
    let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
    for line in std::fs::read_to_string(file).expect("the truth is written").lines() {
        let line: Value = serde_json::from_str(line).expect("the truth is JSON lines");
        if line.get("src_as").is_none() {
            continue;
        }
        let entry = sums.entry(key(TRUTH.iter().map(|name| line[*name].clone()))).or_default();
        for (sum, name) in entry.iter_mut().zip(["octets_exported", "packets", "flows"]) {
            *sum += line[name].as_u64().expect("sums are numbers");
        }
    }
    sums
}

fn stored(process: &Process, filter: &str) -> BTreeMap<String, Sums> {
    let answer = process.query(&DIMENSIONS.join(","), filter);
    let rows = answer["rows"].as_array().expect("rows");
    rows.iter()
        .map(|row| {
            let row = row.as_array().expect("a row");
            let (dimensions, sums) = row.split_at(DIMENSIONS.len());
            let number = |at: usize| sums[at].as_u64().expect("sums are numbers");
            (key(dimensions.iter().cloned()), [number(0), number(1), number(2)])
        })
        .collect()
}

/// Octets by service in the truth, and those of them that are stored under the same name.
fn named(process: &Process, file: &Path) -> BTreeMap<String, (u64, u64)> {
    let mut services: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in std::fs::read_to_string(file).expect("the truth is written").lines() {
        let line: Value = serde_json::from_str(line).expect("the truth is JSON lines");
        let service = line["service"].as_str().unwrap_or_default().to_owned();
        services.entry(service).or_default().0 += line["octets_exported"].as_u64().unwrap_or_default();
    }
    let answer = process.query("service", "");
    for row in answer["rows"].as_array().expect("rows") {
        let (service, octets) = (row[0].as_str().unwrap_or_default(), row[1].as_u64().expect("octets"));
        if let Some(entry) = services.get_mut(service) {
            entry.1 = octets;
        }
    }
    services
}

fn total(sums: &BTreeMap<String, Sums>) -> Sums {
    sums.values().fold([0; 3], |total, sums| std::array::from_fn(|at| total[at] + sums[at]))
}

#[test]
fn what_is_stored_equals_the_truth_of_the_simulated_provider() {
    let directory = tempfile::tempdir().expect("a directory");
    let ports = Ports::free();
    let provider = Provider::new(&ports, directory.path(), &["--seconds", "25"]);
    let config = directory.path().join("benocs.toml");
    std::fs::write(&config, provider.configuration()).expect("configuration is written");
    let process = Process::start("all", &directory.path().join("data"), &ports, Some(&config), &[]);
    let truth_file = directory.path().join("truth.jsonl");
    let report = provider.run(&truth_file);
    let records = report["records"].as_u64().expect("records");
    // Two of them offer BGP-LS as well: no session ended over it.
    assert_eq!(report["bgp_sessions"], report["routers"], "{report}");
    eventually("every record is stored", || {
        let rolled = process.json(&["sql", "SELECT CAST(coalesce(sum(flows), 0) AS BIGINT) AS n FROM rollup_1m"]);
        (rolled[0]["n"].as_u64() == Some(records)).then_some(())
    });
    let (truth, stored) = (truth(&truth_file), stored(&process, ""));
    let (want, got) = (total(&truth), total(&stored));
    println!("truth {want:?} in {} combinations, stored {got:?} in {}", truth.len(), stored.len());
    let wrong: Vec<String> = truth
        .iter()
        .filter(|(key, sums)| stored.get(*key) != Some(sums))
        .map(|(key, sums)| format!("truth  {key} {sums:?}, stored {:?}", stored.get(key)))
        .chain(
            stored
                .iter()
                .filter(|(key, _)| !truth.contains_key(*key))
                .map(|(key, sums)| format!("stored {key} {sums:?}")),
        )
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        truth.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    assert_eq!(got, want);
    // What happened to the routes, although the sessions are over.
    let address = process.query("dst_addr", "")["rows"][0][0].as_str().expect("an address").to_owned();
    let history = process.json(&["rib", "history", &address, "--json"]);
    let events = history["events"].as_array().expect("events");
    let count = |event: &str| events.iter().filter(|one| one["event"] == event).count() as u64;
    assert_eq!(Some(count("up")), report["bgp_sessions"].as_u64(), "{history}");
    assert!(count("down") == count("up") && count("announce") > 0 && count("gap") == 0, "{history}");
    assert!(events.iter().filter(|one| one["event"] == "announce").all(|one| one["path"]["next_hop"].is_string()));
    // What has no service in truth has none in the store, to the octet; and those that are called the same agree.
    let services = named(&process, &truth_file);
    println!("{services:?}");
    let differ = |name: &&&str| services.get(**name).is_none_or(|(want, got)| want != got || *want == 0);
    let alike =
        ["", "Netflix", "YouTube", "Disney+", "Facebook", "Instagram", "TikTok", "Steam", "Spotify", "PlayStation"];
    let differing: Vec<&&str> = alike.iter().filter(differ).collect();
    assert!(differing.is_empty(), "{differing:?}: {services:?}");
    assert!(process.terminate());
}

/// One packet of a thousand: sums agree within the sampling error, and the flows of one router are as many as its records.
#[test]
fn sampled_one_of_a_thousand_it_agrees_within_the_sampling_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let ports = Ports::free();
    let more = ["--seconds", "25", "--sampling", "1000", "--conversations", "400"];
    let provider = Provider::new(&ports, directory.path(), &more);
    let config = directory.path().join("benocs.toml");
    std::fs::write(&config, provider.configuration()).expect("configuration is written");
    let process = Process::start("all", &directory.path().join("data"), &ports, Some(&config), &[]);
    let truth_file = directory.path().join("truth.jsonl");
    let report = provider.run(&truth_file);
    let records = report["records"].as_u64().expect("records");
    eventually("every record is stored", || {
        let rolled = process.json(&["sql", "SELECT CAST(coalesce(sum(flows), 0) AS BIGINT) AS n FROM rollup_1m"]);
        (rolled[0]["n"].as_u64() == Some(records)).then_some(())
    });
    let (truth, stored) = (truth(&truth_file), stored(&process, ""));
    let by = |sums: &BTreeMap<String, Sums>, first: &str| -> Sums {
        let of = sums.iter().filter(|(key, _)| first.is_empty() || key.split(' ').next() == Some(first));
        of.fold([0; 3], |total, (_, sums)| std::array::from_fn(|at| total[at] + sums[at]))
    };
    let mut sources: Vec<&str> = truth.keys().filter_map(|key| key.split(' ').next()).collect();
    sources.dedup();
    sources.sort_by_key(|source| std::cmp::Reverse(by(&truth, source)[0]));
    for source in [""].into_iter().chain(sources.into_iter().take(5)) {
        let (want, got) = (by(&truth, source), by(&stored, source));
        // Packets are picked one by one: n of them are known to 1/sqrt(n), their octets a little worse.
        let samples = want[1] as f64 / 1000.0;
        let error = |at: usize| (got[at] as f64 - want[at] as f64) / want[at] as f64;
        println!(
            "{source:>8}: truth {want:?}, stored {got:?}, {:+.4} and {:+.4}, {samples:.0} samples",
            error(0),
            error(1)
        );
        assert!(error(1).abs() < 4.5 / samples.sqrt(), "packets of {source:?}");
        assert!(error(0).abs() < 6.0 / samples.sqrt(), "octets of {source:?}");
    }
    assert!(process.terminate());
}
