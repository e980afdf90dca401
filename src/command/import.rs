//! Captures and files of nfdump into the running process.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use benocs_sim::replay::capture::Capture;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::table;
use crate::cli::ImportArgs;
use crate::control::import::Importer;
use crate::when;

/// Datagrams between two looks at the progress.
const PROGRESS: u64 = 64;

pub fn import(data: &Path, arguments: &ImportArgs) -> anyhow::Result<()> {
    let mut octets = 0;
    // Before anything is sent: a mistyped name is no half import.
    for file in &arguments.file {
        let capture = Capture::open(file).with_context(|| format!("cannot import {}", file.display()))?;
        octets += capture.length();
    }
    let mut import = Work {
        importer: Importer::begin(data)?,
        arguments,
        bar: bar(octets),
        datagrams: 0,
        octets: 0,
        skipped: 0,
        failed: Vec::new(),
    };
    for file in &arguments.file {
        import.file(file)?;
    }
    import.finish()
}

fn bar(octets: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg} {elapsed} eta {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(octets).with_style(style)
}

struct Work<'a> {
    importer: Importer,
    arguments: &'a ImportArgs,
    bar: ProgressBar,
    datagrams: u64,
    /// Of the files that are done.
    octets: u64,
    skipped: u64,
    /// Files that could not be read to their end, and why.
    failed: Vec<(PathBuf, String)>,
}

impl Work<'_> {
    /// What is behind damage is lost; what is before it, and the other files, are not.
    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut capture = Capture::open(path).with_context(|| format!("cannot import {}", path.display()))?;
        loop {
            let datagram = match capture.next_datagram() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                Err(error) => {
                    self.failed.push((path.to_owned(), format!("{error:#}")));
                    break;
                }
            };
            let port = datagram.dst.port();
            if self.arguments.port.is_some_and(|wanted| port != wanted) && port != 0 {
                self.skipped += 1;
                continue;
            }
            let received_ms = match datagram.time_ns {
                0 => export_ms(&datagram.payload).unwrap_or_else(when::now_ms),
                time_ns => time_ns / 1_000_000,
            };
            let source = self.arguments.exporter.filter(|_| !capture.names_sources());
            self.send(received_ms, source.unwrap_or(datagram.src.ip()), &datagram.payload)?;
            if self.datagrams.is_multiple_of(PROGRESS) {
                self.bar.set_position(self.octets + capture.position());
                self.bar.set_message(format!("{} datagrams", self.datagrams));
            }
        }
        self.skipped += capture.skipped();
        self.octets += capture.length();
        Ok(())
    }

    fn send(&mut self, received_ms: i64, source: IpAddr, payload: &[u8]) -> anyhow::Result<()> {
        self.datagrams += 1;
        self.importer.send(received_ms, source, payload)
    }

    fn finish(self) -> anyhow::Result<()> {
        self.bar.set_position(self.octets);
        self.bar.set_message("waiting for the log");
        let mut summary = self.importer.finish()?;
        self.bar.finish_and_clear();
        summary["files"] = json!(self.arguments.file.len());
        summary["skipped"] = json!(self.skipped);
        let failed = self.failed.iter().map(|(file, reason)| json!({"file": file, "reason": reason}));
        summary["failed"] = failed.collect();
        if self.arguments.json {
            println!("{summary}");
        } else {
            print(&summary);
        }
        match self.failed.first() {
            None => Ok(()),
            Some((file, reason)) => bail!("{} was read up to its damage only: {reason}", file.display()),
        }
    }
}

/// Time of export in the header of a payload whose file has no times; sFlow has none either.
fn export_ms(payload: &[u8]) -> Option<i64> {
    let seconds = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    match payload {
        [0, 10, ..] => seconds(4),
        [0, 1 | 5 | 7 | 9, ..] => seconds(8),
        _ => None,
    }
    .map(|seconds| i64::from(seconds) * 1000)
}

fn print(summary: &Value) {
    let number = |name: &str| summary[name].as_u64().unwrap_or(0);
    println!(
        "{} records of {} exporters, from {} datagrams in {} files: {} rows are stored in the log",
        number("records"),
        number("exporters"),
        number("datagrams"),
        number("files"),
        number("stored"),
    );
    println!("{} octets ({}B), {} packets", number("octets"), table::si(number("octets") as f64), number("packets"));
    if let (Some(first), Some(last)) = (summary["first_ms"].as_i64(), summary["last_ms"].as_i64()) {
        println!("flows from {} to {}", when::rfc3339(first), when::rfc3339(last));
    }
    if number("skipped") > 0 {
        println!("{} packets or records of the files are not flow export, and were left out", number("skipped"));
    }
    if number("lost") > 0 {
        println!("{} are missing in the files, by the exporters' sequence numbers", number("lost"));
    }
    for (cause, count) in summary["errors"].as_object().into_iter().flatten() {
        println!("not decoded: {count} {cause}");
    }
    for note in summary["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("note: {note}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_when_it_was_exported() {
        let second = 1_700_000_000u32.to_be_bytes();
        let nine = [&[0, 9, 0, 0, 1, 2, 3, 4], &second[..]].concat();
        let ten = [&[0, 10, 0, 8], &second[..]].concat();
        assert_eq!((export_ms(&nine), export_ms(&ten)), (Some(1_700_000_000_000), Some(1_700_000_000_000)));
        assert_eq!((export_ms(&[0, 0, 0, 5, 0, 0, 0, 1]), export_ms(&[0, 9, 1])), (None, None));
    }
}
