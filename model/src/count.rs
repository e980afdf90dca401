//! Counted once: whether a record is the one sighting that stands for its traffic.

use crate::flow::{Observation, codes};
use crate::network::Boundary;

codes! {
    /// Whether questions count the record by default.
    Verdict {
        Counted = 0 "counted",
        /// Another sighting stands for the same traffic.
        Duplicate = 1 "duplicate",
        /// An event, or a record without traffic.
        NotTraffic = 2 "not-traffic",
    }
}

codes! {
    /// Why.
    Reason {
        /// Entered the network here, over an external interface.
        ExternalIngress = 0 "external-ingress",
        /// Left over an external interface, and nothing exports where it entered.
        ExternalEgress = 1 "external-egress",
        /// Came over an internal interface: the router where it entered exports it.
        InternalTransit = 2 "internal-transit",
        /// Seen going out of a router that also exports it coming in.
        EgressOfIngress = 3 "egress-of-ingress",
        /// The boundary of the interface is unknown: counted, and flagged.
        UnknownBoundary = 4 "unknown-boundary",
        Event = 5 "event",
        /// Began in the device itself (in_if 0).
        Local = 6 "local",
        /// Nothing that exports sees it enter: counted where it was first seen.
        NoCoverage = 7 "no-coverage",
    }
}

/// An interface of a record, as the count sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The record does not say.
    Absent,
    /// The device itself.
    Device,
    Interface,
}

impl Port {
    /// ifIndex 0, and sFlow's 0x3fffffff (version 5, "interfaces"), are the device itself.
    pub fn of(if_index: Option<u32>) -> Self {
        match if_index {
            None => Port::Absent,
            Some(0 | 0x3fff_ffff) => Port::Device,
            Some(_) => Port::Interface,
        }
    }
}

/// Everything that the verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// A NAT or firewall event, not a flow.
    pub event: bool,
    pub observation: Observation,
    pub in_port: Port,
    pub in_boundary: Boundary,
    pub out_boundary: Boundary,
    /// This router exports what comes in over `in_if`.
    pub in_covered: bool,
    /// The router where the traffic entered the network exports it.
    pub entry_covered: bool,
    /// The router where it leaves exports it.
    pub exit_covered: bool,
    /// The router at the other end of `in_if` exports it.
    pub upstream_covered: bool,
}

