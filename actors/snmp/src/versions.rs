//! Versions of interfaces: an id belongs to one interface under one index with
//! one name and description; when one of these changes a new version begins and
//! the old one ends.

use std::collections::{HashMap, HashSet};

use benocs_model::address::Address;
use benocs_model::network::{Interface, Interfaces};
use benocs_runtime::state::{State, Tree};

use crate::classify::Class;

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub if_index: u32,
    pub name: String,
    pub description: String,
    pub speed: u64,
    pub class: Class,
    pub addresses: Vec<(Address, u8)>,
    /// Only the exporter itself says so: whatever else is known of the interface holds.
    pub by_exporter: bool,
}

impl Observed {
    fn same_version(&self, row: &Interface) -> bool {
        row.name == self.name && row.description == self.description
    }

    /// What is corrected in place: it is about the same interface.
    fn write(self, row: &mut Interface) {
        row.speed = self.speed;
        row.connectivity = self.class.connectivity as u8;
        row.boundary = self.class.boundary as u8;
        row.provider = self.class.provider;
        row.remote_as = self.class.remote_as;
        row.addresses = self.addresses;
    }
}

/// All versions, with their ids, over restarts.
#[derive(Debug)]
pub struct Versions {
    rows: Vec<Interface>,
    /// Position of the version that holds now.
    current: HashMap<(Address, u32), usize>,
    /// Interfaces that ever had a version.
    seen: HashSet<(Address, u32)>,
    next: u32,
    tree: Tree,
    numbers: Tree,
    /// Versions that only an exporter told of, by id, and how many of each.
    told: HashMap<u32, Address>,
    told_of: HashMap<Address, usize>,
    told_tree: Tree,
    pub changed: bool,
}

/// Versions that one exporter, and all of them, may bring by what they say: they are kept for ever.
const TOLD_OF_ONE_MAX: usize = 8_192;
const TOLD_MAX: usize = 1 << 18;

const NEXT: &[u8] = b"next interface";

impl Versions {
    pub fn restore(state: &State) -> anyhow::Result<Self> {
        let (tree, numbers) = (state.tree("interfaces")?, state.tree("numbers")?);
        let mut rows: Vec<Interface> = tree.entries::<Interface>().map(|(_, row)| row).collect();
        rows.sort_unstable_by_key(|row| row.id);
        let open = rows.iter().enumerate().filter(|(_, row)| row.valid_to.is_none());
        let current = open.map(|(at, row)| ((row.exporter, row.if_index), at)).collect();
        let seen = rows.iter().map(|row| (row.exporter, row.if_index)).collect();
        let after = rows.last().map_or(1, |row| row.id + 1);
        let next = numbers.get::<u32>(NEXT).ok().flatten().unwrap_or(1).max(after);
        let told_tree = state.tree("interfaces_told")?;
        let told: HashMap<u32, Address> = told_tree
            .entries::<Address>()
            .filter_map(|(key, exporter)| Some((u32::from_be_bytes(key.as_slice().try_into().ok()?), exporter)))
            .collect();
        let mut told_of = HashMap::new();
        for exporter in told.values() {
            *told_of.entry(*exporter).or_default() += 1;
        }
        Ok(Self { changed: !rows.is_empty(), rows, current, seen, next, tree, numbers, told, told_of, told_tree })
    }

    /// Whether one more version may be told of.
    fn has_room(&self, exporter: Address) -> bool {
        self.told.len() < TOLD_MAX && self.told_of.get(&exporter).is_none_or(|count| *count < TOLD_OF_ONE_MAX)
    }

    fn tell(&mut self, id: u32, exporter: Address) -> anyhow::Result<()> {
        self.told.insert(id, exporter);
        *self.told_of.entry(exporter).or_default() += 1;
        self.told_tree.put(&id.to_be_bytes(), &exporter)
    }

    /// Somebody else says so too.
    fn confirm(&mut self, id: u32) -> anyhow::Result<()> {
        let Some(exporter) = self.told.remove(&id) else { return Ok(()) };
        if let Some(count) = self.told_of.get_mut(&exporter) {
            *count -= 1;
        }
        self.told_tree.remove(&id.to_be_bytes())
    }

