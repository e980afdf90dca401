//! Which VPN routes go into which VRF, by their route targets (RFC 4364 4.3.1).

use std::collections::HashMap;

use crate::config::VrfConfig;
use crate::error::ConfigError;

/// A VRF, its texts read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VrfPlan {
    pub(crate) name: String,
    /// Extended communities.
    import: Vec<[u8; 8]>,
}

impl VrfPlan {
    /// A peer's tables that ids have room for.
    pub(crate) const MAX: usize = 4000;

    pub(crate) fn new(setting: &dyn Fn(&str) -> String, config: &VrfConfig) -> Result<Self, ConfigError> {
        let mut import = Vec::new();
        for text in &config.import {
            let targets = route_targets(text);
            if targets.is_empty() {
                let (setting, value) = (setting("import"), text.clone());
                return Err(ConfigError::Value { setting, value, remedy: "give targets as in rt:64500:1" });
            }
            import.extend(targets);
        }
        Ok(Self { name: config.name.clone(), import })
    }
}

/// RFC 4360 4, RFC 5668: "rt:64500:1", "rt:192.0.2.1:1". An AS of two octets is written in either way.
fn route_targets(text: &str) -> Vec<[u8; 8]> {
    let text = text.strip_prefix("rt:").or_else(|| text.strip_prefix("target:")).unwrap_or(text);
    let Some((administrator, number)) = text.rsplit_once(':') else { return Vec::new() };
    let Ok(number) = number.parse::<u32>() else { return Vec::new() };
    let [a, b, c, d] = number.to_be_bytes();
    let short = number <= 0xffff;
    if let Ok(address) = administrator.parse::<std::net::Ipv4Addr>() {
        let [w, x, y, z] = address.octets();
        return if short { vec![[1, 2, w, x, y, z, c, d]] } else { Vec::new() };
    }
    let Ok(asn) = administrator.parse::<u32>() else { return Vec::new() };
    let [w, x, y, z] = asn.to_be_bytes();
    let two = (asn <= 0xffff).then_some([0, 2, y, z, a, b, c, d]);
    let four = short.then_some([2, 2, w, x, y, z, c, d]);
    two.into_iter().chain(four).collect()
}

/// VRFs by route target.
#[derive(Clone, Debug, Default)]
pub struct Imports {
    pub(crate) names: Vec<String>,
    by_target: HashMap<[u8; 8], Vec<u16>>,
}

impl Imports {
    pub(crate) fn new(vrfs: &[VrfPlan]) -> Self {
        let mut by_target: HashMap<[u8; 8], Vec<u16>> = HashMap::new();
        for (number, vrf) in vrfs.iter().enumerate() {
            for target in &vrf.import {
                by_target.entry(*target).or_default().push(number as u16);
            }
        }
        Self { names: vrfs.iter().map(|vrf| vrf.name.clone()).collect(), by_target }
    }

    /// Numbers of the VRFs that take a route with these communities, in order, each once.
    pub(crate) fn of(&self, communities: &[[u8; 8]]) -> Vec<u16> {
        let mut numbers: Vec<u16> =
            communities.iter().filter_map(|target| self.by_target.get(target)).flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_in_all_their_forms() {
        assert_eq!(route_targets("rt:64500:1"), [[0, 2, 0xfb, 0xf4, 0, 0, 0, 1], [2, 2, 0, 0, 0xfb, 0xf4, 0, 1]]);
        assert_eq!(route_targets("64500:70000"), [[0, 2, 0xfb, 0xf4, 0, 1, 0x11, 0x70]]);
        assert_eq!(route_targets("target:4200000000:7"), [[2, 2, 0xfa, 0x56, 0xea, 0, 0, 7]]);
        assert_eq!(route_targets("rt:192.0.2.1:7"), [[1, 2, 192, 0, 2, 1, 0, 7]]);
        for wrong in ["", "rt:1", "rt:x:1", "rt:1:x", "rt:4200000000:70000", "rt:192.0.2.1:70000"] {
            assert_eq!(route_targets(wrong), [[0; 8]; 0], "{wrong}");
        }
    }
}
