//! Files put into a running process: what is stored equals what nfdump reads of them, record by record, at the
//! files' own times.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::captures::{Sums, nfdump, sockets};
use crate::process::{BENOCS, Ports, Process, eventually, free_udp, generate, have};

/// Files of nfcapd in every layout and compression (see `tests/nfdump/README.md`), and what probes exported.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = crate::tidy::root().join("tests").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("files").flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension != "md"));
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

fn start(directory: &Path, sets: &[&str]) -> Process {
    Process::start("all", directory, &Ports::free(), None, sets)
}

fn import(process: &Process, files: &[PathBuf]) -> Value {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().expect("UTF-8")).collect();
    process.json(&[&["import", "--json"][..], &files].concat())
}

fn wait_for_rows(process: &Process, rows: u64) {
    eventually("every row is stored", || (process.metric("benocs_store_rows_total") as u64 >= rows).then_some(()));
    assert_eq!(process.metric("benocs_store_rows_total") as u64, rows);
}

fn totals(process: &Process, from: &str, to: &str) -> Sums {
    let query = ["query", "--from", from, "--to", to, "--by", "proto", "--sightings", "all", "--json"];
    let answer = process.json(&query);
    ["octets", "packets", "flows"].map(|name| answer["totals"][name].as_u64().expect("a sum"))
}

/// Milliseconds of a time as nfdump writes it, in UTC.
fn millis(text: &str) -> i64 {
    let output = Command::new("date").args(["-u", "-d", &format!("{text}Z"), "+%s%3N"]).output().expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{text} is a time"))
}

/// The sixteen octets of an address as SQL answers them.
fn hex(address: &Value) -> Value {
    let Some(address) = address.as_str() else { return Value::Null };
    let octets = match address.parse().expect("an address") {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>().into()
}

/// Every record, as nfdump reads it: values by the names of our columns.
fn records(file: &Path) -> Vec<BTreeMap<&'static str, Value>> {
    let output = Command::new("nfdump").env("TZ", "UTC").args(["-o", "json", "-r"]).arg(file).output().expect("nfdump");
    let records: Vec<Value> = serde_json::from_slice(&output.stdout).expect("nfdump writes JSON");
    let mut times = BTreeMap::new();
    let mut time = |text: &Value| -> Value {
        let text = text.as_str().expect("a time").to_owned();
        (*times.entry(text.clone()).or_insert_with(|| millis(&text))).into()
    };
    let mut record = |record: &Value| {
        let either = |v4: &str, v6: &str| hex(record.get(v4).unwrap_or(&record[v6]));
        // Left out where the protocol has none.
        let flags = record["tcp_flags"].as_str().unwrap_or_default().bytes();
        let flags = flags.fold(0u64, |flags, letter| flags << 1 | u64::from(letter != b'.'));
        BTreeMap::from([
            ("first", time(&record["first"])),
            ("last", time(&record["last"])),
            ("time_received", time(&record["received"])),
            ("octets", record["in_bytes"].clone()),
            ("packets", record["in_packets"].clone()),
            ("src_addr", either("src4_addr", "src6_addr")),
            ("dst_addr", either("dst4_addr", "dst6_addr")),
            // ICMP has none.
            ("src_port", record.get("src_port").cloned().unwrap_or_else(|| 0.into())),
            ("dst_port", record.get("dst_port").cloned().unwrap_or_else(|| 0.into())),
            ("proto", record["proto"].clone()),
            ("tcp_flags", flags.into()),
            ("tos", record["src_tos"].clone()),
            ("in_if", record["input_snmp"].clone()),
            ("out_if", record["output_snmp"].clone()),
            ("src_mask", record["src_mask"].clone()),
            ("dst_mask", record["dst_mask"].clone()),
            ("record_src_as", record["src_as"].clone()),
            ("record_dst_as", record["dst_as"].clone()),
            ("src_vlan", record["src_vlan"].clone()),
            ("dst_vlan", record["dst_vlan"].clone()),
            ("record_next_hop", either("ip4_next_hop", "ip6_next_hop")),
            ("record_bgp_next_hop", either("bgp4_next_hop", "bgp6_next_hop")),
            ("exporter_addr", either("ip4_router", "ip6_router")),
        ])
    };
    records.iter().map(&mut record).collect()
}