    /// The interfaces of a router now; those that are not among them end, where the list is whole.
    pub fn apply(
        &mut self,
        exporter: Address,
        observed: Vec<Observed>,
        whole: bool,
        now_ms: i64,
    ) -> anyhow::Result<()> {
        if whole {
            let mut indexes: Vec<u32> = observed.iter().map(|one| one.if_index).collect();
            indexes.sort_unstable();
            let gone: Vec<u32> = (self.current.iter())
                .filter(|((owner, if_index), _)| *owner == exporter && indexes.binary_search(if_index).is_err())
                // What an exporter does not repeat is not gone.
                .filter(|(_, at)| self.rows.get(**at).is_some_and(|row| !self.told.contains_key(&row.id)))
                .map(|((_, if_index), _)| *if_index)
                .collect();
            for if_index in gone {
                self.end(exporter, if_index, now_ms)?;
            }
        }
        for one in observed {
            let key = (exporter, one.if_index);
            let known = self.current.get(&key).copied();
            let by_exporter = one.by_exporter;
            let confirmed = known.and_then(|at| self.rows.get(at)).filter(|row| !self.told.contains_key(&row.id));
            if by_exporter && confirmed.is_some() {
                continue;
            }
            if let Some(at) = known.filter(|at| self.rows.get(*at).is_some_and(|row| one.same_version(row))) {
                let before = self.rows[at].clone();
                if !by_exporter {
                    self.confirm(before.id)?;
                }
                one.write(&mut self.rows[at]);
                if self.rows[at] != before {
                    self.keep(at)?;
                }
                continue;
            }
            if by_exporter && !self.has_room(exporter) {
                continue;
            }
            // The first that is known of an index holds for what came before it too.
            let first = self.seen.insert(key);
            self.end(exporter, key.1, now_ms)?;
            let mut row = Interface {
                id: self.next,
                exporter,
                if_index: key.1,
                name: one.name.clone(),
                description: one.description.clone(),
                speed: 0,
                connectivity: 0,
                boundary: 0,
                provider: None,
                remote_as: None,
                addresses: Vec::new(),
                valid_from: if first { 0 } else { now_ms },
                valid_to: None,
            };
            one.write(&mut row);
            if by_exporter {
                self.tell(row.id, exporter)?;
            }
            self.next += 1;
            self.numbers.put(NEXT, &self.next)?;
            self.current.insert(key, self.rows.len());
            self.rows.push(row);
            self.keep(self.rows.len() - 1)?;
        }
        Ok(())
    }

    fn end(&mut self, exporter: Address, if_index: u32, now_ms: i64) -> anyhow::Result<()> {
        let Some(at) = self.current.remove(&(exporter, if_index)) else { return Ok(()) };
        self.rows[at].valid_to = Some(now_ms);
        self.keep(at)
    }

    fn keep(&mut self, at: usize) -> anyhow::Result<()> {
        self.changed = true;
        let row = &self.rows[at];
        self.tree.put(&row.id.to_be_bytes(), row)
    }

    /// The version that holds now.
    pub fn current(&self, exporter: Address, if_index: u32) -> Option<&Interface> {
        self.current.get(&(exporter, if_index)).and_then(|at| self.rows.get(*at))
    }

    /// Interfaces that are there now.
    pub fn open(&self) -> usize {
        self.current.len()
    }

    pub fn of_exporter(&self, exporter: Address) -> usize {
        self.current.keys().filter(|(owner, _)| *owner == exporter).count()
    }

    /// As they are published.
    pub fn table(&self, generation: u64) -> Interfaces {
        Interfaces { generation, rows: self.rows.clone() }
    }
}

#[cfg(test)]
mod tests {
    use benocs_model::network::{Boundary, Connectivity};

    use super::*;

    fn observed(if_index: u32, name: &str, description: &str) -> Observed {
        let class =
            Class { connectivity: Connectivity::Unknown, boundary: Boundary::Unknown, provider: None, remote_as: None };
        Observed {
            if_index,
            name: name.to_owned(),
            description: description.to_owned(),
            speed: 10,
            class,
            addresses: Vec::new(),
            by_exporter: false,
        }
    }

    fn told(if_index: u32, name: &str) -> Observed {
        Observed { by_exporter: true, ..observed(if_index, name, "") }
    }

    fn rows(versions: &Versions) -> Vec<(u32, u32, String, i64, Option<i64>)> {
        let row = |row: Interface| (row.id, row.if_index, row.name, row.valid_from, row.valid_to);
        versions.table(1).rows.into_iter().map(row).collect()
    }

