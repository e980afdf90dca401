//! Things that break at a known time.

use std::str::FromStr;

use super::network::{Network, RouterId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The router samples half as many packets as it says.
    Sampling,
    /// One in twenty of its datagrams is lost.
    Loss,
    /// Its BGP session goes down for half a minute.
    Flap,
    /// It exports nothing any more.
    Silent,
    /// It restarts, and its interfaces are numbered anew.
    IfIndex,
}

/// `kind@seconds` or `kind@seconds:router`, after real time began; without a router, the first edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub at_s: u64,
    /// Name or the beginning of it.
    pub router: Option<String>,
}

pub const LOSS: f64 = 0.05;
pub const FLAP_MS: i64 = 30_000;
pub const RENUMBERED_BY: u32 = 1000;

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no fault: write sampling|loss|flap|silent|ifindex@seconds[:router]");
        let (kind, rest) = text.split_once('@').ok_or_else(wrong)?;
        let kind = match kind {
            "sampling" => FaultKind::Sampling,
            "loss" => FaultKind::Loss,
            "flap" => FaultKind::Flap,
            "silent" => FaultKind::Silent,
            "ifindex" => FaultKind::IfIndex,
            _ => return Err(wrong()),
        };
        let (seconds, router) = match rest.split_once(':') {
            Some((seconds, router)) => (seconds, Some(router.to_owned())),
            None => (rest, None),
        };
        let at_s = seconds.trim_end_matches('s').parse().map_err(|_| wrong())?;
        Ok(Self { kind, at_s, router })
    }
}

impl Fault {
    pub fn router(&self, network: &Network) -> anyhow::Result<RouterId> {
        let found = match &self.router {
            Some(name) => network.routers.iter().position(|router| router.name.starts_with(name)),
            None => network.routers.iter().position(|router| router.edge),
        };
        found.ok_or_else(|| anyhow::anyhow!("no router is called {}", self.router.as_deref().unwrap_or("edge")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let fault: Fault = "silent@90:edge1.ber".parse().unwrap();
        assert_eq!(fault, Fault { kind: FaultKind::Silent, at_s: 90, router: Some("edge1.ber".to_owned()) });
        assert_eq!("ifindex@5s".parse::<Fault>().unwrap().at_s, 5);
        for wrong in ["", "loss", "loss@", "burn@5", "loss@x:y"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