/// The first line that fits:
///
/// | observation | in_if    | out_if   | coverage                           | verdict    | reason |
/// |-------------|----------|----------|------------------------------------|------------|--------|
/// | (event)     |          |          |                                    | not traffic | event |
/// | any         | device   |          |                                    | counted    | local |
/// | egress      |          |          | this router exports in_if's ingress | duplicate | egress of ingress |
/// | egress      | external | external |                                    | counted    | external egress |
/// | egress      | external |          |                                    | counted    | no coverage |
/// | any         | external |          |                                    | counted    | external ingress |
/// | any         | unknown  |          |                                    | counted    | unknown boundary |
/// | any         | internal |          | the router of entry exports it     | duplicate  | internal transit |
/// | any         | internal | external |                                    | counted    | external egress |
/// | any         | internal |          | upstream, or where it leaves, exports it | duplicate | internal transit |
/// | any         | internal |          |                                    | counted    | no coverage |
///
/// Traffic crosses exactly one external interface on its way in and at most one
/// on its way out, so each line that counts stands for one place per packet.
/// Unknown observation is read as ingress, which is what NetFlow version 5 and
/// most samplers do.
pub fn verdict(sighting: &Sighting) -> (Verdict, Reason) {
    use Boundary::{External, Internal, Unknown};
    use Verdict::{Counted, Duplicate, NotTraffic};
    let egress = sighting.observation == Observation::Egress;
    if sighting.event {
        return (NotTraffic, Reason::Event);
    }
    if sighting.in_port == Port::Device {
        return (Counted, Reason::Local);
    }
    if egress && sighting.in_covered {
        return (Duplicate, Reason::EgressOfIngress);
    }
    match (sighting.in_boundary, sighting.out_boundary) {
        (External, External) if egress => (Counted, Reason::ExternalEgress),
        (External, _) if egress => (Counted, Reason::NoCoverage),
        (External, _) => (Counted, Reason::ExternalIngress),
        (Unknown, _) => (Counted, Reason::UnknownBoundary),
        (Internal, _) if sighting.entry_covered => (Duplicate, Reason::InternalTransit),
        (Internal, External) => (Counted, Reason::ExternalEgress),
        (Internal, _) if sighting.upstream_covered || sighting.exit_covered => (Duplicate, Reason::InternalTransit),
        (Internal, _) => (Counted, Reason::NoCoverage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOLS: [bool; 2] = [false, true];
    const PORTS: [Port; 3] = [Port::Absent, Port::Device, Port::Interface];

    fn every_sighting() -> Vec<Sighting> {
        let mut all = Vec::new();
        for event in BOOLS {
            for &observation in Observation::ALL {
                for in_port in PORTS {
                    for &in_boundary in Boundary::ALL {
                        for &out_boundary in Boundary::ALL {
                            for bits in 0..16u8 {
                                all.push(Sighting {
                                    event,
                                    observation,
                                    in_port,
                                    in_boundary,
                                    out_boundary,
                                    in_covered: bits & 1 != 0,
                                    entry_covered: bits & 2 != 0,
                                    exit_covered: bits & 4 != 0,
                                    upstream_covered: bits & 8 != 0,
                                });
                            }
                        }
                    }
                }
            }
        }
        all
    }

    /// Each sighting satisfies what its reason says, and each reason has its one verdict.
    #[test]
    fn every_reason_says_what_it_means() {
        let all = every_sighting();
        assert_eq!(all.len(), 2 * 3 * 3 * 3 * 3 * 16);
        let mut met = std::collections::BTreeSet::new();
        for sighting in &all {
            let (verdict, reason) = verdict(sighting);
            met.insert(reason as u8);
            let egress = sighting.observation == Observation::Egress;
            let fits = match reason {
                Reason::Event => sighting.event && verdict == Verdict::NotTraffic,
                Reason::Local => sighting.in_port == Port::Device && verdict == Verdict::Counted,
                Reason::EgressOfIngress => egress && sighting.in_covered && verdict == Verdict::Duplicate,
                Reason::ExternalIngress => {
                    !egress && sighting.in_boundary == Boundary::External && verdict == Verdict::Counted
                }
                Reason::ExternalEgress => {
                    sighting.out_boundary == Boundary::External
                        && !sighting.entry_covered | (sighting.in_boundary == Boundary::External)
                        && verdict == Verdict::Counted
                }
                Reason::InternalTransit => {
                    sighting.in_boundary == Boundary::Internal
                        && (sighting.entry_covered || sighting.exit_covered || sighting.upstream_covered)
                        && verdict == Verdict::Duplicate
                }
                Reason::UnknownBoundary => sighting.in_boundary == Boundary::Unknown && verdict == Verdict::Counted,
                Reason::NoCoverage => {
                    (sighting.in_boundary == Boundary::Internal && !sighting.entry_covered
                        || sighting.in_boundary == Boundary::External && egress && !sighting.in_covered)
                        && verdict == Verdict::Counted
                }
            };
            assert!(fits, "{sighting:?} gave {verdict:?} {reason:?}");
        }
        assert_eq!(met.len(), Reason::ALL.len(), "every reason occurs");
    }

    #[derive(Clone, Copy)]
    struct Hop {
        exports_ingress: bool,
        exports_egress: bool,
    }

    /// What the routers of a path (entry first, exit last) say, judged.
    fn counted_on_path(path: &[Hop]) -> usize {
        let exports = |hop: &Hop| hop.exports_ingress || hop.exports_egress;
        let mut counted = 0;
        for (at, hop) in path.iter().enumerate() {
            for observation in [Observation::Ingress, Observation::Egress] {
                let sees = match observation {
                    Observation::Ingress => hop.exports_ingress,
                    _ => hop.exports_egress,
                };
                if !sees {
                    continue;
                }
                let boundary = |outer: bool| if outer { Boundary::External } else { Boundary::Internal };
                let sighting = Sighting {
                    event: false,
                    observation,
                    in_port: Port::Interface,
                    in_boundary: boundary(at == 0),
                    out_boundary: boundary(at == path.len() - 1),
                    in_covered: hop.exports_ingress,
                    entry_covered: exports(&path[0]),
                    exit_covered: path.last().is_some_and(exports),
                    upstream_covered: at > 0 && exports(&path[at - 1]),
                };
                counted += usize::from(verdict(&sighting).0 == Verdict::Counted);
            }
        }
        counted
    }

    /// Paths of one to three routers, each exporting nothing, one direction or both:
    /// traffic that anybody sees is counted once.
    #[test]
    fn a_path_is_counted_once_whoever_exports() {
        let hops: Vec<Hop> = BOOLS
            .iter()
            .flat_map(|&exports_ingress| BOOLS.map(|exports_egress| Hop { exports_ingress, exports_egress }))
            .collect();
        let mut paths = 0;
        for length in 1..=3usize {
            for code in 0..hops.len().pow(length as u32) {
                let path: Vec<Hop> =
                    (0..length).map(|at| hops[code / hops.len().pow(at as u32) % hops.len()]).collect();
                let seen = path.iter().any(|hop| hop.exports_ingress || hop.exports_egress);
                assert_eq!(counted_on_path(&path), usize::from(seen), "path {code} of {length}");
                paths += 1;
            }
        }
        assert_eq!(paths, 4 + 16 + 64);
    }

    #[test]
    fn a_lone_exporter_without_inventory_counts_each_flow_once() {
        let sighting = Sighting {
            event: false,
            observation: Observation::Ingress,
            in_port: Port::Interface,
            in_boundary: Boundary::Unknown,
            out_boundary: Boundary::Unknown,
            in_covered: true,
            entry_covered: false,
            exit_covered: false,
            upstream_covered: false,
        };
        assert_eq!(verdict(&sighting), (Verdict::Counted, Reason::UnknownBoundary));
        let egress = Sighting { observation: Observation::Egress, ..sighting };
        assert_eq!(verdict(&egress), (Verdict::Duplicate, Reason::EgressOfIngress));
        let only_egress = Sighting { in_covered: false, ..egress };
        assert_eq!(verdict(&only_egress), (Verdict::Counted, Reason::UnknownBoundary));
    }

    #[test]
    fn ports_are_told_apart() {
        assert_eq!(Port::of(None), Port::Absent);
        assert_eq!(Port::of(Some(0)), Port::Device);
        assert_eq!(Port::of(Some(0x3fff_ffff)), Port::Device);
        assert_eq!(Port::of(Some(7)), Port::Interface);
    }
}
