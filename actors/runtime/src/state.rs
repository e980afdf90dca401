//! Small state that survives a restart: cursors, ids, templates, users, sessions.
//!
//! The only module that names sled. What is kept here is small or can be
//! rebuilt; the truth about data files is the store's manifest.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One database in a data directory; trees in it are by name.
#[derive(Clone, Debug)]
pub struct State {
    db: sled::Db,
}

/// A named map of it; values are serialized compactly.
#[derive(Clone, Debug)]
pub struct Tree {
    tree: sled::Tree,
}

impl State {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(16 << 20)
            .flush_every_ms(Some(500))
            .open()
            .with_context(|| format!("cannot open state in {}: is another benocs using it?", path.display()))?;
        Ok(Self { db })
    }

    /// In memory, for tests.
    pub fn temporary() -> anyhow::Result<Self> {
        Ok(Self { db: sled::Config::new().temporary(true).open()? })
    }

    pub fn tree(&self, name: &str) -> anyhow::Result<Tree> {
        Ok(Tree { tree: self.db.open_tree(name)? })
    }

    /// Returns once everything written is on the disk.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.db.flush()?;
        Ok(())
    }
}

impl Tree {
    pub fn get<V: DeserializeOwned>(&self, key: &[u8]) -> anyhow::Result<Option<V>> {
        match self.tree.get(key)? {
            Some(octets) => Ok(Some(postcard::from_bytes(&octets).context("state is of another version")?)),
            None => Ok(None),
        }
    }

    pub fn put<V: Serialize>(&self, key: &[u8], value: &V) -> anyhow::Result<()> {
        self.tree.insert(key, postcard::to_stdvec(value)?)?;
        Ok(())
    }

    pub fn remove(&self, key: &[u8]) -> anyhow::Result<()> {
        self.tree.remove(key)?;
        Ok(())
    }

    pub fn clear(&self) -> anyhow::Result<()> {
        self.tree.clear()?;
        Ok(())
    }

    /// Entries in key order; those of another version are left out.
    pub fn entries<V: DeserializeOwned>(&self) -> impl Iterator<Item = (Vec<u8>, V)> {
        self.tree.iter().filter_map(|entry| {
            let (key, octets) = entry.ok()?;
            Some((key.to_vec(), postcard::from_bytes(&octets).ok()?))
        })
    }

    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub fn flush(&self) -> anyhow::Result<()> {
        self.tree.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got_after_a_reopen() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let state = State::open(directory.path())?;
        state.tree("cursors")?.put(b"a", &(1u64, "x".to_owned()))?;
        state.flush()?;
        drop(state);
        let tree = State::open(directory.path())?.tree("cursors")?;
        assert_eq!(tree.get::<(u64, String)>(b"a")?, Some((1, "x".to_owned())));
        assert_eq!(tree.entries::<(u64, String)>().count(), 1);
        Ok(())
    }
}