    #[test]
    fn renumbering_begins_new_versions() {
        let state = State::temporary().expect("state");
        let exporter = Address::from_v4([192, 0, 2, 1]);
        let mut versions = Versions::restore(&state).expect("empty");
        versions.apply(exporter, vec![observed(1, "a", "x"), observed(2, "b", "y")], true, 1000).expect("applied");
        assert_eq!(rows(&versions), [(1, 1, "a".into(), 0, None), (2, 2, "b".into(), 0, None)]);
        // After a reboot the two have changed places, and a third is new.
        let renumbered = vec![observed(1, "b", "y"), observed(2, "a", "x"), observed(3, "c", "")];
        versions.apply(exporter, renumbered, true, 2000).expect("applied");
        assert_eq!(
            rows(&versions),
            [
                (1, 1, "a".into(), 0, Some(2000)),
                (2, 2, "b".into(), 0, Some(2000)),
                (3, 1, "b".into(), 2000, None),
                (4, 2, "a".into(), 2000, None),
                (5, 3, "c".into(), 0, None),
            ]
        );
        // A restart keeps them; one that is gone ends, and never gives its id to another.
        let mut again = Versions::restore(&state).expect("restored");
        assert_eq!(rows(&again), rows(&versions));
        again.apply(exporter, vec![observed(1, "b", "y")], true, 3000).expect("applied");
        assert_eq!((again.open(), again.of_exporter(exporter)), (1, 1));
        again.apply(exporter, vec![observed(3, "c", "")], false, 4000).expect("applied");
        let last = rows(&again).pop().expect("a row");
        assert_eq!(last, (6, 3, "c".into(), 4000, None));
        assert_eq!(again.open(), 2, "a part of the list ends nothing");
    }

    #[test]
    fn corrections_stay_in_place() {
        let state = State::temporary().expect("state");
        let exporter = Address::from_v4([192, 0, 2, 1]);
        let mut versions = Versions::restore(&state).expect("empty");
        versions.apply(exporter, vec![observed(1, "a", "x")], true, 1000).expect("applied");
        versions.changed = false;
        versions.apply(exporter, vec![observed(1, "a", "x")], true, 2000).expect("applied");
        assert!(!versions.changed, "nothing is new");
        let mut faster = observed(1, "a", "x");
        faster.speed = 100;
        faster.class.connectivity = Connectivity::Transit;
        versions.apply(exporter, vec![faster], true, 3000).expect("applied");
        assert!(versions.changed);
        let table = versions.table(1);
        assert_eq!((table.rows.len(), table.rows[0].id, table.rows[0].speed), (1, 1, 100));
        assert_eq!(table.rows[0].connectivity, Connectivity::Transit as u8);
    }

    #[test]
    fn what_an_exporter_says_holds_where_nobody_else_says_anything() {
        let state = State::temporary().expect("state");
        let exporter = Address::from_v4([192, 0, 2, 1]);
        let mut versions = Versions::restore(&state).expect("empty");
        versions.apply(exporter, vec![observed(1, "a", "x")], true, 1000).expect("applied");
        versions.apply(exporter, vec![told(1, "b"), told(2, "c")], false, 2000).expect("applied");
        assert_eq!(rows(&versions), [(1, 1, "a".into(), 0, None), (2, 2, "c".into(), 0, None)]);
        // A whole list from elsewhere does not end it, here and after a restart; another name does.
        let mut again = Versions::restore(&state).expect("restored");
        again.apply(exporter, vec![observed(1, "a", "x")], true, 3000).expect("applied");
        assert_eq!(again.open(), 2);
        again.apply(exporter, vec![told(2, "d")], false, 4000).expect("applied");
        assert_eq!(rows(&again)[1..], [(2, 2, "c".into(), 0, Some(4000)), (3, 2, "d".into(), 4000, None)]);
        // Once SNMP says the same it is as good as any.
        again.apply(exporter, vec![observed(1, "a", "x"), observed(2, "d", "")], true, 5000).expect("applied");
        again.apply(exporter, vec![told(2, "e")], false, 6000).expect("applied");
        again.apply(exporter, vec![observed(1, "a", "x")], true, 7000).expect("applied");
        assert_eq!(rows(&again)[2], (3, 2, "d".into(), 4000, Some(7000)));
    }

    #[test]
    fn an_exporter_that_says_ever_new_names_is_bounded() {
        let state = State::temporary().expect("state");
        let exporter = Address::from_v4([192, 0, 2, 1]);
        let mut versions = Versions::restore(&state).expect("empty");
        for turn in 0..3 {
            let names = (0..4000).map(|if_index| told(if_index, &format!("{turn}"))).collect();
            versions.apply(exporter, names, false, 1000).expect("applied");
        }
        assert_eq!(versions.table(1).rows.len(), TOLD_OF_ONE_MAX);
        versions.apply(exporter, vec![observed(1, "a", "x")], false, 2000).expect("applied");
        assert_eq!(versions.table(1).rows.len(), TOLD_OF_ONE_MAX + 1, "what SNMP says is taken all the same");
    }
}
