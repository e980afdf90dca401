//! Real routers, probes, resolver and agents in namespaces: the store equals
//! the kernels' own counters, per source AS, ingress and egress interface,
//! destination AS and service.

use std::process::Command;

use crate::process::{BENOCS, have};

#[test]
fn the_store_equals_the_ground_truth_of_the_lab() {
    let programs = ["bird", "bgpd", "snmpd", "unbound", "pmacctd", "nft", "ip", "dig", "jq", "ping", "curl"].map(have);
    if programs.contains(&false) {
        return;
    }
    let script = crate::tidy::root().join("scripts/lab");
    let output = Command::new(script).args([BENOCS, "--check"]).output().expect("the lab runs");
    let (truth, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{truth}");
    assert!(output.status.success(), "{truth}\n{errors}");
    assert_eq!(truth.lines().filter(|line| line.starts_with("truth")).count(), 4, "{truth}");
}
