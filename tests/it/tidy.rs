//! The structure that ARCHITECTURE.md states, held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Layers from the bottom; a crate may depend on crates of lower layers only,
/// and on `benocs-runtime` if it is an actor.
fn layer(name: &str) -> u32 {
    match name {
        "benocs-wire" | "benocs-sys" => 0,
        "benocs-model" => 1,
        "benocs-runtime" | "benocs-sim" => 2,
        "benocs" => 4,
        _ => 3,
    }
}

pub fn root() -> PathBuf {
    // Where the test runs, which need not be where it was built.
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// Workspace crates with the names of what they depend on (not for tests only).
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let names = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            let names = names.map(|dependency| dependency["name"].as_str().expect("name").to_owned());
            (package["name"].as_str().expect("name").to_owned(), names.collect())
        })
        .collect()
}

#[test]
fn arrows_point_one_way() {
    let crates = crates();
    assert!(crates.len() > 14, "{:?}", crates.keys());
    for (name, dependencies) in &crates {
        for dependency in dependencies.iter().filter(|dependency| crates.contains_key(*dependency)) {
            assert!(
                layer(dependency) < layer(name),
                "{name} depends on {dependency}, which is not below it: actors meet in messages, and the composition root joins them"
            );
        }
    }
}

#[test]
fn what_can_be_replaced_is_named_in_one_crate() {
    for (name, dependencies) in crates() {
        for (replaceable, owner) in
            [("actix", "benocs-runtime"), ("actix-rt", "benocs-runtime"), ("sled", "benocs-runtime")]
        {
            assert!(
                name == owner || !dependencies.contains(replaceable),
                "{name} names {replaceable}: that is {owner}'s"
            );
        }
        for engine in ["datafusion", "parquet"] {
            let allowed = ["benocs-store", "benocs"].contains(&name.as_str());
            assert!(allowed || !dependencies.contains(engine), "{name} pulls in {engine}");
        }
    }
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("directory is readable").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", "dist", ".git", "corpus"].contains(&name.as_str()) {
            rust_files(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_module_says_what_it_knows() {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    assert!(files.len() > 50);
    let silent: Vec<_> = files
        .iter()
        .filter(|path| !std::fs::read_to_string(path).expect("file is readable").trim_start().starts_with("//!"))
        .map(|path| path.strip_prefix(root()).unwrap_or(path).display().to_string())
        .collect();
    assert!(silent.is_empty(), "modules that do not open with //!: {silent:?}");
}

#[test]
fn unsafe_is_in_sys_alone_and_bounds_hold() {
    let mut files = Vec::new();
    rust_files(&root(), &mut files);
    for path in files {
        let relative = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        if relative.starts_with("sys/") || relative.starts_with("tests/it/tidy") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("file is readable");
        for (banned, why) in [
            ("unsafe {", "unsafe is for sys/"),
            (".do_send(", "it ignores the bound of a mailbox: use Outbox::offer"),
            ("unbounded_channel::<", "every queue is bounded"),
            ("todo!(", "nothing is left open"),
            ("unimplemented!(", "nothing is left open"),
        ] {
            assert!(!text.contains(banned), "{relative} has {banned}: {why}");
        }
    }
}
