//! The command line: statuses, errors of one line, settings.

use std::process::Command;

use crate::process::BENOCS;

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(BENOCS).args(arguments).output().expect("benocs runs");
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn wrong_usage_is_2_and_wrong_configuration_78() {
    for wrong in [
        &["--no-such-flag"][..],
        &["query", "--limit", "many"],
        &["query", "--from", "yesterday"],
        &["query", "--url", "http://af00"],
        &["replay", "x.pcap"],
        &["simulate", "--fault", "burn@5"],
        &["simulate", "--backfill", "long"],
    ] {
        let (status, output, error) = run(wrong);
        assert_eq!((status, error.lines().count(), output.as_str()), (2, 1, ""), "{wrong:?}: {error}");
    }
    let (status, _, error) = run(&["check", "--set", "collector.listne=[]"]);
    assert_eq!((status, error.lines().count()), (78, 1), "{error}");
    let (status, _, error) = run(&["--role", "all", "--set", "web.listen=[\"8443\"]", "--data", "/nonexistent/benocs"]);
    assert_eq!((status, error.lines().count()), (78, 1), "{error}");
    let (status, _, error) = run(&["--role", "netflow99"]);
    assert_eq!((status, error.lines().count()), (2, 1), "{error}");
    assert!(error.contains("netflow00"), "{error}");
}

#[test]
fn a_question_without_a_process_says_so_in_one_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_string_lossy().into_owned();
    let (status, _, error) = run(&["query", "--data", &data]);
    assert_eq!((status, error.lines().count()), (1, 1), "{error}");
    assert!(error.contains("running"), "{error}");
}

#[test]
fn a_password_is_set_where_a_process_has_run_and_nowhere_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("typo");
    let (status, _, error) = run(&["passwd", "--data", &data.to_string_lossy()]);
    assert_eq!((status, error.lines().count()), (1, 1), "{error}");
    assert!(error.contains("typo") && !data.exists(), "{error}");
}

#[test]
fn printed_defaults_are_a_configuration() {
    let (status, defaults, _) = run(&["config", "--defaults"]);
    assert_eq!(status, 0);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("benocs.toml");
    std::fs::write(&file, defaults).expect("file is written");
    let (status, _, error) = run(&["check", "--config", &file.to_string_lossy()]);
    assert_eq!(status, 0, "{error}");
}

#[test]
fn version_and_help_are_there() {
    assert!(run(&["--version"]).1.starts_with("benocs "));
    let (status, help, _) = run(&["--help"]);
    assert_eq!(status, 0);
    for command in ["check", "config", "replay", "generate", "simulate", "query", "rib", "status", "flows", "token"] {
        assert!(help.contains(command), "{command}");
    }
    let (_, help, _) = run(&["query", "--help"]);
    assert!(help.starts_with("Ask the running process about traffic") && help.contains("--token-file"), "{help}");
}
