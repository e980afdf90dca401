//! What fuzzing found worth keeping (`fuzz/corpus`, minimised), run again.

use std::panic::{AssertUnwindSafe, catch_unwind};

#[path = "../../fuzz/fuzz_targets/cases/bgp.rs"]
mod bgp;
#[path = "../../fuzz/fuzz_targets/cases/bgp_session.rs"]
mod bgp_session;
#[path = "../../fuzz/fuzz_targets/cases/bmp.rs"]
mod bmp;
#[path = "../../fuzz/fuzz_targets/cases/dnstap.rs"]
mod dnstap;
#[path = "../../fuzz/fuzz_targets/cases/flow.rs"]
mod flow;
#[path = "../../fuzz/fuzz_targets/cases/link_state.rs"]
mod link_state;
#[path = "../../fuzz/fuzz_targets/cases/mrt.rs"]
mod mrt;
#[path = "../../fuzz/fuzz_targets/cases/nfdump.rs"]
mod nfdump;
#[path = "../../fuzz/fuzz_targets/cases/packet.rs"]
mod packet;
#[path = "../../fuzz/fuzz_targets/cases/sequence.rs"]
mod sequence;

type Case = fn(&[u8]);

const TARGETS: [(&str, Case); 13] = [
    ("netflow5", flow::netflow5),
    ("netflow9", flow::netflow9),
    ("ipfix", flow::ipfix),
    ("sflow", flow::sflow),
    ("sequence", sequence::run),
    ("packet", packet::run),
    ("bgp", bgp::run),
    ("dnstap", dnstap::run),
    ("nfdump", nfdump::run),
    ("bgp_session", bgp_session::run),
    ("bmp", bmp::run),
    ("mrt", mrt::run),
    ("link_state", link_state::run),
];

#[test]
fn the_corpus_of_every_fuzz_target_passes() {
    let fuzz = crate::tidy::root().join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest of the fuzz targets");
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len(), "a target is missing here");
    for (name, case) in TARGETS {
        let folder = fuzz.join("corpus").join(name);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut inputs = 0;
        for entry in entries.flatten() {
            let input = std::fs::read(entry.path()).expect("an input is read");
            let passed = catch_unwind(AssertUnwindSafe(|| case(&input)));
            assert!(passed.is_ok(), "cargo fuzz run {name} {}", entry.path().display());
            inputs += 1;
        }
        assert!(inputs >= 15, "{name}: {inputs} inputs");
    }
}
