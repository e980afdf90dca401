//! What is behind an interface, by rules on what it is called.
//!
//! Rules are tried in order; each attribute is given by the first rule that
//! matches and gives it. Named groups `provider` and `as` of a rule's regex give
//! what the rule itself does not.

use benocs_model::network::{Boundary, Connectivity};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::ConfigError;

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Name,
    Description,
    /// The exporter's name.
    Exporter,
    /// The exporter's address.
    Address,
    /// In bits a second, as digits.
    Speed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub field: Field,
    pub regex: String,
    /// transit, peering, exchange, customer, core or cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connectivity: Option<String>,
    /// external or internal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boundary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// AS of the neighbour behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_as: Option<u32>,
}

/// An interface as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub name: &'a str,
    pub description: &'a str,
    pub exporter: &'a str,
    pub address: &'a str,
    pub speed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub connectivity: Connectivity,
    pub boundary: Boundary,
    pub provider: Option<String>,
    pub remote_as: Option<u32>,
}

#[derive(Clone, Debug)]
struct Compiled {
    field: Field,
    regex: Regex,
    connectivity: Option<Connectivity>,
    boundary: Option<Boundary>,
    provider: Option<String>,
    remote_as: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Classifier {
    rules: Vec<Compiled>,
}

/// The name after the keyword, up to an AS number, a bracket or a separator.
const PROVIDER: &str = r"[\s:_\-|/#\[(]+(?<provider>[^\s\[(,;|:].*?)\s*(?:[\[(,;|:)\]]|\s-\s|\bAS\s?-?\d|$)";

/// (words of the description, connectivity, boundary, whether a provider follows)
const BUILT_IN: [(&str, &str, &str, bool); 6] = [
    (r"transit|upstream", "transit", "external", true),
    (r"exchange|ixp?|(?:public|ix)[ _-]?peering", "exchange", "external", true),
    (r"(?:private[ _-]?)?peer(?:ing)?|pni|pi", "peering", "external", true),
    (r"cust(?:omer)?|kunde|downstream|client|access|sub(?:scriber)?s?", "customer", "external", true),
    (r"core|backbone|bb|p2p|internal|infra(?:structure)?|link to", "core", "internal", false),
    (r"cache|cdn|ggc|oca|fna", "cache", "external", true),
];

fn built_in() -> Vec<Rule> {
    let rule = |field, regex: String, connectivity: Option<&str>, boundary: Option<&str>| Rule {
        field,
        regex,
        connectivity: connectivity.map(str::to_owned),
        boundary: boundary.map(str::to_owned),
        provider: None,
        remote_as: None,
    };
    let mut rules = Vec::new();
    for (words, connectivity, boundary, provider) in BUILT_IN {
        let start = format!(r"(?i)^\W*(?:{words})\b");
        if provider {
            // First with a provider, then without: the keyword alone is enough.
            let regex = format!(r"(?i)^\W*(?:{words}){PROVIDER}");
            rules.push(rule(Field::Description, regex, Some(connectivity), Some(boundary)));
        }
        rules.push(rule(Field::Description, start, Some(connectivity), Some(boundary)));
    }
    rules.push(rule(
        Field::Description,
        r"(?i)\b(?:de-?cix|ams-?ix|linx|ecix|vix|mix-it|nl-?ix)\b".to_owned(),
        Some("exchange"),
        Some("external"),
    ));
    rules.push(rule(Field::Description, r"(?i)\bAS[ _:-]?(?<as>[1-9]\d{0,9})\b".to_owned(), None, None));
    rules.push(rule(Field::Name, r"(?i)^(?:lo|loopback|null|system)[\d./:]*$".to_owned(), None, Some("internal")));
    rules
}

impl Classifier {
    pub fn new(own: &[Rule], with_built_in: bool) -> Result<Self, ConfigError> {
        let built_in = if with_built_in { built_in() } else { Vec::new() };
        let compile = |rule: &Rule| {
            let regex = Regex::new(&rule.regex)
                .map_err(|source| ConfigError::Regex { regex: rule.regex.clone(), source: Box::new(source) })?;
            Ok(Compiled {
                field: rule.field,
                regex,
                connectivity: config::connectivity("snmp.classify.connectivity", rule.connectivity.as_deref())?,
                boundary: config::boundary("snmp.classify.boundary", rule.boundary.as_deref())?,
                provider: rule.provider.clone(),
                remote_as: rule.remote_as,
            })
        };
        Ok(Self { rules: own.iter().chain(&built_in).map(compile).collect::<Result<_, _>>()? })
    }

