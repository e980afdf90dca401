//! FlowSpec rules of a peer (RFC 8955): shown, not applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use benocs_model::route::Path;
use benocs_wire::bgp::{Family, FlowRule};
use serde::{Deserialize, Serialize};

/// What tells rules apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    family: Family,
    path_id: u32,
    rd: Option<[u8; 8]>,
    octets: Box<[u8]>,
}

impl Key {
    fn new(family: Family, rule: &FlowRule<'_>) -> Self {
        Self { family, path_id: rule.path_id, rd: rule.rd, octets: rule.octets.into() }
    }
}

#[derive(Debug)]
struct Entry {
    path: Arc<Path>,
    stale: bool,
}

#[derive(Debug)]
pub struct Rules {
    entries: BTreeMap<Key, Entry>,
    max: usize,
    changed: bool,
}

/// A rule as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Name of the session.
    pub peer: String,
    pub family: String,
    /// "destination 192.0.2.0/24 protocol =17".
    pub rule: String,
    /// Route distinguisher, of a VPN's rule; empty of others.
    pub rd: String,
    /// What is to be done: "rate 0", "redirect rt:64500:1", "mark 46".
    pub actions: Vec<String>,
    pub as_path: String,
    pub communities: String,
    pub stale: bool,
}

impl Rules {
    pub(crate) fn new(max: usize) -> Self {
        Self { entries: BTreeMap::new(), max, changed: false }
    }

    /// False where there is no room for it.
    pub(crate) fn announce(&mut self, family: Family, rule: &FlowRule<'_>, path: &Arc<Path>) -> bool {
        let key = Key::new(family, rule);
        let room = self.entries.len() < self.max;
        if !room && !self.entries.contains_key(&key) {
            return false;
        }
        self.entries.insert(key, Entry { path: path.clone(), stale: false });
        self.changed = true;
        true
    }

    pub(crate) fn withdraw(&mut self, family: Family, rule: &FlowRule<'_>) {
        self.changed |= self.entries.remove(&Key::new(family, rule)).is_some();
    }

    pub(crate) fn clear(&mut self) {
        self.changed |= !self.entries.is_empty();
        self.entries.clear();
    }

    /// `None`: of all families.
    pub(crate) fn mark_stale(&mut self, family: Option<Family>) {
        let of = self.entries.iter_mut().filter(|(key, _)| family.is_none_or(|family| key.family == family));
        of.for_each(|(_, entry)| entry.stale = true);
        self.changed |= !self.entries.is_empty();
    }

    pub(crate) fn sweep(&mut self, family: Family) {
        let before = self.entries.len();
        self.entries.retain(|key, entry| key.family != family || !entry.stale);
        self.changed |= before != self.entries.len();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is something new since it was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn status<'a>(&'a self, peer: &'a str) -> impl Iterator<Item = RuleStatus> + 'a {
        self.entries.iter().map(move |(key, entry)| {
            let v6 = key.family.afi == 2;
            let rule = FlowRule { path_id: key.path_id, rd: key.rd, octets: &key.octets, v6 };
            let name = crate::config::FAMILIES.iter().find(|(_, family)| *family == key.family);
            RuleStatus {
                peer: peer.to_owned(),
                family: name.map_or_else(String::new, |(name, _)| (*name).to_owned()),
                rule: rule.to_string(),
                rd: key.rd.map_or_else(String::new, crate::lookup::rd_text),
                actions: entry.path.ext_communities.iter().filter_map(action).collect(),
                as_path: entry.path.as_path_text(),
                communities: crate::lookup::communities_text(&entry.path),
                stale: entry.stale,
            }
        })
    }
}

/// RFC 8955 7, RFC 7674 2.
fn action(community: &[u8; 8]) -> Option<String> {
    let [kind, subtype, a, b, c, d, e, f] = *community;
    let rate = || f32::from_be_bytes([c, d, e, f]);
    Some(match (kind, subtype) {
        (0x80, 6) => format!("rate {} octet/s", rate()),
        (0x80, 12) => format!("rate {} packet/s", rate()),
        (0x80, 7) => {
            let words = [(1, "continue"), (2, "sample")];
            let set: Vec<&str> = words.iter().filter(|(bit, _)| f & bit != 0).map(|(_, word)| *word).collect();
            format!("action {}", set.join(" "))
        }
        (0x80, 8) => format!("redirect rt:{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])),
        (0x81, 8) => format!("redirect rt:{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, f])),
        (0x82, 8) => format!("redirect rt:{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])),
        (0x80, 9) => format!("mark {}", f & 0x3f),
        _ => return None,
    })
}
