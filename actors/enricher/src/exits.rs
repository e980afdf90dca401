//! Which interface a router really uses, learnt from its own records.
//!
//! A router that sets itself as next hop hides the session behind it, in its own
//! table too. But its records say over which external interface traffic on a path
//! left, and so does every record of another router whose traffic leaves there.

use ahash::AHashMap;

/// Paths and neighbours remembered.
const EXITS_MAX: usize = 1 << 18;

#[derive(Debug, Default)]
pub struct Exits {
    /// (router, path hash) -> interface, as seen last.
    by_path: AHashMap<(u32, u64), u32>,
    /// (router, neighbour AS) -> interface; `None` where several were seen.
    by_neighbour: AHashMap<(u32, u32), Option<u32>>,
}

impl Exits {
    /// Traffic on this path, to this neighbour, left over this interface of the router.
    #[inline]
    pub fn learn(&mut self, router: u32, path_hash: u64, neighbour: u32, interface: u32) {
        if self.by_path.len() + self.by_neighbour.len() >= EXITS_MAX {
            self.clear();
        }
        self.by_path.insert((router, path_hash), interface);
        let known = self.by_neighbour.entry((router, neighbour)).or_insert(Some(interface));
        if *known != Some(interface) {
            *known = None;
        }
    }

    /// The interface of the router for a path of its table, else for a neighbour.
    pub fn find(&self, router: u32, path_hash: Option<u64>, neighbour: u32) -> Option<u32> {
        let by_path = path_hash.and_then(|path| self.by_path.get(&(router, path)).copied());
        by_path.or_else(|| self.by_neighbour.get(&(router, neighbour)).copied().flatten())
    }

    /// Interfaces have new ids.
    pub fn clear(&mut self) {
        self.by_path.clear();
        self.by_neighbour.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_where_a_neighbour_has_two_links() {
        let mut exits = Exits::default();
        exits.learn(1, 100, 64501, 7);
        assert_eq!(exits.find(1, None, 64501), Some(7));
        assert_eq!(exits.find(2, Some(100), 64501), None);
        exits.learn(1, 200, 64501, 8);
        assert_eq!(exits.find(1, Some(100), 64501), Some(7));
        assert_eq!(exits.find(1, Some(200), 64501), Some(8));
        assert_eq!(exits.find(1, Some(300), 64501), None, "either");
        exits.learn(1, 100, 64501, 9);
        assert_eq!(exits.find(1, Some(100), 64501), Some(9), "as seen last");
    }

    #[test]
    fn it_stays_bounded() {
        let mut exits = Exits::default();
        for path in 0..2 * EXITS_MAX as u64 {
            exits.learn(1, path, 64501, 7);
        }
        assert!(exits.by_path.len() <= EXITS_MAX);
        assert_eq!(exits.find(1, Some(2 * EXITS_MAX as u64 - 1), 0), Some(7));
    }
}
