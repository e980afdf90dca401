//! CPU seconds a million records, from the socket to the synced log.
//!
//!   bench_collector [records a second] [seconds] [directory]
//!
//! Sends prebuilt NetFlow v5 datagrams of thirty records over loopback, from a
//! thread whose CPU time is not counted. The rest is told by thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use benocs_collector::{Config, SflowConfig, bench};
use benocs_sys::UdpSender;

const RECORDS: usize = 30;
const PACKETS: usize = 4096;

fn packets() -> Vec<Vec<u8>> {
    let mut random = 0x9e37_79b9u32;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (0..PACKETS)
        .map(|packet| {
            let mut octets = vec![0, 5, 0, RECORDS as u8];
            for word in [7_200_000, now as u32, 0, (packet * RECORDS) as u32, 0] {
                octets.extend_from_slice(&word.to_be_bytes());
            }
            for _ in 0..RECORDS {
                for word in [next(), next(), 0, next() & 0x003f_003f] {
                    octets.extend_from_slice(&word.to_be_bytes());
                }
                let last = 7_100_000 + next() % 100_000;
                for word in [next() % 100, next() % 100_000, last - next() % 60_000, last] {
                    octets.extend_from_slice(&word.to_be_bytes());
                }
                octets.extend_from_slice(&(next() | 1).to_be_bytes());
                octets.extend_from_slice(&[0, 0x10, 6, 0, 0xfb, 0xf0, 0xfb, 0xf1, 24, 20, 0, 0]);
            }
            octets
        })
        .collect()
}

/// CPU seconds by name of thread, digits left out.
fn cpu_seconds() -> BTreeMap<String, f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let mut seconds = BTreeMap::new();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return seconds };
    for task in tasks.flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")) else { continue };
        let name: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
        let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        *seconds.entry(name).or_default() += ticks as f64 / TICKS_A_SECOND;
    }
    seconds
}

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let rate: u64 = words.next().map_or(Ok(100_000), |word| word.parse()).context("records a second")?;
    let seconds: u64 = words.next().map_or(Ok(20), |word| word.parse()).context("seconds")?;
    let directory = words.next().map_or_else(|| PathBuf::from("bench-collector-data"), PathBuf::from);
    let config = Config {
        listen: vec!["127.0.0.1:0".to_owned()],
        sflow: SflowConfig { listen: Vec::new() },
        ..Config::default()
    };
    let (sent, finished) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut sender = None;
    let at_end = Mutex::new(BTreeMap::new());
    let started = Instant::now();
    let status = bench::run(&config, &directory, |status| {
        if sender.is_none() {
            let (to, sent, finished) = (status.listening[0], sent.clone(), finished.clone());
            sender = Some(std::thread::Builder::new().name("sender".to_owned()).spawn(move || {
                send(to, rate, seconds, &sent);
                finished.store(true, Ordering::Release);
            }));
        }
        let totals = &status.totals;
        let arrived = totals.records + totals.dropped_kernel * RECORDS as u64;
        let all = finished.load(Ordering::Acquire) && arrived >= sent.load(Ordering::Acquire);
        let late = started.elapsed() > Duration::from_secs(seconds + 5);
        let done =
            (all && totals.acknowledged + totals.dropped_mailbox + totals.dropped_log_full >= totals.records) || late;
        if done && let Ok(mut at_end) = at_end.lock() {
            *at_end = cpu_seconds();
        }
        done
    })?;
    let millions = status.totals.acknowledged as f64 / 1e6;
    println!("sent {} records, {:?}", sent.load(Ordering::Acquire), status.totals);
    println!("log: {:?}", status.log);
    let at_end = at_end.into_inner().unwrap_or_default();
    for (name, seconds) in &at_end {
        println!("{name:<16} {seconds:>7.2} CPU s {:>8.3} CPU s/M", seconds / millions);
    }
    let to_log: f64 = at_end
        .iter()
        .filter(|(name, _)| ["collector-", "collector-log"].contains(&name.as_str()))
        .map(|(_, seconds)| seconds)
        .sum();
    println!("socket to log: {:.3} CPU s a million records", to_log / millions);
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn send(to: std::net::SocketAddr, rate: u64, seconds: u64, sent: &AtomicU64) {
    let packets = packets();
    let Ok(mut sender) = UdpSender::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))) else { return };
    let start = Instant::now();
    let mut count = 0usize;
    let total = (rate * seconds) as usize / RECORDS;
    while count < total {
        let due = ((start.elapsed().as_secs_f64() * rate as f64) as usize / RECORDS).min(total);
        while count < due {
            let at = count % PACKETS;
            let end = (at + (due - count).min(64)).min(PACKETS);
            match sender.send(&packets[at..end], to) {
                Ok(number) => count += number,
                Err(_) => return,
            }
        }
        sent.store((count * RECORDS) as u64, Ordering::Release);
        std::thread::sleep(Duration::from_millis(2));
    }
}
