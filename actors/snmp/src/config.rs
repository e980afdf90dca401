//! Settings of the poller.

use std::fmt;
use std::net::IpAddr;

use benocs_model::network::{Boundary, Connectivity};
use serde::{Deserialize, Serialize};

use crate::classify::{Classifier, Rule};
use crate::error::ConfigError;

/// A community. It is neither shown nor written anywhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A router to be polled, by SNMP v2c.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it exports flows.
    pub address: IpAddr,
    /// UDP; 161 is usual.
    pub port: u16,
    /// From configuration.
    pub name: Option<String>,
    pub community: Secret,
}

/// An interface as configuration knows it: instead of SNMP, or over what SNMP says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticInterface {
    /// Address of the exporter.
    pub exporter: IpAddr,
    pub if_index: u32,
    pub name: Option<String>,
    pub description: Option<String>,
    /// Bits a second.
    pub speed: Option<u64>,
    /// external or internal.
    pub boundary: Option<String>,
    /// transit, peering, exchange, customer, core or cache.
    pub connectivity: Option<String>,
    pub provider: Option<String>,
    /// AS of the neighbour behind it.
    pub remote_as: Option<u32>,
    /// One of so many packets is sampled on it, where the router does not say it; the collector's.
    pub sampling: Option<u32>,
}

impl StaticInterface {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let place = |field| format!("interface {} {} {field}", self.exporter, self.if_index);
        connectivity(&place("connectivity"), self.connectivity.as_deref())?;
        boundary(&place("boundary"), self.boundary.as_deref())?;
        Ok(())
    }
}

pub(crate) fn connectivity(setting: &str, text: Option<&str>) -> Result<Option<Connectivity>, ConfigError> {
    let all = || Connectivity::ALL.iter().map(|one| one.text());
    known(setting, text, Connectivity::from_text, all)
}

pub(crate) fn boundary(setting: &str, text: Option<&str>) -> Result<Option<Boundary>, ConfigError> {
    known(setting, text, Boundary::from_text, || Boundary::ALL.iter().map(|one| one.text()))
}

fn known<T, I: Iterator<Item = &'static str>>(
    setting: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    all: impl Fn() -> I,
) -> Result<Option<T>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let unknown = || ConfigError::Unknown {
        setting: setting.to_owned(),
        value: text.to_owned(),
        allowed: all().collect::<Vec<_>>().join(", "),
    };
    parse(text).map(Some).ok_or_else(unknown)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time from one poll of a router to the next, seconds.
    pub interval_s: u64,
    /// Time that one request may take, milliseconds.
    pub timeout_ms: u64,
    /// Repetitions of a request without an answer.
    pub retries: u32,
    /// Rows asked for in one request; halved where a router finds that too big.
    pub repetitions: u32,
    /// Routers polled at the same time.
    pub concurrency: usize,
    /// Rules are tried in order, before the built-in ones; each attribute is the first one's that gives it.
    pub classify: Vec<Rule>,
    /// The built-in rules: descriptions like "Transit: Telia AS1299", "Peering:", "IX:", "Cust:", "Core:", "Cache:".
    pub classify_built_in: bool,
    /// Routers; the composition root fills them in from `[[exporter]]`.
    #[serde(skip)]
    pub targets: Vec<Target>,
    /// From `[[interface]]`.
    #[serde(skip)]
    pub interfaces: Vec<StaticInterface>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval_s: 60,
            timeout_ms: 2000,
            retries: 2,
            repetitions: 25,
            concurrency: 64,
            classify: Vec::new(),
            classify_built_in: true,
            targets: Vec::new(),
            interfaces: Vec::new(),
        }
    }
}

impl Config {
    /// Finds what is wrong in rules and interfaces.
    pub fn check(&self) -> Result<(), ConfigError> {
        Classifier::new(&self.classify, false)?;
        self.interfaces.iter().try_for_each(StaticInterface::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let target = Target {
            address: IpAddr::from([192, 0, 2, 1]),
            port: 161,
            name: None,
            community: Secret::new("hush-hush"),
        };
        let config = Config { targets: vec![target], ..Config::default() };
        assert!(!format!("{config:?}").contains("hush"));
        let json = serde_json::to_string(&config).expect("serializes");
        assert!(!json.contains("hush") && !json.contains("192.0.2.1"), "{json}");
    }

    #[test]
    fn words_are_checked() {
        assert_eq!(connectivity("x", Some("transit")).expect("known"), Some(Connectivity::Transit));
        let error = boundary("interface 192.0.2.1 7 boundary", Some("outside")).expect_err("unknown").to_string();
        assert!(error.contains("external, internal"), "{error}");
    }
}
