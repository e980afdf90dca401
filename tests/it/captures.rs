//! What probes of our own lab exported (`scripts/lab BENOCS --capture DIR`), sent
//! again: the store holds what nfdump reads.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{BENOCS, Ports, Process, eventually, free_udp, have};

/// Octets, packets, flows.
pub type Sums = [u64; 3];

fn replay(capture: &Path, to: std::net::SocketAddr) {
    let output = Command::new(BENOCS)
        .args(["replay", "--speed", "0", "--to", &to.to_string()])
        .arg(capture)
        .output()
        .expect("benocs runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Lines of the kernel's table of UDP sockets that listen on the port.
pub fn sockets(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/udp").expect("proc is mounted");
    let end = format!(":{port:04X}");
    let own = |line: &&str| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&end));
    table.lines().filter(own).map(str::to_owned).collect()
}

pub fn nfdump(capture: &Path) -> Sums {
    let directory = tempfile::tempdir().expect("a directory");
    let to = free_udp();
    let mut daemon = Command::new("nfcapd")
        .args(["-b", "127.0.0.1", "-t", "3600", "-p", &to.port().to_string(), "-w"])
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nfcapd starts");
    eventually("nfcapd listens", || (!sockets(to.port()).is_empty()).then_some(()));
    replay(capture, to);
    eventually("nfcapd has read everything", || {
        let empty = |line: &String| line.split_whitespace().nth(4).is_some_and(|queues| queues.ends_with(":00000000"));
        sockets(to.port()).iter().all(empty).then_some(())
    });
    let ended = Command::new("kill").arg(daemon.id().to_string()).status().expect("kill");
    assert!(ended.success());
    daemon.wait().expect("nfcapd ends");
    let output = Command::new("nfdump").args(["-I", "-R"]).arg(directory.path()).output().expect("nfdump runs");
    let text = String::from_utf8_lossy(&output.stdout);
    ["Bytes: ", "Packets: ", "Flows: "].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{name}in {text}"))
    })
}

#[test]
fn captures_of_the_lab_are_stored_as_nfdump_reads_them() {
    if [have("nfcapd"), have("nfdump")].contains(&false) {
        return;
    }
    let folder = crate::tidy::root().join("tests/captures");
    let mut captures: Vec<_> =
        std::fs::read_dir(&folder).expect("captures").flatten().map(|entry| entry.path()).collect();
    captures.sort();
    assert!(captures.len() >= 4, "{captures:?}");
    for capture in captures {
        let want = nfdump(&capture);
        assert!(want[2] > 5, "{}: {want:?}", capture.display());
        let directory = tempfile::tempdir().expect("a directory");
        let process = Process::start("all", directory.path(), &Ports::free(), None, &[]);
        replay(&capture, process.ports.collector);
        let got = eventually("every record is stored", || {
            let answer = process.json(&[
                "query",
                "--from",
                "2000-01-01T00:00:00Z",
                "--to",
                "2100-01-01T00:00:00Z",
                "--by",
                "proto",
                "--sightings",
                "all",
                "--json",
            ]);
            let got: Sums = ["octets", "packets", "flows"].map(|name| answer["totals"][name].as_u64().unwrap_or(0));
            (got[2] == want[2]).then_some(got)
        });
        println!("{}: nfdump {want:?}, stored {got:?}", capture.display());
        assert_eq!(got, want, "{}", capture.display());
        assert_eq!(process.metric("benocs_dropped_total"), 0.0);
        assert!(process.terminate());
    }
}