#[test]
fn import_of_nfdump_files_is_what_nfdump_reads_record_by_record() {
    if !have("nfdump") {
        return;
    }
    let files = files("nfdump");
    let mut want: Vec<_> = files.iter().flat_map(|file| records(file)).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let process = start(directory.path(), &["store.retention_flows_s=0"]);
    let summary = import(&process, &files);
    assert_eq!(summary["stored"], want.len(), "{summary}");
    assert_eq!((&summary["errors"], &summary["skipped"]), (&Value::Object(Default::default()), &0.into()));
    wait_for_rows(&process, want.len() as u64);
    // Counters that nfcapd has multiplied are stored as they were exported, with their sampling.
    let columns: Vec<&str> = want[0]
        .keys()
        .copied()
        .map(|name| match name {
            "octets" => "octets * sampling_den / sampling_num AS octets",
            "packets" => "packets * sampling_den / sampling_num AS packets",
            name => name,
        })
        .collect();
    let rows = process.json(&["sql", &format!("SELECT {}, quality FROM flows", columns.join(", "))]);
    // Of ICMP, the destination port is its type and code, which nfdump shows elsewhere.
    let icmp = |row: &Value| row["proto"] == 1 || row["proto"] == 58;
    let value = |row: &Value, name: &str| match name {
        "dst_port" if icmp(row) => 0.into(),
        name => row[name].clone(),
    };
    let row = |row: &Value| want[0].keys().map(|name| (*name, value(row, name))).collect::<BTreeMap<_, _>>();
    let rows = rows.as_array().expect("rows");
    let mut got: Vec<_> = rows.iter().map(row).collect();
    let order = |row: &BTreeMap<&str, Value>| format!("{row:?}");
    got.sort_by_cached_key(order);
    want.sort_by_cached_key(order);
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got, want, "stored on the left, nfdump's on the right");
    }
    assert_eq!(got.len(), want.len());
    const TIME_IMPLAUSIBLE: u64 = 1 << 2;
    let implausible = rows.iter().filter(|row| row["quality"].as_u64().expect("bits") & TIME_IMPLAUSIBLE != 0);
    assert_eq!(implausible.count(), 0);
    assert!(process.terminate());
}

