//! A view prefix by prefix: what is written to a file.

use std::sync::Arc;

use super::Path;
use super::family::View;
use super::table::{Inner, RouteView, prefix};
use super::trie::Key;
use crate::address::Prefix;

/// Number of the peer among those that were asked for, path identifier, path.
pub type PeerPath<'a> = (usize, u32, &'a Arc<Path>);

impl RouteView {
    /// Calls `each` with every prefix that one of the peers has a route to, IPv4 first, until it fails.
    pub fn by_prefix<E>(
        &self,
        peers: &[super::PeerId],
        mut each: impl FnMut(Prefix, &[PeerPath<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = &*self.0;
        let columns: Vec<Option<usize>> = peers
            .iter()
            .map(|id| inner.peers.iter().position(|peer| peer.as_ref().is_some_and(|peer| peer.id == *id)))
            .collect();
        walk(inner, &inner.v4, &columns, &mut each)?;
        walk(inner, &inner.v6, &columns, &mut each)
    }
}

fn walk<K: Key, E>(
    inner: &Inner,
    family: &View<K>,
    columns: &[Option<usize>],
    each: &mut impl FnMut(Prefix, &[PeerPath<'_>]) -> Result<(), E>,
) -> Result<(), E> {
    let mut paths: Vec<PeerPath<'_>> = Vec::new();
    for slot in 0..family.slots() {
        paths.clear();
        for (number, column) in columns.iter().enumerate() {
            let Some(column) = *column else { continue };
            for (id, hit) in family.paths_at(column, slot) {
                let interned = inner.paths.get(hit.path as usize).and_then(Option::as_ref);
                paths.extend(interned.map(|interned| (number, id, &interned.path)));
            }
        }
        if !paths.is_empty() {
            each(prefix(family, slot), &paths)?;
        }
    }
    Ok(())
}
