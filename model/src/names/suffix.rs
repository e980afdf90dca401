//! Public suffixes: where a registered domain begins.
//!
//! Rules in the format of publicsuffix.org: one a line, `*.` for any label,
//! `!` for an exception, `//` for comments. A short list of our own is built in
//! (the second-level registries that matter); Debian's whole list is read where
//! it is installed.

use ahash::AHashMap;

use super::service::wire_of;

/// Registries below which domains are registered, beside the top-level ones.
const BUILT_IN: &str = include_str!("suffixes.txt");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Suffix,
    /// Any label before this.
    Wildcard,
    /// Not a suffix, although a wildcard says so.
    Exception,
}

#[derive(Clone, Debug)]
pub struct SuffixList {
    rules: AHashMap<Box<[u8]>, Kind>,
}

impl Default for SuffixList {
    fn default() -> Self {
        Self::parse(BUILT_IN)
    }
}

impl SuffixList {
    /// Lines that are no rule are skipped: the list is somebody else's.
    pub fn parse(text: &str) -> Self {
        let mut rules = AHashMap::new();
        for line in text.lines() {
            let rule = line.split_whitespace().next().unwrap_or_default();
            if rule.is_empty() || rule.starts_with("//") {
                continue;
            }
            let (kind, name) = match (rule.strip_prefix("*."), rule.strip_prefix('!')) {
                (Some(name), _) => (Kind::Wildcard, name),
                (None, Some(name)) => (Kind::Exception, name),
                (None, None) => (Kind::Suffix, rule),
            };
            if let Some(wire) = wire_of(name) {
                // A wildcard's parent is a suffix too: the wildcard covers both here.
                let held = rules.entry(wire.into_boxed_slice()).or_insert(kind);
                if kind != Kind::Suffix {
                    *held = kind;
                }
            }
        }
        Self { rules }
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Of a name in lower-case wire form: the part that was registered, one label more than the
    /// longest public suffix. `None` where the name is a suffix itself, or the root.
    pub fn registered<'a>(&self, wire: &'a [u8]) -> Option<&'a [u8]> {
        let mut previous: Option<&[u8]> = None;
        let mut before: Option<&[u8]> = None;
        let mut at = wire;
        // From the whole name to the top: the first rule that fits is the longest.
        while let [len, rest @ ..] = at {
            if *len == 0 {
                break;
            }
            match self.rules.get(at) {
                Some(Kind::Exception) => return Some(at),
                Some(Kind::Suffix) => return previous,
                Some(Kind::Wildcard) => return before,
                None => {}
            }
            before = previous;
            previous = Some(at);
            at = rest.get(usize::from(*len)..)?;
        }
        // No rule: the top-level domain is the suffix.
        before
    }
}

#[cfg(test)]
mod tests {
    use super::super::service::text_of;
    use super::*;

    fn registered(list: &SuffixList, name: &str) -> Option<String> {
        list.registered(&wire_of(name).expect("a name")).map(text_of)
    }

    #[test]
    fn the_registered_domain_is_one_label_more_than_the_suffix() {
        let list = SuffixList::default();
        for (name, expected) in [
            ("www.example.com", Some("example.com")),
            ("example.com", Some("example.com")),
            ("a.b.example.co.uk", Some("example.co.uk")),
            ("co.uk", None),
            ("com", None),
            ("www.abc.com.au", Some("abc.com.au")),
            ("www.spiegel.de", Some("spiegel.de")),
            ("localhost", None),
        ] {
            assert_eq!(registered(&list, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn wildcards_and_exceptions() {
        let list = SuffixList::parse("// comment\nck\n*.ck\n!www.ck\njp\n*.kobe.jp\n!city.kobe.jp\n");
        for (name, expected) in [
            ("a.b.test.ck", Some("b.test.ck")),
            ("test.ck", None),
            ("x.www.ck", Some("www.ck")),
            ("a.b.c.kobe.jp", Some("b.c.kobe.jp")),
            ("x.city.kobe.jp", Some("city.kobe.jp")),
            ("a.b.tokyo.jp", Some("tokyo.jp")),
        ] {
            assert_eq!(registered(&list, name).as_deref(), expected, "{name}");
        }
    }
}
