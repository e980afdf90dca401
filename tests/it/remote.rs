//! The same questions over HTTPS, with a token, as another machine asks them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::process::{BENOCS, Ports, Process, eventually, generate};

/// Status, standard output, standard error.
type Outcome = (i32, String, String);

fn run(arguments: &[&str]) -> Outcome {
    let output = Command::new(BENOCS).args(arguments).env_remove("BENOCS_TOKEN").output().expect("benocs runs");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Answers without what changes from one moment to the next.
fn steady(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for moving in [
            "elapsed_ms",
            "now_ms",
            "newest_ms",
            "rows_read",
            "files_read",
            "feeds",
            "mailboxes",
            "exporters",
            "store",
            "losses",
        ] {
            fields.remove(moving);
        }
    }
    value
}

#[test]
fn another_machine_gets_the_same_answers_with_a_token_and_none_without() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let ports = Ports::free();
    let process = Process::start("all", &data, &ports, None, &[]);
    let sent = generate(ports.collector, &["--count", "20000", "--rate", "0"]);
    let records = sent["records"].as_u64().expect("records");
    let everything =
        ["--from", "2000-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z", "--by", "exporter,proto", "--json"];
    let query: Vec<&str> = ["query"].iter().chain(&everything).copied().collect();
    eventually("everything is stored", || {
        (process.json(&query)["totals"]["flows"].as_u64() == Some(records)).then_some(())
    });

    let path = |name: &str| directory.path().join(name).to_str().expect("a path").to_owned();
    let token = |role: &str| {
        let file = path(role);
        let made = process.command(&["token", "create", "--label", role, "--role", role, "--out", &file]);
        assert!(made.status.success() && made.stdout.is_empty(), "{}", String::from_utf8_lossy(&made.stderr));
        assert_eq!(std::fs::metadata(&file).expect("the token's file").permissions().mode() & 0o777, 0o600);
        file
    };
    let (viewer, analyst) = (token("viewer"), token("analyst"));
    let url = format!("https://localhost:{}", ports.web.port());
    let certificate = data.join("tls/web.crt").to_str().expect("a path").to_owned();
    let ask = |arguments: &[&str], token: &str, more: &[&str]| {
        let remote = ["--url", &url, "--token-file", token];
        run(&[arguments, &remote, more].concat())
    };
    let json = |arguments: &[&str], token: &str| -> Value {
        let (status, text, error) = ask(arguments, token, &["--ca-file", &certificate]);
        assert_eq!(status, 0, "{arguments:?}: {error}");
        serde_json::from_str(&text).expect("the command prints JSON")
    };
    let flows = |value: Value| -> Vec<String> {
        let exporters = value["exporters"].as_array().cloned().unwrap_or_default();
        exporters.iter().map(|exporter| exporter["address"].to_string()).collect()
    };
    assert_eq!(steady(json(&query, &viewer)), steady(process.json(&query)));
    assert_eq!(steady(json(&["status", "--json"], &viewer)), steady(process.json(&["status", "--json"])));
    let exporters = flows(json(&["flows", "--json"], &viewer));
    assert_eq!((exporters.len(), exporters), (4, flows(process.json(&["flows", "--json"]))));
    let lookup = ["rib", "lookup", "2001:db8::1", "--json"];
    assert_eq!(json(&lookup, &analyst), process.json(&lookup));

    // Refused, each in one line.
    let refused = |(status, _, error): Outcome, words: &str| {
        assert_eq!((status, error.lines().count()), (1, 1), "{error}");
        assert!(error.contains(words), "{error}");
    };
    refused(ask(&lookup, &viewer, &["--ca-file", &certificate]), "analyst");
    refused(ask(&query, &viewer, &[]), "--ca-file");
    let wrong = ["query", "--by", "nonsense"];
    let here = path("data");
    let asked = [ask(&wrong, &viewer, &["--ca-file", &certificate]), run(&[&wrong[..], &["--data", &here]].concat())];
    for (status, _, error) in asked {
        assert_eq!((status, error.lines().count()), (2, 1), "{error}");
        assert!(error.contains("nonsense"), "{error}");
    }
    let forged = path("forged");
    std::fs::write(&forged, "bnc_forged\n").expect("a file");
    refused(ask(&query, &forged, &["--ca-file", &certificate]), "benocs token create");
    let (status, _, error) = run(&["status", "--url", &url]);
    assert_eq!((status, error.lines().count()), (2, 1), "{error}");
    assert!(error.contains("BENOCS_TOKEN"), "{error}");

    let list = process.json(&["token", "list", "--json"]);
    let kept = std::fs::read_to_string(&viewer).expect("the token");
    assert!(!list.to_string().contains(kept.trim()), "{list}");
    assert_no_secret(&data, kept.trim());
    let of_viewer = list.as_array().and_then(|all| all.iter().find(|token| token["label"] == "viewer").cloned());
    let id = of_viewer.expect("it is listed")["id"].as_str().expect("an id").to_owned();
    assert!(process.command(&["token", "remove", &id]).status.success());
    refused(ask(&query, &viewer, &["--ca-file", &certificate]), "benocs token create");
    assert!(!process.command(&["token", "remove", &id]).status.success());

    // The same where nothing runs.
    assert!(process.terminate());
    let data = data.to_str().expect("a path");
    let (status, secret, error) = run(&["token", "create", "--label", "later", "--data", data]);
    assert_eq!((status, secret.lines().count(), secret.starts_with("bnc_")), (0, 1, true), "{error}");
    let (_, list, _) = run(&["token", "list", "--data", data]);
    assert!(list.contains("later") && list.contains("analyst"), "{list}");
}

/// Whoever reads the data directory cannot ask with what is there.
fn assert_no_secret(directory: &Path, secret: &str) {
    for entry in std::fs::read_dir(directory).expect("the directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_no_secret(&path, secret);
        } else if path.is_file() {
            let octets = std::fs::read(&path).unwrap_or_default();
            let found = octets.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds the token", path.display());
        }
    }
}
