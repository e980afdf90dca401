//! Files of routes into the running process, and out of it.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use benocs_sim::replay::octets::Octets;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::table;
use crate::control::rib::{self, Importer};

/// Octets that are sent together.
const CHUNK_OCTETS: usize = 256 << 10;

fn bar(octets: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg} {elapsed} eta {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(octets).with_style(style)
}

/// What is behind damage is lost; what is before it, and the other files, are not.
pub(super) fn import(data: &Path, files: &[PathBuf], as_json: bool) -> anyhow::Result<()> {
    let cannot = |file: &Path| format!("cannot import {}", file.display());
    let mut octets = 0;
    // Before anything is sent: a mistyped name is no half import.
    for file in files {
        octets += Octets::open(file).with_context(|| cannot(file))?.length();
    }
    let bar = bar(octets);
    let (mut done, mut summaries, mut failed) = (0, Vec::new(), Vec::new());
    for file in files {
        bar.set_message(file.display().to_string());
        let mut input = Octets::open(file).with_context(|| cannot(file))?;
        let mut importer = Importer::begin(data, &name(file))?;
        match one(&mut input, &mut importer, |position| bar.set_position(done + position)) {
            Err(Failed::File(error)) => failed.push((file, format!("{error:#}"))),
            Err(Failed::Process(error)) => {
                failed.push((file, format!("{error:#}")));
                continue;
            }
            Ok(()) => {}
        }
        done += input.length();
        match importer.finish() {
            Ok(mut summary) => {
                if let Some(error) = summary["first_error"].as_str() {
                    failed.push((file, error.to_owned()));
                }
                summary["file"] = json!(file);
                summaries.push(summary);
            }
            Err(error) => failed.push((file, format!("{error:#}"))),
        }
    }
    bar.finish_and_clear();
    if as_json {
        let failed: Vec<Value> = failed.iter().map(|(file, why)| json!({"file": file, "reason": why})).collect();
        println!("{}", json!({"files": summaries, "failed": failed}));
    } else {
        summaries.iter().for_each(print);
    }
    match failed.first() {
        None => Ok(()),
        Some((file, reason)) => bail!("{} is not read whole: {reason}", file.display()),
    }
}

enum Failed {
    /// What was read before is good.
    File(anyhow::Error),
    Process(anyhow::Error),
}

fn one(input: &mut Octets, importer: &mut Importer, mut at: impl FnMut(u64)) -> Result<(), Failed> {
    let mut chunk = vec![0; CHUNK_OCTETS];
    loop {
        let count = match input.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failed::File(error.into())),
        };
        importer.send(&chunk[..count]).map_err(Failed::Process)?;
        at(input.position());
    }
}

/// What its peers are named after.
fn name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

fn number(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().unwrap_or(0)
}

fn print(summary: &Value) {
    let count = |name| number(summary, name);
    println!(
        "{}: {} routes announced and {} withdrawn by {} peers, in {} records",
        summary["file"].as_str().unwrap_or_default(),
        count("announced"),
        count("withdrawn"),
        count("peers"),
        count("records"),
    );
    if count("skipped") > 0 {
        println!("{} are of a kind or family that is not read, or without a next hop", count("skipped"));
    }
    if count("unread") > 0 {
        println!("{} are in error, and left out", count("unread"));
    }
}

pub(super) fn dump(data: &Path, file: &Path, router: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", file.display());
    // Beside it until it is whole: a table that is cut is no table.
    let mut partial = file.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    let mut out = File::create(&partial).with_context(cannot)?;
    let bar = bar(0);
    let written = rib::table(data, router, |octets| {
        bar.inc(octets.len() as u64);
        bar.set_message(format!("{}B", table::si(bar.position() as f64)));
        out.write_all(octets).with_context(cannot)
    });
    bar.finish_and_clear();
    let kept = written.and_then(|summary| {
        out.sync_all().with_context(cannot)?;
        std::fs::rename(&partial, file).with_context(cannot)?;
        Ok(summary)
    });
    let summary = match kept {
        Ok(summary) => summary,
        Err(error) => {
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
    };
    if as_json {
        println!("{summary}");
        return Ok(());
    }
    let count = |name| number(&summary, name);
    println!(
        "{} routes of {} peers to {} prefixes are in {}",
        count("routes"),
        count("peers"),
        count("prefixes"),
        file.display()
    );
    if count("left_out") > 0 {
        println!("{} routes have more attributes than a file has room for, and are left out", count("left_out"));
    }
    Ok(())
}