    pub fn classify(&self, subject: &Subject<'_>) -> Class {
        let (mut connectivity, mut boundary, mut provider, mut remote_as) = (None, None, None, None);
        let speed = subject.speed.to_string();
        for rule in &self.rules {
            let text = match rule.field {
                Field::Name => subject.name,
                Field::Description => subject.description,
                Field::Exporter => subject.exporter,
                Field::Address => subject.address,
                Field::Speed => &speed,
            };
            let Some(found) = rule.regex.captures(text) else { continue };
            // A later rule of another kind does not add its provider to an earlier one's connectivity.
            let same_kind =
                rule.connectivity.is_none() || connectivity.is_none_or(|held| Some(held) == rule.connectivity);
            if provider.is_none() && same_kind {
                let group = found.name("provider").map(|group| group.as_str().trim()).filter(|text| !text.is_empty());
                // An AS number is not a name.
                let group = group.filter(|text| !is_as_number(text));
                provider = rule.provider.clone().or_else(|| group.map(str::to_owned));
            }
            connectivity = connectivity.or(rule.connectivity);
            boundary = boundary.or(rule.boundary);
            remote_as =
                remote_as.or(rule.remote_as).or_else(|| found.name("as").and_then(|group| group.as_str().parse().ok()));
        }
        let connectivity = connectivity.unwrap_or(Connectivity::Unknown);
        // The neighbour of an own link is the own network.
        let remote_as = remote_as.filter(|_| connectivity != Connectivity::Core);
        Class { connectivity, boundary: boundary.unwrap_or(Boundary::Unknown), provider, remote_as }
    }
}

fn is_as_number(text: &str) -> bool {
    let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text).trim_start();
    !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(name: &'a str, description: &'a str) -> Subject<'a> {
        Subject { name, description, exporter: "r1.fra", address: "192.0.2.1", speed: 10_000_000_000 }
    }

    #[test]
    fn built_in_rules_know_the_usual_descriptions() {
        let classifier = Classifier::new(&[], true).expect("built-in rules are sound");
        for (description, connectivity, boundary, provider, remote_as) in [
            ("Transit: Telia AS1299", Connectivity::Transit, Boundary::External, Some("Telia"), Some(1299)),
            (
                "TRANSIT - Hurricane Electric (AS6939) 100G",
                Connectivity::Transit,
                Boundary::External,
                Some("Hurricane Electric"),
                Some(6939),
            ),
            ("Peering: Netflix [AS2906] id 77", Connectivity::Peering, Boundary::External, Some("Netflix"), Some(2906)),
            ("PNI: Google", Connectivity::Peering, Boundary::External, Some("Google"), None),
            ("peering", Connectivity::Peering, Boundary::External, None, None),
            ("Transit: AS3356", Connectivity::Transit, Boundary::External, None, Some(3356)),
            ("IX: DE-CIX Frankfurt", Connectivity::Exchange, Boundary::External, Some("DE-CIX Frankfurt"), None),
            ("to AMS-IX port 7", Connectivity::Exchange, Boundary::External, None, None),
            (
                "Cust: Example GmbH; AS64500",
                Connectivity::Customer,
                Boundary::External,
                Some("Example GmbH"),
                Some(64500),
            ),
            ("[CORE] r2.ber AS64496", Connectivity::Core, Boundary::Internal, None, None),
            ("Cache: Akamai", Connectivity::Cache, Boundary::External, Some("Akamai"), None),
            ("Transitions of state", Connectivity::Unknown, Boundary::Unknown, None, None),
            ("", Connectivity::Unknown, Boundary::Unknown, None, None),
        ] {
            let class = classifier.classify(&subject("ae1", description));
            let provider = provider.map(str::to_owned);
            assert_eq!(class, Class { connectivity, boundary, provider, remote_as }, "{description:?}");
        }
        assert_eq!(classifier.classify(&subject("Loopback0", "")).boundary, Boundary::Internal);
    }

    #[test]
    fn own_rules_come_first() {
        let own = vec![
            Rule {
                field: Field::Exporter,
                regex: r"\.fra$".to_owned(),
                connectivity: None,
                boundary: Some("internal".to_owned()),
                provider: None,
                remote_as: None,
            },
            Rule {
                field: Field::Description,
                regex: r"^T_(?<provider>\w+?)_(?<as>\d+)".to_owned(),
                connectivity: Some("transit".to_owned()),
                boundary: Some("external".to_owned()),
                provider: None,
                remote_as: None,
            },
        ];
        let classifier = Classifier::new(&own, true).expect("sound rules");
        let class = classifier.classify(&subject("xe-0/0/0", "T_COGENT_174_1"));
        let (connectivity, boundary) = (Connectivity::Transit, Boundary::Internal);
        assert_eq!(class, Class { connectivity, boundary, provider: Some("COGENT".to_owned()), remote_as: Some(174) });
        let broken = Rule { regex: "(".to_owned(), ..own[0].clone() };
        assert!(Classifier::new(&[broken], false).is_err());
        let unknown = Rule { connectivity: Some("moon".to_owned()), ..own[0].clone() };
        let error = Classifier::new(&[unknown], false).expect_err("unknown").to_string();
        assert!(error.contains("transit, peering"), "{error}");
    }
}