#[test]
fn import_of_captures_is_what_nfdump_sums_at_the_captures_time() {
    if [have("nfcapd"), have("nfdump")].contains(&false) {
        return;
    }
    let files = files("captures");
    let want = files.iter().map(|file| nfdump(file)).fold([0; 3], |sum, one| [0, 1, 2].map(|at| sum[at] + one[at]));
    let directory = tempfile::tempdir().expect("a directory");
    let process = start(directory.path(), &["store.retention_flows_s=60"]);
    let summary = import(&process, &files);
    let said = ["octets", "packets", "stored"].map(|name| summary[name].as_u64().expect("a sum"));
    assert_eq!(said, want, "{summary}");
    assert_eq!((&summary["files"], &summary["failed"]), (&files.len().into(), &Value::Array(Vec::new())));
    // Older than what is kept: that is said, and the sums are there all the same.
    let note = summary["notes"][0].as_str().expect("a note");
    assert!(note.contains("store.retention_flows_s"), "{note}");
    wait_for_rows(&process, want[2]);
    let [first, last] = ["first_ms", "last_ms"].map(|name| summary[name].as_i64().expect("a time"));
    let moment = |ms: i64| {
        let at = format!("@{}", ms.div_euclid(60_000) * 60);
        let output = Command::new("date").args(["-u", "-d", &at, "+%FT%TZ"]).output().expect("date runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let (from, to) = (moment(first), moment(last + 60_000));
    eventually("the sums are there", || (totals(&process, &from, &to) == want).then_some(()));
    assert_eq!(totals(&process, "2000-01-01T00:00:00Z", &from), [0; 3], "nothing before");
    assert_eq!(totals(&process, &to, "2100-01-01T00:00:00Z"), [0; 3], "nothing behind");
    // No exporter has lost anything, nor learned a template.
    let flows = process.json(&["flows", "--json"]);
    let exporters = flows["exporters"].as_array().expect("exporters");
    assert!(!exporters.is_empty());
    for exporter in exporters {
        assert_eq!((&exporter["templates"], &exporter["sequence"]["lost"]), (&0.into(), &0.into()), "{exporter}");
    }
    assert!(process.terminate());
}

#[test]
fn import_and_replay_of_what_nfcapd_wrote_just_now() {
    if [have("nfcapd"), have("nfdump")].contains(&false) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let (flows, to) = (directory.path().join("flows"), free_udp());
    std::fs::create_dir(&flows).expect("a directory");
    let mut nfcapd = Command::new("nfcapd")
        .args(["-y", "-b", "127.0.0.1", "-t", "3600", "-B", "4000000", "-p", &to.port().to_string(), "-w"])
        .arg(&flows)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nfcapd starts");
    eventually("nfcapd listens", || (!sockets(to.port()).is_empty()).then_some(()));
    let sent = generate(to, &["--count", "20000", "--rate", "20000", "--protocol", "v9", "--exporters", "3"]);
    eventually("nfcapd has read everything", || {
        let empty = |line: &String| line.split_whitespace().nth(4).is_some_and(|queues| queues.ends_with(":00000000"));
        sockets(to.port()).iter().all(empty).then_some(())
    });
    assert!(Command::new("kill").arg(nfcapd.id().to_string()).status().expect("kill").success());
    nfcapd.wait().expect("nfcapd ends");
    let file = std::fs::read_dir(&flows).expect("flows").flatten().next().expect("a file").path();
    let want: Sums = ["flow_octets", "flow_packets", "records"].map(|name| sent[name].as_u64().expect("a sum"));

    let process = start(&directory.path().join("data"), &[]);
    let summary = import(&process, std::slice::from_ref(&file));
    assert_eq!(["octets", "packets", "stored"].map(|name| summary[name].as_u64().expect("a sum")), want, "{summary}");
    assert_eq!(summary["exporters"], 3, "{summary}");
    let output = Command::new(BENOCS)
        .args(["replay", "--speed", "0", "--to", &process.ports.collector.to_string()])
        .arg(&file)
        .output()
        .expect("benocs runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_for_rows(&process, 2 * want[2]);
    let all = || totals(&process, "2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    eventually("both are there", || (all() == want.map(|sum| 2 * sum)).then_some(()));
    // Replayed flows name their exporters, so that both are of the same three.
    let exporters = process.query("exporter", "");
    assert_eq!(exporters["rows"].as_array().expect("rows").len(), 3, "{exporters}");
    assert_eq!(process.metric("benocs_dropped_total"), 0.0);
    assert!(process.terminate());
}

#[test]
fn import_says_what_cannot_be_read_and_keeps_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = start(&directory.path().join("data"), &["store.retention_flows_s=0"]);
    let missing = process.command(&["import", "/nowhere/flows"]);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot import /nowhere/flows"), "{missing:?}");

    let folder = crate::tidy::root().join("tests/nfdump");
    let whole = std::fs::read(folder.join("1.7.nfcapd")).expect("a file");
    let cut = directory.path().join("cut.nfcapd");
    std::fs::write(&cut, &whole[..whole.len() / 2]).expect("a file");
    let other = folder.join("1.7-sampled.nfcapd");
    let arguments = ["import", cut.to_str().expect("UTF-8"), other.to_str().expect("UTF-8"), "--json"];
    let output = process.command(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("cut.nfcapd was read up to its damage only"), "{errors}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("the summary all the same");
    let stored = summary["stored"].as_u64().expect("rows");
    assert!((64 + 20..128).contains(&stored), "{summary}");
    wait_for_rows(&process, stored);
    assert!(process.terminate());
    let ended =
        Command::new(BENOCS).args(["import", "--data"]).arg(directory.path()).arg(&other).output().expect("runs");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("no benocs answers"), "{ended:?}");
}
