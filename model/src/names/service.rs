//! Which service a name belongs to: rules first, else the registered domain.

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

use super::suffix::SuffixList;

/// Domains of one service. `netflix.com` means the name and everything below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub service: String,
    #[serde(default)]
    pub provider: Option<String>,
    #[serde(default)]
    pub category: Option<String>,
    pub domains: Vec<String>,
}

/// The list as a file has it: `[[service]]` tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleFile {
    #[serde(rename = "service")]
    pub rules: Vec<Rule>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("service \"{service}\": \"{domain}\" is no domain: write it as in example.com, without wildcards")]
pub struct BadDomain {
    pub service: String,
    pub domain: String,
}

/// What a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs<'r, 'w> {
    Rule(&'r Rule),
    /// A registered domain in wire form, or the name itself where nothing is registered.
    Domain(&'w [u8]),
}

/// Rules by domain, the most specific one first; later ones replace earlier ones.
#[derive(Clone, Debug, Default)]
pub struct ServiceRules {
    rules: Vec<Rule>,
    by_domain: AHashMap<Box<[u8]>, u32>,
    suffixes: SuffixList,
}

impl ServiceRules {
    pub fn new(rules: Vec<Rule>, suffixes: SuffixList) -> Result<Self, BadDomain> {
        let mut by_domain = AHashMap::new();
        for (at, rule) in rules.iter().enumerate() {
            for domain in &rule.domains {
                let wire = wire_of(domain)
                    .filter(|wire| wire.len() > 1 && !domain.contains('*'))
                    .ok_or_else(|| BadDomain { service: rule.service.clone(), domain: domain.clone() })?;
                by_domain.insert(wire.into_boxed_slice(), at as u32);
            }
        }
        Ok(Self { rules, by_domain, suffixes })
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Of a name in lower-case wire form; `None` for the root.
    pub fn belongs<'r, 'w>(&'r self, wire: &'w [u8]) -> Option<Belongs<'r, 'w>> {
        let mut at = wire;
        while let [len, rest @ ..] = at {
            if *len == 0 {
                break;
            }
            if let Some(rule) = self.by_domain.get(at).and_then(|index| self.rules.get(*index as usize)) {
                return Some(Belongs::Rule(rule));
            }
            at = rest.get(usize::from(*len)..)?;
        }
        (wire.len() > 1).then(|| Belongs::Domain(self.suffixes.registered(wire).unwrap_or(wire)))
    }
}

/// Lower-case wire form of a name in text; `None` where it is none. `\DDD` is an octet (RFC 1035 5.1).
pub fn wire_of(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut wire = Vec::with_capacity(text.len() + 2);
    if text.is_empty() {
        return Some(vec![0]);
    }
    let mut label = Vec::with_capacity(63);
    let mut octets = text.bytes().peekable();
    loop {
        let octet = octets.next();
        match octet {
            None | Some(b'.') => {
                if label.is_empty() || label.len() > 63 {
                    return None;
                }
                wire.push(label.len() as u8);
                wire.append(&mut label);
                if octet.is_none() {
                    break;
                }
            }
            Some(b'\\') => match octets.next()? {
                digit @ b'0'..=b'9' => {
                    let [b @ b'0'..=b'9', c @ b'0'..=b'9'] = [octets.next()?, octets.next()?] else { return None };
                    let value = u32::from(digit - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0');
                    label.push(u8::try_from(value).ok()?);
                }
                other => label.push(other),
            },
            Some(octet) => label.push(octet.to_ascii_lowercase()),
        }
    }
    wire.push(0);
    (wire.len() <= 255).then_some(wire)
}

/// Text of a name in wire form, without the final dot; odd octets as `\DDD`.
pub fn text_of(wire: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(wire.len());
    let mut at = wire;
    while let [len @ 1..=63, rest @ ..] = at {
        let Some((label, further)) = rest.split_at_checked(usize::from(*len)) else { break };
        if !text.is_empty() {
            text.push('.');
        }
        for octet in label {
            match octet {
                b'.' | b'\\' => {
                    text.push('\\');
                    text.push(char::from(*octet));
                }
                0x21..=0x7e => text.push(char::from(*octet)),
                _ => {
                    // Writing to a string does not fail.
                    let _ = write!(text, "\\{octet:03}");
                }
            }
        }
        at = further;
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_names_the_service() {
        let rule = |service: &str, domains: &[&str]| Rule {
            service: service.to_owned(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            ..Rule::default()
        };
        let rules = ServiceRules::new(
            vec![rule("Google", &["google.com"]), rule("Mail", &["mail.google.com"])],
            SuffixList::default(),
        )
        .expect("rules are well formed");
        let service = |name: &str| match rules.belongs(&wire_of(name).expect("a name")) {
            Some(Belongs::Rule(rule)) => rule.service.clone(),
            Some(Belongs::Domain(wire)) => text_of(wire),
            None => "none".to_owned(),
        };
        assert_eq!(service("www.google.com"), "Google");
        assert_eq!(service("x.mail.google.com"), "Mail");
        assert_eq!(service("notgoogle.com"), "notgoogle.com");
        assert_eq!(service("cdn.shop.example.co.uk"), "example.co.uk");
        assert_eq!(service("."), "none");
        assert_eq!(service("router"), "router");
    }

    #[test]
    fn a_wildcard_is_refused() {
        let rule = Rule { service: "x".to_owned(), domains: vec!["*.example.com".to_owned()], ..Rule::default() };
        assert!(ServiceRules::new(vec![rule], SuffixList::default()).is_err());
    }

    #[test]
    fn odd_octets_survive_as_text() {
        let wire = [5, b'a', b'.', 0xff, b'\\', b' ', 3, b'c', b'o', b'm', 0];
        let text = text_of(&wire);
        assert_eq!(text, "a\\.\\255\\\\\\032.com");
        assert_eq!(wire_of(&text).as_deref(), Some(wire.as_slice()));
    }
}
